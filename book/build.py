"""Make the book: execute the pages that are due, stage them, build them. Called by `make`.

What is made here lies in book/_generated/made: each page's copy, its answers, its stamp. What is
kept of measured pages lies in book/measured and data/answers. A page is shown as made here if that
is of what is there now, else as kept.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import kept
import nbformat
import yaml
from pages import SOURCES, Page, dress, read_chapters
from stamps import folder_of, shipped_digest, stamp
from tqdm import tqdm

from sitetrace.core.files import InputError, read_json, require
from sitetrace.core.registry import mirror, registry_entry

ROOT = Path(__file__).resolve().parents[1]
SIDE_BY_SIDE = 2
FOUND = {"answers": ".json"}  # what pages write beside their copies
NOT_MADE = "# \n```{{note}}\nThis page is not made yet. It takes {}: `make page PAGE={}`.\n```"


def execute(page: Page, made: Path, environment: dict[str, str]) -> None:
    """Run a page's notebook, in a process of its own: the kernel inherits what is set here."""
    from nbclient.exceptions import DeadKernelError
    from papermill import PapermillExecutionError, execute_notebook

    places = {kind: made / f"{page.slug}{ending}" for kind, ending in FOUND.items()}
    copy, where = made / f"{page.slug}.ipynb", f"{page.slug}: {page.notebook.name}"
    for path in (copy, copy.with_suffix(".stamp"), *places.values()):
        path.unlink(missing_ok=True)
    before = dict(os.environ)
    with tempfile.TemporaryDirectory() as seen:
        # A page sees the data sets that it says it needs, and no others of the mirror.
        for entry, folder in ((registry_entry(name), folder_of(name)) for name in page.needs):
            for file in entry["files"]:
                place = Path(seen, entry["folder"], file)
                place.parent.mkdir(parents=True, exist_ok=True)
                place.symlink_to((folder / file).resolve())
        found = {f"SITETRACE_{kind.upper()}": str(place) for kind, place in places.items()}
        found |= {"SITETRACE_DATA": seen} if page.source == "measured" else {}
        os.environ.pop("SITETRACE_DATA", None)
        os.environ.update(environment | found)
        how = {"kernel_name": "python3", "cwd": str(page.notebook.parent), "progress_bar": False}
        how["extra_arguments"] = ["--IPKernelApp.log_level=ERROR"]
        try:
            notebook = execute_notebook(str(page.notebook), None, page.parameters, **how)
        except PapermillExecutionError as error:
            cell = error.cell_index + (not page.parameters)  # papermill adds one, of parameters
            said = f"{error.ename}: {error.evalue}".splitlines()[0]
            raise InputError(f"{where}: cell {cell} failed: {said}") from None
        except DeadKernelError as error:
            raise InputError(f"{where}: {error}: is there memory enough?") from None
        finally:
            os.environ.clear()
            os.environ.update(before)
    nbformat.write(kept.cleaned(notebook), copy)


class Book:
    """The pages, where their copies lie, and whether these are of what is there now."""

    def __init__(self, root: Path) -> None:
        self.root, self.generated = root, root / "book" / "_generated"
        self.made, self.gathered = self.generated / "made", self.generated / "gathered"
        self.made.mkdir(parents=True, exist_ok=True)
        self.pages, self.parts = read_chapters(root)
        self.measured = root / "book" / "measured"
        listing = self.measured / "stamps.json"
        self.kept = read_json(listing) if listing.is_file() else {}
        self.stamp = partial(stamp, root=root, shipped=shipped_digest(root))
        self.stamps = {page.slug: self.stamp(page) for page in self.pages if not page.last}

    def copy(self, page: Page) -> Path | None:
        """Where the copy lies that is shown: made here, if of what is there now, else kept."""
        made, own = self.made / f"{page.slug}.stamp", self.measured / f"{page.slug}.ipynb"
        if made.is_file() and made.read_text() == self.stamps.get(page.slug):
            return made.with_suffix(".ipynb")
        return own if page.slug in self.kept and own.is_file() else None

    def holds(self, page: Page) -> bool:
        """Whether that copy is of what the page is made from now."""
        copy = self.copy(page)
        made = copy is not None and copy.parent == self.made
        return made or bool(copy) and self.kept[page.slug]["stamp"] == self.stamps[page.slug]

    def missing(self, pages: list[Page]) -> list[str]:
        """Name the data sets that pages need and that are not at hand, in the mirror or fetched."""
        needs = dict.fromkeys(name for page in pages for name in page.needs)
        return [name for name in needs if folder_of(name) is None]

    def make(self, pages: list[Page], again: str = "") -> list[str]:
        """Make those of the pages that are due or of a kind to be made again; say what failed."""
        due = [page for page in pages if not page.last and not self.missing([page])]
        due = [page for page in due if page.source == again or not self.holds(page)]
        failed = self.execute(due)
        self.gather()
        last = [page for page in pages if page.last]
        self.stamps |= {page.slug: self.stamp(page, gathered=self.gathered) for page in last}
        last = [page for page in last if not self.holds(page)]
        failed += self.execute(last)
        print(f"executed: {', '.join(page.slug for page in due + last) or 'nothing'}", flush=True)
        return failed

    def execute(self, due: list[Page]) -> list[str]:
        """Execute pages two side by side; a stamp comes last, without it a page is not made."""
        environment = {"OMP_NUM_THREADS": "1", "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
        environment["PYTHONWARNINGS"] = "ignore:IProgress not found"  # of bars that no page shows
        folders = {f"SITETRACE_ALL_{kind.upper()}": str(self.gathered / kind) for kind in FOUND}
        given, failed = environment | folders, []
        with ProcessPoolExecutor(SIDE_BY_SIDE, get_context("spawn")) as pool:
            jobs = {pool.submit(execute, page, self.made, given): page.slug for page in due}
            done = tqdm(as_completed(jobs), "pages", len(jobs), unit="page", disable=not jobs)
            for job, slug in ((job, jobs[job]) for job in done):
                try:
                    job.result()
                    (self.made / f"{slug}.stamp").write_text(self.stamps[slug])
                except InputError as error:
                    failed.append(str(error))
        return failed

    def gather(self) -> None:
        """Put the answers of all pages into one folder: those of the copy that is shown."""
        shutil.rmtree(self.gathered, ignore_errors=True)
        for kind, ending in FOUND.items():
            (self.gathered / kind).mkdir(parents=True)
            for page in (page for page in self.pages if not page.last):
                copy = self.copy(page)
                found = self.root / "data" / kind / f"{page.slug}.json"
                if copy and copy.parent == self.made:
                    found = self.made / f"{page.slug}{ending}"
                if found.is_file():
                    shutil.copyfile(found, self.gathered / kind / f"{page.slug}.json")

    def stage(self) -> None:
        """Dress a copy of each page for the book."""
        for path in self.generated.glob("*.ipynb"):
            path.unlink()
        for page in self.pages:
            copy = self.copy(page)
            note = NOT_MADE.format(", ".join(self.missing([page])) or "time", page.chapter)
            blank = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(note)])
            notebook = nbformat.read(copy, as_version=4) if copy else blank
            dress(notebook, page, self.origin(page, copy) if copy else "", self.pages, self.root)
            nbformat.write(notebook, self.generated / f"{page.slug}.ipynb")

    def origin(self, page: Page, copy: Path) -> str:
        """Say what a copy was made from, and when if it is a kept one."""
        parameters = ", ".join(f"`{name} = {value}`" for name, value in page.parameters.items())
        told = [f"Notebook `{page.notebook.relative_to(self.root)}`"]
        if parameters:
            told += [f"parameters: {parameters}", f"data: {SOURCES[page.source]}"]
        own = self.kept[page.slug] if copy.parent == self.measured else {}
        told.append(f"digest `{own.get('stamp', self.stamps[page.slug])[:12]}`")
        if own:
            old = " before its notebook, code or data changed" * (not self.holds(page))
            told.append(f"kept on {own['date']} at commit {own['commit']}{old}")
        return f"*{'; '.join(told)}.*\n"


