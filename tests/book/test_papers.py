"""What follows from printed numbers, and how far rounding leaves it open."""

import json

import pytest

from sitebook import ledger, page
from sitebook.papers import derived, follow, paper_table, printed, published_means, ranges
from sitetrace.core.registry import data_dir

PEAK, MEAN = "facility:A/ours/1:peak_kw", "facility:A/ours/1:mean_kw"
NOTEBOOKS = data_dir().parent / "notebooks"


@pytest.fixture(autouse=True)
def _own_page(monkeypatch):
    monkeypatch.setattr(ledger, "GIVEN", [])
    monkeypatch.setattr(page.NOW, "dataset", "paper")


def test_the_ends_are_the_corners_of_what_rounding_leaves_open():
    value, low, high = derived(lambda a, b: a - b, PEAK, MEAN)
    assert value == pytest.approx(768.87 - 589.75)
    assert (low, high) == pytest.approx((value - 0.01, value + 0.01))
    assert derived(lambda peak, mean: peak - mean, peak=PEAK, mean=MEAN) == (value, low, high)


def test_a_setting_was_chosen_and_has_no_rounding():
    assert ranges(lambda pue: pue, {"pue": ["settings:pue:value"]}).loc["pue"].nunique() == 1


def test_what_follows_is_answered_within_both_roundings():
    row = follow(lambda a, b: a / b, {"facility:A/ours/1:par": (PEAK, MEAN)}).iloc[0]
    assert row["follows"] == "yes"
    assert row["high"] - row["low"] > 2 * 0.5e-4  # the claim's own last digit
    assert ledger.GIVEN[0]["verdict"] == "follows"


def test_twice_a_number_does_not_follow_from_it():
    assert follow(lambda a: 2 * a, {MEAN: [MEAN]})["follows"].to_list() == ["no"]
    assert ledger.GIVEN[0]["verdict"] == "does not follow"


def test_mixtures_lie_above_the_training_means_only_in_the_main_configurations():
    means = published_means()
    excess_pct = 100 * (means["mixture_w"] / means["normalisation_w"] - 1)
    assert excess_pct[means["main"]].between(2.4, 5.9).all()
    assert excess_pct[~means["main"]].abs().max() < 0.1


def test_a_printed_number_is_the_tables_own():
    assert printed("table1:gpt-oss-120b:acf_r2") == 0.58
    assert printed("table2:paper/splitwise:energy_error_pct") == 13.71


def test_every_claim_says_where_it_stands_and_every_such_place_has_a_page():
    where = paper_table("artefacts")
    known = ledger.claims()
    ours = known[~known["table"].isin([path.name for path in (data_dir() / "papers").glob("*")])]
    assert set(ours["where"]) <= set(where["artefact"])
    for place in where.itertuples():
        cells = json.loads((NOTEBOOKS / f"{place.chapter}.ipynb").read_text("utf-8"))["cells"]
        lines = [line.strip() for cell in cells for line in cell["source"]]
        assert any(line.lstrip("# ") == place.section for line in lines if line[:2] == "##"), place
