"""A generated trace beside a measured one: the same bins and seconds, each score as defined."""

import json
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sitetrace.core.files import InputError
from sitetrace.core.types import Configuration, PowerTrace, Run
from sitetrace.evaluate.judge import evaluate, format_table
from sitetrace.evaluate.metrics import SCORES, scores
from sitetrace.measured.rundir import read_run

EPOCH_S = 1_784_415_464.0
QUARTER = Fraction(1, 4)
N = 480


def power(seed, n=N):
    rng = np.random.default_rng(seed)
    return 200.0 + 60.0 * np.sin(np.arange(n) / 9.0) + 10.0 * rng.standard_normal(n)


def run_of(power_w, dt=QUARTER, **changes):
    """Make a recording whose requests run from second 20 to second 100."""
    times = {"arrival_s": [20.0, 30.0, 60.0], "end_s": [28.0, 100.0, 90.0]}
    requests = pd.DataFrame(times) + EPOCH_S
    requests = requests.assign(input_tokens=100, output_tokens=200)
    time_s = EPOCH_S + np.arange(1, len(power_w) + 1) * float(dt)
    samples = pd.DataFrame({"time_s": time_s, "power_w": power_w})
    known = Run("made up", Configuration("m", "A100", 1), requests, samples, dt, None, {}, "0")
    return replace(known, **changes)


def trace_of(power_w, dt=QUARTER, begin_s=EPOCH_S):
    return PowerTrace(begin_s, dt, np.asarray(power_w))


RUN, MEASURED, OTHER = run_of(power(1)), trace_of(power(1)), trace_of(power(2))


def without_end(run, **changes):
    return replace(run, requests=run.requests.drop(columns="end_s"), **changes)


def native(run, trace, **window):
    return evaluate(run, trace, **window)["native"]["whole"]


