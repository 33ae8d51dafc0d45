"""The chapter modulation: verdicts over all rules, honest controls, and what the levers can do."""

import numpy as np
import pandas as pd
import pytest

from sitebook.old.chapters import modulation as chapter
from sitebook.old.chapters import modulation_answers as answers
from sitebook.old.chapters import modulation_tracking as signals
from sitetrace.studies import setpoint

STREAMS, SEED = 4, 3


@pytest.fixture(scope="module")
def row():
    return chapter.open_row("testbed_timeline", 4, 1.5)


@pytest.fixture(scope="module")
def levers(row):
    return chapter.prepared(row, SEED, 1.0)


@pytest.fixture(scope="module")
def curves(row):
    return chapter.curves([row], [0.5, 0.9], 120.0, STREAMS, SEED, 30.0)


@pytest.fixture(scope="module")
def called(row, levers):
    return chapter.calls(row, levers, [0.2], (60.0, 300.0, 60.0), STREAMS, SEED)


@pytest.fixture(scope="module")
def steps(row, levers):
    return chapter.steps(row, levers, 0.2, 40.0, STREAMS, SEED)[0]


def test_parking_sheds_much_for_little_and_a_batch_limit_little_for_much(curves):
    worst = curves[curves["place"] == 0.9].set_index("lever")
    assert worst.loc["parking", "shed_pct"] > 20 and worst.loc["parking", "ttft_p95_ratio"] < 2
    assert worst.loc["batch limit", "shed_pct"] < 10
    assert worst.loc["batch limit", "ttft_p95_ratio"] > 20
    inside = (curves["shed_low"] <= curves["shed_pct"]) & (
        curves["shed_pct"] <= curves["shed_high"]
    )
    assert inside.all()


def test_time_does_not_depend_on_the_exponents_of_power(curves):
    clock = curves[curves["lever"] == "clock"]
    for bound in ("k 0)", "k 0.3)"):
        same = clock[clock["label"].str.endswith(bound)].groupby("place")
        assert (same["tpot_ratio"].nunique() == 1).all()
        assert (same["power_w"].nunique() == 4).all()


def test_what_cannot_be_reached_has_no_cost(curves):
    costs = answers.cost_of(curves, 99.0)
    assert costs["ttft_p95_ratio_low"].isna().all()
    near = answers.cost_of(curves, 1.0).set_index("lever")
    assert near.loc["parking", "tpot_ratio_low"] == pytest.approx(1.0, abs=0.02)


def test_the_limit_binds_and_is_met_by_the_levers_that_can(called):
    table, courses = called
    assert chapter.binding_pct(courses)["binds_pct"].min() > 80
    told = answers.verdicts(table).set_index("lever")
    assert told.loc["parking"].tolist() == [20.0, "yes", "yes"]
    assert told.loc["admission", "holds"] == "no"
    assert told.loc["batch limit", "delivers"] == "no"


def test_a_released_queue_rebounds_and_parking_does_not(called):
    told = answers.summary(called[0]).query("arm == 'followed'").set_index("lever")
    assert told.loc["admission", "rebound_pct"] > 10 > 2 > told.loc["parking", "rebound_pct"]


def test_a_verdict_that_one_rule_denies_depends_on_the_rule(called):
    clock = called[0].query("lever == 'clock' and arm == 'followed'")
    assert answers.verdicts(clock)["delivers"].tolist() == ["yes"]
    one = clock["label"] == clock["label"].iloc[0]
    spoilt = clock.assign(mean_over_pct=clock["mean_over_pct"].where(~one, 50.0))
    assert answers.verdicts(spoilt)["delivers"].tolist() == ["depends on the clock rule"]


def test_lost_commands_are_no_control(row, levers):
    assert chapter.cut_is_nothing(row, levers, 60.0, 2, SEED)


def test_a_later_command_is_reached_as_much_later(steps):
    clock = steps[steps["lever"] == "clock"]
    late, soon = clock.iloc[-1], clock.iloc[0]
    assert late["latency_s"] - soon["latency_s"] == 39
    assert late["reached_s"] - soon["reached_s"] == pytest.approx(39, abs=2)
    parking = steps.set_index("lever").loc["parking"]
    assert parking["reached_s"] > soon["reached_s"]


def test_signals_stay_between_their_ends():
    made = signals.signals(900, 1.0, 300.0, np.random.default_rng(1))
    for values in made.values():
        assert np.abs(values).max() == pytest.approx(1.0, abs=1e-3)
    assert made["slow sinusoid"][75] == pytest.approx(1.0)


def test_a_lever_follows_better_than_none(row, levers):
    tracked, _ = signals.regulation(row, levers[:5], 240.0, 120.0, STREAMS, SEED)
    for lever in ("parking", "clock"):
        part = tracked[tracked["lever"] == lever]
        assert (part["nrmse_pct"] < 0.6 * part["usual_pct"]).all()


def test_records_name_their_data_and_judge_nothing(curves, steps, called):
    tracked = pd.DataFrame(columns=["signal", "lever", "nrmse_pct", "low", "high"])
    costs = answers.cost_of(curves, 20.0)
    rows = answers.found(costs, steps, called[0], tracked, "testbed", "testbed_timeline")
    assert {row["data"] for row in rows} == {"testbed"}
    assert {row["verdict"] for row in rows} == {None}
    names = [row["name"] for row in rows]
    assert len(set(names)) == len(names)
    lines = answers.conclusion(costs, steps, answers.verdicts(called[0])).splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "admission",
        "parking",
        "batch limit",
        "clock",
    ]


def test_power_rises_within_seconds_are_printed_for_each_load(row):
    told = chapter.usual([row], 120.0, 2, SEED).iloc[0]
    assert 0 < told["rise_2_s_pct"] <= told["rise_40_s_pct"] + 50
    steady = setpoint.run(row, row.stream(60.0, np.random.default_rng(1)))
    assert told["mean_kw"] == pytest.approx(steady.power_w.mean() / 1e3, rel=0.3)
