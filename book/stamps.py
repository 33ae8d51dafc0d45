"""What a page is made from, as one digest: its stamp. It holds as long as none of that changes.

A stamp holds the notebook, its parameters, the data sets it needs, what ships in `data`, the
versions in constraints.txt, and those modules of ours that the notebook imports, and that these
import. A package that lists names lazily stands for the module of each name that is used of it;
used as a whole, as in `sitetrace.evaluate(...)`, for the modules of all its names.
"""

import ast
import hashlib
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import nbformat

from sitetrace.core.files import InputError, digest_of
from sitetrace.core.registry import dataset_path, registry_entry

FOUND = ("answers",)  # folders of data that hold what pages found


def shipped_digest(root: Path) -> str:
    """Digest what ships in data, but what pages found, and the data sets: a page names its own."""
    data = root / "data"
    left_out = (data / "registry.json", *(data / name for name in FOUND))
    return digest_of(
        [path for path in files_under(data) if not {path, *path.parents} & {*left_out}]
    )


def stamp(page, root: Path, shipped: str, gathered: Path | None = None) -> str:
    """Digest all that a page is made from; `gathered`: the answers of the other pages."""
    cells = nbformat.read(page.notebook, as_version=4).cells
    code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    lines = [line for line in code.splitlines() if not line.startswith(("%", "!"))]
    files = [page.notebook, root / "constraints.txt"]
    files += sorted(modules_used("\n".join(lines), root / "src"))
    files += files_under(gathered) if gathered else []
    data = {name: data_digests(name) for name in page.needs}
    made_from = [digest_of(files), shipped, page.parameters, data]
    return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()


def files_under(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def folder_of(name: str) -> Path | None:
    """Where a data set lies, in the mirror or fetched, if it does."""
    registry_entry(name)
    try:
        return dataset_path(name)
    except InputError:
        return None


def data_digests(name: str) -> dict[str, str]:
    """Digests of a data set's files: of those at hand, else as the registry states them."""
    files, folder = registry_entry(name)["files"], folder_of(name)
    if folder is None:
        return files
    return {file: hashlib.sha256((folder / file).read_bytes()).hexdigest() for file in files}


def modules_used(code: str, src: Path) -> set[Path]:
    """Find the modules of ours that code imports, and those that these import."""
    found, waiting = set(), [code]
    while waiting:
        new = imports(waiting.pop(), src) - found
        found |= new
        waiting += [path.read_text("utf-8") for path in new]
    return found


@cache
def imports(code: str, src: Path) -> frozenset[Path]:
    return frozenset(imported(list(ast.walk(ast.parse(code))), src))


def imported(nodes: list[ast.AST], src: Path) -> Iterator[Path]:
    """Follow each import, and each chain of names that begins at one."""
    bound: dict[str, str] = {}
    for node in nodes:
        for alias in node.names if isinstance(node, ast.Import | ast.ImportFrom) else ():
            whole = isinstance(node, ast.Import)
            dotted = alias.name if whole else f"{node.module}.{alias.name}"
            yield from modules_of(dotted, src)
            first = dotted if alias.asname or not whole else dotted.partition(".")[0]
            bound[alias.asname or (first if whole else alias.name)] = first
    inner = {id(node.value) for node in nodes if isinstance(node, ast.Attribute)}
    for node in nodes:
        names, head = [], node
        while isinstance(head, ast.Attribute):
            names, head = [head.attr, *names], head.value
        if isinstance(head, ast.Name) and head.id in bound and id(node) not in inner:
            yield from modules_of(".".join([bound[head.id], *names]), src, used=True)


def modules_of(dotted: str, src: Path, used: bool = False) -> Iterator[Path]:
    """Walk from package to module; `used`: more than imported, so that lazy names are loaded."""
    place, names = src, dotted.split(".")
    while names and (place / names[0] / "__init__.py").is_file():
        place /= names.pop(0)
        yield place / "__init__.py"
    name = names[0] if names else ""
    if name and (place / f"{name}.py").is_file():
        yield place / f"{name}.py"
    elif place != src and (name or used):
        tree = ast.parse((place / "__init__.py").read_text("utf-8"))
        for listing in (node for node in ast.walk(tree) if isinstance(node, ast.Dict)):
            for module, listed in zip(listing.keys, listing.values, strict=True):
                if isinstance(listed, ast.List) and name in (*ast.literal_eval(listed), ""):
                    package = ".".join(place.relative_to(src).parts)
                    yield from modules_of(f"{package}.{module.value}", src)
