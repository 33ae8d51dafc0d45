"""What the project keeps of a page made on measured runs: its executed copy and its answers."""

import base64
import datetime
import io
import json
import math
import re
import shutil
from pathlib import Path

import nbformat
from nbformat import NotebookNode

COLORS = 64  # of a kept picture: enough for lines, and a fifth smaller than with 256
PICTURE_BYTES, PAGES_BYTES = 100_000, 4_000_000  # most of a picture, of all kept pages
README_FIGURE = "energy-errors-measured"  # the page whose first figure the README shows
SMALLEST = 1e-9  # difference of two numbers that are told apart
NOT_KEPT = "Recorded samples are not kept in the project: with the data at hand they stand here.\n"
# an absolute path; not a unit, an address, a relative path or the end of an HTML element
PATH = re.compile(r"(?<![\w.:/<)\]-])/[A-Za-z][\w.-]*/[\w.-]+")


def cleaned(notebook: NotebookNode) -> NotebookNode:
    """Drop from an executed copy what differs from one run to the next."""
    notebook.metadata = NotebookNode(kernelspec=notebook.metadata.kernelspec)
    names: dict[str, str] = {}  # pandas gives each styled table a name by chance
    for cell in notebook.cells:
        for key in ("papermill", "execution"):
            cell.metadata.pop(key, None)
        if "injected-parameters" in cell.metadata.get("tags", []):
            cell.id = "injected-parameters"  # papermill gives it another each time
        for output in cell.get("outputs", []):
            for kind, text in output.get("data", {}).items():
                if kind.startswith("text/"):
                    for name in re.findall(r"\bT_[0-9a-f]{5}(?=\b|_)", text):
                        text = text.replace(name, names.setdefault(name, f"table{len(names) + 1}"))
                    output.data[kind] = re.sub(r" at 0x[0-9a-f]+", "", text)
    return notebook


def to_keep(notebook: NotebookNode, old: NotebookNode | None) -> NotebookNode:
    """Bring an executed copy into the form that is kept, with the pictures of `old` where the same.

    Samples go, pictures get few colours. Two pictures are the same if all their pixels are: other
    versions of a library write other bytes for them.
    """
    before = pictures(old) if old else {}
    for cell in notebook.cells:
        if "samples" in cell.metadata.get("tags", []):
            cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text=NOT_KEPT)]
    for place, output in pictures(notebook).items():
        encoded, pixels = shrunk(output.data["image/png"])
        was = before[place].data["image/png"] if place in before else ""
        output.data["image/png"] = was if was and shrunk(was)[1] == pixels else encoded
    return notebook


def pictures(notebook: NotebookNode) -> dict[tuple[int, int], NotebookNode]:
    """All outputs that are pictures, by cell and place in it."""
    return {
        (number, place): output
        for number, cell in enumerate(notebook.cells)
        for place, output in enumerate(cell.get("outputs", []))
        if "image/png" in output.get("data", {})
    }


def shrunk(encoded: str) -> tuple[str, tuple]:
    """Write a picture in few colours; its size and pixels are told beside it."""
    from PIL import Image

    image = Image.open(io.BytesIO(base64.b64decode(encoded))).convert("RGB")
    if image.getcolors(COLORS) is None:
        image = image.quantize(COLORS, dither=Image.Dither.NONE).convert("RGB")
    written = io.BytesIO()
    image.quantize(COLORS, dither=Image.Dither.NONE).save(written, "PNG", optimize=True)
    return base64.b64encode(written.getvalue()).decode(), (image.size, image.tobytes())


def untimed(notebook: NotebookNode) -> list[tuple]:
    """All that makes a page another one: its cells, without outputs of those tagged as timed."""
    return [
        (
            cell.source,
            cell.metadata,
            [] if "timed" in cell.metadata.get("tags", []) else cell.outputs,
        )
        if cell.cell_type == "code"
        else (cell.source, cell.metadata)
        for cell in notebook.cells
    ]