def build_html(book: Book, pages: list[Page]) -> Path:
    """Build the pages without executing them again; of the whole book a warning is an error."""
    parts, place, strict = book.parts, book.root / "book", pages == book.pages
    command = [str(Path(sys.executable).with_name("jupyter-book")), "build", str(place)]
    command += ["--quiet", "--all", "--toc", str(book.generated / "_toc.yml")]  # sidebars too
    if strict:
        command += ["--warningiserror", "--keep-going", "--nitpick"]
    else:  # a few pages, with the prose that they link to
        place = place / "_build" / "page"
        command += ["--path-output", str(place)]
        own = [{"file": f"_generated/{page.slug}"} for page in pages]
        parts = [{"caption": pages[0].chapter, "chapters": own}, *parts[-1:]]
    contents = {"format": "jb-book", "root": "index", "parts": parts}
    (book.generated / "_toc.yml").write_text(yaml.safe_dump(contents, sort_keys=False))
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        # Pages read once are not read again, so their warnings would be missed next time.
        shutil.rmtree(place / "_build" / ".doctrees", ignore_errors=True)
        lines = done.stdout.splitlines()
        named = [line for line in lines if "WARNING" in line or "ERROR" in line]
        raise InputError("\n".join(["jupyter-book found what must be mended", *(named or lines)]))
    html = place / "_build" / "html"
    return html / "index.html" if strict else html / "_generated" / f"{pages[0].slug}.html"


def make_measured(book: Book, keep: bool) -> int:
    """Make all measured pages again, say which answers changed, or keep them with their pages."""
    missing = book.missing(book.pages)
    mend = "sitetrace data fetch NAME, or SITETRACE_DATA=<mirror>"
    require(not missing, "measured pages", f"not at hand: {', '.join(missing)}", mend)
    told = ["git", "-C", str(book.root), "describe", "--always", "--dirty", "--exclude=*"]
    commit = subprocess.run(told, capture_output=True, text=True).stdout.strip() or "unknown"
    pages = [page for page in book.pages if not page.last]
    failed = book.make(pages, again="measured")
    made = [page for page in pages if (book.copy(page) or Path()).parent == book.made]
    changed = [line for page in made for line in kept.changes(page, book)]
    print(*(changed or ["all answers are as kept"]), sep="\n")
    if keep:
        failed += [fault for page in made for fault in kept.keep(page, book, commit)]
        kept.forget(book)
    print(*failed, sep="\n", file=sys.stderr)
    return int(bool(failed or changed and not keep))


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--page", help="make the pages of one chapter, or one page")
    parser.add_argument("--measured", action="store_true", help="make all measured pages again")
    parser.add_argument("--keep", action="store_true", help="and keep those that changed")
    options = parser.parse_args(arguments)
    try:
        mirror()  # a folder that is not there would count as no data
        book = Book(root)
        if options.measured:
            return make_measured(book, options.keep)
        pages = [page for page in book.pages if options.page in (None, page.slug, page.chapter)]
        require(pages, f"PAGE={options.page}", "no such page", "name one of book/chapters.yml")
        if failed := book.make(pages):
            raise InputError("\n".join(failed))
        book.stage()
        print(f"the book: {build_html(book, pages)}")
    except InputError as error:
        print(f"book: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
