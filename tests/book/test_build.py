"""The book is made from what changed, and a page is there whole or not at all."""

import importlib.util
import sys
from pathlib import Path

import nbformat
import pytest
import yaml
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from sitebook.ledger.records import compare, read_records, record, write_records

ROOT = Path(__file__).parents[2]
SPEC = importlib.util.spec_from_file_location("build", ROOT / "book" / "build.py")
build = importlib.util.module_from_spec(SPEC)
sys.modules["build"] = build
SPEC.loader.exec_module(build)
RUNS = yaml.safe_load((ROOT / "book" / "runs.yml").read_text())

RECORDING = """
import os
from sitebook.ledger.records import record, write_records
assert ("SITETRACE_DATA" in os.environ) == (dataset == "measured")
rows = write_records([record("energy error", watts, "%", data=dataset, dataset="r | 1", paper=5)])
"""


def write_notebook(root, code=RECORDING):
    notebook = new_notebook(
        cells=[
            new_markdown_cell("# Mini\nA notebook of this test."),
            new_code_cell('dataset = "testbed"\nwatts = 3', metadata={"tags": ["parameters"]}),
            new_code_cell(code, metadata={"mystnb": {"figure": {"caption": "A line."}}}),
        ],
        metadata={"kernelspec": {"name": "python3", "language": "python", "display_name": "P"}},
    )
    nbformat.write(notebook, root / "notebooks" / "mini.ipynb")


def write_runs(root, **measured_parameters):
    measured = {"dataset": "measured"} | measured_parameters
    pages = [
        {"page": "mini-testbed", "notebook": "mini", "parameters": {"dataset": "testbed"}},
        {"page": "mini-measured", "notebook": "mini", "parameters": measured, "needs": "mirror"},
    ]
    (root / "book" / "runs.yml").write_text(yaml.safe_dump(pages))


@pytest.fixture
def root(tmp_path):
    for folder in ("book", "notebooks", "src", "data/records"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "constraints.txt").write_text("")
    (tmp_path / "src" / "module.py").write_text("")
    rows = [record("energy error", 3, "%", data="measured", dataset="r | 1", paper=5)]
    write_records(rows, tmp_path / "data" / "records" / "mini-measured.json")
    write_notebook(tmp_path)
    write_runs(tmp_path)
    return tmp_path


