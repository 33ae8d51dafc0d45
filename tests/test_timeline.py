"""The kind timeline: known servers are recovered, energy is kept, readings are placed."""

import json
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from synthetic_site import run_of

import sitetrace
from sitetrace.core.types import Configuration, PowerTrace
from sitetrace.evaluate.judge import evaluate
from sitetrace.evaluate.metrics import ks_distance
from sitetrace.meter import Meter, PowerNoise, expected_w, remembered
from sitetrace.power.idle import Idle
from sitetrace.power.modelfile import load_model, save_model, summary
from sitetrace.power.timeline.fit import fit_power, learn_decode
from sitetrace.power.timeline.model import TimelineModel
from sitetrace.power.timeline.surface import Surface
from sitetrace.serving.engine import Server, simulate

SERVER = Server(c0_s=0.012, c1_s=6e-5, c2_s=6e-5)
SURFACE = Surface(80.0, 280.0, 1.5, 480.0, 250.0, warm_w=8.0)
GLIMPSE = Meter(window_s=0.05, lag_s=0.0, update_s=0.1, noise_w=3.0)
SMOOTH = Meter(window_s=1.0, lag_s=0.05, update_s=0.1, noise_w=1.5)
FINE = Fraction(1, 200)
MODEL = TimelineModel(
    configuration=Configuration("made-up", "A100", 1),
    dt=Fraction(1, 4),
    server=SERVER,
    idle=Idle(80.0, np.array([-0.3, 0.0, 0.3]), 5.0, 100.0, 0.5),
    decay_s=1.0,
    surface=replace(SURFACE, limit_w=400.0),
    meter=replace(GLIMPSE, noise_w=0.0),
    residual=PowerNoise(0.3, 4.0, 0.4),
    power_range_w=(79.0, 500.0),
    fitted={"active": 20, "input_tokens": 3000, "output_tokens": 1000, "requests_per_s": 4.0},
    provenance={"data": "testbed", "runs": [{"name": "r", "sha256": "0"}], "selection": {}},
)

IMPOSSIBLE = [("surface", "scale_tokens", 0.0), ("surface", "idle_w", 81.0),
              ("meter", "window_s", 0.0), ("residual", "decode_w", "many")]  # fmt: skip
COLD = replace(MODEL.idle, active_w=0.0)
LONG = pd.DataFrame({"arrival_s": [0.0], "input_tokens": [100], "output_tokens": [6000]})


def requests_of(seed, rate=2.5, duration_s=150.0):
    return sitetrace.workload.poisson(rate, duration_s, np.random.default_rng(seed))


def generated(model, requests, seed=1, **how):
    return model.generate(requests, rng=np.random.default_rng(seed), **how)


def recorded(requests, meter, seed):
    """A run of a server whose engine, surface and meter are known."""
    fate = (timeline := simulate(requests, SERVER)).requests
    start_s, stop_s = -20.0, float(fate["end_s"].max()) + 8.0
    ends = start_s + np.arange(1, int((stop_s - start_s) / FINE) + 1) * float(FINE)
    power_w = SURFACE.mean_power_w(timeline, ends, float(FINE))
    samples = meter.read(PowerTrace(start_s, FINE, power_w), np.random.default_rng(seed))
    return run_of(requests.assign(ttft_s=fate["first_token_s"] - fate["arrival_s"]), samples)


def fitted(meter):
    return fit_power([recorded(requests_of(1), meter, 1)], SERVER, MODEL.provenance)


@pytest.fixture(scope="module")
def glimpsed():
    return fitted(GLIMPSE)


def test_the_meter_is_found(glimpsed):
    first, second = glimpsed.meter, fitted(SMOOTH).meter
    assert (first.window_s in (0.025, 0.05, 0.1), second.window_s) == (True, 1.0)
    middles = [each.lag_s + (each.update_s + each.window_s) / 2 for each in (first, second)]
    assert middles == pytest.approx([0.075, 0.6], abs=0.05)


