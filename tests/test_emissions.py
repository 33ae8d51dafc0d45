"""Power within a state has the state's mean and spread, and the autocorrelation asked for."""

import numpy as np
import pytest

from sitetrace.evaluate.metrics import acf
from sitetrace.power.states.mixture import Emissions, Mixture, fit_emissions

STATES = Mixture(np.array([100.0, 300.0]), np.array([4.0, 10.0]), np.array([0.5, 0.5]))
N = 40_000


def drawn(kind, phi, states, seed):
    quantile_w = STATES.mean_w[:, None] + STATES.sigma_w[:, None] * np.linspace(-2, 2, 33)
    noise = np.random.default_rng(seed).standard_normal(states.size)
    return Emissions(kind, np.asarray(phi), quantile_w).power_of(states, STATES, noise)[0]


@pytest.mark.parametrize(
    ("kind", "phi"),
    [("gaussian", [0.0, 0.0]), ("ar1", [0.8, 0.5]), ("ar1_deviation", [0.8, 0.5])],
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
    states, rng = np.repeat([0, 1], 500), np.random.default_rng(4)
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
    states = np.random.default_rng(6).integers(0, 2, N)
    dragged, own = (drawn(kind, [0.9, 0.0], states, 7) for kind in ("ar1", "ar1_deviation"))
    for k in (0, 1):
        part = own[states == k]
        assert part.mean() == pytest.approx(STATES.mean_w[k], abs=1)
        assert part.std() == pytest.approx(STATES.sigma_w[k], rel=0.05)
    # the sticky low state never comes down to its own mean
    assert dragged[states == 0].mean() > STATES.mean_w[0] + 100
