"""What the chapter on energy errors computes: two ways of putting runs together, and its shares."""

import numpy as np
import pandas as pd
import pytest

from sitebook.old.chapters import energy_errors as chapter
from sitebook.old.judging import comparison
from sitebook.old.judging.splits import split
from sitebook.old.ledger.claims import claim, claims
from sitebook.old.plots import energy_forms as figures
from sitetrace.core.registry import read_paper_table
from sitetrace.evaluate.metrics import SCORES

PAPER = read_paper_table("fidelity_by_configuration")


def drawn(signed_pct, energy_kwh, method="states", judged=None):
    """One split whose parts have these signed errors, a row of numbers a draw."""
    rows = [
        {"split": "made up", "fitted": "a", "judged": (judged or "part {}").format(k), "new": ""}
        | {"method": method, "draw": draw, "ks_busy": 0.1, "energy_kwh": energy_kwh[k]}
        | dict.fromkeys(SCORES, 0.5)
        | {"energy_error_signed_pct": error, "energy_error_pct": abs(error)}
        for draw, errors in enumerate(signed_pct)
        for k, error in enumerate(errors)
    ]
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def testbed():
    model = comparison.split_model("testbed", 8, 1)
    return comparison.compare(model, split("testbed"), 3, 1)


def test_errors_of_opposite_sign_cancel_when_runs_are_pooled():
    [row] = chapter.forms(drawn([[4.0, -4.0]], [1.0, 1.0])).to_dict("records")
    assert row["pooled_pct"] == pytest.approx(0.0)
    assert row["uncancelled_pct"] == pytest.approx(4.0)
    assert row["median_pct"] == pytest.approx(4.0)


def test_one_bad_run_of_three_counts_when_pooled_and_not_in_the_median():
    [row] = chapter.forms(drawn([[1.0, 1.0, 31.0]], [1.0, 1.0, 1.0])).to_dict("records")
    assert row["median_pct"] == pytest.approx(1.0)
    assert row["pooled_pct"] == pytest.approx(11.0)


def test_a_run_weighs_by_its_energy_when_pooled():
    [row] = chapter.forms(drawn([[1.0, 10.0]], [8.0, 1.0])).to_dict("records")
    assert row["pooled_pct"] == pytest.approx(2.0)


def test_draws_are_pooled_one_by_one_before_their_median_is_taken():
    table = drawn([[1.0, 1.0], [-2.0, -2.0], [6.0, 6.0]], [1.0, 1.0])
    [row] = chapter.forms(table).to_dict("records")
    assert row["pooled_pct"] == pytest.approx(2.0)


def test_a_single_part_has_one_value_in_every_form():
    [row] = chapter.forms(drawn([[3.0], [-1.0], [2.0]], [1.0])).to_dict("records")
    assert row["median_pct"] == row["pooled_pct"] == row["uncancelled_pct"] == pytest.approx(2.0)


def test_the_published_count_is_the_same_in_both_forms_and_less_for_both_at_once():
    below = chapter.published_forms(PAPER)[[*chapter.FORMS]] < chapter.LIMIT_PCT
    counted = claim("headline:energy_below_5pct_configs:value")["value"]
    assert (below.sum() == counted).all()
    assert below.all(axis=1).sum() < counted
    assert f"{counted:.0f}, runs pooled" in chapter.conclusion(PAPER)


def test_the_limit_is_that_of_the_abstract():
    assert claim("headline:energy_error_limit:value")["value"] == chapter.LIMIT_PCT


def test_fewer_parts_leave_a_share_less_certain():
    few, many = (chapter.share_below(pd.Series([1.0] * 5 * n + [9.0] * n)) for n in (1, 20))
    assert few[0] == many[0] == pytest.approx(5 / 6)
    assert few[1][0] < many[1][0] < 5 / 6 < many[1][1] < few[1][1]


def test_resampling_holds_the_statistic():
    low, high = chapter.resampled(np.arange(25.0), np.median, 1)
    assert low < 12.0 < high
    assert chapter.resampled(np.array([3.0]), np.median, 1) is None


def test_draws_of_a_part_have_their_median_and_range(testbed):
    medians = comparison.over_draws(testbed)
    first = testbed[testbed["method"] == "states"].groupby("judged", sort=False).first().index[0]
    part = testbed[(testbed["judged"] == first) & (testbed["method"] == "states")]
    row = medians[(medians["judged"] == first) & (medians["method"] == "states")].iloc[0]
    assert len(part) == 3
    assert row["ks"] == part["ks"].median()
    assert row["ks_low"] == part["ks"].min() < part["ks"].max() == row["ks_high"]


def test_measured_energy_is_that_of_the_recording(testbed):
    name = split("testbed").judge[0].run
    run = comparison.open_run(name)
    energy_kwh = run.samples["power_w"].sum() * float(run.dt) / 3.6e6
    told = testbed.loc[testbed["judged"] == name, "energy_kwh"]
    assert told.to_numpy() == pytest.approx(energy_kwh, rel=1e-3)


def test_the_testbed_gets_no_verdict_about_hardware(testbed):
    rows = chapter.found(testbed, PAPER, "testbed", 1)
    assert {row["verdict"] for row in rows} == {None, "cannot be tested"}
    assert len({(row["name"], row["dataset"]) for row in rows}) == len(rows)


def test_the_run_of_the_papers_kind_answers_every_score_of_that_kind():
    [name], [kind] = chapter.KINDS.keys(), chapter.KINDS.values()
    methods = ("states", "nameplate", "mean")
    table = pd.concat([drawn([[1.0], [2.0]], [1.0], m, name) for m in methods])
    answered = {row["claim"] for row in chapter.found(table, PAPER, "measured", 1)}
    known = claims()[(claims()["row"] == kind) & (claims()["kind"] == "result")]
    scores = known.index[known["table"] == "fidelity_by_configuration"]
    assert len(scores) == 12
    assert set(scores) <= answered


def test_a_baseline_less_wrong_than_the_papers_is_no_reproduction():
    assert claim("node_baselines:pooled/tdp:delta_energy_pct")["better"] is None
    assert claim("node_baselines:pooled/ours:delta_energy_pct")["better"] == "lower"


def test_the_figure_has_a_row_for_each_configuration_and_split():
    published = chapter.published_forms(PAPER)
    ours = chapter.forms(drawn([[4.0, -4.0]], [1.0, 1.0]))
    figure = figures.both_forms(published, ours)
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert len(labels) == len(published) + 1
    assert labels[-1] == "made up"
