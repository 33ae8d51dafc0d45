"""A generated trace keeps an exact clock, its energy at any step, and the board's idle power."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_site import requests_table

import sitetrace
from sitetrace.core.files import InputError
from sitetrace.power.load import load_warnings
from sitetrace.serving.engine import Server, simulate
from sitetrace.workload.streams import poisson

MODEL = sitetrace.load_model(sitetrace.shipped_model("testbed"))
STEPS = sitetrace.load_model(sitetrace.shipped_model("testbed_timeline"))
EPOCH_S = 1_700_000_000.3


def rng(seed=1):
    return np.random.default_rng(seed)


def generated(stream, model=MODEL, seed=1, **how):
    return model.generate(stream, rng=rng(seed), **how)


def requests(rate=2.0, seconds=60.0, start_s=EPOCH_S):
    stream = poisson(rate, seconds, rng(7))
    return stream.assign(arrival_s=start_s + stream["arrival_s"])


def one(arrival_s=0.0, prompt=100, answer=50):
    return requests_table([arrival_s], prompt, answer)


def test_a_trace_spans_an_idle_lead_requests_and_an_idle_tail_on_the_clock_of_the_requests():
    stream, idle = requests(), MODEL.idle
    trace = generated(stream, lead_s=5.0, tail_s=3.0)
    end_s = simulate(stream, MODEL.server).requests["end_s"].max()
    assert trace.start_s == stream["arrival_s"].min() - 5.0
    last_s = trace.time_s[-1] + trace.dt_s
    assert end_s + 3.0 <= last_s < end_s + 3.0 + 2 * trace.dt_s
    assert trace.time_s == pytest.approx(trace.start_s + 0.25 * np.arange(trace.power_w.size))
    assert trace.power_w[:20] == pytest.approx(idle.mean_w, abs=2.0)
    assert trace.power_w[-6:] == pytest.approx(idle.mean_w, abs=2.0 + idle.active_w)
    assert trace.power_w.max() > 2 * idle.mean_w


def test_a_step_of_a_third_does_not_drift_over_a_day():
    trace = generated(
        requests_table([0.0, 86400.0], 100, 50), replace(MODEL, dt=Fraction(1, 3)), lead_s=0.0
    )
    assert trace.time_s[3 * 86400] == 86400.0
    # the second request is seen in its own bins
    assert trace.power_w[3 * 86400 : 3 * 86400 + 3].max() > 150.0
    assert trace.power_w[3 * 86400 - 60 : 3 * 86400].max() < 150.0


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 240), st.integers(0, 1000))
def test_a_coarser_step_keeps_the_energy_of_the_same_draw(multiple, seed):
    # the tail is chosen so that both traces have the same bins, and so the same draws
    work = simulate(requests(seconds=20.0), MODEL.server)
    first_s, end_s = work.requests["arrival_s"].min(), work.requests["end_s"].max()
    bins = multiple * np.ceil((end_s - first_s + 1.0) / 0.25 / multiple)
    tail_s = bins * 0.25 - (end_s - first_s) - 0.1
    fine = MODEL.draw(work, rng(seed), None, 0.0, tail_s)
    coarse = MODEL.draw(work, rng(seed), 0.25 * multiple, 0.0, tail_s)
    assert coarse.dt == multiple * MODEL.dt
    assert coarse.start_s == fine.start_s
    assert coarse.energy_j == pytest.approx(fine.energy_j)
    assert coarse.power_w == pytest.approx(fine.power_w.reshape(-1, multiple).mean(axis=1))


@pytest.mark.parametrize("dt_s", [0.3, 0.1, 0.0, -0.25, np.nan, np.inf, 1e300, 0.37])
def test_other_steps_are_refused(dt_s):
    with pytest.raises(InputError, match="--dt .* multiple"):
        generated(one(), dt_s=dt_s)


def test_a_rebased_trace_idles_at_the_idle_power_asked_for():
    plain = generated(requests())
    for idle_w in (60.0, 120.0):
        trace = generated(requests(), idle_w=idle_w)
        assert np.median(trace.power_w[:100]) == pytest.approx(idle_w, abs=1.0)
        assert np.abs(trace.power_w - plain.power_w).max() <= abs(idle_w - MODEL.idle.mean_w) + 1e-9
    assert (generated(requests(), idle_w=0.0).power_w >= 0).all()


def test_power_stays_near_the_range_that_was_seen_and_more_work_draws_more():
    low, high = MODEL.power_range_w
    margin = 0.05 * (high - low)
    few, many = (generated(requests(rate)).power_w for rate in (0.2, 20.0))
    assert low - margin <= few.min() <= many.max() <= high + margin
    assert many.mean() > few.mean() + 50.0


SMALL = Server(max_num_seqs=2)
LOADS = [(requests(20.0), MODEL.server, "requests at once"),
         (one(prompt=9000), MODEL.server, "input tokens, but the model was fitted on at most 4000"),
         (one(answer=3000), MODEL.server, "output tokens, but the model was fitted on at most"),
         (requests(8.0), SMALL, "exceeds what the server can take")]  # fmt: skip


def test_leaving_what_was_fitted_or_can_be_served_is_said():
    assert load_warnings(MODEL.fitted, simulate(requests(1.0), MODEL.server)) == []
    for stream, server, told in LOADS:
        assert told in " ".join(load_warnings(MODEL.fitted, simulate(stream, server)))


TABLE = requests()
DAMAGED = {"there is none": TABLE[:0], "no number": TABLE.assign(arrival_s=np.nan),
           "a column is missing": TABLE.drop(columns="input_tokens"),
           "below 1": TABLE.assign(output_tokens=0)}  # fmt: skip


@pytest.mark.parametrize("model", [MODEL, STEPS])
@pytest.mark.parametrize("said", DAMAGED)
def test_requests_that_cannot_be_served_are_refused(model, said):
    with pytest.raises(InputError, match=f"requests: .*{said}"):
        generated(DAMAGED[said], model)


@pytest.mark.parametrize("model", [MODEL, STEPS])
@pytest.mark.parametrize("idle_w", [-1.0, np.nan, 600.0])
def test_an_idle_power_that_no_board_has_is_refused(model, idle_w):
    with pytest.raises(InputError, match="idle_w: .* give 0 or more, and less than"):
        generated(requests(), model, idle_w=idle_w)
