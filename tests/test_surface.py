"""The surface counts energy once, whatever the bins, and stays within its limits."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_site import requests_of_20_s

from sitetrace.power.timeline.surface import Surface
from sitetrace.serving.engine import Server, simulate

SURFACE = Surface(80.0, 240.0, 9.0, 520.0, 300.0)


def timeline(seed=1, n=40):
    return simulate(requests_of_20_s(np.random.default_rng(seed), n, 2000), Server())


def true_energy_j(work, span_s):
    segments = work.segments
    length_s = segments["end_s"] - segments["start_s"]
    power_w = SURFACE.step_power_w(segments["batch"], segments["prefill_tokens"])
    return (power_w * length_s).sum() + SURFACE.idle_w * (span_s - length_s.sum())


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), dt_s=st.floats(0.01, 30.0))
def test_energy_is_kept_in_bins_of_any_width(seed, dt_s):
    work = timeline(seed, 15)
    n = int(np.ceil((work.segments["end_s"].max() + 1) / dt_s))
    ends = dt_s * np.arange(1, n + 1)
    power_w = SURFACE.mean_power_w(work, ends, dt_s)
    assert power_w.sum() * dt_s == pytest.approx(true_energy_j(work, n * dt_s), rel=1e-9)


def test_decode_grows_by_the_sequence_and_prefill_saturates_at_its_limit():
    power_w = SURFACE.step_power_w(np.array([0, 1, 10]), np.zeros(3))
    assert power_w == pytest.approx([240.0, 249.0, 330.0])
    tokens = np.array([0, 300, 1e9])
    power_w = SURFACE.step_power_w(np.full(3, 4), tokens)
    assert power_w[0] == 276.0
    assert (power_w[1] - 276.0) / (520.0 - 276.0) == pytest.approx(1 - np.exp(-1))
    assert power_w[2] == pytest.approx(520.0)


def test_no_bin_leaves_the_range_of_idle_and_the_busiest_step():
    work = timeline()
    power_w = SURFACE.mean_power_w(work, 0.1 * np.arange(1, 400), 0.1)
    most = SURFACE.step_power_w(work.segments["batch"], work.segments["prefill_tokens"]).max()
    assert power_w.min() >= 80.0 - 1e-6
    assert power_w.max() <= most + 1e-6