def faults(notebook: NotebookNode) -> list[str]:
    """Say what a kept page must not hold."""
    found = ["metadata: papermill"] * ("papermill" in notebook.metadata)
    for number, cell in enumerate(notebook.cells, start=1):
        outputs = cell.get("outputs", [])
        data = [output.get("data", {}) for output in outputs]
        texts = [cell.source, *(output.get("text", "") for output in outputs)]
        texts += [text for each in data for kind, text in each.items() if kind[:5] == "text/"]
        large = [len(each["image/png"]) * 3 / 4 for each in data if "image/png" in each]
        bad = {
            "metadata: papermill, execution": {"papermill", "execution"} & set(cell.metadata),
            "says something on stderr": [o for o in outputs if o.get("name") == "stderr"],
            "failed": [output for output in outputs if output.output_type == "error"],
            "an absolute path": [text for text in texts if PATH.search(text)],
            f"a picture of more than {PICTURE_BYTES} bytes": [
                b for b in large if b > PICTURE_BYTES
            ],
        }
        found += [f"cell {number}: {what}" for what, there in bad.items() if there]
    return found


def keep(page, book, commit: str) -> list[str]:
    """Keep a page that was made and its answers, where either changed; say what forbids it."""
    fresh, own = book.made / f"{page.slug}.ipynb", book.measured / f"{page.slug}.ipynb"
    answers = {"new": fresh.with_suffix(".json"), "old": answers_of(page, book)}
    new, old = (path.read_bytes() if path.is_file() else b"" for path in answers.values())
    if page.source == "measured":
        before = nbformat.read(own, as_version=4) if own.is_file() else None
        notebook = to_keep(nbformat.read(fresh, as_version=4), before)
        if found := faults(notebook):
            return [f"{page.slug}, not kept: {fault}" for fault in found]
        if new != old or before is None or untimed(notebook) != untimed(before):
            own.parent.mkdir(exist_ok=True)
            nbformat.write(notebook, own)
            date = datetime.date.today().isoformat()
            book.kept[page.slug] = {"date": date, "commit": commit}
            print(f"kept: {own.relative_to(book.root)}")
        book.kept[page.slug]["stamp"] = book.stamps[page.slug]
        listing = json.dumps(book.kept, indent=1, sort_keys=True)
        (own.parent / "stamps.json").write_text(listing + "\n")
        if page.slug == README_FIGURE:
            first = next(iter(pictures(notebook).values())).data["image/png"]
            (book.root / "book" / "figures" / "thread.png").write_bytes(base64.b64decode(first))
    if new != old:
        answers["old"].parent.mkdir(exist_ok=True)
        shutil.copyfile(answers["new"], answers["old"])
    return []


def forget(book) -> None:
    """Remove what is kept of pages that are no more."""
    slugs = {page.slug for page in book.pages}
    for path in [*book.measured.glob("*.ipynb"), *(book.root / "data" / "answers").glob("*.json")]:
        if path.stem not in slugs:
            path.unlink()


def answers_of(page, book) -> Path:
    return book.root / "data" / "answers" / f"{page.slug}.json"


def changes(page, book) -> list[str]:
    """Say which answers of a page that was made are not as kept."""
    paths = (answers_of(page, book), book.made / f"{page.slug}.json")
    old, new = (json.loads(path.read_text("utf-8")) if path.is_file() else [] for path in paths)
    return [f"{page.slug}: {change}" for change in differences(old, new)]


def differences(old: list[dict], new: list[dict]) -> list[str]:
    """Say which answers are not the same within their own tolerance, or are judged otherwise."""
    before, after = ({name_of(row): row for row in rows} for rows in (old, new))
    told = [f"{name}: new" for name in after.keys() - before.keys()]
    told += [f"{name}: answered no more" for name in before.keys() - after.keys()]
    for name in before.keys() & after.keys():
        was, now = before[name], after[name]
        numbers = list(zip(numbers_of(was), numbers_of(now), strict=False))
        same = len(numbers_of(was)) == len(numbers_of(now)) and all(
            math.isclose(one, other, rel_tol=was["rtol"], abs_tol=SMALLEST)
            for one, other in numbers
        )
        judged = [(row.get("verdict"), row.get("holds")) for row in (was, now)]
        if not same or judged[0] != judged[1]:
            told.append(f"{name}: {shown(was)} is now {shown(now)}")
    return sorted(told)


def name_of(row: dict) -> str:
    parts = (row.get("claim") or f"bar {row['bar']}", row.get("on"), row.get("method"))
    return ", ".join(part for part in parts if part)


def numbers_of(row: dict) -> list[float]:
    return [number for number in (row["value"], *(row["interval"] or ())) if number is not None]


def shown(row: dict) -> str:
    judged = row.get(
        "verdict", {True: "holds", False: "does not hold"}.get(row.get("holds"), "open")
    )
    ends = f" ({row['interval'][0]:g} to {row['interval'][1]:g})" if row["interval"] else ""
    return f"{row['value']}{ends} {judged}"
