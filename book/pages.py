"""The pages of the book: which there are by chapters.yml, and what each says of itself."""

import ast
import os
import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import nbformat
import yaml

from sitetrace.core.files import named, read_json, require
from sitetrace.core.registry import data_dir, registry

SOURCES = {"measured": "measured runs", "testbed": "the testbed", "paper": "the papers"}
TESTBED_LINE = (
    "```{admonition} Testbed\nMade on the testbed, a server that we simulate with our own engine: "
    "it shows how the method works and claims nothing about hardware.\n```\n\n"
)
LINK = re.compile(r"(?<=\]\()[\w./-]+\.(?:md|ipynb|png)")
KEYS = {"needs", "measured", "also", "last"}  # what may be said of a chapter


@dataclass(frozen=True)
class Page:
    """One notebook at stated parameters."""

    slug: str
    chapter: str
    notebook: Path
    parameters: dict
    needs: tuple[str, ...] = ()
    own_title: str = ""
    suffix: str = ""
    last: bool = False

    @property
    def source(self) -> str:
        """What the page is made on; exercises have no such parameter."""
        return self.parameters.get("dataset", "exercises")

    @property
    def title(self) -> str:
        """First line of the notebook, with a word where a measured page has it too."""
        cells = nbformat.read(self.notebook, as_version=4).cells
        first = cells[0].source.partition("\n")[0] if cells else ""
        require(first[:2] == "# ", self.notebook, "its first line is no title", "begin with '# '")
        return self.own_title or first[2:] + self.suffix


def read_chapters(root: Path) -> tuple[list[Page], list[dict]]:
    """Read book/chapters.yml: all pages, and the parts of the table of contents."""
    pages, parts = [], []
    listing = yaml.safe_load((root / "book" / "chapters.yml").read_text("utf-8"))
    for group, chapters in listing.items():
        entries = []
        for chapter, told in chapters.items():
            prose = told is None and (root / "book" / f"{chapter}.md").is_file()
            mine = [] if prose else pages_of(root, chapter, told or {})
            first, *rest = [f"_generated/{page.slug}" for page in mine] or [chapter]
            sections = {"sections": [{"file": file} for file in rest]} if rest else {}
            entries.append({"file": first} | sections)
            pages += mine
        parts.append({"caption": group, "chapters": entries})
    return pages, parts


def pages_of(root: Path, chapter: str, told: dict) -> list[Page]:
    """List a chapter's pages, measured ones first, and refuse parameters that it does not have."""
    from papermill import inspect_notebook

    where = f"chapters.yml: {chapter}"
    require(told.keys() <= KEYS, where, "unknown key", f"there are {', '.join(sorted(KEYS))}")
    notebook = root / "notebooks" / f"{chapter}.ipynb"
    require(notebook.is_file(), where, f"there is no {notebook.name}", "write it")
    known = inspect_notebook(str(notebook))
    require("dataset" in known, notebook, "no parameter dataset", "add it to the parameters cell")
    default = ast.literal_eval(known["dataset"]["default"])
    needs = tuple(dict.fromkeys(run for name in told.get("needs", ()) for run in runs_of(name)))
    own = {"measured": {"measured": told["measured"]}} if "measured" in told else {}
    pages = []
    for name, page in (own | told.get("also", {})).items():
        parameters = {"dataset": "measured"} | (page["measured"] or {})
        slug, title = f"{chapter}-{name}", page.get("title", "")
        pages.append(Page(slug, chapter, notebook, parameters, needs, title))
    slug = chapter if default == "paper" else f"{chapter}-{default}"
    how = {"suffix": f" ({default})" if pages or default == "testbed" else ""}
    how["last"] = told.get("last", False)
    pages.append(Page(slug, chapter, notebook, {"dataset": default}, **how))
    for page in pages:
        unknown = sorted(page.parameters.keys() - known.keys())
        mend = "correct chapters.yml or add it there"
        require(not unknown, page.slug, f"{unknown} not among {notebook.name}'s parameters", mend)
    exercises = root / "notebooks" / "exercises" / notebook.name
    found = [Page(f"{chapter}-exercises", chapter, exercises, {})] if exercises.is_file() else []
    return pages + found


def runs_of(name: str) -> list[str]:
    """List the data sets behind a name of chapters.yml."""
    splits = read_json(data_dir() / "splits.json")["splits"]
    chosen = list(splits) if name == "all_splits" else [name] if name in splits else []
    parts = [part for split in chosen for part in splits[split]["fit"] + splits[split]["judge"]]
    runs = [part["run"] for part in parts if not part["run"].startswith("testbed/")]
    return runs or [named("data set or split", name, registry()) and name]


def dress(
    notebook: nbformat.NotebookNode, page: Page, origin: str, pages: list[Page], root: Path
) -> None:
    """Put title and origin first and the data behind captions; leave out what is for others."""
    hidden = {"measured", "testbed"} - {page.source}
    prose = [cell for cell in notebook.cells if cell.cell_type == "markdown"]
    others = [cell for cell in prose if hidden & set(cell.metadata.get("tags", []))]
    notebook.cells = [cell for cell in notebook.cells if cell not in others]
    notebook.metadata["launches"] = page.notebook.relative_to(root).as_posix()
    for cell in notebook.cells:
        figure = cell.metadata.get("mystnb", {}).get("figure", {})
        if "caption" in figure and page.source in ("measured", "testbed"):
            figure["caption"] += f" *Page on {SOURCES[page.source]}.*"
        if cell.cell_type == "markdown":
            cell.source = LINK.sub(partial(between_pages, page, pages, root), cell.source)
    first, rest = notebook.cells[0], notebook.cells[0].source.partition("\n")[2]
    first.source = f"# {page.title}\n\n{TESTBED_LINE * (page.source == 'testbed')}{origin}{rest}"


def between_pages(page: Page, pages: list[Page], root: Path, found: re.Match) -> str:
    """Turn a link that is right in the repository into one that is right between pages."""
    target = Path(os.path.normpath(page.notebook.parent / found[0]))
    same = [f"{other.slug}.ipynb" for other in pages if other.notebook == target]
    there = os.path.relpath(target, root / "book" / "_generated")
    return same[0] if same else there if target.is_file() else found[0]
