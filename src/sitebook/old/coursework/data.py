"""Exercises on recordings: idle power, arrivals, and what a meter averages."""

from __future__ import annotations

import numpy as np

from sitebook.old.coursework.exercise import Exercise, busy_power, power, recording

EVERY = 4


def _idle_w(seed: int) -> tuple[float, dict[str, float]]:
    run = recording("poisson", seed)
    first_s = run.requests["arrival_s"].iloc[0]
    before = run.samples["power_w"][run.samples["time_s"] < first_s]
    return before.median(), {
        "that is the least sample, an extreme of the noise; take a median": power(
            "poisson", seed
        ).min(),
        "that is the median of the whole recording; take the samples before the first arrival": (
            np.median(power("poisson", seed))
        ),
    }


def _gap_cv(seed: int) -> tuple[float, dict[str, float]]:
    def cv(name: str) -> float:
        gaps_s = np.diff(recording(name, seed).requests["arrival_s"])
        return gaps_s.std() / gaps_s.mean()

    gaps_s = np.diff(recording("bursty", seed).requests["arrival_s"])
    return cv("bursty"), {
        "that is the Poisson run's: take the bursty one": cv("poisson"),
        "that is the standard deviation in seconds: divide by the mean": gaps_s.std(),
        "that is the square: take the standard deviation, not the variance": cv("bursty") ** 2,
        "that is the inverse: the standard deviation goes on top": 1 / cv("bursty"),
    }


def _averaging(seed: int) -> tuple[float, dict[str, float]]:
    def ratio(watts: np.ndarray) -> float:
        rows = watts[: watts.size // EVERY * EVERY].reshape(-1, EVERY)
        return rows.mean(axis=1).std() / rows[:, 0].std()

    right = ratio(busy_power("poisson", seed))
    return right, {
        "that is the inverse: the averaging meter goes on top": 1 / right,
        "that is a ratio of variances: take standard deviations": right**2,
        "idle and busy alternating is in that: take the busy seconds alone": ratio(
            power("poisson", seed)
        ),
        "one over the root of four would hold for samples without memory: compute it": EVERY**-0.5,
    }


EXERCISES = {
    "data-1": Exercise(_idle_w, 0.1, "W"),
    "data-2": Exercise(_gap_cv, 0.02, ""),
    "data-3": Exercise(_averaging, 0.02, ""),
}
