"""Exercises on a site: its peak, what its servers share, and what averaging takes away."""

from __future__ import annotations

from functools import cache

import numpy as np

from sitebook.old.coursework.exercise import Exercise
from sitebook.old.coursework.sites import site_day
from sitebook.old.sites.hierarchy import cov
from sitebook.old.sites.setups import GPUS, NON_GPU_W
from sitetrace.planning.series import load_factor, par, power_at, resample

QUARTER_S = 900.0


@cache
def day_w(seed: int) -> np.ndarray:
    """Simulate a day of twelve servers whose traffic follows one rhythm."""
    return power_at(site_day(3, 4, 0.5, seed, "server", 1.0), "server") - NON_GPU_W / GPUS


def _parts_w2(servers_w: np.ndarray) -> tuple[float, float]:
    """Own and shared variance of a server."""
    covariance = np.cov(servers_w, rowvar=False)
    shared = covariance[~np.eye(len(covariance), dtype=bool)].mean()
    return float(covariance.diagonal().mean() - shared), float(shared)


def _peak(seed: int) -> tuple[float, dict[str, float]]:
    servers_w = day_w(seed)
    site_w = servers_w.sum(axis=1)
    quarters_w = resample(site_w, 1.0, QUARTER_S)
    own = [par(each_w) for each_w in resample(servers_w, 1.0, QUARTER_S).T]
    return par(quarters_w), {
        "that is the load factor: the peak goes on top": load_factor(quarters_w),
        "that is at one second: take means over a quarter of an hour": par(site_w),
        "that is the mean of the servers' own ratios: add the servers up first": np.mean(own),
    }


def _floor(seed: int) -> tuple[float, dict[str, float]]:
    servers_w = day_w(seed)
    own, shared = _parts_w2(servers_w)
    mean_w, n = servers_w.mean(), servers_w.shape[1]
    return np.sqrt(shared) / mean_w, {
        "that is the CoV of these twelve: a server with itself is no pair": cov(
            servers_w.sum(axis=1)
        ),
        "that is a single server's": np.sqrt(own + shared) / mean_w,
        "that falls without end: it is for independent servers": np.sqrt((own + shared) / n)
        / mean_w,
        "that is a variance over a squared mean: take the root": shared / mean_w**2,
        "that is what a server has of its own: take what they share": np.sqrt(own) / mean_w,
    }


def _averaged(seed: int) -> tuple[float, dict[str, float]]:
    servers_w = day_w(seed)
    quarters_w = resample(servers_w, 1.0, QUARTER_S)
    own, shared = _parts_w2(servers_w)
    own_left, shared_left = _parts_w2(quarters_w)
    right = 100 * own_left / own
    return right, {
        "that would hold if seconds had no memory: compute it": 100 / QUARTER_S,
        "that is of the shared part, which stays: take the servers' own": 100
        * shared_left
        / shared,
        "that is of a server's whole variance: take what they share away first": 100
        * (own_left + shared_left)
        / (own + shared),
        "that is a ratio of standard deviations: take variances": 10 * np.sqrt(right),
        "that is what is gone: take what is left": 100 - right,
    }


EXERCISES = {
    "site-1": Exercise(_peak, 0.005, ""),
    "site-2": Exercise(_floor, 0.002, ""),
    "site-3": Exercise(_averaged, 0.02, "%"),
}