@pytest.fixture
def mirror(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mirror")
    (folder / "measured").mkdir()
    (folder / "measured" / "power.csv").write_text("time_s,power_w\n")
    return folder


def made(root):
    return sorted(path.name for path in (root / "book" / "_generated").iterdir())


def test_without_a_mirror_the_measured_page_shows_what_was_recorded(root):
    assert build.make_pages(root, None) == ["mini-testbed"]
    assert made(root) == [
        "mini-measured.md",
        "mini-testbed.digest",
        "mini-testbed.ipynb",
        "mini-testbed.records.json",
    ]
    page = (root / "book" / "_generated" / "mini-measured.md").read_text()
    assert page.startswith("# Mini (measured)\n")
    assert "recorded on measured runs" in page
    assert "SITETRACE_DATA" in page
    assert "A notebook of this test." in page
    assert "\n## Answer\n" in page
    assert "| energy error | 3 % | – | measured: r \\| 1 | 5 | not reproduced |" in page


def test_a_page_says_first_what_it_was_made_from(root):
    build.make_pages(root, None)
    copy = root / "book" / "_generated" / "mini-testbed.ipynb"
    lines = nbformat.read(copy, as_version=4).cells[0].source.splitlines()
    digest = copy.with_suffix(".digest").read_text()[:12]
    assert lines[0] == "# Mini (testbed)"
    assert "claims nothing about hardware" in lines[3]
    assert "Parameters: `dataset = testbed`; data: testbed" in lines[6]
    assert f"digest `{digest}`" in lines[6]
    assert str(root) not in copy.read_text()


def test_a_caption_says_what_its_page_was_made_from(root):
    build.make_pages(root, None)
    page = nbformat.read(root / "book" / "_generated" / "mini-testbed.ipynb", as_version=4)
    told = page.cells[-1].metadata["mystnb"]["figure"]["caption"]
    assert told == "A line. *Page on the testbed.*"


def test_only_what_changed_is_executed_again(root, mirror):
    assert build.make_pages(root, mirror) == ["mini-testbed", "mini-measured"]
    assert build.make_pages(root, mirror) == []
    write_runs(root, watts=4)
    (mirror / "measured" / "power.csv").write_text("time_s,power_w\n0,1\n")
    assert build.make_pages(root, mirror) == ["mini-measured"]
    rows = read_records(root / "book" / "_generated" / "mini-measured.records.json")
    assert [row["value"] for row in rows] == [4]
    assert build.keep_records(root) == [root / "data" / "records" / "mini-measured.json"]
    assert read_records(root / "data" / "records" / "mini-measured.json") == rows
    assert build.make_pages(root, None) == []
    assert "mini-measured.ipynb" not in made(root)


SUMMING = """
import json, os
from pathlib import Path
from sitebook.ledger.records import record, write_records
folder = Path(os.environ["SITETRACE_ALL_RECORDS"])
found = {path.stem: json.loads(path.read_text()) for path in folder.iterdir()}
total = sum(row["value"] for rows in found.values() for row in rows)
rows = write_records([record(" ".join(sorted(found)), total, "", data="paper", dataset="all")])
"""


def add_summing_page(root):
    write_notebook(root, SUMMING)
    (root / "notebooks" / "mini.ipynb").rename(root / "notebooks" / "sum.ipynb")
    write_notebook(root)
    pages = yaml.safe_load((root / "book" / "runs.yml").read_text())
    pages = [{"page": "sum", "notebook": "sum", "after": "records"}, *pages]
    (root / "book" / "runs.yml").write_text(yaml.safe_dump(pages))


def test_a_page_after_the_records_sums_up_all_others_fresh_or_stored(root, mirror):
    add_summing_page(root)
    assert build.make_pages(root, None) == ["mini-testbed", "sum"]
    [row] = read_records(root / "book" / "_generated" / "sum.records.json")
    assert row["name"] == "mini-measured mini-testbed"
    assert row["value"] == 6
    assert build.make_pages(root, None) == []
    write_records(
        [record("energy error", 9, "%", data="measured", dataset="r", paper=5)],
        root / "data" / "records" / "mini-measured.json",
    )
    assert build.make_pages(root, None) == ["sum"]
    [row] = read_records(root / "book" / "_generated" / "sum.records.json")
    assert row["value"] == 12
    assert build.make_pages(root, mirror) == ["mini-measured", "sum"]
    [row] = read_records(root / "book" / "_generated" / "sum.records.json")
    assert row["value"] == 6


def digest_now(root, mirror=None):
    pages = build.read_pages(root)
    return build.digests(root, pages, mirror)


def test_a_digest_follows_all_that_a_page_is_made_from(root, mirror):
    before = digest_now(root, mirror)
    (mirror / "measured" / "power.csv").write_text("other")
    after_mirror = digest_now(root, mirror)
    assert after_mirror["mini-testbed"] == before["mini-testbed"]
    assert after_mirror["mini-measured"] != before["mini-measured"]
    for path in ("src/module.py", "data/model.json", "constraints.txt"):
        was = digest_now(root)["mini-testbed"]
        (root / path).write_text("x = 1")
        assert digest_now(root)["mini-testbed"] != was
    was = digest_now(root)
    (root / "data" / "records" / "mini-measured.json").write_text("[]")
    assert digest_now(root) == was


def refusal(root, capsys):
    assert build.main([], root) == 1
    said = capsys.readouterr().err.splitlines()
    return [line for line in said if line.startswith("book: ")]


def test_a_parameter_that_the_notebook_does_not_have_is_refused(root, capsys):
    write_runs(root, wats=4)
    [line] = refusal(root, capsys)
    assert "wats" in line
    assert "mini.ipynb" in line
    assert made(root) == []


def test_a_failing_notebook_is_named_with_its_cell_and_leaves_nothing(root, capsys, monkeypatch):
    monkeypatch.delenv("SITETRACE_DATA", raising=False)
    write_notebook(root, "1 / 0")
    [line] = refusal(root, capsys)
    assert line.endswith("mini.ipynb: cell 3 failed: ZeroDivisionError: division by zero")
    assert made(root) == ["mini-measured.md"]


def test_a_mirror_that_is_none_is_refused(root, capsys, monkeypatch):
    monkeypatch.setenv("SITETRACE_DATA", str(root))
    [line] = refusal(root, capsys)
    assert "holds no folder measured" in line


def test_a_page_without_notebook_or_records_is_refused(root, capsys, monkeypatch):
    monkeypatch.delenv("SITETRACE_DATA", raising=False)
    (root / "data" / "records" / "mini-measured.json").unlink()
    [line] = refusal(root, capsys)
    assert "mini-measured.json: cannot be read" in line
    (root / "notebooks" / "mini.ipynb").unlink()
    [line] = refusal(root, capsys)
    assert "there is no mini.ipynb" in line


def listed(entries):
    for entry in entries:
        yield entry["file"]
        yield from listed(entry.get("sections", []))


def test_the_table_of_contents_lists_every_page_once():
    contents = yaml.safe_load((ROOT / "book" / "_toc.yml").read_text())
    files = [file for part in contents["parts"] for file in listed(part["chapters"])]
    generated = [file for file in files if file.startswith("_generated/")]
    assert sorted(generated) == sorted(f"_generated/{run['page']}" for run in RUNS)


# these take half a minute and more each; making the book with the mirror makes them anew
LONG = {
    *("states", "distributions", "transitions", "composing", "energy-errors", "acf"),
    *("data", "models", "timeline", "transfer"),
    *("traffic", "site", "wall-plug", "sizing", "oversubscription", "modulation", "grid"),
}
MEASURED = [run["page"] for run in RUNS if "needs" in run and run["notebook"] not in LONG]


@pytest.mark.parametrize("slug", MEASURED)
def test_what_is_recorded_on_measured_runs_can_be_made_again(slug, measured, tmp_path):
    [page] = [page for page in build.read_pages(ROOT) if page.slug == slug]
    build.execute(page, "", tmp_path, measured.parent)
    old = read_records(ROOT / "data" / "records" / f"{slug}.json")
    new = read_records(tmp_path / f"{slug}.records.json")
    assert compare(old, new, rtol=1e-3) == []
