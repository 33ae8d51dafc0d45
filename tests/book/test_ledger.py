"""Claims have names, answers one rule: what a verdict is does not depend on the page."""

from fnmatch import fnmatch

import pytest
from pandas.api.types import is_numeric_dtype

from sitebook import ledger, page
from sitetrace.core.files import InputError, read_json
from sitetrace.core.registry import data_dir, read_paper_table

LISTING = read_json(data_dir() / "paper" / "claims.json")
ENERGY = "fidelity_by_configuration:llama-3-70b_H100_tp4:delta_energy_pct_median"  # 2.33, lower
ACF = "fidelity_by_configuration:llama-3-70b_H100_tp4:acf_r2_median"  # 0.995, higher


@pytest.fixture(autouse=True)
def measured(monkeypatch):
    """A page on measured data that has answered nothing yet."""
    monkeypatch.setattr(page.NOW, "dataset", "measured")
    monkeypatch.setattr(page.NOW, "chapter", "made-up")
    monkeypatch.setattr(ledger, "GIVEN", [])


def test_a_name_stands_for_one_number_in_one_unit():
    known = ledger.claims()
    assert known.index.is_unique
    assert known["unit"].map(type).eq(str).all() and known["what"].str.len().gt(0).all()
    assert set(known["kind"]) == {"result", "setting"}
    assert set(known["better"].dropna()) <= {"lower", "higher"}


@pytest.mark.parametrize("table", sorted(f.stem for f in (data_dir() / "paper").glob("*.csv")))
def test_every_number_of_a_table_is_a_claim_a_key_or_an_input(table):
    columns = read_paper_table(table)
    entries = [entry for entry in LISTING["tables"] if entry["table"] == table]
    told = [name for entry in entries for name in (*entry["key"], *entry["columns"])]
    patterns = told + LISTING["inputs"].get(table, [])
    numbers = [name for name in columns if is_numeric_dtype(columns[name])]
    assert [n for n in numbers if not any(fnmatch(n, pattern) for pattern in patterns)] == []


@pytest.mark.parametrize(
    ("name", "value", "rounding"),
    [
        ("fidelity_ar1:gpt-oss-20b_A100_tp1:acf_r2", -0.038, 0.0005),
        ("facility:B/splitwise/900:ramp_down_kw", -12.28, 0.005),
        ("oversubscription:ours:racks", 57, 0),
        ("settings:pue:value", 1.3, 0),
    ],
)
def test_a_number_is_known_to_its_last_printed_digit(name, value, rounding):
    claim = ledger.claims().loc[name]
    assert claim["value"] == value and claim["rounding"] == pytest.approx(rounding)


@pytest.mark.parametrize(
    ("claim", "interval", "given", "dataset", "expected"),
    [
        (ENERGY, (2.0, 3.0), {"same": True}, "measured", "reproduced"),
        (ENERGY, (2.0, 3.0), {}, "measured", "reproduced on other data"),
        (ENERGY, (1.0, 2.0), {"same": True}, "measured", "better than printed"),
        (ENERGY, (3.0, 4.0), {"same": True}, "measured", "not reproduced"),
        (ACF, (0.996, 0.999), {}, "measured", "better than printed"),
        (ACF, (0.5, 0.6), {}, "measured", "not reproduced"),
        (ENERGY, None, {"same": True}, "measured", "beside"),
        (ENERGY, (2.0, 3.0), {"method": "ours"}, "measured", "beside"),
        (ENERGY, (2.0, 3.0), {"method": "baseline"}, "measured", "beside"),
        (ENERGY, (2.0, 3.0), {"rests_on": "a rule"}, "measured", "consistent"),
        (ENERGY, (1.0, 2.0), {"rests_on": "a rule"}, "measured", "not consistent"),
        (ENERGY, (2.0, 3.0), {"same": True}, "testbed", "cannot be tested"),
        (ENERGY, (2.0, 3.0), {}, "paper", "follows"),
        (ENERGY, (1.0, 2.0), {}, "paper", "does not follow"),
        ("settings:pue:value", (1.0, 2.0), {"same": True}, "measured", "setting"),
    ],
)
def test_one_rule_gives_the_verdict(monkeypatch, claim, interval, given, dataset, expected):
    monkeypatch.setattr(page.NOW, "dataset", dataset)
    value = 0.0 if interval is None else sum(interval) / 2
    ledger.answer(claim, value, interval, of="draws", **given)
    assert ledger.GIVEN[-1]["verdict"] == expected


def test_an_answer_is_given_once_and_told_apart_by_what_it_was_found_on():
    ledger.answer(ENERGY, 2.0, on="one run")
    ledger.answer(ENERGY, 2.1, on="another run")
    with pytest.raises(InputError, match="answered twice"):
        ledger.answer(ENERGY, 2.2, on="one run")
    with pytest.raises(InputError, match="claim"):
        ledger.answer("fidelity_by_configuration:nothing:ks", 0.1)


@pytest.mark.parametrize(
    ("value", "interval", "of", "said"),
    [
        (2.0, (1.0, 3.0), "", "an interval of no kind"),
        (2.0, (3.0, 4.0), "draws", "does not hold"),
        (float("nan"), None, "", "not finite"),
    ],
)
def test_an_answer_that_says_nothing_is_refused(value, interval, of, said):
    with pytest.raises(InputError, match=said):
        ledger.answer(ENERGY, value, interval, of)


@pytest.mark.parametrize(
    ("interval", "needs", "holds"),
    [
        ((3.0, 4.0), "< 5", True),
        ((5.0, 6.0), "< 5", False),
        ((4.0, 6.0), "< 5", None),
        ((0.9, 0.95), ">= 0.9", True),
    ],
)
def test_a_point_of_a_bar_holds_where_all_of_the_interval_does(interval, needs, holds):
    ledger.bar(1, sum(interval) / 2, interval, needs, of="draws")
    assert ledger.GIVEN[-1]["holds"] is holds


def test_the_ledger_has_a_line_for_every_claim_and_measured_answers_first(monkeypatch):
    for dataset in ("testbed", "measured"):
        monkeypatch.setattr(page.NOW, "dataset", dataset)
        ledger.answer(ENERGY, 2.3, (2.0, 3.0), of="draws", on=dataset)
    lines = ledger.ledger({"made-up": ledger.GIVEN})
    assert set(lines["claim"]) == set(ledger.claims().index)
    assert lines.loc[lines["claim"] == ENERGY, "data"].tolist() == ["measured", "testbed"]
    counts = ledger.tally(lines, "table")
    assert counts.to_numpy().sum() == len(ledger.claims())
    assert counts.loc["fidelity_by_configuration", "reproduced on other data"] == 1
    assert len(ledger.cells_of(lines)) == len(lines)
