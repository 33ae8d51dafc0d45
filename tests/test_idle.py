"""Idle power is the board's own: learned before load, held after work, drawn as it was printed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sitetrace.power.idle import DECAY_S, QUANTILES, Idle, fit_idle

DT_S = 0.25


def recording(rng, extra_w=0.0, hold_s=0.25, before_s=20.0):
    """30 s idle, 60 s work near 300 W, 30 s idle with what is left of the load."""
    time_s = np.arange(-before_s, 90.0, DT_S)
    quiet_for_s = np.where(time_s < 0, np.inf, np.maximum(time_s - 60.0, 0.0))
    idle_w = np.round(80.0 + 0.4 * rng.standard_normal(time_s.size), 1)
    idle_w = idle_w + extra_w * np.exp(-quiet_for_s / DECAY_S)
    working = (time_s >= 0) & (quiet_for_s < hold_s)
    return np.where(working, rng.normal(300.0, 10.0, time_s.size), idle_w), time_s < 0, quiet_for_s


@pytest.mark.parametrize("extra_w", [0.0, 8.0])
def test_mean_spread_and_what_is_left_of_the_load_are_found(extra_w):
    idle = fit_idle(*recording(np.random.default_rng(1), extra_w))
    assert idle.mean_w == pytest.approx(80.0, abs=4 * 1.25 * 0.4 / np.sqrt(80))
    assert idle.deviation_w.std() == pytest.approx(0.4, rel=0.3)
    assert idle.active_w == pytest.approx(extra_w, abs=0.6)
    assert idle.mean_w < idle.band_w < 110.0


@pytest.mark.parametrize("hold_s", [0.25, 0.5, 1.0])
def test_the_time_that_a_meter_holds_the_load_is_found(hold_s):
    idle = fit_idle(*recording(np.random.default_rng(2), hold_s=hold_s))
    assert idle.hold_s == hold_s


def test_a_recording_without_idle_takes_its_lowest_hundredth():
    rng = np.random.default_rng(3)
    power_w = rng.normal(300.0, 10.0, 1000)
    idle = fit_idle(power_w, np.zeros(1000, bool), np.zeros(1000))
    assert idle.mean_w == np.quantile(power_w, 0.01)
    assert (idle.deviation_w == 0).all()


def test_a_test_request_before_load_does_not_count_as_idle():
    rng = np.random.default_rng(4)
    power_w, before, quiet = recording(rng)
    power_w[5:12] = 290.0
    idle = fit_idle(power_w, before, quiet)
    assert np.abs(idle.deviation_w).max() < 5.0
    assert idle.mean_w == pytest.approx(80.0, abs=0.3)


def test_drawn_values_are_values_that_the_meter_printed():
    power_w, before, quiet = recording(np.random.default_rng(5))
    idle = fit_idle(power_w, before, quiet)
    assert idle.deviation_w.size == QUANTILES
    uniform = np.random.default_rng(6).random(5000)
    drawn = idle.power_w(np.full(5000, np.inf), uniform)
    assert np.isin(np.round(drawn, 6), np.unique(np.round(power_w[before], 6))).all()
    assert drawn.mean() == pytest.approx(idle.expected_w(np.inf), abs=0.03)


@settings(max_examples=40, deadline=None)
@given(extra_w=st.floats(0, 50), quiet=st.lists(st.floats(0, 1e6), min_size=1, max_size=50))
def test_what_is_left_of_the_load_fades_with_its_time_constant(extra_w, quiet):
    idle, quiet = Idle(80.0, np.zeros(1), extra_w, 90.0, 0.5), np.array(quiet)
    expected = pytest.approx(80.0 + extra_w * np.exp(-quiet / 5.0))
    assert idle.power_w(quiet, np.full(quiet.size, 0.9)) == expected
    assert idle.expected_w(quiet) == expected


def test_samples_that_all_lie_before_load_still_give_an_idle_power():
    power_w = 80.0 + np.random.default_rng(8).normal(0, 0.3, 200)
    idle = fit_idle(power_w, np.ones(200, bool), np.full(200, np.inf))
    assert idle.mean_w == pytest.approx(80.0, abs=0.2)
    assert idle.band_w == pytest.approx(idle.mean_w + 5.0)
    assert idle.active_w == 0.0
