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


def run_of(power_w, dt=QUARTER, begin_s=EPOCH_S, **changes):
    """Make a recording whose requests run from second 20 to second 100."""
    time_s = begin_s + np.arange(1, len(power_w) + 1) * float(dt)
    requests = pd.DataFrame(
        {
            "arrival_s": begin_s + np.array([20.0, 30.0, 60.0]),
            "input_tokens": 100,
            "output_tokens": 200,
            "end_s": begin_s + np.array([28.0, 100.0, 90.0]),
        }
    )
    samples = pd.DataFrame({"time_s": time_s, "power_w": power_w})
    known = Run("made up", Configuration("m", "A100", 1), requests, samples, dt, None, {}, "0")
    return replace(known, **changes)


def trace_of(power_w, dt=QUARTER, begin_s=EPOCH_S):
    return PowerTrace(begin_s, dt, np.asarray(power_w))


def without_end(run, **changes):
    return replace(run, requests=run.requests.drop(columns="end_s"), **changes)


def test_a_trace_equal_to_the_measurement_has_no_error():
    judged = evaluate(run_of(power(1)), trace_of(power(1)))
    for clock in ("native", "1s"):
        for span in ("whole", "busy"):
            entry = judged[clock][span]
            assert entry["nrmse"] == pytest.approx(0.0, abs=1e-7)
            assert entry["energy_error_pct"] == pytest.approx(0.0, abs=1e-7)
            assert entry["acf_r2"] == pytest.approx(1.0)
    assert judged["covered_share"] == 1.0


def test_samples_and_seconds_are_counted():
    judged = evaluate(run_of(power(1)), trace_of(power(2)))
    assert judged["native"]["whole"]["n_samples"] == N
    assert judged["1s"]["whole"]["n_samples"] == N // 4
    assert judged["native"]["busy"]["n_samples"] == 80 * 4
    assert judged["1s"]["busy"]["n_samples"] == 80
    assert judged["native_dt_s"] == 0.25


def test_scores_are_those_of_the_metrics():
    judged = evaluate(run_of(power(1)), trace_of(power(2)))
    native = scores(power(1), power(2), 0.25)
    seconds = scores(
        power(1).reshape(-1, 4).mean(axis=1), power(2).reshape(-1, 4).mean(axis=1), 1.0
    )
    for key in SCORES:
        assert judged["native"]["whole"][key] == native[key]
        assert judged["1s"]["whole"][key] == pytest.approx(seconds[key], rel=1e-4, abs=1e-7)


@given(st.floats(0.2, 5.0))
def test_energy_error_is_exact(scale):
    judged = evaluate(run_of(power(1)), trace_of(power(1) * scale))
    for clock in ("native", "1s"):
        signed = judged[clock]["whole"]["energy_error_signed_pct"]
        assert signed == pytest.approx(100.0 * (scale - 1.0), abs=1e-6)


@given(st.floats(-0.12, 0.12))
def test_a_sample_is_held_against_the_nearest_bin_of_the_quarter_second_before_it(shift_s):
    trace = trace_of(np.pad(power(1), 4, mode="edge"), begin_s=EPOCH_S - 1.0 + shift_s)
    assert evaluate(run_of(power(1)), trace)["native"]["whole"]["nrmse"] == 0.0


def test_a_trace_late_by_one_bin_is_seen_as_such():
    late = trace_of(np.roll(power(1), 1))
    judged = evaluate(run_of(power(1)), late)["native"]["whole"]
    assert judged["ks"] == 0.0
    assert judged["nrmse"] > 0.02


def test_clocks_half_a_bin_apart_pick_every_bin_once():
    distinct_w = np.arange(100.0, 100.0 + N)
    half = trace_of(np.append(distinct_w, 1.0), begin_s=EPOCH_S - 0.125)
    judged = evaluate(run_of(distinct_w), half)["native"]["whole"]
    assert judged["ks"] <= 1.0 / N + 1e-12


