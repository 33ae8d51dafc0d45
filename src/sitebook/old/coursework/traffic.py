"""Exercises on traffic: bunching, what thinning leaves of it, and a law fitted to minutes."""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd

from sitebook.old.coursework.exercise import Exercise
from sitetrace.workload.spec import draw_traffic, fit_traffic, index_of_dispersion
from sitetrace.workload.streams import switching

HOUR_S, MINUTE_S, WANTED, DRAWS = 3600.0, 60.0, 2.0, 5


@cache
def _in_turns(seed: int) -> pd.DataFrame:
    return switching((1.0, 6.0), 120.0, HOUR_S, np.random.default_rng(seed))


def _counts(seed: int, window_s: float) -> np.ndarray:
    edges_s = np.arange(0.0, HOUR_S + window_s, window_s)
    return np.histogram(_in_turns(seed)["arrival_s"], edges_s)[0]


def _index(counts: np.ndarray) -> float:
    return counts.var(ddof=1) / counts.mean()


def _by_minute(seed: int) -> tuple[float, dict[str, float]]:
    counts = _counts(seed, MINUTE_S)
    gaps_s = np.diff(_in_turns(seed)["arrival_s"])
    return _index(counts), {
        "that is by seconds: count in windows of a minute": _index(_counts(seed, 1.0)),
        "that is standard deviation over mean: the variance goes on top": counts.std(ddof=1)
        / counts.mean(),
        "that is the variance: divide by the mean": counts.var(ddof=1),
        "that is of the gaps: take the counts": gaps_s.var() / gaps_s.mean() ** 2,
    }


def _thinned(seed: int) -> tuple[float, dict[str, float]]:
    index, by_second = _index(_counts(seed, MINUTE_S)), _index(_counts(seed, 1.0))
    share_pct = 100 * (WANTED - 1) / (index - 1)
    return share_pct, {
        "that scales the index itself: thinning scales what it has above 1": 100 * WANTED / index,
        "that is by seconds: take windows of a minute": 100 * (WANTED - 1) / (by_second - 1),
        "that is the share that is dropped": 100 - share_pct,
        "that is how many times fewer requests; their share is asked": 100 / share_pct,
    }


def _fitted_to_minutes(seed: int) -> tuple[float, dict[str, float]]:
    arrival_s = _in_turns(seed)["arrival_s"].to_numpy()

    def drawn(scale_s: float | None, window_s: float) -> float:
        law = fit_traffic(_in_turns(seed), scale_s=scale_s)
        streams = [draw_traffic(law, HOUR_S, seed + i) for i in range(DRAWS)]
        each = [index_of_dispersion(one["arrival_s"].to_numpy(), window_s) for one in streams]
        return float(np.median(each))

    of_seconds = index_of_dispersion(arrival_s, 1.0)
    right = drawn(MINUTE_S, 1.0) / of_seconds
    return right, {
        "that is by minutes, which the fit was made for: count by seconds": drawn(
            MINUTE_S, MINUTE_S
        )
        / index_of_dispersion(arrival_s, MINUTE_S),
        "that law is fitted to the gaps: give scale_s=60": drawn(None, 1.0) / of_seconds,
        "that is the index of the drawn streams: divide by the recorded one": right * of_seconds,
        "that is the inverse: the drawn streams go on top": 1 / right,
    }


EXERCISES = {
    "traffic-1": Exercise(_by_minute, 2.0, ""),
    "traffic-2": Exercise(_thinned, 0.05, "%"),
    "traffic-3": Exercise(_fitted_to_minutes, 0.2, ""),
}
