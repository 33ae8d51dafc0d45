"""A bootstrap of seconds: no width without chance, cover with it, the same again by its seed."""

import numpy as np
import pytest

from sitebook.judging import block_interval
from sitetrace.evaluate.metrics import energy_error_pct, ks_distance


def noise(n, seed=0):
    return 300.0 + 20.0 * np.random.default_rng(seed).standard_normal(n)


def test_bootstrap_interval_of_a_constant_bias_has_no_width():
    measured = noise(400)
    low, high = block_interval(
        measured, measured * 1.03, 0.25, energy_error_pct, np.random.default_rng(1)
    )
    assert low == pytest.approx(3.0) and high == pytest.approx(3.0)


def test_bootstrap_interval_covers_the_score_and_repeats_with_its_seed():
    measured, generated = noise(2000), noise(2000, 1) * 1.01

    def interval(seed):
        rng = np.random.default_rng(seed)
        return block_interval(measured, generated, 0.25, energy_error_pct, rng)

    low, high = interval(1)
    assert low < energy_error_pct(measured, generated) < high
    assert interval(1) == (low, high) != interval(2)


def test_bootstrap_blocks_keep_the_memory_of_a_series():
    # A slow wave moves its mean from block to block far more than white noise of its variance.
    wave = 300.0 + 20.0 * np.sqrt(2.0) * np.sin(np.arange(2000) / 60.0)
    flat = np.full(2000, 300.0)

    def width(series):
        rng = np.random.default_rng(0)
        low, high = block_interval(series, flat, 0.25, energy_error_pct, rng)
        return high - low

    assert width(wave) > 3.0 * width(noise(2000))


def test_the_bias_of_resampled_distances_is_taken_away():
    # two series of one distribution: the KS of resampled seconds lies above theirs as a whole
    measured, generated = noise(200), noise(200, 1)
    found = ks_distance(measured, generated)
    low, high = block_interval(measured, generated, 1.0, ks_distance, np.random.default_rng(1))
    assert low < found < high
    assert found - low == pytest.approx(high - found, rel=0.6)
