"""Every number of the paper has its line in the ledger: what answers it, or why nothing does."""

from fnmatch import fnmatch

import pandas as pd
import pytest

from sitebook.old.ledger import tables
from sitebook.old.ledger.claims import claim, claims
from sitebook.old.ledger.ledger import (
    all_records,
    beside_claims,
    chapter_of,
    ledger,
    tally,
)
from sitebook.old.ledger.records import record, write_records
from sitetrace.core.files import read_json
from sitetrace.core.registry import data_dir, read_paper_table

ENERGY = "fidelity_by_configuration:llama-3-70b_H100_tp4:delta_energy_pct_median"
PEAK = "facility:A/ours/1:peak_kw"
PAR = "facility:A/ours/1:par"


def answer(data="measured", value=1.0, claim=ENERGY, name="energy error", unit="%"):
    return record(name, value, unit, data=data, dataset="run_1", claim=claim)


def line(records, claim=ENERGY, written=("energy-errors",)):
    table = ledger(records, set(written))
    return table[table["claim"] == claim]


def test_every_printed_number_has_a_line():
    inputs = read_json(data_dir() / "paper" / "claims.json")["inputs"]
    lines = set(ledger({}, set())[["table", "row", "column"]].itertuples(index=False, name=None))
    for path in (data_dir() / "paper").glob("*.csv"):
        table = read_paper_table(path.stem)
        left_out = inputs.get(path.stem, [])
        entries = claims().query("table == @path.stem")
        for column in table.select_dtypes("number"):
            if any(fnmatch(column, pattern) for pattern in left_out):
                continue
            count = sum(name == path.stem and col == column for name, _, col in lines)
            is_key = column not in set(entries["column"])
            assert is_key or count == table[column].notna().sum(), f"{path.stem}: {column}"


def test_a_number_that_nothing_answers_says_why():
    [row] = line({}).to_dict("records")
    assert row["verdict"] == "cannot be tested"
    assert row["why"] == claim(ENERGY)["untested"]
    assert tables.ledger_cells(line({}))["ours"].to_list() == ["–"]


def test_a_number_of_a_chapter_that_is_not_there_names_the_chapter():
    [row] = line({}, PEAK).to_dict("records")
    assert (row["verdict"], row["why"]) == ("chapter not written yet", "site")


def test_a_setting_gets_no_verdict():
    [row] = line({}, "settings:pue:value").to_dict("records")
    assert row["verdict"] == "setting"


def test_an_answer_is_traced_to_the_page_that_computed_it():
    [row] = line({"energy-errors-measured": [answer()]}).to_dict("records")
    assert row["page"] == "energy-errors-measured"
    assert row["verdict"] == "reproduced on other data"
    cells = tables.ledger_cells(pd.DataFrame([row]))
    assert 'href="energy-errors-measured.html#answer"' in tables.folded("scores", cells)


def test_of_several_answers_those_on_measured_data_come_first():
    pages = {"a-testbed": [answer("testbed")], "b-measured": [answer()]}
    rows = line(pages)
    assert rows["data"].to_list() == ["measured", "testbed"]
    assert rows["verdict"].to_list() == ["reproduced on other data", "cannot be tested"]
    assert rows["why"].iloc[1] == "the testbed tests no claim about hardware"


def test_a_claim_counts_once_however_many_answers_it_has():
    pages = {"a-testbed": [answer("testbed")], "b-measured": [answer()]}
    assert tally(ledger(pages, set()), "section").to_numpy().sum() == len(claims())


def test_what_answers_no_claim_is_listed_beside():
    own = record("idle power", 60.0, "W", data="measured", dataset="run")
    assert beside_claims({"page": [own, answer()]}) == [own | {"page": "page"}]


@pytest.mark.parametrize(
    ("page", "chapter"),
    [("states-measured", "states"), ("energy-errors-testbed", "energy-errors"), ("published",) * 2],
)
def test_a_page_belongs_to_a_chapter(page, chapter):
    assert chapter_of(page) == chapter


def test_records_are_read_from_the_folder_that_is_named(tmp_path, monkeypatch):
    write_records([answer()], tmp_path / "b.json")
    write_records([answer("testbed")], tmp_path / "a.json")
    monkeypatch.setenv("SITETRACE_ALL_RECORDS", str(tmp_path))
    assert list(all_records()) == ["a", "b"]
    assert all_records()["b"] == [answer()]


def test_a_long_table_folds_and_escapes_what_it_shows():
    html = tables.folded("a < b", pd.DataFrame({"what": ["<i>", "x" * 80]}))
    assert html.startswith("<details><summary>a &lt; b (2)</summary>")
    assert "&lt;i&gt;" in html
    assert "x" * 80 in html
    assert tables.folded("a", pd.DataFrame()) == "<p>a: none.</p>"
