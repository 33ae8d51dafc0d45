"""Exercises on the question: nameplate, energy, and peaks that do not coincide."""

from __future__ import annotations

import numpy as np

from sitebook.old.coursework.exercise import Exercise, busy_power, power, recording
from sitetrace.core.registry import device

HALL = ("poisson", "bursty", "poisson_low")


def _mean_share(seed: int) -> tuple[float, dict[str, float]]:
    watts, busy_w = power("poisson", seed), busy_power("poisson", seed)
    nameplate_w = device("testbed")["tdp_w"]
    return 100 * watts.mean() / nameplate_w, {
        "that is the share of the greatest sample; the mean is asked": 100
        * watts.max()
        / nameplate_w,
        "that is the share over the busy seconds; take the whole recording": 100
        * busy_w.mean()
        / nameplate_w,
        "that is the mean over the greatest sample, a load factor; divide by nameplate": 100
        * watts.mean()
        / watts.max(),
    }


def _energy_wh(seed: int) -> tuple[float, dict[str, float]]:
    run = recording("poisson", seed)
    watts = run.samples["power_w"]
    right = watts.sum() * float(run.dt) / 3600
    return right, {
        "a sample stands for a quarter of a second: multiply by the step": watts.sum() / 3600,
        "that is the busy seconds alone; take the whole recording": busy_power(
            "poisson", seed
        ).sum()
        * float(run.dt)
        / 3600,
    }


def _coincidence(seed: int) -> tuple[float, dict[str, float]]:
    servers = [power(name, seed) for name in HALL]
    shortest = min(map(len, servers))
    table = np.array([watts[:shortest] for watts in servers])
    right = table.sum(axis=0).max() / table.max(axis=1).sum()
    return right, {
        "that is the diversity factor; the coincidence factor is its inverse": 1 / right,
        "that is the load factor of the hall: peaks are asked, not means": table.sum(axis=0).mean()
        / table.sum(axis=0).max(),
        "that has the mean of the sum on top: take its peak": table.sum(axis=0).mean()
        / table.max(axis=1).sum(),
    }


EXERCISES = {
    "question-1": Exercise(_mean_share, 0.2, "%"),
    "question-2": Exercise(_energy_wh, 0.05, "Wh"),
    "question-3": Exercise(_coincidence, 0.005, ""),
}
