"""A row in lock step: the engine and the power of before, and levers that do what they say."""

import dataclasses
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sitetrace import load_model, shipped_model
from sitetrace.control.clock import RULES, ClockRule, clocked
from sitetrace.core.files import InputError
from sitetrace.studies import setpoint, shedding

MODEL = load_model(shipped_model("testbed_timeline"))
ROW = setpoint.Row(MODEL, servers=3, rate_per_server=1.5)
STREAM = ROW.stream(200.0, np.random.default_rng(5))
USUAL = setpoint.run(ROW, STREAM)
LEVERS = {lever.label: lever for lever in setpoint.levers(ROW, USUAL, 2.0)}
CLOCKS = [lever for lever in LEVERS.values() if lever.rule is not None]


def test_limits_hold():
    moved = setpoint.held(ROW, STREAM, LEVERS["batch limit"], 0.8)
    batch = LEVERS["batch limit"].orders[40].batch
    assert moved.running[2:].max() == batch < USUAL.running.max()
    moved = setpoint.held(ROW, STREAM, LEVERS["admission"], 0.8)
    in_service = [(each.running + each.queued).sum(axis=1)[2:].max() for each in (moved, USUAL)]
    assert in_service[0] == LEVERS["admission"].orders[40].admit < in_service[1]
    nobody = setpoint.held(ROW, STREAM, LEVERS["admission"], 1.0)
    assert nobody.power_w[60:].mean() == pytest.approx(ROW.servers * MODEL.idle.mean_w, rel=0.01)


def test_a_full_parking_leaves_one_server_at_work():
    moved = setpoint.held(ROW, STREAM, LEVERS["parking"], 1.0)
    idle_w = (ROW.servers - 1) * MODEL.idle.mean_w
    assert moved.power_w[60:].mean() < idle_w + 400
    assert np.isnan(moved.times_s[:, 1]).mean() < 0.1


def test_all_watts_that_are_shed_are_the_integral_of_the_difference():
    setpoint_w = np.full(200, np.nan)
    setpoint_w[60:140] = 0.8 * USUAL.power_w.mean()
    arm = setpoint.held(ROW, STREAM, LEVERS["parking"], 0.5)
    told = setpoint.called(arm, USUAL, setpoint_w)
    less_w = (USUAL.power_w - arm.power_w)[60:140]
    assert told["shed_kwh"] == pytest.approx(less_w.mean() * 80 / 3.6e6)
    nothing = setpoint.called(USUAL, USUAL, setpoint_w)
    assert nothing["shed_kwh"] == nothing["rebound_pct"] == 0
    assert nothing["ttft_p95_ratio"] == nothing["tpot_ratio"] == 1 and nothing["lasted"]


def test_the_controller_comes_to_the_setpoint_where_the_plan_is_wrong():
    wrong = (np.array([0.0, 900.0]), np.array([0.0, 1.0]))  # promises more watts than there are
    lever = replace(CLOCKS[0], curve=wrong)
    setpoint_w = np.full(200, 0.85 * USUAL.power_w.mean())
    plan = setpoint.plan_of(setpoint_w, USUAL.power_w.mean(), lever)
    gains = (0.0, setpoint.gain_of(ROW, lever))
    arms = [setpoint.run(ROW, STREAM, lever, plan, gain) for gain in gains]
    fixed, followed = (abs(arm.power_w[60:].mean() / setpoint_w[0] - 1) for arm in arms)
    assert followed < 0.02 < fixed


def test_tracking_error_of_the_signal_itself_is_zero_and_of_its_mean_its_spread():
    setpoint_w = np.full(100, np.nan)
    setpoint_w[50:] = np.repeat([100.0, 200.0], 25)
    perfect = replace(USUAL, server_w=np.nan_to_num(setpoint_w)[:, None])
    assert setpoint.tracking_pct(perfect, setpoint_w) == 0
    flat = replace(USUAL, server_w=np.full((100, 1), 150.0))
    assert setpoint.tracking_pct(flat, setpoint_w) == pytest.approx(50.0)


def test_ninety_percent_of_a_first_order_step_take_2_3_time_constants():
    after_s = np.arange(1.0, 201.0)
    shed_w = np.tile(1 - np.exp(-after_s / 10), (4, 1))
    assert setpoint.reached_s(after_s, shed_w) == pytest.approx(23.0, abs=0.6)


