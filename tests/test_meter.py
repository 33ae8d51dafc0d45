"""A meter averages its window, prints late, and rounds to its step."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sitetrace.core.types import PowerTrace
from sitetrace.meter import Meter, remembered

EPOCH_S = 1_700_000_000.0


# a board that goes from 100 W to 300 W after ten seconds
STEP = PowerTrace(EPOCH_S, Fraction(1, 100), np.repeat([100.0, 300.0], 1000))


def rng():
    return np.random.default_rng(1)


def steady(power_w, bins=4000):
    return PowerTrace(0.0, Fraction(1, 4), np.full(bins, power_w))


def test_a_meter_without_memory_prints_the_mean_of_its_step():
    trace = PowerTrace(EPOCH_S, Fraction(1, 100), 200 + 50 * rng().random(1000))
    seen = Meter(quantum_w=0.0).read(trace, rng())
    assert seen["time_s"].to_numpy() == pytest.approx(EPOCH_S + 0.25 * np.arange(1, 41), abs=1e-6)
    assert seen["power_w"].to_numpy() == pytest.approx(trace.resample(Fraction(1, 4)).power_w)


def test_a_wide_window_smears_a_step_over_its_width():
    seen = Meter(window_s=1.0, quantum_w=0.0).read(STEP, rng())
    after = seen["time_s"].to_numpy() - EPOCH_S - 10.0
    assert seen["power_w"].to_numpy() == pytest.approx(100 + 200 * np.clip(after, 0, 1), abs=1e-3)


def test_lag_shows_a_step_later_by_the_lag_and_the_board_as_it_was_before():
    prompt, late = (
        Meter(window_s=5.0, lag_s=lag, quantum_w=0.0).read(STEP, rng())["power_w"] for lag in (0, 1)
    )
    assert late.to_numpy()[4:] == pytest.approx(prompt.to_numpy()[:-4], abs=1e-3)
    assert late.iloc[0] == pytest.approx(100.0)


@pytest.mark.parametrize("quantum_w", [0.01, 1.0, 25.0])
def test_printed_values_are_multiples_of_the_quantum(quantum_w):
    power_w = 200 + 50 * rng().random(2000)
    seen = Meter(quantum_w=quantum_w).read(PowerTrace(0.0, Fraction(1, 4), power_w), rng())
    steps = seen["power_w"].to_numpy() / quantum_w
    assert steps == pytest.approx(np.round(steps), abs=1e-6)
    assert np.abs(seen["power_w"].to_numpy() - power_w).max() <= quantum_w / 2 + 1e-9


def test_jitter_moves_times_by_a_quarter_step_at_most_and_steady_power_reads_steady():
    seen = Meter(jitter_s=0.05).read(steady(100.0), rng())
    shift = seen["time_s"] - 0.25 * np.arange(1, 4001)
    assert 0.03 < shift.std() < 0.05
    assert shift.abs().max() <= 0.25 / 4 + 1e-9
    for seed in range(20):  # to the last sample, which may lie beyond the trace
        seen = Meter(jitter_s=0.05).read(steady(100.0), np.random.default_rng(seed))
        assert seen["power_w"].to_numpy() == pytest.approx(100.0)


def test_noise_has_the_spread_asked_for_and_never_makes_power_negative():
    noise = Meter(noise_w=3.0).read(steady(100.0), rng())["power_w"] - 100.0
    assert abs(noise.std() / 3.0 - 1) < 4 / np.sqrt(2 * 4000)
    assert abs(noise.mean()) < 4 * 3.0 / np.sqrt(4000)
    assert Meter(noise_w=3.0).read(steady(0.0), rng())["power_w"].min() == 0.0


@settings(max_examples=40, deadline=None)
@given(st.sampled_from([0.25, 0.5, 1.0]), st.lists(st.floats(0, 700), min_size=8, max_size=200))
def test_energy_is_kept_where_windows_tile_and_the_ends_are_alike(window, values):
    # six seconds of one value on both sides hold every window whole
    power_w = np.pad(values, 24, constant_values=values[0])
    trace = PowerTrace(0.0, Fraction(1, 4), power_w)
    seen = Meter(window_s=window, quantum_w=0.0).read(trace, rng())["power_w"]
    assert seen.sum() == pytest.approx(power_w.sum(), rel=1e-9, abs=1e-6)


def test_noise_with_memory_is_as_loud_at_its_begin_as_later():
    noise = np.array([remembered(each, 0.95) for each in rng().standard_normal((2000, 40))])
    assert noise.std(axis=0) == pytest.approx(1.0, abs=4 / np.sqrt(2 * 2000))
    assert np.corrcoef(noise[:, 0], noise[:, 1])[0, 1] == pytest.approx(0.95, abs=0.01)
