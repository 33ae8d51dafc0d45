"""States of power, the power drawn within them and idle power: what was put in is found again."""

import numpy as np
import pytest

from sitetrace.evaluate.metrics import acf
from sitetrace.power.idle import DECAY_S, QUANTILES, Idle, fit_idle
from sitetrace.power.states.mixture import Emissions, Mixture, bic_curve, fit_emissions, fit_mixture

STATES = Mixture(np.array([100.0, 300.0]), np.array([4.0, 10.0]), np.array([0.5, 0.5]))
N, DT_S = 40_000, 0.25
RNG = np.random.default_rng


def three_states(rng, size=3000):
    truth = Mixture(np.array([120.0, 290.0, 420.0]), np.array([3.0, 6.0, 20.0]), np.full(3, 1 / 3))
    states = rng.integers(0, 3, size)
    return truth, states, truth.mean_w[states] + truth.sigma_w[states] * rng.standard_normal(size)


def test_states_set_far_apart_are_recovered_and_preferred():
    truth, states, power_w = three_states(RNG(1))
    mixture = fit_mixture(power_w, 3, seed=1)
    error = 4 * truth.sigma_w / np.sqrt(1000)
    assert (np.abs(mixture.mean_w - truth.mean_w) < error).all()
    assert mixture.sigma_w == pytest.approx(truth.sigma_w, rel=0.1)
    assert (mixture.label(power_w) == states).all()
    curve = bic_curve(power_w[:900], (1, 2, 3, 4, 5), seed=1)
    assert curve["n_states"][curve["bic"].idxmin()] == 3


def drawn(kind, phi, states, seed):
    quantile_w = STATES.mean_w[:, None] + STATES.sigma_w[:, None] * np.linspace(-2, 2, 33)
    noise = RNG(seed).standard_normal(states.size)
    return Emissions(kind, np.asarray(phi), quantile_w).power_of(states, STATES, noise)[0]


@pytest.mark.parametrize(
    ("kind", "phi"), [("gaussian", [0.0, 0.0]), ("ar1", [0.8, 0.5]), ("ar1_deviation", [0.8, 0.5])]
)
def test_samples_have_the_mean_and_spread_of_their_state(kind, phi):
    states = np.repeat([0, 1], N)
    power_w = drawn(kind, phi, states, 1)
    for k in (0, 1):
        part = power_w[states == k]
        # an AR(1) series has fewer independent samples
        error = STATES.sigma_w[k] * np.sqrt((1 + phi[k]) / (1 - phi[k]) / N)
        assert part.mean() == pytest.approx(STATES.mean_w[k], abs=4 * error)
        assert part.std() == pytest.approx(STATES.sigma_w[k], rel=0.05)


@pytest.mark.parametrize(("phi", "seen"), [(0.8, 0.8), (0.29, 0.0)])
def test_ar1_has_the_autocorrelation_that_was_fitted_and_below_the_threshold_none(phi, seen):
    power_w = drawn("ar1", [phi, 0.0], np.zeros(N, dtype=int), 2)
    assert acf(power_w, 1)[0] == pytest.approx(seen, abs=0.03)


def test_fitting_recovers_phi_from_stretches_of_at_least_five():
    states = np.tile(np.repeat([0, 1], 50), 200)
    fitted = fit_emissions("ar1", [(states, drawn("ar1", [0.7, 0.4], states, 3))], STATES)
    # what carries over a change of state and the short stretches pull phi a little
    assert fitted.phi == pytest.approx([0.7, 0.4], abs=0.08)
    short = np.tile([0, 0, 0, 0, 1], 100)
    assert fit_emissions("ar1", [(short, STATES.mean_w[short] + 1)], STATES).phi[0] == 0


def test_empirical_power_stays_within_what_was_seen_and_without_samples_at_the_mean():
    states, rng = np.repeat([0, 1], 500), RNG(4)
    seen = STATES.mean_w[states] + rng.uniform(-5, 5, states.size)
    fitted = fit_emissions("empirical", [(states, seen)], STATES)
    power_w, _ = fitted.power_of(states, STATES, rng.random(states.size))
    for k in (0, 1):
        part, own = power_w[states == k], seen[states == k]
        assert own.min() <= part.min() <= part.max() <= own.max()
        assert part.mean() == pytest.approx(own.mean(), abs=0.5)
        assert fitted.mean_w(STATES)[k] == pytest.approx(own.mean(), abs=0.1)
    fitted = fit_emissions("empirical", [(np.zeros(9, dtype=int), np.full(9, 101.0))], STATES)
    power_w, _ = fitted.power_of(np.array([1, 1]), STATES, rng.random(2))
    assert (power_w == STATES.mean_w[1]).all()


