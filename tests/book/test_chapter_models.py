"""Who is best on the same seconds, and what is counted as a cost."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from sitebook.old.chapters import models as chapter
from sitebook.old.judging import comparison, costs, powertrace_v1, ranking
from sitebook.old.judging.splits import split
from sitebook.old.ledger.claims import claims
from sitebook.old.plots import models as figures
from sitetrace.core.registry import shipped_model
from sitetrace.evaluate.judge import evaluate
from sitetrace.power.modelfile import load_model

PLAIN = {"ks": 0.1, "acf_r2": 0.9, "correlation_1s_busy": 0.8}


def scored(methods, judged="a recording"):
    """Build rows of one judged part: a row for each method and draw, all scores alike but some."""
    rows = [
        {"split": "made up", "fitted": "a_tp1_x", "judged": judged, "new": "", "method": method}
        | {"draw": draw}
        | dict.fromkeys(ranking.COLUMNS, 1.0)
        | PLAIN
        | values
        for method, each in methods.items()
        for draw, values in enumerate(each)
    ]
    return pd.DataFrame(rows)


def medians_of(*tables):
    return ranking.by_part(pd.concat(tables, ignore_index=True))


@pytest.fixture(scope="module")
def fitted():
    return chapter.models(split("testbed"))


@pytest.fixture(scope="module")
def judged(fitted):
    parts = split("testbed")
    return chapter.score(fitted, replace(parts, judge=parts.judge[:2]), 2, 1)


def test_lower_errors_and_higher_correlations_come_first():
    good = [{"ks": 0.1, "acf_r2": 0.9}]
    bad = [{"ks": 0.3, "acf_r2": -4.0}]
    table = ranking.ranks(medians_of(scored({"bad": bad, "good": good})))
    told = table.set_index("method")
    assert table["method"].tolist() == ["good", "bad"]
    assert told.loc["good", ["ks", "acf_r2"]].tolist() == [1.0, 1.0]
    assert told.loc["bad", ["ks", "acf_r2"]].tolist() == [2.0, 2.0]
    assert told["nrmse_1s"].tolist() == [1.5, 1.5]


def test_a_constant_has_correlation_nought_and_not_the_first_place():
    methods = {
        "moves": [{"correlation_1s_busy": 0.2}],
        "constant": [{"correlation_1s_busy": np.nan}],
        "moves against": [{"correlation_1s_busy": -0.2}],
    }
    told = ranking.ranks(medians_of(scored(methods))).set_index("method")["correlation_1s_busy"]
    assert told.to_dict() == {"moves": 1.0, "constant": 2.0, "moves against": 3.0}


def test_who_is_not_judged_on_a_part_is_not_ranked_there():
    one = scored({"a": [{"ks": 0.1}], "b": [{"ks": 0.2}], "c": [{"ks": 0.3}]})
    two = scored({"a": [{"ks": 0.2}], "b": [{"ks": 0.1}]}, "another")
    told = ranking.ranks(medians_of(one, two)).set_index("method")["ks"]
    assert told.to_dict() == {"a": 1.5, "b": 1.5, "c": 3.0}


def test_floors_are_shown_and_never_win():
    floor = ranking.FLOOR + "x"
    medians = medians_of(scored({floor: [{"ks": 0.0}], "a": [{"ks": 0.2}], "b": [{"ks": 0.4}]}))
    assert ranking.over_parts(medians)["method"].tolist() == ["a", "b", floor]
    assert floor not in set(ranking.ranks(medians)["method"])
    assert ranking.winners(medians, "b").set_index("score").loc["KS", "best"] == "a"


def test_a_draw_that_reaches_the_rival_is_no_loss():
    rival = {"rival": [{"ks": 0.2}]}
    reaches = scored({"timeline": [{"ks": 0.19}, {"ks": 0.3}, {"ks": 0.4}]} | rival)
    never = scored({"timeline": [{"ks": 0.21}, {"ks": 0.3}, {"ks": 0.4}]} | rival)
    assert ranking.losses(medians_of(reaches), "timeline").empty
    [lost] = ranking.losses(medians_of(never), "timeline").to_dict("records")
    assert (lost["score"], lost["best"], lost["better"]) == ("KS", "rival", 1)
    assert (lost["own"], lost["its_score"]) == pytest.approx((0.3, 0.2))


def test_a_loss_of_autocorrelation_is_told_with_its_sign():
    methods = {"timeline": [{"acf_r2": 0.2}, {"acf_r2": 0.4}], "rival": [{"acf_r2": 0.5}]}
    [lost] = ranking.losses(medians_of(scored(methods)), "timeline").to_dict("records")
    assert (lost["own"], lost["its_score"]) == pytest.approx((0.3, 0.5))


def test_duels_count_parts_and_ties_are_no_victory():
    one = scored({"timeline": [{"ks": 0.1}], "rival": [{"ks": 0.2}]})
    two = scored({"timeline": [{"ks": 0.2}], "rival": [{"ks": 0.2}]}, "another")
    [duel] = ranking.duels(medians_of(one, two), "timeline").to_dict("records")
    assert (duel["against"], duel["parts"], duel["ks"], duel["nrmse_1s"]) == ("rival", 2, 1, 0)


def test_a_first_place_that_hangs_on_one_recording_is_seen():
    apart = dict.fromkeys(ranking.RANKED, 9.0) | {"acf_r2": 0, "correlation_1s_busy": 0}
    near = dict.fromkeys(ranking.RANKED, 0.5) | {"acf_r2": 1, "correlation_1s_busy": 1}
    one = scored({"a": [near], "b": [apart]})
    two = scored({"a": [apart | {"ks": 0.1}], "b": [near]}, "another")
    three = scored({"a": [near], "b": [apart]}, "third")
    medians = medians_of(one, two, three)
    assert ranking.ranks(medians)["method"].iloc[0] == "a"
    assert ranking.steady(medians) == {"a recording": "a", "another": "a", "third": "a"}
    assert ranking.steady(medians[medians["judged"] != "third"])["a recording"] == "b"


def test_candidates_share_their_states_and_the_chosen_one_is_the_shipped(fitted):
    shipped = load_model(shipped_model("testbed"))
    chosen = fitted[chapter.chosen("testbed")]
    states = [model for name, model in fitted.items() if name != chapter.TIMELINE]
    assert len(states) == 4
    assert all(model.mixture is states[0].mixture for model in states)
    assert np.allclose(chosen.transitions.weight, shipped.transitions.weight, atol=0.05)
    assert np.allclose(chosen.emissions.phi, shipped.emissions.phi)


def test_every_model_and_baseline_is_judged_on_every_part(judged):
    table, left_out = judged
    counts = table.groupby(["judged", "method"]).size().unstack()
    assert counts.shape == (2, 5 + 4 + 2)
    assert counts[[chapter.TIMELINE, "states, bigru"]].eq(2).all(axis=None)
    assert counts[["mean", chapter.HALVES]].eq(1).all(axis=None)
    assert len(left_out) == 2
    assert all("arch" in line and "\n" not in line for line in left_out)


def test_a_row_holds_what_evaluate_says(judged, fitted):
    table, _ = judged
    parts = split("testbed")
    _, run, traces = next(comparison.generated(fitted, parts, 2, 1))
    said = evaluate(run, traces[chapter.TIMELINE][1])
    row = table[table["method"] == chapter.TIMELINE].iloc[1]
    assert row["nrmse_1s"] == said["1s"]["whole"]["nrmse"]
    assert row["ks_busy"] == said["native"]["busy"]["ks"]
    assert row["correlation_1s_busy"] == said["1s"]["busy"]["correlation"]


def test_a_regression_that_saw_the_power_is_ahead_of_a_lookup(judged):
    table, _ = judged
    by_method = table.groupby("method")["nrmse"].max()
    assert by_method[chapter.REGRESSION] < by_method["phase look-up"] < by_method["nameplate"]
    assert table.loc[table["method"] == chapter.HALVES, "ks"].between(0.01, 0.3).all()


def test_baselines_are_the_same_as_in_the_chapter_on_energy(judged, fitted):
    table, _ = judged
    parts = split("testbed")
    states = fitted["states, logit"]
    other = comparison.compare(states, replace(parts, judge=parts.judge[:2]), 2, 1)
    kept = ["nameplate", "mean", "phase look-up", "static replay"]
    for name in kept:
        ours = table.loc[table["method"] == name, "ks"].tolist()
        assert ours == other.loc[other["method"] == name, "ks"].tolist()
    drawn = [t.loc[t["method"] == m, "ks"].tolist() for t, m in
             ((table, "states, logit"), (other, comparison.COMPOSED))]  # fmt: skip
    assert drawn[0] == drawn[1]


def test_numbers_are_counted_once_and_without_what_sums_to_one(fitted):
    counts = {name: costs.numbers(model) for name, model in fitted.items()}
    states = fitted["states, markov"]
    k = states.mixture.n_states
    levels = states.transitions.edges.size + 1
    assert counts["states, markov"] == 3 * k - 1 + (levels - 1) + levels * (k + 1) * k
    assert counts[chapter.TIMELINE] < 20 < counts["states, logit"] < counts["states, bigru"]


def test_every_fitted_model_has_both_prices_and_serving_is_a_part(fitted):
    table = chapter.costs(fitted, split("testbed"), 0.05, 1).set_index("method")
    timed = table.loc[[*fitted, chapter.MEAN_POWER]]
    assert (timed[["serving", "power"]] > 0).all(axis=None)
    assert timed["both"].to_numpy() == pytest.approx((timed["serving"] + timed["power"]).to_numpy())
    assert table.loc["mean", "numbers"] == 1
    assert table.loc["nameplate", ["serving", "both"]].isna().all()
    assert chapter.LATER not in table.index


def test_records_are_named_once_and_the_testbed_claims_nothing(judged):
    medians = ranking.by_part(judged[0])
    rows = chapter.found(medians, chapter.published(["testbed/bursty"], 1), "testbed")
    assert len({(row["name"], row["dataset"]) for row in rows}) == len(rows)
    assert {row["verdict"] for row in rows} == {None}
    said = chapter.conclusion(medians)
    assert said.count("best median") == len(ranking.MAIN)
    assert ranking.ranks(medians)["method"].iloc[0] in said


def test_gates_are_those_of_the_table_and_all_of_them_must_be_passed():
    near = {"energy_error_pct_1s": 5.9, "acf_r2_1s": 0.91, "nrmse_1s": 0.19}
    methods = {
        "passes": [near],
        "too much energy": [near | {"energy_error_pct_1s": 6.1}],
        "forgets": [near | {"acf_r2_1s": 0.89}],
    }
    told = chapter.gates(medians_of(scored(methods))).set_index("method")
    assert told["all"].tolist() == [1, 0, 0]
    assert told["energy"].tolist() == [1, 0, 1]
    assert told["acf_r2"].tolist() == [1, 1, 0]
    assert told["nrmse"].tolist() == [1, 1, 1]


def test_figures_have_a_row_or_a_dot_for_every_method(judged):
    medians = ranking.by_part(judged[0])
    rows = [label.get_text() for label in figures.by_method(medians).axes[0].get_yticklabels()]
    assert sorted(rows) == sorted(medians["method"].unique())
    ranks = ranking.ranks(medians)
    assert len(figures.place(ranks).axes[0].texts) == ranks.shape[0] * (ranks.shape[1] - 1)
    table = pd.DataFrame(
        {"method": ["timeline", "mean"], "numbers": [13, 1], "both": [50.0, np.nan], "rank": [1, 2]}
    )
    fidelity = figures.cost(table)
    shown = [np.concatenate([line.get_xdata() for line in axes.lines]) for axes in fidelity.axes]
    assert [np.isfinite(x).sum() for x in shown] == [2, 1]
    assert [text.get_text() for text in fidelity.legends[0].texts] == ["timeline", "mean"]


def test_the_later_model_is_told_the_idle_power_that_others_know(measured, fitted):
    run = comparison.open_run("qwen3-8b_a100_tp1_burstgpt")
    model = load_model(shipped_model("qwen3-8b_a100_from_r4"))
    run = replace(run, samples=run.samples.iloc[8:].reset_index(drop=True))
    assert run.idle_before_load_w() is None
    warmer = replace(model, idle=replace(model.idle, mean_w=model.idle.mean_w + 10.0))
    low, high = (chapter.later(run, each).power_w for each in (model, warmer))
    assert high - low == pytest.approx(10.0)


def test_the_run_of_a_published_model_answers_its_four_scores(measured):
    names = ["llama-3.1-70b_h100_tp4_poisson_r4", "qwen3-8b_h100_tp1_poisson_r4"]
    rebuilt = chapter.published(names, 1).set_index("claim")
    known = claims()
    asked = known[(known["table"] == "later_fidelity") & (known["row"] == "Llama 70B")]
    assert set(rebuilt.index) == set(asked.index)
    run = comparison.open_run(names[0])
    said = evaluate(run, powertrace_v1.predict(run))["1s"]["whole"]
    value = rebuilt["value"]
    assert value["later_fidelity:Llama 70B:nrmse_pct"] == pytest.approx(100 * said["nrmse"])
    assert value["later_fidelity:Llama 70B:ks_agreement"] == pytest.approx(1 - said["ks"])
    assert value["later_fidelity:Llama 70B:acf_r2"] == pytest.approx(said["acf_r2"])


def test_on_bursts_of_another_kind_the_timeline_is_best_in_distribution_not_in_energy(measured):
    parts = split("qwen3-8b_a100_from_r4")
    last = replace(parts, judge=parts.judge[-1:])
    assert last.judge[0].run.endswith("burstgpt")
    table, left_out = chapter.score(chapter.models(parts), last, 2, 1)
    assert left_out == []
    lost = ranking.losses(ranking.by_part(table), chapter.TIMELINE)
    assert "energy error" in set(lost["score"])
    assert "KS" not in set(lost["score"])
