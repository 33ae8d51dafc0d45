"""Exercises on distributions: one Gaussian, several, and memory within a state."""

from __future__ import annotations

import numpy as np
import pandas as pd

from sitebook.old.coursework.exercise import Exercise, busy_power, power, stretches
from sitetrace import testbed
from sitetrace.evaluate.metrics import acf, ks_distance
from sitetrace.power.states.mixture import MIN_STRETCH, fit_mixture
from sitetrace.workload.streams import poisson

PHI, STATE, N_STATES = 0.8, 2, 4


def _one_gaussian(seed: int) -> tuple[float, dict[str, float]]:
    whole_w, busy_w = power("poisson", seed), busy_power("poisson", seed)
    return _ks_of_mixture(busy_w, 1, seed), {
        "idle is in that: take the busy seconds": _ks_of_mixture(whole_w, 1, seed),
        "that compares two runs; compare the run with a Gaussian": ks_distance(
            busy_w, busy_power("poisson_low", seed)
        ),
    }


def _ks_of_mixture(watts: np.ndarray, n_states: int, seed: int) -> float:
    """Distance of samples from the mixture fitted to them, by its distribution function."""
    from scipy.stats import kstest, norm

    mixture = fit_mixture(watts, n_states, seed)

    def cdf(at_w: np.ndarray) -> np.ndarray:
        return norm.cdf(np.asarray(at_w)[:, None], mixture.mean_w, mixture.sigma_w) @ mixture.weight

    return float(kstest(watts, cdf).statistic)


def _several_gaussians(seed: int) -> tuple[float, dict[str, float]]:
    watts = busy_power("poisson", seed)
    one, several = (_ks_of_mixture(watts, n_states, seed) for n_states in (1, N_STATES))
    return one / several, {
        "that is the inverse: the distance of one Gaussian goes on top": several / one,
        "that is the distance of the mixture: by what factor is it smaller?": several,
        "that is the difference of the distances: a factor is asked": one - several,
    }


def remembering(seed: int) -> pd.DataFrame:
    """Serve a quarter of an hour's requests on a testbed whose power remembers itself."""
    rng = np.random.default_rng(seed)
    requests = poisson(2.5, 900.0, rng)
    return testbed.simulate_run(testbed.Testbed(phi=PHI), requests, rng)["truth"]


def _memory(seed: int) -> tuple[float, dict[str, float]]:
    truth = remembering(seed)
    watts, inside = truth["power_w"].to_numpy(), truth["state"].to_numpy() == STATE
    residual = watts - watts[inside].mean()
    found = stretches(truth["state"].to_numpy())
    found = found[(found["value"] == STATE) & (found["bins"] >= MIN_STRETCH)]
    parts = [residual[row.begin : row.end] for row in found.itertuples()]
    products = sum(p[:-1] @ p[1:] for p in parts)
    return products / sum(p @ p for p in parts), {
        "that is the memory of the whole series, its states included": acf(watts, 1)[0],
        "the last sample of a stretch is missing below: the formula sums all squares": products
        / sum(p[:-1] @ p[:-1] for p in parts),
    }


EXERCISES = {
    "distributions-1": Exercise(_one_gaussian, 0.005, ""),
    "distributions-2": Exercise(_several_gaussians, 0.3, ""),
    "distributions-3": Exercise(_memory, 0.01, ""),
}
