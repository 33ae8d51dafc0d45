"""The book is made from what changed, shows what is kept, and keeps what it may."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
import yaml
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

ROOT = Path(__file__).parents[2]
BOOK = ROOT / "book"
sys.path[:0] = [str(BOOK), str(BOOK / "_ext")]  # as for book/build.py, also in its workers

import build  # noqa: E402
import kept  # noqa: E402
import launch  # noqa: E402
import script_files  # noqa: E402
from stamps import modules_used  # noqa: E402

TOLD = {"claim": "a", "method": "theirs", "value": 1.0, "rtol": 0.01, "verdict": "x"}
CODE = """
import json, os
from pathlib import Path
if not dataset:
    from sitetrace.power import near
assert ("SITETRACE_DATA" in os.environ) == (dataset == "measured")
told = {"claim": "c", "on": "", "value": watts, "interval": None, "rtol": 0.01, "verdict": "beside"}
Path(os.environ["SITETRACE_ANSWERS"]).write_text(json.dumps([told]))
print(watts)
"""
SUM = """
import json, os
from pathlib import Path
folder = Path(os.environ["SITETRACE_ALL_ANSWERS"])
print(sorted((path.stem, json.loads(path.read_text())[0]["value"]) for path in folder.iterdir()))
"""


def write_notebook(path, code=CODE, dataset="testbed"):
    cells = [
        new_markdown_cell("# Mini\nSee [how](../book/how.md), [sum](sum.ipynb#x), [a](a.md)."),
        new_code_cell(f'dataset = "{dataset}"\nwatts = 3', metadata={"tags": ["parameters"]}),
        new_code_cell(code, metadata={"mystnb": {"figure": {"caption": "A line."}}}),
        new_markdown_cell("On hardware.", metadata={"tags": ["measured"]}),
        new_markdown_cell("Simulated.", metadata={"tags": ["testbed"]}),
    ]
    kernel = {"name": "python3", "language": "python", "display_name": "P"}
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.delenv("SITETRACE_DATA", raising=False)
    for folder in ("book", "notebooks", "data", "src/sitetrace/power"):
        (tmp_path / folder).mkdir(parents=True)
    sources = {"__init__.py": "", "power/__init__.py": "", "power/near.py": "", "far.py": ""}
    for name, text in sources.items():
        (tmp_path / "src" / "sitetrace" / name).write_text(text)
    (tmp_path / "constraints.txt").write_text("")
    (tmp_path / "book" / "how.md").write_text("# How\n")
    write_notebook(tmp_path / "notebooks" / "mini.ipynb")
    write_notebook(tmp_path / "notebooks" / "sum.ipynb", SUM, "paper")
    chapters = {"mini": {"needs": ["wattgpu"], "measured": {"watts": 4}}, "sum": {"last": True}}
    write_chapters(tmp_path, chapters)
    return tmp_path


def write_chapters(root, chapters):
    text = yaml.safe_dump({"Servers": chapters, "More": {"how": None}}, sort_keys=False)
    (root / "book" / "chapters.yml").write_text(text)


@pytest.fixture
def mirror(root, monkeypatch):
    entry = build.registry_entry("wattgpu")
    folder = root / "mirror" / entry["folder"]
    folder.mkdir(parents=True)
    for file in entry["files"]:
        (folder / file).write_text("a,b\n")
    monkeypatch.setenv("SITETRACE_DATA", str(root / "mirror"))
    return folder / file


def make(root, *pages):
    book = build.Book(root)
    failed = book.make([page for page in book.pages if not pages or page.slug in pages])
    book.stage()
    return book, failed


def page(root, slug):
    return nbformat.read(root / "book" / "_generated" / f"{slug}.ipynb", as_version=4)


@pytest.fixture
def pretend(monkeypatch):
    """Pages without a kernel: each answers its watts."""

    def execute(book, due):
        for each in due:
            copy = book.made / f"{each.slug}.ipynb"
            nbformat.write(kept.cleaned(nbformat.read(each.notebook, as_version=4)), copy)
            told = {"claim": "c", "value": each.parameters.get("watts", 3), "verdict": "beside"}
            copy.with_suffix(".json").write_text(json.dumps([told | {"interval": None, "rtol": 0}]))
            copy.with_suffix(".stamp").write_text(book.stamps[each.slug])
        return []

    monkeypatch.setattr(build.Book, "execute", execute)


def test_a_page_says_first_what_it_was_made_from_and_links_lead_between_pages(root, mirror):
    book, failed = make(root)
    assert not failed
    found = page(root, "sum").cells[3].outputs[0].text
    assert found == "[('mini-measured', 4), ('mini-testbed', 3)]\n"
    cells = page(root, "mini-testbed").cells
    title, _, *lines = cells[0].source.splitlines()
    assert title == "# Mini (testbed)"
    assert "claims nothing about hardware" in lines[1]
    stamp = book.stamps["mini-testbed"][:12]
    told = f"parameters: `dataset = testbed`; data: the testbed; digest `{stamp}`"
    assert lines[-2] == f"*Notebook `notebooks/mini.ipynb`; {told}.*"
    assert lines[-1] == "See [how](../how.md), [sum](sum.ipynb#x), [a](a.md)."
    assert [cell.source for cell in cells if cell.cell_type == "markdown"][1:] == ["Simulated."]
    captions = [cell.metadata.mystnb.figure.caption for cell in cells if "mystnb" in cell.metadata]
    assert captions == ["A line. *Page on the testbed.*"]
    assert page(root, "mini-measured").cells[-1].source == "On hardware."
    before = {path: path.read_text() for path in book.made.glob("mini-*")}
    book.execute([each for each in book.pages if not each.last])
    assert {path: path.read_text() for path in book.made.glob("mini-*")} == before


def test_only_what_changed_is_made_again(root, mirror, pretend, capsys):
    def executed():
        make(root)
        return capsys.readouterr().out.removeprefix("executed: ").strip().split(", ")

    assert executed() == ["mini-measured", "mini-testbed", "sum"]
    assert executed() == ["nothing"]
    mirror.write_text("other")
    assert executed() == ["mini-measured"]  # its answer is the same
    (root / "src" / "sitetrace" / "far.py").write_text("x = 1")
    assert executed() == ["nothing"]
    (root / "src" / "sitetrace" / "power" / "near.py").write_text("x = 1")
    assert executed() == ["mini-measured", "mini-testbed"]
    (root / "data" / "model.json").write_text("{}")
    assert executed() == ["mini-measured", "mini-testbed", "sum"]
    mirror.unlink()
    make(root)
    assert "It takes wattgpu" in page(root, "mini-measured").cells[0].source


def test_what_is_kept_is_shown_without_data_and_renewed_only_where_it_changed(
    root, mirror, pretend, monkeypatch, capsys
):
    assert build.main(["--measured"], root) == 1  # nothing is kept yet
    assert "mini-measured: c: new" in capsys.readouterr().out
    assert build.main(["--measured", "--keep"], root) == 0
    own = root / "book" / "measured" / "mini-measured.ipynb"
    assert json.loads((root / "data" / "answers" / "mini-testbed.json").read_text())
    before = own.stat().st_mtime_ns
    assert build.main(["--measured", "--keep"], root) == 0
    assert build.main(["--measured"], root) == 0
    assert own.stat().st_mtime_ns == before
    for path in (root / "book" / "_generated" / "made").glob("mini-measured*"):
        path.unlink()
    chapters = {"mini": {"needs": ["wattgpu"], "measured": {"watts": 5}}, "sum": {"last": True}}
    write_chapters(root, chapters)
    monkeypatch.delenv("SITETRACE_DATA")
    assert build.main(["--measured"], root) == 1
    assert "not at hand: wattgpu" in capsys.readouterr().err
    make(root)
    cells = page(root, "mini-measured").cells
    assert "changed.*" in cells[0].source
    assert "kept on 20" in cells[0].source
    assert cells[-1].source == "On hardware."
    monkeypatch.setenv("SITETRACE_DATA", str(root / "mirror"))
    assert build.main(["--measured"], root) == 1
    assert "mini-measured: c: 4 beside is now 5 beside" in capsys.readouterr().out


def test_a_failing_cell_and_what_is_not_there_are_named(root, monkeypatch, capsys):
    write_notebook(root / "notebooks" / "mini.ipynb", "1 / 0")
    assert build.main([], root) == 1
    named = "book: mini-testbed: mini.ipynb: cell 3 failed: ZeroDivisionError: division by zero"
    assert named in capsys.readouterr().err.splitlines()
    for told in ({"measured": {"wats": 4}}, {"measure": {}}, {"needs": ["wat"], "measured": None}):
        write_chapters(root, {"mini": told})
        assert build.main([], root) == 1
        assert "wat" in capsys.readouterr().err or "measure" in told
    write_chapters(root, {"none": {}})
    assert build.main(["--page", "none"], root) == 1
    assert "there is no none.ipynb" in capsys.readouterr().err
    monkeypatch.setenv("SITETRACE_DATA", str(root / "no"))
    assert build.main([], root) == 1
    assert "no: no such folder: name the mirror or unset it" in capsys.readouterr().err


def test_a_stamp_follows_imports_and_names_that_a_package_lists_lazily(tmp_path):
    files = {
        "one/__init__.py": "attach(__name__, submod_attrs={'two': ['verb'], 'sub.three': ['it']})",
        "one/two.py": "def f():\n    from one.sub import four",
        "one/sub/__init__.py": "",
        "one/sub/three.py": "",
        "one/sub/four.py": "import one.sub.five as five",
        "one/sub/five.py": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)

    def used(code):
        return {path.stem for path in modules_used(code, tmp_path)} - {"__init__"}

    assert used("import one") == set()
    assert used("import one\none.verb(1).real") == {"two", "four", "five"}
    assert used("from one import it as n") == {"three"}
    assert used("from one import sub\nsub.three.x + other.two") == {"three"}
    assert used("import one\none(1)") == {"two", "three", "four", "five"}


def test_answers_differ_beyond_their_own_tolerance_or_by_verdict():
    old = [TOLD | {"interval": [0.9, 1.1]}]
    assert kept.differences(old, [old[0] | {"value": 1.005}]) == []
    assert len(kept.differences(old, [old[0] | {"interval": [0.9, 1.2]}])) == 1
    assert len(kept.differences(old, [old[0] | {"interval": None}])) == 1
    assert len(kept.differences(old, [old[0] | {"verdict": "y"}])) == 1
    assert kept.differences(old, []) == ["a, theirs: answered no more"]


def test_every_page_is_listed_once_and_opens_its_notebook():
    pages, parts = build.read_chapters(ROOT)
    assert len({page.slug for page in pages}) == len({page.title for page in pages}) == len(pages)
    there = {*(ROOT / "notebooks").glob("*.ipynb"), *(ROOT / "notebooks/exercises").glob("*.ipynb")}
    assert {page.notebook for page in pages} == there
    url = "https://colab.research.google.com/github/a/b/blob/main/_generated/acf-measured.ipynb"
    context = {"header_buttons": [{"label": "launch-buttons", "buttons": [{"url": url}]}]}
    metadata = {"_generated/acf-measured": {"launches": "notebooks/acf.ipynb"}}
    app = SimpleNamespace(env=SimpleNamespace(metadata=metadata))
    launch.open_notebook(app, "_generated/acf-measured", "page.html", context, None)
    assert context["header_buttons"][0]["buttons"][0]["url"].endswith("main/notebooks/acf.ipynb")


def test_a_script_that_two_tools_add_stands_on_the_page_once():
    given = [(None, "const a"), ("x.js", ""), ("", "const a"), (None, "const b"), ("x.js", "")]
    files = [SimpleNamespace(filename=name, attributes={"body": body}) for name, body in given]
    assert script_files.once(files) == [files[0], files[1], files[3]]


def test_kept_pages_hold_no_traces_of_the_machine_and_are_small():
    measured = sorted((BOOK / "measured").glob("*.ipynb"))
    for path in measured:
        assert kept.faults(nbformat.read(path, as_version=4)) == [], path.name
    assert sum(path.stat().st_size for path in measured) < kept.PAGES_BYTES
    slugs = {page.slug for page in build.read_chapters(ROOT)[0] if page.source == "measured"}
    assert {path.stem for path in measured} <= slugs


def test_a_timed_output_alone_makes_no_other_page():
    cells = [new_code_cell("1"), new_code_cell("2", metadata={"tags": ["timed"]})]
    old, new = new_notebook(cells=cells), new_notebook(cells=[cell.copy() for cell in cells])
    for cell, same in zip(reversed(new.cells), (True, False), strict=True):
        cell.outputs = [nbformat.v4.new_output("stream", text="7 floors")]
        assert (kept.untimed(new) == kept.untimed(old)) == same


def test_faults_are_found():
    notebook = new_notebook(
        metadata={"papermill": {}}, cells=[new_code_cell("1", metadata={"execution": {}})]
    )
    outputs = [
        nbformat.v4.new_output("stream", name="stderr", text="Warning"),
        nbformat.v4.new_output("stream", name="stdout", text="at '/home/me/x.csv'"),
        nbformat.v4.new_output("display_data", {"image/png": "A" * 140_000}),
    ]
    notebook.cells[0].outputs = outputs
    assert len(kept.faults(notebook)) == 5
    notebook.cells[0].outputs[1].text = "3 requests/s/server, https://a.org/b/c, ../book/how.md"
    assert len(kept.faults(notebook)) == 4
