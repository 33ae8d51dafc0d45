"""The house: which package may import which, how long a module may be, what is public."""

import ast
import importlib
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

SRC = Path(__file__).parents[1] / "src"
# A package imports only what stands left of it. Planning reads datasets and knows no site.
ORDER = ["core", "workload", "measured", "serving", "meter", "evaluate", "power", "testbed",
         "site", "control", "studies", "cli"]  # fmt: skip
BELOW_PLANNING, ABOVE_PLANNING = {"core"}, {"studies", "cli"}
LONGEST = 400
LIBRARY_LINES = 14_800
MODULES = {
    ".".join(path.relative_to(SRC).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(SRC.rglob("*.py"))
}
LIBRARY = [name for name in MODULES if name.startswith("sitetrace.")]


def room(module):
    return module.split(".")[1]


def imported(name):
    """Which modules of ours a module imports, and which name of each."""
    for node in ast.walk(ast.parse(MODULES[name].read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield (inner, "*") if inner in MODULES else (node.module, alias.name)
        elif isinstance(node, ast.Import):
            yield from ((alias.name, "*") for alias in node.names)


def ours(name):
    return {module for module, _ in imported(name) if module in MODULES and module != "sitetrace"}


def may_import(importer, other):
    if other == "planning":
        return importer in ABOVE_PLANNING
    if importer == "planning":
        return other in BELOW_PLANNING
    return ORDER.index(other) < ORDER.index(importer)


@pytest.mark.parametrize("name", LIBRARY)
def test_a_package_imports_only_what_stands_left_of_it(name):
    rooms = {module.partition(".")[0] and room(module) for module in ours(name)} - {room(name)}
    assert not [module for module in ours(name) if module.startswith("sitebook")]
    assert not [other for other in rooms if not may_import(room(name), other)]


def test_no_two_modules_import_each_other():
    graph = {name: ours(name) - {name} for name in MODULES}
    assert list(TopologicalSorter(graph).static_order())


@pytest.mark.parametrize("name", MODULES)
def test_what_is_private_stays_in_its_module(name):
    taken = [f"{module}.{what}" for module, what in imported(name) if module in MODULES
             if what.startswith("_") and what != "__version__"]  # fmt: skip
    assert not taken


def test_every_module_has_its_room_and_is_read_in_one_sitting():
    lines = {name: len(MODULES[name].read_text("utf-8").splitlines()) for name in LIBRARY}
    assert {room(name) for name in LIBRARY} == {*ORDER, "planning"}
    assert len(list((SRC / "sitetrace").glob("*.py"))) <= 5
    assert not {name: count for name, count in lines.items() if count > LONGEST}
    assert sum(count for name, count in lines.items() if room(name) != "studies") <= LIBRARY_LINES


@pytest.mark.parametrize("room", ["", *sorted({f".{room(name)}" for name in LIBRARY})])
def test_what_a_package_lists_is_there(room):
    package = importlib.import_module(f"sitetrace{room}")
    assert all(hasattr(package, name) for name in getattr(package, "__all__", ()))
