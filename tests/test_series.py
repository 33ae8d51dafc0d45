"""The planner's quantities: what must hold of any power series."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sitetrace.core.files import InputError
from sitetrace.planning import series

WATTS = st.floats(0.0, 1e6, width=32)
SERIES = arrays(np.float64, st.integers(1, 40).map(lambda n: 12 * n), elements=WATTS)
SERVERS = arrays(np.float64, st.tuples(st.integers(1, 30), st.integers(1, 8)), elements=WATTS)


@given(SERIES, st.sampled_from([1, 2, 3, 4, 6, 12]))
def test_energy_is_the_same_at_every_resolution(power_w, width):
    coarse = series.resample(power_w, 0.25, 0.25 * width)
    assert coarse.size * width == power_w.size
    assert coarse.sum() * width == pytest.approx(power_w.sum(), rel=1e-9)


@given(SERIES)
def test_peak_to_average_never_rises_with_longer_means(power_w):
    nested = [series.resample(power_w, 1.0, step) for step in (1.0, 2.0, 4.0, 12.0)]
    peaks = [series.peak_w(each) for each in nested]
    assert all(low <= high * (1 + 1e-12) for high, low in zip(peaks, peaks[1:], strict=False))
    if power_w.any():
        assert series.par(nested[-1]) <= series.par(power_w) * (1 + 1e-9)
        assert series.par(power_w) * series.load_factor(power_w) == pytest.approx(1.0)


@given(SERVERS)
def test_parts_never_peak_higher_together_than_apart(servers_w):
    peaks_w = servers_w.max(axis=0)
    total_w = servers_w.sum(axis=1).max()
    factor = series.coincidence_factor(total_w, peaks_w)
    assert 0 < factor <= 1 + 1e-12 or (total_w == 0 and np.isnan(factor))


@given(SERIES)
def test_ramps_add_up_to_the_way_from_first_to_last(power_w):
    means = series.resample(power_w, 1.0, 4.0)
    ramps_w = series.ramps(power_w, 1.0, 4.0)
    assert ramps_w.sum() == pytest.approx(means[-1] - means[0], abs=1e-6)
    summary = series.ramp_summary(ramps_w)
    assert summary["down"] <= 0 <= summary["up"]
    assert summary["up"] - summary["down"] <= 2 * (means.max() - means.min())
    assert max(summary["up"], -summary["down"]) >= summary["abs_p99"] >= summary["abs_p95"]


@given(SERIES, WATTS)
def test_load_duration_counts_the_time_above_a_power(power_w, level_w):
    share, sorted_w = series.load_duration(power_w)
    above = share[sorted_w >= level_w]
    assert (above[-1] if above.size else 0.0) == pytest.approx((power_w >= level_w).mean())
    assert share[-1] == 1.0


def test_float32_sums_lose_no_energy_over_long_steps():
    power_w = np.full(86_400 * 4, 1234.567, dtype=np.float32)
    assert series.resample(power_w, 0.25, 86_400)[0] == pytest.approx(np.float32(1234.567))


def test_a_constant_needs_its_own_power_and_never_ramps():
    power_w = np.full(48, 900.0)
    assert series.par(power_w) == series.load_factor(power_w) == 1.0
    assert set(series.ramp_summary(series.ramps(power_w, 900, 900)).values()) == {0.0}


@pytest.mark.parametrize("step_s", [0.3, 0.1, 1.25])
def test_a_step_that_does_not_fit_is_refused(step_s):
    with pytest.raises(InputError, match="whole"):
        series.resample(np.ones(12), 0.25, step_s)
