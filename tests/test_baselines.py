"""The simple rivals of a model, each as it is defined: nameplate, mean, phase look-up, replay."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest

from sitetrace.core.files import InputError
from sitetrace.core.registry import device
from sitetrace.core.types import Configuration, Run
from sitetrace.evaluate.judge import baselines, evaluate, phases
from sitetrace.measured.rundir import read_run
from sitetrace.serving.engine import Server
from sitetrace.serving.surrogates import ConstantRate

QUARTER = Fraction(1, 4)
SURROGATE = ConstantRate(prefill_tok_s=1000.0, decode_tok_s=100.0)


def requests_at(*arrival_s, output_tokens=190):
    """Make requests that last two seconds on the surrogate."""
    tokens = {"input_tokens": 100, "output_tokens": output_tokens}
    return pd.DataFrame({"arrival_s": arrival_s} | tokens)


def fitting_run(hardware="A100", tensor_parallel=2):
    """Make a recording of 20 s: 80 W idle, 300 W while the requests of 5.1 and 10.1 s last."""
    time_s = np.arange(1, 81) * 0.25
    busy = ((time_s > 5.1) & (time_s < 7.1)) | ((time_s > 10.1) & (time_s < 12.1))
    samples = pd.DataFrame({"time_s": time_s, "power_w": np.where(busy, 300.0, 80.0)})
    configuration = Configuration("m", hardware, tensor_parallel)
    return Run("made up", configuration, requests_at(5.1, 10.1), samples, QUARTER, None, {}, "0")


RUN = fitting_run()
RECORDED_W = RUN.samples["power_w"].to_numpy()


def ask(name, run, requests, start_s=0.0, dt=QUARTER, size=80):
    return baselines(run, SURROGATE, requests, start_s, dt, size)[name]


def test_every_baseline_fills_the_clock_it_is_asked_for():
    traces = baselines(RUN, SURROGATE, requests_at(103.0), 100.0, Fraction(1, 2), 33)
    assert list(traces) == ["nameplate", "mean", "phase look-up", "static replay"]
    for trace in traces.values():
        assert (trace.start_s, trace.dt, trace.power_w.shape) == (100.0, Fraction(1, 2), (33,))
        assert np.isfinite(trace.power_w).all()


def test_mean_and_nameplate_know_the_recording_and_the_gpus_in_use():
    assert set(ask("mean", RUN, requests_at(3.0)).power_w) == {RECORDED_W.mean()}
    assert set(ask("nameplate", RUN, requests_at(3.0)).power_w) == {800.0}
    assert set(ask("nameplate", fitting_run("H100", 4), requests_at(3.0)).power_w) == {2800.0}
    assert device("H100") == device("H100-SXM5-80GB")
    with pytest.raises(InputError, match="B200.*A100, H100"):
        device("B200")


def test_phase_lookup_gives_each_phase_the_power_it_had_and_an_unknown_one_the_mean():
    trace = ask("phase look-up", RUN, requests_at(2.0))
    middle_s = trace.time_s + 0.125
    assert (trace.power_w[(middle_s < 1.7) | (middle_s > 4.3)] == 80.0).all()
    assert (trace.power_w[(middle_s > 2.3) & (middle_s < 3.7)] == 300.0).all()
    busy = replace(RUN, requests=requests_at(0.0, output_tokens=5000))
    trace = ask("phase look-up", busy, requests_at(2.0), size=4)
    assert trace.power_w == pytest.approx(np.full(4, RECORDED_W.mean()))
    with pytest.raises(InputError, match="made up: no requests.csv"):
        ask("phase look-up", replace(RUN, requests=None), requests_at(2.0))


def test_prefill_is_two_bins_of_rising_requests_on_end():
    active = np.array([0, 1, 1, 2, 3, 2, 0, 1, 0.0])
    table = pd.DataFrame({"active": active, "delta_active": np.diff(active, prepend=0.0)})
    i, p, d = "idle", "prefill", "decode"
    assert list(phases(table)) == [i, d, d, p, p, d, i, d, i]


def test_static_replay_lays_first_arrival_upon_first_arrival_cuts_and_repeats():
    later = ask("static replay", RUN, requests_at(1005.1), start_s=1000.0)
    assert later.power_w == pytest.approx(RECORDED_W)
    twice = ask("static replay", RUN, requests_at(5.1), size=160)
    assert twice.power_w == pytest.approx(np.tile(RECORDED_W, 2))
    short = ask("static replay", RUN, requests_at(5.1), size=30)
    assert short.power_w == pytest.approx(RECORDED_W[:30])
    coarse = ask("static replay", RUN, requests_at(5.1), dt=Fraction(2), size=10)
    assert coarse.energy_j == pytest.approx(0.25 * RECORDED_W.sum())


def test_phases_from_our_engine_beat_nameplate_and_mean_on_a_measured_run(measured):
    fitted = read_run(measured / "qwen3-8b_a100_tp1_poisson_r4")
    judged = read_run(measured / "qwen3-8b_a100_tp1_poisson_r2p5")
    begin_s = float(judged.samples["time_s"].iloc[0]) - 0.25
    size = int((judged.samples["time_s"].iloc[-1] - begin_s) * 4) + 1
    traces = baselines(fitted, Server(), judged.requests, begin_s, QUARTER, size)
    names = "phase look-up", "mean", "nameplate"
    nrmse = [evaluate(judged, traces[name])["native"]["whole"]["nrmse"] for name in names]
    assert nrmse == sorted(nrmse)