def test_scores_are_those_of_the_metrics_and_samples_and_seconds_are_counted():
    judged = evaluate(RUN, OTHER)
    seconds_w = [each.reshape(-1, 4).mean(axis=1) for each in (power(1), power(2))]
    by_clock = {"native": scores(power(1), power(2), 0.25), "1s": scores(*seconds_w, 1.0)}
    for clock, rate in {"native": 4, "1s": 1}.items():
        for key in SCORES:
            known = pytest.approx(by_clock[clock][key], rel=1e-4, abs=1e-7)
            assert judged[clock]["whole"][key] == known
        counts = [judged[clock][span]["n_samples"] for span in ("whole", "busy")]
        assert counts == [N // 4 * rate, 80 * rate]
    assert (judged["native_dt_s"], judged["covered_share"]) == (0.25, 1.0)


@given(st.floats(0.2, 5.0))
def test_energy_error_is_exact(scale):
    judged = evaluate(RUN, trace_of(power(1) * scale))
    for clock in ("native", "1s"):
        signed = judged[clock]["whole"]["energy_error_signed_pct"]
        assert signed == pytest.approx(100.0 * (scale - 1.0), abs=1e-6)


@given(st.floats(-0.12, 0.12))
def test_a_sample_is_held_against_the_nearest_bin_of_the_quarter_second_before_it(shift_s):
    trace = trace_of(np.pad(power(1), 4, mode="edge"), begin_s=EPOCH_S - 1.0 + shift_s)
    assert native(RUN, trace)["nrmse"] == 0.0


def test_a_trace_late_by_one_bin_is_seen_and_one_half_a_bin_apart_has_every_bin_once():
    late = native(RUN, trace_of(np.roll(power(1), 1)))
    assert late["ks"] == 0.0 and late["nrmse"] > 0.02
    distinct_w = np.arange(100.0, 100.0 + N)
    half = trace_of(np.append(distinct_w, 1.0), begin_s=EPOCH_S - 0.125)
    assert native(run_of(distinct_w), half)["ks"] <= 1.0 / N + 1e-12


def test_neither_jitter_of_the_meter_nor_rounding_moves_the_bins():
    jitter_s = np.random.default_rng(0).uniform(-0.05, 0.05, N)
    moved = RUN.samples.assign(time_s=RUN.samples["time_s"] + jitter_s)
    assert native(replace(RUN, samples=moved), MEASURED)["nrmse"] == 0.0
    steps_w = np.repeat([82.37, 291.13, 82.37], N // 3)
    judged = evaluate(run_of(steps_w), trace_of(np.repeat(steps_w, 5), QUARTER / 5))
    assert judged["native"]["whole"]["ks"] == judged["1s"]["whole"]["ks"] == 0.0


FINE_W = np.repeat(power(1), 5) + np.tile([2.0, 1.0, 0.0, -1.0, -2.0], N)
COARSE_W = power(1).reshape(-1, 8).mean(axis=1)


@pytest.mark.parametrize(
    "power_w, dt, step_s, n", [(FINE_W, QUARTER / 5, 0.25, N), (COARSE_W, Fraction(2), 2.0, N // 8)]
)
def test_the_finer_of_both_is_averaged_to_the_coarser(power_w, dt, step_s, n):
    judged = evaluate(RUN, trace_of(power_w, dt))
    assert (judged["native_dt_s"], judged["native"]["whole"]["n_samples"]) == (step_s, n)
    assert judged["native"]["whole"]["nrmse"] == pytest.approx(0.0, abs=1e-7)


# Samples 102 to 109 cover seconds 25.5 to 27.5: seconds 25, 26 and 27 are touched.
@pytest.mark.parametrize("last, seconds_lost", [(104, 0), (109, 3)])
def test_short_gaps_are_interpolated_and_long_ones_leave_their_seconds_out(last, seconds_lost):
    level = run_of(np.linspace(100.0, 300.0, N))
    holed = replace(level, samples=level.samples.drop(index=range(102, last + 1)))
    judged = evaluate(holed, trace_of(level.samples["power_w"]))
    assert judged["1s"]["whole"]["n_samples"] == N // 4 - seconds_lost
    assert judged["1s"]["whole"]["nrmse"] == pytest.approx(0.0, abs=1e-7)
    assert judged["native"]["whole"]["n_samples"] == N - (last - 101)


def test_uncovered_samples_up_to_five_percent_are_left_out():
    judged = evaluate(RUN, trace_of(power(1)[20:], begin_s=EPOCH_S + 5.0))
    assert judged["covered_share"] == pytest.approx(1 - 20 / N)
    whole = judged["native"]["whole"]
    assert (whole["n_samples"], whole["nrmse"]) == (N - 20, 0.0)


def test_a_window_counts_from_the_first_request_and_a_trace_of_it_suffices():
    window = {"start_s": 10.0, "stop_s": 40.0}
    judged = evaluate(RUN, OTHER, **window)
    assert [judged[clock]["whole"]["n_samples"] for clock in ("native", "1s")] == [120, 30]
    known = scores(power(1)[120:240], power(2)[120:240], 0.25)["ks"]
    assert judged["native"]["whole"]["ks"] == known
    part = trace_of(power(2)[120:240], begin_s=EPOCH_S + 30.0)
    assert evaluate(RUN, part, **window)["covered_share"] == 1.0


NAN_W = np.where(np.arange(N) == 7, np.nan, power(1))
REFUSED = {
    "a trace that begins late": (trace_of(power(1)[40:], begin_s=EPOCH_S + 10), {}, "--lead 10 s"),
    "a trace that ends early": (trace_of(power(1)[:-40]), {}, r"91\.7%.*--tail 10 s more"),
    "requests of another day": (OTHER, {"requests": RUN.requests - 86400}, "requests: arrival_s"),
    "draws that begin apart": ([MEASURED, trace_of(power(1), begin_s=0.0)], {}, "draw 1 has"),
    "a power that is no number": (trace_of(NAN_W), {}, "draw 0, row 7"),
    "no draws": ([], {}, "no power values"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_judged_is_refused_with_the_mend(case):
    traces, options, why = REFUSED[case]
    with pytest.raises(InputError, match=why):
        evaluate(RUN, traces, **options)


def test_the_end_of_the_busy_seconds_comes_from_the_best_source():
    times = EPOCH_S + np.array([10.0, 70.0, 110.0])
    engine = pd.DataFrame({"time_s": times, "running": [1.0, 2.0, 0.0]})
    for run, source, seconds in (
        (RUN, "end_s", 80),
        (without_end(RUN, engine=engine), "engine", 50),
        (without_end(RUN), "simulated", 30),
    ):
        judged = evaluate(run, OTHER, busy_end_s=EPOCH_S + 50)
        assert (judged["busy_end_from"], judged["1s"]["busy"]["n_samples"]) == (source, seconds)
    default = evaluate(without_end(RUN), OTHER)
    assert "default server (8B on one A100)" in format_table(default).splitlines()[0]
    assert 40 < default["1s"]["busy"]["n_samples"] < 100


def test_requests_can_stand_beside_bare_samples_and_without_any_nothing_is_busy():
    assert evaluate(RUN.samples, OTHER, requests=RUN.requests) == evaluate(RUN, OTHER)
    judged = evaluate(RUN.samples, OTHER)
    assert judged["busy_end_from"] == "unknown"
    busy = judged["native"]["busy"]
    assert busy.pop("n_samples") == 0 and busy.pop("n_samples_spread") == 0
    assert set(busy.values()) == {None}


def test_draws_give_a_median_and_a_spread_and_one_has_none():
    entry = native(RUN, [trace_of(power(1) * scale) for scale in (1.01, 1.02, 1.04)])
    assert entry["energy_error_pct"] == pytest.approx(2.0)
    # 16th and 84th percentile of three: 32 % of the way from an outer one to the middle one.
    assert entry["energy_error_pct_spread"] == pytest.approx((3.36 - 1.32) / 2)
    assert native(RUN, OTHER)["energy_error_pct_spread"] == 0.0


def test_a_constant_trace_has_no_correlation_and_the_result_is_json():
    judged = evaluate(RUN, trace_of(np.full(N, 200.1)))
    assert judged["native"]["whole"]["correlation"] is None
    assert json.loads(json.dumps(judged, allow_nan=False)) == judged


SECONDS_W = power(1, 120)


def test_predictions_of_others_are_judged_on_published_seconds():
    published = pd.DataFrame({"predicted_w": SECONDS_W * 0.9})
    run = run_of(SECONDS_W, dt=Fraction(1), published=published)
    judged = evaluate(run, trace_of(np.repeat(SECONDS_W, 4)))
    assert max(judged[clock]["whole"]["nrmse"] for clock in ("native", "1s")) < 1e-7
    theirs = judged["published"]["predicted_w"]["1s"]
    assert theirs["whole"]["energy_error_signed_pct"] == pytest.approx(-10.0)
    assert theirs["busy"]["n_samples"] == 80


def test_predictions_published_for_a_measured_run_score_as_published(measured):
    run = read_run(measured / "qwen3-30b-a3b_h100_tp2_poisson_r2")
    begin_s = float(run.samples["time_s"].iloc[0]) - 1.0
    trace = PowerTrace(begin_s, Fraction(1), run.published["predicted_w"].to_numpy())
    judged = evaluate(run, trace, busy_end_s=begin_s + 300)
    reported = run.info["reported"]["metrics_after_calibration"]["energy_error_pct"]
    theirs = judged["published"]["predicted_w"]["1s"]["whole"]
    assert theirs["energy_error_pct"] == pytest.approx(reported, abs=1e-9)
    assert judged["native"]["whole"] == theirs