def test_the_surface_is_recovered(glimpsed):
    found, batch = glimpsed.surface, np.array([2.0, 6.0, 12.0])
    warm_w = found.step_power_w(batch, np.zeros(3)) + found.warm_w
    np.testing.assert_allclose(warm_w, SURFACE.step_power_w(batch, np.zeros(3)) + 8.0, atol=4.0)
    prefill_w = found.step_power_w(np.array([6.0]), np.array([600.0]))
    assert prefill_w[0] == pytest.approx(SURFACE.step_power_w([6.0], [600.0])[0], abs=35.0)
    assert glimpsed.residual.decode_w == pytest.approx(3.0, abs=1.0)


def test_a_fitted_model_keeps_energy_and_distribution_of_traffic_it_never_saw(glimpsed):
    run = recorded(requests_of(5, rate=1.5), GLIMPSE, 5)
    whole = evaluate(run, generated(glimpsed, run.requests, reading="meter"))["native"]["whole"]
    assert whole["energy_error_pct"] < 1.0
    assert whole["ks"] < 0.12


@pytest.mark.parametrize("published", [False, True])
def test_noise_that_lasts_is_found_at_any_step_of_the_readings(published):
    few = pd.DataFrame({"arrival_s": np.arange(0.0, 320.0, 16.0)})
    run = recorded(few.assign(input_tokens=200, output_tokens=1000), MODEL.meter, 1)
    noise_w = 4.0 * remembered(np.random.default_rng(1).standard_normal(len(run.samples)), 0.9)
    samples = run.samples.assign(power_w=run.samples["power_w"] + noise_w)
    means = samples.groupby(np.arange(len(samples)) // 4).mean()  # of whole seconds
    samples = means if published else samples.iloc[::4]
    seconds = {"samples": samples, "dt": Fraction(1), "published": samples if published else None}
    found = fit_power([replace(run, **seconds)], SERVER, MODEL.provenance)
    assert found.residual.phi == pytest.approx(0.9, abs=0.06)


def test_decode_steps_are_learned_from_power_alone():
    guess = replace(SERVER, c0_s=0.018, c1_s=3e-5)
    run = recorded(requests_of(3, 2.5, 90.0), SMOOTH, 3)
    found = learn_decode([run], guess)
    batch = simulate(run.requests, SERVER).segments["batch"].mean()
    true_s, found_s = (each.c0_s + batch * each.c1_s for each in (SERVER, found))
    assert found_s == pytest.approx(true_s, rel=0.06)
    assert found.c0_s + found.overhead_s >= guess.c0_s


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.2, 6.0))
def test_power_in_bins_holds_the_energy_of_the_steps(seed, rate):
    still = replace(MODEL, residual=PowerNoise(0.0, 0.0, 0.0), idle=COLD)
    requests = requests_of(seed, rate, 20.0)
    assume(len(requests))
    trace = generated(still, requests)
    segments = simulate(requests, SERVER).segments
    length_s = segments["end_s"] - segments["start_s"]
    above_j = float((still.surface.above_idle_w(segments) * length_s).sum())
    assert trace.energy_j - 80.0 * trace.power_w.size / 4 == pytest.approx(above_j, rel=1e-6)


def test_a_day_of_work_creeps_up_by_less_than_the_warming_term():
    always = pd.DataFrame({"arrival_s": np.arange(0.0, 86400.0, 10.0)})
    segments = simulate(always.assign(input_tokens=50, output_tokens=900), SERVER).segments
    decoding = segments[(segments["prefill_tokens"] == 0) & (segments["batch"] == 1)]
    above_w = MODEL.surface.above_idle_w(segments)[decoding.index]
    assert above_w[0] < above_w[-1] < above_w[0] + 15.0
    hours = np.array_split(above_w, 24)
    assert np.ptp([part.mean() for part in hours[1:]]) < 0.01


def test_prefill_without_end_is_held_to_the_boards_limit():
    prefill = LONG.assign(input_tokens=300_000, output_tokens=2)
    trace = generated(MODEL, prefill, lead_s=0.0, tail_s=0.0)
    assert trace.power_w[:2].max() > 450.0
    assert trace.power_w[8:-1].max() < 400.0 + 5 * MODEL.residual.decode_w


