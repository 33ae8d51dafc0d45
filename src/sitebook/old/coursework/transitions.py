"""Exercises on transitions: staying, what the state before tells, and what activity tells."""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd

from sitebook.old.coursework.exercise import Exercise
from sitetrace import testbed
from sitetrace.serving.activity import activity_table
from sitetrace.serving.engine import simulate
from sitetrace.workload.streams import poisson

STATE = 2


@cache
def served(seed: int) -> pd.DataFrame:
    """Serve ten minutes of requests on the testbed, with true states and activity."""
    rng = np.random.default_rng(seed)
    plain, requests = testbed.Testbed(), poisson(2.5, 600.0, rng)
    truth = testbed.simulate_run(plain, requests, rng)["truth"]
    timeline = simulate(requests, plain.server)
    table = activity_table(timeline, truth["time_s"].to_numpy(), float(testbed.DT))
    return pd.concat([truth[["state", "power_w"]], table], axis=1)


def _counts(seed: int) -> np.ndarray:
    state = served(seed)["state"].to_numpy()
    counts = np.zeros((len(testbed.STATES), len(testbed.STATES)))
    np.add.at(counts, (state[:-1], state[1:]), 1)
    return counts


def _staying(seed: int) -> tuple[float, dict[str, float]]:
    counts = _counts(seed)
    stayed, left = counts[STATE, STATE], counts[STATE]
    return stayed / left.sum(), {
        "that is the probability of leaving": 1 - stayed / left.sum(),
        "that is a share of all transitions: divide by those that begin in the state": stayed
        / counts.sum(),
        "that is how often bins are in the state, whatever was before": left.sum() / counts.sum(),
    }


def _information(first: pd.Series, second: pd.Series) -> float:
    from sklearn.metrics import mutual_info_score

    return float(mutual_info_score(first.to_numpy(), second.to_numpy()))


def _entropy(values: pd.Series) -> float:
    from scipy.stats import entropy

    return float(entropy(values.value_counts()))


def _state_before(seed: int) -> tuple[float, dict[str, float]]:
    state = served(seed)["state"]
    before, after = state.iloc[:-1], state.iloc[1:]
    nats = _information(before, after)
    return nats, {
        "that is in bits: nats use the natural logarithm": nats / np.log(2),
        "that is the sum over all bins: take the mean": nats * len(after),
        "that is the log-likelihood without the state before": -_entropy(after),
        "that is the log-likelihood of the chain: how much more than without?": nats
        - _entropy(after),
    }


def _activity_tells(seed: int) -> tuple[float, dict[str, float]]:
    table = served(seed)
    told, whole = _information(table["active"], table["state"]), _entropy(table["state"])
    before, after = table["state"].iloc[:-1], table["state"].iloc[1:]
    return told / whole, {
        "that is what is left unexplained: one minus it": 1 - told / whole,
        "that is the mutual information: divide by the entropy of the states": told,
        "that is what the state before tells: take the active count": _information(before, after)
        / _entropy(after),
        "that divides by the entropy of the count: divide by that of the states": told
        / _entropy(table["active"]),
    }


EXERCISES = {
    "transitions-1": Exercise(_staying, 0.005, ""),
    "transitions-2": Exercise(_state_before, 0.005, "nats"),
    "transitions-3": Exercise(_activity_tells, 0.005, ""),
}