def test_the_full_clock_is_the_server_itself_and_a_lower_one_the_stated_law():
    for rule in RULES:
        assert clocked(MODEL.server, MODEL.surface, 1.0, rule) == (MODEL.server, MODEL.surface)
    slow, cool = clocked(MODEL.server, MODEL.surface, 0.5, ClockRule(1.0, 2.0, 0.3))
    assert slow.c0_s == pytest.approx(1.3 * MODEL.server.c0_s)
    assert slow.c1_s == pytest.approx(1.5 * MODEL.server.c1_s)
    assert slow.c2_s == pytest.approx(2.0 * MODEL.server.c2_s)
    old = MODEL.surface
    assert cool.decode_w - old.idle_w == pytest.approx(0.5 * (old.decode_w - old.idle_w))
    assert cool.prefill_w - old.idle_w == pytest.approx(0.25 * (old.prefill_w - old.idle_w))
    with pytest.raises(InputError, match="phi"):
        clocked(MODEL.server, MODEL.surface, 0.1, RULES[0])


@settings(max_examples=25, deadline=None)
@given(phi=st.floats(0.3, 0.99), rule=st.sampled_from(RULES), batch=st.integers(0, 100))
def test_a_lower_clock_never_takes_more_power_nor_less_time(phi, rule, batch):
    slow, cool = clocked(MODEL.server, MODEL.surface, phi, rule)
    assert all(
        a >= b
        for a, b in zip(dataclasses.astuple(slow), dataclasses.astuple(MODEL.server), strict=True)
    )
    for tokens in (0, 300, 4000):
        less = cool.step_power_w(np.array([batch]), np.array([tokens]))
        assert less < MODEL.surface.step_power_w(np.array([batch]), np.array([tokens]))


TRIAL = shedding.trial(replace(ROW, servers=4), 400.0, 4, 3)
MADE = {lever.label: lever for lever in shedding.calibrated(TRIAL.row, 3)}
FEW = [MADE[name] for name in ("admission", "parking", "batch limit")] + list(MADE.values())[-2:]


def test_costs_are_read_between_places_and_not_beyond_what_all_rules_shed():
    lines = {"a": [0.0, 10.0, 20.0], "b": [0.0, 5.0, 10.0]}
    known = {"lever": "clock", "place": [0.0, 0.5, 1.0], "tpot_ratio": [1.0, 2.0, 4.0]}
    table = pd.concat([pd.DataFrame(known | {"rule": k, "shed_pct": v}) for k, v in lines.items()])
    cost = shedding.cost_at(table, "tpot_ratio", np.array([0.0, 5.0, 15.0]))["clock"]
    assert cost.loc[5.0].tolist() == [1.75, 1.5, 2.0] and cost.loc[15.0].isna().all()


def test_parking_delivers_in_time_admission_late_and_a_batch_limit_nothing():
    time_s = np.arange(400)
    setpoint_w = np.where((time_s >= 60) & (time_s < 360), 0.8 * TRIAL.base_w, np.nan)
    table = shedding.scored(shedding.followed(TRIAL, FEW, setpoint_w), setpoint_w)
    none = table[table["lever"] == "no control"]
    assert (none["missed_pct"].round(6) == 100).all() and none["above_pct"].min() > 80
    told = shedding.verdicts(table[table["policy"] == "followed"].assign(asked_pct=20.0))
    told = told.droplevel("asked_pct")
    assert told.loc["parking"].tolist() == ["yes", "yes"]
    assert told.loc["admission", "keeps_first_token"] == told.loc["batch limit", "delivers"] == "no"
    clock = table[(table["lever"] == "clock") & (table["policy"] == "followed")]
    spoilt = clock["mean_over_pct"].mask(clock["rule"] == FEW[-1].label, 50.0)
    told = shedding.verdicts(clock.assign(mean_over_pct=spoilt, asked_pct=20.0))
    assert told["delivers"].tolist() == ["depends on the clock rule"]


def test_a_later_command_is_reached_as_much_later():
    late = replace(FEW[-1], name="late", latency_s=40.0)
    table, _ = shedding.stepped(TRIAL, [FEW[-1], late], 0.2, 60.0)
    assert np.diff(table["reached_s"]) == pytest.approx(39, abs=2)