def test_only_the_own_deviation_leaves_power_in_its_state_when_states_jump():
    states = RNG(6).integers(0, 2, N)
    dragged, own = (drawn(kind, [0.9, 0.0], states, 7) for kind in ("ar1", "ar1_deviation"))
    for k in (0, 1):
        part = own[states == k]
        assert part.mean() == pytest.approx(STATES.mean_w[k], abs=1)
        assert part.std() == pytest.approx(STATES.sigma_w[k], rel=0.05)
    # the sticky low state never comes down to its own mean
    assert dragged[states == 0].mean() > STATES.mean_w[0] + 100


def recording(rng, extra_w=0.0, hold_s=0.25):
    """20 s idle, 60 s work near 300 W, 30 s idle with what is left of the load."""
    time_s = np.arange(-20.0, 90.0, DT_S)
    quiet_for_s = np.where(time_s < 0, np.inf, np.maximum(time_s - 60.0, 0.0))
    idle_w = np.round(80.0 + 0.4 * rng.standard_normal(time_s.size), 1)
    idle_w = idle_w + extra_w * np.exp(-quiet_for_s / DECAY_S)
    working = (time_s >= 0) & (quiet_for_s < hold_s)
    return np.where(working, rng.normal(300.0, 10.0, time_s.size), idle_w), time_s < 0, quiet_for_s


@pytest.mark.parametrize(("extra_w", "hold_s"), [(0.0, 0.25), (8.0, 0.25), (0.0, 0.5), (0.0, 1.0)])
def test_mean_spread_what_is_left_of_the_load_and_the_hold_are_found(extra_w, hold_s):
    idle = fit_idle(*recording(RNG(1), extra_w, hold_s))
    assert idle.mean_w == pytest.approx(80.0, abs=4 * 1.25 * 0.4 / np.sqrt(80))
    assert idle.deviation_w.std() == pytest.approx(0.4, rel=0.3)
    assert idle.active_w == pytest.approx(extra_w, abs=0.6)
    assert idle.mean_w < idle.band_w < 110.0
    assert idle.hold_s == hold_s


def test_a_recording_without_idle_takes_its_lowest_hundredth_and_one_of_idle_alone_its_median():
    power_w = RNG(3).normal(300.0, 10.0, 1000)
    idle = fit_idle(power_w, np.zeros(1000, bool), np.zeros(1000))
    assert idle.mean_w == np.quantile(power_w, 0.01)
    assert (idle.deviation_w == 0).all()
    idle = fit_idle(power_w, np.ones(1000, bool), np.full(1000, np.inf))
    assert (idle.mean_w, idle.active_w) == (np.median(power_w), 0.0)
    assert idle.band_w == pytest.approx(idle.mean_w + 5.0)


def test_a_test_request_before_load_does_not_count_as_idle():
    rng = RNG(4)
    power_w, before, quiet = recording(rng)
    power_w[5:12] = 290.0
    idle = fit_idle(power_w, before, quiet)
    assert np.abs(idle.deviation_w).max() < 5.0
    assert idle.mean_w == pytest.approx(80.0, abs=0.3)


def test_drawn_values_are_values_that_the_meter_printed():
    power_w, before, quiet = recording(RNG(5))
    idle = fit_idle(power_w, before, quiet)
    assert idle.deviation_w.size == QUANTILES
    uniform = RNG(6).random(5000)
    drawn = idle.power_w(np.full(5000, np.inf), uniform)
    assert np.isin(np.round(drawn, 6), np.unique(np.round(power_w[before], 6))).all()
    assert drawn.mean() == pytest.approx(idle.expected_w(np.inf), abs=0.03)


def test_what_is_left_of_the_load_fades_with_its_time_constant():
    idle, quiet_for_s = Idle(80.0, np.zeros(1), 12.0, 90.0, 0.5), np.array([0.0, 5.0, 1e6, np.inf])
    expected = pytest.approx(80.0 + 12.0 * np.array([1.0, np.exp(-1.0), 0.0, 0.0]))
    assert idle.power_w(quiet_for_s, np.full(4, 0.9)) == expected
    assert idle.expected_w(quiet_for_s) == expected
