"""The mixture finds states that are there, in order, and labels by greatest posterior."""

import numpy as np
import pytest
from scipy.stats import norm

from sitetrace.core.registry import read_paper_table
from sitetrace.power.states.mixture import Mixture, bic_curve, fit_mixture, published_mixture


def three_states(rng, size=3000):
    truth = Mixture(np.array([120.0, 290.0, 420.0]), np.array([3.0, 6.0, 20.0]), np.full(3, 1 / 3))
    states = rng.integers(0, 3, size)
    return truth, states, truth.mean_w[states] + truth.sigma_w[states] * rng.standard_normal(size)


def test_states_set_far_apart_are_recovered():
    truth, states, power_w = three_states(np.random.default_rng(1))
    mixture = fit_mixture(power_w, 3, seed=1)
    error = 4 * truth.sigma_w / np.sqrt(1000)
    assert (np.abs(mixture.mean_w - truth.mean_w) < error).all()
    assert mixture.sigma_w == pytest.approx(truth.sigma_w, rel=0.1)
    assert (mixture.label(power_w) == states).all()


def test_a_label_is_the_state_of_greatest_weighted_density():
    mixture = Mixture(np.array([100.0, 110.0]), np.array([5.0, 20.0]), np.array([0.7, 0.3]))
    power_w = np.linspace(50, 200, 400)
    density = mixture.weight * norm.pdf(power_w[:, None], mixture.mean_w, mixture.sigma_w)
    assert (mixture.label(power_w) == density.argmax(axis=1)).all()


def test_bic_prefers_the_true_number_of_states():
    _, _, power_w = three_states(np.random.default_rng(4), size=900)
    curve = bic_curve(power_w, (1, 2, 3, 4, 5), seed=1)
    assert curve["n_states"][curve["bic"].idxmin()] == 3


def test_the_same_seed_gives_the_same_states_in_order_of_their_mean():
    _, _, power_w = three_states(np.random.default_rng(5), size=300)
    first, second = (fit_mixture(power_w, 8, seed=7) for _ in range(2))
    assert (first.mean_w == second.mean_w).all()
    assert (first.sigma_w == second.sigma_w).all()
    assert (np.diff(first.mean_w) > 0).all()
    assert first.weight.sum() == pytest.approx(1)


def test_all_published_mixtures_load_as_states():
    table = read_paper_table("mixtures")
    names = sorted(set(table["config"]))
    assert len(names) == 33
    for name in names:
        mixture = published_mixture(table, name)
        assert mixture.n_states == 10
        assert mixture.weight.sum() == pytest.approx(1, abs=1e-6)
        assert (np.diff(mixture.mean_w) > 0).all()
    with pytest.raises(KeyError, match="no mixture"):
        published_mixture(table, "gpt-2_T4_tp1")
