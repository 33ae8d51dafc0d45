"""Make the book: execute the pages that changed, then build them. Called by `make book`."""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import nbformat
import yaml
from tqdm import tqdm

from sitebook.old.ledger.records import read_records
from sitebook.old.ledger.tables import record_cells
from sitetrace.core.files import InputError, digest_of

ROOT = Path(__file__).resolve().parents[1]
SIDE_BY_SIDE = 2
FIGURE_PAGE = "energy-errors-measured"
NEEDED = {"page", "notebook"}
ALLOWED = NEEDED | {"parameters", "needs", "after"}
SOURCES = {"measured": "measured runs", "testbed": "the testbed", "paper": "the paper's numbers"}
# a link of a notebook into the book, as it holds in the repository
TO_BOOK = re.compile(r"\]\((?:\.\./)+book/")
TESTBED_LINE = (
    "```{admonition} Testbed\nMade on the testbed, a server that we simulate with our own engine: "
    "it shows how the method works and claims nothing about hardware.\n```"
)
RECORDED_LINE = (
    "```{note}\nThese numbers were recorded on measured runs, which are not part of the project. "
    "`SITETRACE_DATA=<mirror> make book` makes them, and the whole page, anew.\n```"
)
RECORDED_FIGURE = (
    "```{figure} ../figures/thread.png\n:alt: Absolute energy error on a logarithmic axis, one row "
    "for each judged recording and one marker for each method.\n\nAbsolute energy error by judged "
    "recording (rows) and method (markers), as recorded on measured runs; the last row shows the "
    "published errors of the paper's configurations.\n```"
)


@dataclass(frozen=True)
class Page:
    """One notebook at stated parameters."""

    slug: str
    notebook: Path
    parameters: dict
    needs_mirror: bool
    after_records: bool

    @property
    def source(self) -> str:
        usual = "testbed" if self.notebook.parent.name == "exercises" else "paper"
        return str(self.parameters.get("dataset", usual))


def read_pages(root: Path) -> list[Page]:
    """Read book/runs.yml; every notebook must be there and know its parameters."""
    listing = root / "book" / "runs.yml"
    pages = []
    for entry in yaml.safe_load(listing.read_text("utf-8")):
        if not NEEDED <= entry.keys() <= ALLOWED:
            raise InputError(f"{listing}: {entry}: only {', '.join(sorted(ALLOWED))}")
        notebook = root / "notebooks" / f"{entry['notebook']}.ipynb"
        if not notebook.is_file():
            raise InputError(f"{listing}: {entry['page']}: there is no {notebook.name}: write it")
        needs = entry.get("needs") == "mirror"
        after = entry.get("after") == "records"
        pages.append(Page(entry["page"], notebook, entry.get("parameters", {}), needs, after))
        check_parameters(pages[-1])
    return pages


def check_parameters(page: Page) -> None:
    """Refuse a parameter that the notebook does not have (papermill would only warn)."""
    from papermill import inspect_notebook

    unknown = page.parameters.keys() - inspect_notebook(str(page.notebook)).keys()
    if unknown:
        raise InputError(
            f"{page.slug}: parameter {min(unknown)} is not in the parameters cell of "
            f"{page.notebook.name}: correct runs.yml or add it there"
        )


def mirror_from_environment() -> Path | None:
    """Find the mirror of measured runs, when one is named."""
    named = os.environ.get("SITETRACE_DATA")
    if not named:
        return None
    mirror = Path(named).resolve()
    if not (mirror / "measured").is_dir():
        raise InputError(f"SITETRACE_DATA={named}: holds no folder measured: correct or unset it")
    return mirror


def files_under(folder: Path, pattern: str = "*") -> list[Path]:
    return sorted(p for p in folder.rglob(pattern) if p.is_file() and "__pycache__" not in p.parts)


def digests(
    root: Path, pages: list[Page], mirror: Path | None, gathered: Path | None = None
) -> dict[str, str]:
    """Digest of everything that a page is made from, by page."""
    records = root / "data" / "records"
    inputs = files_under(root / "src", "*.py") + [Path(__file__), root / "constraints.txt"]
    inputs += [path for path in files_under(root / "data") if records not in path.parents]
    common = digest_of(inputs)
    measured = digest_of(files_under(mirror)) if mirror else ""
    others = digest_of(files_under(gathered)) if gathered else ""
    return {
        page.slug: hashlib.sha256(
            json.dumps(
                [
                    common,
                    measured if page.needs_mirror else "",
                    others if page.after_records else "",
                    digest_of([page.notebook]),
                    page.parameters,
                ],
                sort_keys=True,
            ).encode()
        ).hexdigest()
        for page in pages
    }