@pytest.mark.parametrize("reading", ["power", "meter"])
def test_a_warm_board_idles_higher_in_power_and_readings_and_cools_down(reading):
    cold = replace(MODEL, idle=COLD)
    warm = replace(cold, surface=replace(MODEL.surface, warm_idle_w=10.0))
    how = {"lead_s": 1.0, "tail_s": 60.0, "reading": reading}
    warm_w, cold_w = (generated(model, LONG, **how).power_w for model in (warm, cold))
    ends = np.flatnonzero(cold_w > 150.0)[-1]
    np.testing.assert_allclose((warm_w - cold_w)[:4], 0.0, atol=0.02)
    since_s = 0.25 * (np.arange(ends + 2, cold_w.size) - ends)
    left_w = 10.0 * np.exp(-since_s / 20.0)
    np.testing.assert_allclose((warm_w - cold_w)[ends + 2 :], left_w, atol=0.5)


def test_glimpses_show_peaks_that_means_of_a_quarter_second_hide():
    timeline = simulate(requests_of(6), SERVER)
    trace = MODEL.draw(timeline, np.random.default_rng(1), reading="meter")
    expected, _ = expected_w(timeline, MODEL, trace.time_s + 0.25)
    power = MODEL.draw(timeline, np.random.default_rng(1))
    assert np.percentile(trace.power_w, 99) > np.percentile(power.power_w, 99) + 10.0
    assert trace.power_w.mean() == pytest.approx(power.power_w.mean(), rel=0.01)
    assert expected.max() < trace.power_w.max()


def test_readings_hang_on_the_step_of_their_grid_not_on_how_the_meter_was_read():
    models = MODEL, replace(MODEL, meter=replace(MODEL.meter, dt_s=1.0))
    one, two = (generated(each, requests_of(6), reading="meter").power_w for each in models)
    np.testing.assert_array_equal(one, two)


def test_another_board_moves_idle_in_full_and_the_limit_of_prefill_not_at_all():
    plain, moved = (generated(MODEL, requests_of(7), idle_w=idle) for idle in (None, 90.0))
    shift_w = moved.power_w - plain.power_w
    assert shift_w[:40] == pytest.approx(10.0, abs=1e-3)
    assert 0.0 < shift_w[plain.power_w > 270.0].mean() < 6.0


def test_a_model_file_holds_all_of_it(tmp_path):
    save_model(MODEL, tmp_path / "one.json")
    back = load_model(tmp_path / "one.json")
    save_model(back, tmp_path / "two.json")
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()
    for reading in ("power", "meter"):
        traces = [generated(model, requests_of(8), reading=reading) for model in (MODEL, back)]
        np.testing.assert_array_equal(traces[0].power_w, traces[1].power_w)
    assert "mean of 0.05 s" in summary(back)
    for part, field, value in IMPOSSIBLE:
        content = json.loads((tmp_path / "two.json").read_text())
        content[part][field] = value
        (tmp_path / "m.json").write_text(json.dumps(content))
        with pytest.raises(sitetrace.core.files.InputError, match="m.json"):
            load_model(tmp_path / "m.json")


MEASURED = [("qwen3-8b_a100_from_r4", "qwen3-8b_a100_tp1_poisson_r2p5", None),
            ("llama-3.1-70b_h100_cut", "llama-3.1-70b_h100_tp4_poisson_r4", 100.0),
            ("qwen3-30b-a3b_h100_cut", "qwen3-30b-a3b_h100_tp2_poisson_r2", 192.0)]  # fmt: skip


@pytest.mark.parametrize(("split", "name", "start_s"), MEASURED)
def test_measured_energy_and_distribution(measured, split, name, start_s):
    run = sitetrace.read_run(measured / name)
    model = load_model(sitetrace.shipped_model(f"{split}_timeline"))
    how = {"idle_w": run.idle_before_load_w(), "reading": "meter"}
    draws = [generated(model, run.requests, seed, **how) for seed in range(3)]
    whole = evaluate(run, draws, start_s=start_s)["native"]["whole"]
    assert whole["energy_error_pct"] < 1.0
    assert whole["ks"] < 0.17
    for trace in draws:
        assert ks_distance(trace.power_w, draws[0].power_w) < 0.1
