"""Exercises on states: weighted means, the criterion by hand, and how long a state lasts."""

from __future__ import annotations

from functools import cache

import numpy as np

from sitebook.old.coursework.exercise import Exercise, busy_power, recording, stretches
from sitetrace.power.states.mixture import Mixture, bic_curve, fit_mixture

N_STATES = 4


@cache
def _mixture(seed: int) -> Mixture:
    return fit_mixture(busy_power("poisson", seed), N_STATES, seed)


def _mixture_mean(seed: int) -> tuple[float, dict[str, float]]:
    mixture = _mixture(seed)
    heaviest = mixture.mean_w[mixture.weight.argmax()]
    return mixture.weight @ mixture.mean_w, {
        "that gives every state the same weight": mixture.mean_w.mean(),
        "that is the mean of the heaviest state; all of them count": heaviest,
    }


def _criterion(seed: int) -> tuple[float, dict[str, float]]:
    watts = busy_power("poisson", seed)
    right = bic_curve(watts, (N_STATES,), seed)["bic"].iloc[0]
    cost, parameters = np.log(watts.size), 3 * N_STATES - 1
    minus_two_ln_l = right - parameters * cost
    return right, {
        "that counts 2K parameters; weights are parameters too, all but one": minus_two_ln_l
        + 2 * N_STATES * cost,
        "that counts 3K parameters; the weights sum to one, so the last is not free": right + cost,
        "that charges two a parameter, which is Akaike's criterion": minus_two_ln_l
        + 2 * parameters,
        "the parameters cost nothing in that: add m ln n": minus_two_ln_l,
        "that has the log-likelihood once: it counts twice": minus_two_ln_l / 2 + parameters * cost,
    }


def _persistence(seed: int) -> tuple[float, dict[str, float]]:
    label = _mixture(seed).label(busy_power("poisson", seed))
    share = np.bincount(label).max() / label.size
    found = stretches(label)
    mean_bins = found.loc[found["value"] == np.bincount(label).argmax(), "bins"].mean()
    chance_bins = 1 / (1 - share)
    return mean_bins / chance_bins, {
        "that is the dwell time in bins: divide by that of independent draws": mean_bins,
        "that is the dwell time in seconds: divide by that of independent draws": mean_bins
        * float(recording("poisson", seed).dt),
        "that is the dwell time of independent draws: divide the observed one by it": chance_bins,
        "that is the inverse: the observed dwell time goes on top": chance_bins / mean_bins,
        "independent draws stay 1/(1 - w) bins on average, the first one included": mean_bins
        * (1 - share)
        / share,
    }


EXERCISES = {
    "states-1": Exercise(_mixture_mean, 0.5, "W"),
    "states-2": Exercise(_criterion, 1.0, ""),
    "states-3": Exercise(_persistence, 0.01, ""),
}