def execute(
    page: Page, digest: str, generated: Path, mirror: Path | None, gathered: Path | None = None
) -> None:
    """Run a page's notebook; its copy, records and digest appear together or not at all."""
    with tempfile.TemporaryDirectory(prefix=f".{page.slug}.", dir=generated) as name:
        folder = Path(name)
        copy = folder / f"{page.slug}.ipynb"
        environment = os.environ | {
            "SITETRACE_RECORDS": str(folder / f"{page.slug}.records.json"),
            "OMP_NUM_THREADS": "1",
            "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        }
        if page.after_records and gathered:
            environment["SITETRACE_ALL_RECORDS"] = str(gathered)
        # A page on the testbed is the same page whether or not there is a mirror.
        environment.pop("SITETRACE_DATA", None)
        if page.needs_mirror and mirror:
            environment["SITETRACE_DATA"] = str(mirror)
        command = [sys.executable, "-m", "papermill", str(page.notebook), str(copy)]
        command += ["--kernel", "python3", "--cwd", str(page.notebook.parent)]
        command += ["--no-progress-bar", "-y", json.dumps(page.parameters)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise InputError(f"{page.notebook}: {failure(copy, done.stderr)}")
        dress(copy, page, digest)
        (folder / f"{page.slug}.digest").write_text(digest + "\n")
        remove_page(page.slug, generated)
        # The digest comes last: without it the page counts as not made.
        for path in sorted(folder.iterdir(), key=lambda path: path.suffix == ".digest"):
            path.replace(generated / path.name)


def failure(copy: Path, stderr: str) -> str:
    """Name the cell that failed, as counted in the notebook itself, and its error."""
    own = ("injected-parameters", "papermill-error-cell-tag")
    cells = nbformat.read(copy, as_version=4).cells if copy.is_file() else []
    cells = [cell for cell in cells if not set(own) & set(cell.metadata.get("tags", []))]
    for number, cell in enumerate(cells, start=1):
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                said = f"{output.ename}: {output.evalue}".splitlines()[0]
                return f"cell {number} failed: {said}"
    return f"did not run: {(stderr.strip().splitlines() or ['no message'])[-1]}"


def dress(copy: Path, page: Page, digest: str) -> None:
    """Put parameters, source and digest under the title, the source behind each caption.

    What differs from run to run is dropped.
    """
    notebook = nbformat.read(copy, as_version=4)
    notebook.metadata.pop("papermill", None)
    for cell in notebook.cells:
        for key in ("papermill", "execution"):
            cell.metadata.pop(key, None)
        if cell.cell_type == "markdown":
            cell.source = TO_BOOK.sub("](../", cell.source)
        figure = cell.metadata.get("mystnb", {}).get("figure", {})
        if "caption" in figure:
            figure["caption"] += f" *Page on {SOURCES[page.source]}.*"
    first = notebook.cells[0]
    rest = first.source.partition("\n")[2]
    first.source = f"{heading(page)}\n\n{source_line(page, digest)}\n{rest}"
    nbformat.write(notebook, copy)


def heading(page: Page) -> str:
    """Title of the page: the first line of the notebook, and on which data."""
    cells = nbformat.read(page.notebook, as_version=4).cells
    title = cells[0].source.partition("\n")[0] if cells else ""
    if not title.startswith("# "):
        raise InputError(f"{page.notebook}: its first line is no title: begin with '# '")
    return f"{title} ({page.source})"


def source_line(page: Page, digest: str) -> str:
    parameters = ", ".join(f"`{name} = {value}`" for name, value in page.parameters.items())
    line = (
        f"*Parameters: {parameters or 'as stated'}; data: {page.source}; made by "
        f"`notebooks/{page.notebook.as_posix().rpartition('/notebooks/')[2]}`; "
        f"digest `{digest[:12]}`.*"
    )
    return f"{TESTBED_LINE}\n\n{line}" if page.source == "testbed" else line


def recorded_page(page: Page, root: Path) -> str:
    """Compose the page that shows stored records, for readers without the mirror."""
    records = root / "data" / "records" / f"{page.slug}.json"
    question = nbformat.read(page.notebook, as_version=4).cells[0].source.partition("\n")[2]
    cells = record_cells(read_records(records)).map(lambda text: text.replace("|", "\\|"))
    lines = [list(cells), ["---"] * cells.shape[1], *cells.to_numpy().tolist()]
    parts = [
        heading(page),
        RECORDED_LINE,
        source_line(page, digest_of([records])),
        question.strip(),
        RECORDED_FIGURE if page.slug == FIGURE_PAGE else "",
        "## Answer",
        "\n".join("| " + " | ".join(line) + " |" for line in lines),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def remove_page(slug: str, generated: Path) -> None:
    for ending in ("digest", "md", "ipynb", "records.json"):
        (generated / f"{slug}.{ending}").unlink(missing_ok=True)


def is_made(page: Page, digest: str, generated: Path) -> bool:
    stamp = generated / f"{page.slug}.digest"
    copy = generated / f"{page.slug}.ipynb"
    return copy.is_file() and stamp.is_file() and stamp.read_text().strip() == digest


def gather(pages: list[Page], root: Path, mirror: Path | None, folder: Path) -> None:
    """Copy the records of all pages into one folder: as made now, or as stored."""
    for page in pages:
        fresh = root / "book" / "_generated" / f"{page.slug}.records.json"
        if page.needs_mirror and not mirror:
            fresh = root / "data" / "records" / f"{page.slug}.json"
        if not page.after_records and fresh.is_file():
            shutil.copyfile(fresh, folder / f"{page.slug}.json")


def execute_due(
    pages: list[Page],
    digest: dict[str, str],
    generated: Path,
    mirror: Path | None,
    gathered: Path | None = None,
) -> list[str]:
    """Execute those of the pages that changed, two side by side; return their slugs."""
    due = [page for page in pages if mirror or not page.needs_mirror]
    due = [page for page in due if not is_made(page, digest[page.slug], generated)]
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        jobs = [
            pool.submit(execute, page, digest[page.slug], generated, mirror, gathered)
            for page in due
        ]
        try:
            for job in tqdm(jobs, desc="pages", unit="page", disable=not jobs):
                job.result()
        except InputError:
            pool.shutdown(cancel_futures=True)
            raise
    return [page.slug for page in due]


def make_pages(root: Path, mirror: Path | None) -> list[str]:
    """Bring book/_generated up to date; return the pages that were executed."""
    generated = root / "book" / "_generated"
    generated.mkdir(exist_ok=True)
    pages = read_pages(root)
    for stale in {path.name.partition(".")[0] for path in generated.iterdir()} - {
        page.slug for page in pages
    }:
        remove_page(stale, generated)
    for page in pages:
        if page.needs_mirror and not mirror:
            text = recorded_page(page, root)
            path = generated / f"{page.slug}.md"
            if not path.is_file() or path.read_text("utf-8") != text:
                remove_page(page.slug, generated)
                path.write_text(text, "utf-8")
    first = [page for page in pages if not page.after_records]
    made = execute_due(first, digests(root, first, mirror), generated, mirror)
    last = [page for page in pages if page.after_records]
    with tempfile.TemporaryDirectory() as name:
        gather(first, root, mirror, Path(name))
        digest = digests(root, last, mirror, Path(name))
        return made + execute_due(last, digest, generated, mirror, Path(name))


def keep_records(root: Path) -> list[Path]:
    """Store the records of the pages made on measured runs in data/records."""
    kept = root / "data" / "records"
    kept.mkdir(parents=True, exist_ok=True)
    made = root / "book" / "_generated"
    paths = []
    for page in read_pages(root):
        if page.needs_mirror and (made / f"{page.slug}.records.json").is_file():
            shutil.copyfile(made / f"{page.slug}.records.json", kept / f"{page.slug}.json")
            paths.append(kept / f"{page.slug}.json")
    return paths


def keep_figure(root: Path) -> Path:
    """Store the figure of measured energy errors, drawn from scores alone, for the README."""
    notebook = nbformat.read(root / "book" / "_generated" / f"{FIGURE_PAGE}.ipynb", as_version=4)
    pictures = [
        output.data["image/png"]
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]
    path = root / "book" / "figures" / "thread.png"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(base64.b64decode(pictures[0]))
    return path


def build_html(book: Path) -> Path:
    """Build the pages without executing them again; a warning is an error."""
    command = [str(Path(sys.executable).with_name("jupyter-book")), "build", str(book)]
    # every page anew: the sidebar of each names all others
    command += ["--warningiserror", "--keep-going", "--nitpick", "--quiet", "--all"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        # Pages read once are not read again, so their warnings would be missed next time.
        shutil.rmtree(book / "_build" / ".doctrees", ignore_errors=True)
        lines = done.stdout.splitlines()
        named = [line for line in lines if "WARNING" in line or "ERROR" in line]
        raise InputError("\n".join(["jupyter-book found what must be mended", *(named or lines)]))
    return book / "_build" / "html" / "index.html"


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--keep-records", action="store_true", help="store measured records and the README's figure"
    )
    options = parser.parse_args(arguments)
    try:
        made = make_pages(root, mirror_from_environment())
        print(f"executed: {', '.join(made) or 'nothing, all pages are up to date'}", flush=True)
        if options.keep_records:
            kept = [*keep_records(root), keep_figure(root)]
            print(*(f"kept: {path}" for path in kept), sep="\n")
        print(f"the book: {build_html(root / 'book')}")
    except InputError as error:
        print(f"book: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
