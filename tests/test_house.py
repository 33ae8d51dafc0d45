"""The house: which package may import which, how long a module may be, what is public."""

import ast
import importlib
import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import sitetrace

SRC = Path(__file__).parents[1] / "src"
# A package imports only what stands left of it. Planning reads datasets and knows no site.
ORDER = ["core", "workload", "measured", "serving", "meter", "evaluate", "power", "testbed",
         "site", "control", "studies", "cli"]  # fmt: skip
PLANNING = {("planning", "core"), ("studies", "planning"), ("cli", "planning")}
LONGEST, LIBRARY_LINES = 400, 9_500
MODULES = {
    ".".join(path.relative_to(SRC).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(SRC.rglob("*.py"))
}
LIBRARY = [name for name in MODULES if name.startswith("sitetrace.")]


def room(module):
    return module.split(".")[1]


def imported(name):
    """What a module takes of ours, as (module, name); a module as a whole has the name `*`."""
    nodes = list(ast.walk(ast.parse(MODULES[name].read_text("utf-8"))))
    taken, called = set(), {}
    for node in nodes:
        for alias in node.names if isinstance(node, ast.Import | ast.ImportFrom) else ():
            whole = isinstance(node, ast.Import)
            inner = alias.name if whole else f"{node.module}.{alias.name}"
            whole |= inner in MODULES
            taken.add((inner, "*") if whole else (node.module, alias.name))
            if whole:
                called[alias.asname or alias.name] = inner
    for node in nodes:
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in called:
            taken.add((called[ast.unparse(node.value)], node.attr))
    return {(module, what) for module, what in taken if module in MODULES}


def ours(name):
    return {module for module, _ in imported(name)} - {name}


def may_import(importer, other):
    if "planning" in (importer, other):
        return (importer, other) in PLANNING
    return ORDER.index(other) < ORDER.index(importer)


@pytest.mark.parametrize("name", LIBRARY)
def test_a_package_imports_only_what_stands_left_of_it(name):
    assert not [module for module in ours(name) if module.split(".")[0] == "sitebook"]
    rooms = {room(module) for module in ours(name) if "." in module} - {room(name)}
    assert not [other for other in rooms if not may_import(room(name), other)]


@pytest.mark.parametrize("name", MODULES)
def test_a_name_is_taken_from_the_module_that_defines_it_and_no_private_one(name):
    lists = [module for module, path in MODULES.items() if path.name == "__init__.py"]
    lists = lists if name in LIBRARY else []  # else the order could be gone around
    taken = {(module, what) for module, what in imported(name) if module in lists or what[0] == "_"}
    assert taken <= {("sitetrace", "__version__")}


def test_no_two_modules_import_each_other():
    assert list(TopologicalSorter({name: ours(name) for name in MODULES}).static_order())


def test_every_module_has_its_room_and_is_read_in_one_sitting():
    lines = {name: len(path.read_text("utf-8").splitlines()) for name, path in MODULES.items()}
    assert {room(name) for name in LIBRARY} == {*ORDER, "planning"}
    assert len(list((SRC / "sitetrace").glob("*.py"))) <= 5
    assert not {name: count for name, count in lines.items() if count > LONGEST}
    counted = [count for name, count in lines.items() if not re.match("sitebook|.*studies", name)]
    assert sum(counted) <= LIBRARY_LINES


def test_what_a_package_lists_is_there_and_evaluate_is_a_verb_too():
    for package in {"sitetrace", *(name.rpartition(".")[0] for name in LIBRARY)}:
        listed = importlib.import_module(package)
        assert all(hasattr(listed, name) for name in getattr(listed, "__all__", ()))
    assert callable(sitetrace.evaluate)
    assert sitetrace.evaluate.scores is importlib.import_module("sitetrace.evaluate.metrics").scores