def test_equal_plateaus_stay_equal_in_seconds():
    steps_w = np.repeat([82.37, 291.13, 82.37], N // 3)
    fine = trace_of(np.repeat(steps_w, 5), QUARTER / 5)
    judged = evaluate(run_of(steps_w), fine)
    assert judged["native"]["whole"]["ks"] == judged["1s"]["whole"]["ks"] == 0.0


def test_jitter_of_the_meter_does_not_move_the_bins():
    run = run_of(power(1))
    jitter_s = np.random.default_rng(0).uniform(-0.05, 0.05, N)
    moved = replace(run, samples=run.samples.assign(time_s=run.samples["time_s"] + jitter_s))
    assert evaluate(moved, trace_of(power(1)))["native"]["whole"]["nrmse"] == 0.0


def test_finer_generated_power_is_averaged():
    fine = trace_of(np.repeat(power(1), 5) + np.tile([2.0, 1.0, 0.0, -1.0, -2.0], N), QUARTER / 5)
    judged = evaluate(run_of(power(1)), fine)
    assert judged["native"]["whole"]["nrmse"] == pytest.approx(0.0, abs=1e-7)
    assert judged["native"]["whole"]["n_samples"] == N


def test_samples_are_averaged_to_coarser_generated_bins():
    coarse = trace_of(power(1).reshape(-1, 8).mean(axis=1), Fraction(2))
    judged = evaluate(run_of(power(1)), coarse)
    assert judged["native_dt_s"] == 2.0
    assert judged["native"]["whole"]["n_samples"] == N // 8
    assert judged["native"]["whole"]["nrmse"] == pytest.approx(0.0, abs=1e-7)


def test_short_gaps_are_interpolated_and_long_ones_leave_their_seconds_out():
    level = run_of(np.linspace(100.0, 300.0, N))
    exact = trace_of(level.samples["power_w"])
    short = replace(level, samples=level.samples.drop(index=range(101, 104), errors="raise"))
    judged = evaluate(short, exact)
    assert judged["1s"]["whole"]["n_samples"] == N // 4
    assert judged["1s"]["whole"]["nrmse"] == pytest.approx(0.0, abs=1e-7)
    assert judged["native"]["whole"]["n_samples"] == N - 3
    # Samples 102 to 109 cover seconds 25.5 to 27.5: seconds 25, 26 and 27 are touched.
    long = replace(level, samples=level.samples.drop(index=range(102, 110)))
    assert evaluate(long, exact)["1s"]["whole"]["n_samples"] == N // 4 - 3
    assert evaluate(long, exact)["1s"]["whole"]["nrmse"] == pytest.approx(0.0, abs=1e-7)


def test_uncovered_samples_up_to_five_percent_are_left_out():
    trace = trace_of(power(1)[20:], begin_s=EPOCH_S + 5.0)
    judged = evaluate(run_of(power(1)), trace)
    assert judged["covered_share"] == pytest.approx(1 - 20 / N)
    assert judged["native"]["whole"]["n_samples"] == N - 20
    assert judged["native"]["whole"]["nrmse"] == 0.0


@pytest.mark.parametrize("first, last", [(40, N), (0, N - 40)])
def test_a_trace_that_covers_too_little_is_refused_with_the_mend(first, last):
    trace = trace_of(power(1)[first:last], begin_s=EPOCH_S + first / 4)
    with pytest.raises(InputError, match=r"91\.7%.*--lead \d+ s and --tail \d+ s more"):
        evaluate(run_of(power(1)), trace)


def test_a_trace_of_another_day_is_refused():
    with pytest.raises(InputError, match=r"covers 0\.0%"):
        evaluate(run_of(power(1)), trace_of(power(1), begin_s=0.0))


def test_a_window_counts_from_the_first_request():
    judged = evaluate(run_of(power(1)), trace_of(power(2)), start_s=10.0, stop_s=40.0)
    expected = scores(power(1)[120:240], power(2)[120:240], 0.25)
    assert judged["native"]["whole"]["n_samples"] == 120
    assert judged["native"]["whole"]["ks"] == expected["ks"]
    assert judged["1s"]["whole"]["n_samples"] == 30


def test_a_trace_of_the_window_alone_suffices():
    trace = trace_of(power(2)[120:240], begin_s=EPOCH_S + 30.0)
    assert evaluate(run_of(power(1)), trace, start_s=10.0, stop_s=40.0)["covered_share"] == 1.0


@pytest.mark.parametrize("window", [{"start_s": 500.0}, {"stop_s": -30.0}])
def test_a_window_outside_the_recording_is_refused(window):
    with pytest.raises(InputError, match="-19.9 to 99.9 s after the first request"):
        evaluate(run_of(power(1)), trace_of(power(2)), **window)


def test_a_window_without_requests_is_refused():
    with pytest.raises(InputError, match="give --requests"):
        evaluate(run_of(power(1), requests=None), trace_of(power(2)), start_s=10.0)


def test_the_end_of_the_busy_seconds_comes_from_the_best_source():
    run, trace = run_of(power(1)), trace_of(power(2))
    engine = pd.DataFrame(
        {"time_s": EPOCH_S + np.array([10.0, 70.0, 110.0]), "running": [1.0, 2.0, 0.0]}
    )
    assert evaluate(run, trace, busy_end_s=EPOCH_S + 50)["busy_end_from"] == "end_s"
    told = evaluate(without_end(run, engine=engine), trace, busy_end_s=EPOCH_S + 50)
    assert told["busy_end_from"] == "engine"
    assert told["1s"]["busy"]["n_samples"] == 50
    simulated = evaluate(without_end(run), trace, busy_end_s=EPOCH_S + 50)
    assert simulated["busy_end_from"] == "simulated"
    assert simulated["1s"]["busy"]["n_samples"] == 30
    default = evaluate(without_end(run), trace)
    assert "default server (8B on one A100)" in format_table(default).splitlines()[0]
    assert 40 < default["1s"]["busy"]["n_samples"] < 100


def test_without_requests_nothing_is_said_of_busy_seconds():
    samples = run_of(power(1)).samples
    judged = evaluate(samples, trace_of(power(2)))
    assert judged["busy_end_from"] == "unknown"
    busy = judged["native"]["busy"]
    assert busy.pop("n_samples") == 0 and busy.pop("n_samples_spread") == 0
    assert set(busy.values()) == {None}
    assert judged["native"]["whole"]["n_samples"] == N


def test_requests_can_stand_beside_bare_samples():
    run = run_of(power(1))
    judged = evaluate(run.samples, trace_of(power(2)), requests=run.requests)
    assert judged == evaluate(run, trace_of(power(2)))


def test_requests_of_another_day_are_refused():
    run = run_of(power(1))
    with pytest.raises(InputError, match="requests: arrival_s"):
        evaluate(run.samples, trace_of(power(2)), requests=run.requests - 86400)


def test_draws_give_a_median_and_a_spread():
    draws = [trace_of(power(1) * scale) for scale in (1.01, 1.02, 1.04)]
    entry = evaluate(run_of(power(1)), draws)["native"]["whole"]
    assert entry["energy_error_pct"] == pytest.approx(2.0)
    # 16th and 84th percentile of three: 32 % of the way from an outer one to the middle one.
    assert entry["energy_error_pct_spread"] == pytest.approx((3.36 - 1.32) / 2)


def test_one_draw_has_no_spread():
    entry = evaluate(run_of(power(1)), trace_of(power(2)))["1s"]["whole"]
    assert {value for key, value in entry.items() if key.endswith("_spread")} == {0.0}


@pytest.mark.parametrize(
    "other",
    [
        trace_of(power(1), begin_s=EPOCH_S + 0.25),
        trace_of(power(1)[1:]),
        trace_of(power(1), Fraction(1, 5)),
    ],
)
def test_draws_of_different_clocks_are_refused(other):
    with pytest.raises(InputError, match="draw 1 has"):
        evaluate(run_of(power(1)), [trace_of(power(1)), other])


def test_power_that_is_no_number_is_refused():
    broken = power(1)
    broken[7] = np.nan
    with pytest.raises(InputError, match="draw 0, row 7"):
        evaluate(run_of(power(1)), trace_of(broken))
    with pytest.raises(InputError, match="measured: time_s, power_w"):
        evaluate(run_of(broken).samples, trace_of(power(1)))
    with pytest.raises(InputError, match="no power values"):
        evaluate(run_of(power(1)), [])


def test_a_constant_trace_has_no_correlation_and_the_result_is_json():
    judged = evaluate(run_of(power(1)), trace_of(np.full(N, 200.1)))
    assert judged["native"]["whole"]["correlation"] is None
    assert judged["1s"]["whole"]["correlation"] is None
    assert json.loads(json.dumps(judged, allow_nan=False)) == judged


def test_predictions_of_others_are_judged_on_published_seconds():
    measured_w = power(1, 120)
    published = pd.DataFrame({"predicted_w": measured_w * 0.9})
    run = run_of(measured_w, dt=Fraction(1), published=published)
    judged = evaluate(run, trace_of(np.repeat(measured_w, 4)))
    assert judged["native_dt_s"] == 1.0
    assert max(judged[clock]["whole"]["nrmse"] for clock in ("native", "1s")) < 1e-7
    theirs = judged["published"]["predicted_w"]["1s"]
    assert theirs["whole"]["energy_error_signed_pct"] == pytest.approx(-10.0)
    assert theirs["busy"]["n_samples"] == 80


def test_the_table_shows_every_score_and_where_it_has_no_meaning():
    published = pd.DataFrame({"predicted_w": power(2, 120)})
    run = run_of(power(1, 120), dt=Fraction(1), published=published, requests=None)
    table = format_table(evaluate(run, trace_of(np.full(120, 9.0), Fraction(1))))
    for word in (*SCORES, "noise floor", "predicted_w", "100.0%", "unknown"):
        assert word in table
    assert table.splitlines()[7].split() == ["correlation", "-", "-", "-", "-"]


def test_predictions_published_for_a_measured_run_score_as_published(measured):
    run = read_run(measured / "qwen3-30b-a3b_h100_tp2_poisson_r2")
    begin_s = float(run.samples["time_s"].iloc[0]) - 1.0
    trace = PowerTrace(begin_s, Fraction(1), run.published["predicted_w"].to_numpy())
    judged = evaluate(run, trace, busy_end_s=begin_s + 300)
    reported = run.info["reported"]["metrics_after_calibration"]["energy_error_pct"]
    theirs = judged["published"]["predicted_w"]["1s"]["whole"]
    assert theirs["energy_error_pct"] == pytest.approx(reported, abs=1e-9)
    assert judged["native"]["whole"] == theirs
    assert judged["1s"]["whole"]["energy_error_pct"] == pytest.approx(reported, abs=1e-6)
