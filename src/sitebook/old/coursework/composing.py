"""Exercises on composing: a trace judged, Little's law, and what a token costs under load."""

from __future__ import annotations

import numpy as np

from sitebook.old.coursework.exercise import Exercise, recording, shipped
from sitetrace.serving.engine import Server, simulate
from sitetrace.workload.streams import replay

SPEED = 2.0


def _generated_wh(seed: int) -> tuple[float, dict[str, float]]:
    requests = recording("poisson_low", seed).requests
    bare, padded = (
        shipped("testbed").generate(requests, rng=np.random.default_rng(seed), **ends)
        for ends in ({"lead_s": 0.0, "tail_s": 0.0}, {})
    )
    return bare.energy_j / 3600, {
        "that is a sum of watts: energy_j multiplies by the step": bare.power_w.sum() / 3600,
        "idle ends are in that: give lead_s=0 and tail_s=0": padded.energy_j / 3600,
    }


def _mean_active(seed: int) -> tuple[float, dict[str, float]]:
    fate = simulate(recording("poisson", seed).requests, Server()).requests
    stay_s = fate["end_s"] - fate["arrival_s"]
    first_s, last_s = fate["arrival_s"].min(), fate["end_s"].max()
    right = stay_s.sum() / (last_s - first_s)
    run = recording("poisson", seed)
    recorded_s = run.samples["time_s"].iloc[-1] - run.samples["time_s"].iloc[0]
    return right, {
        "that is how long a request stays: multiply by the rate of arrivals": stay_s.mean(),
        "the idle ends are in that: divide by the time from first arrival to last token": (
            stay_s.sum() / recorded_s
        ),
        "that is the rate of arrivals: multiply by how long a request stays": len(fate)
        / (last_s - first_s),
    }


def _token_cost(seed: int) -> tuple[float, dict[str, float]]:
    requests = recording("poisson", seed).requests
    faster = replay(requests, 1.0, SPEED, np.random.default_rng(seed))
    slow, fast = (
        shipped("testbed").generate(stream, rng=np.random.default_rng(seed), lead_s=0.0, tail_s=0.0)
        for stream in (requests, faster)
    )
    right = fast.energy_j / slow.energy_j
    return right, {
        "that is the inverse: the faster stream goes on top": 1 / right,
        "that is the ratio of powers; energy is power times time": fast.power_w.mean()
        / slow.power_w.mean(),
        "half the time is not half the energy: the power is another": 1 / SPEED,
    }


EXERCISES = {
    "composing-1": Exercise(_generated_wh, 0.1, "Wh"),
    "composing-2": Exercise(_mean_active, 0.05, "requests"),
    "composing-3": Exercise(_token_cost, 0.02, ""),
}
