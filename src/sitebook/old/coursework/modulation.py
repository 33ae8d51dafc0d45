"""Exercises on power modulation: watts from parking, their delay, and a limit on the batch."""

from __future__ import annotations

from functools import cache

import numpy as np

from sitebook.old.coursework.exercise import Exercise
from sitetrace.core.registry import shipped_model
from sitetrace.power.modelfile import load_model
from sitetrace.studies import setpoint
from sitetrace.studies.setpoint import Lever, Outcome, Row, Stream

SERVERS, RATE, SECONDS, STREAMS = 6, 0.5, 300.0, 10
WARM_S, COMMAND_S, PARKED, LIMITED = 60, 90.0, 0.6, 0.8


@cache
def _row(seed: int) -> tuple[Row, list[Stream], list[Outcome], dict[str, Lever]]:
    row = Row(load_model(shipped_model("testbed_timeline")), SERVERS, RATE)
    rng = np.random.default_rng(seed)
    streams = [row.stream(SECONDS, rng) for _ in range(STREAMS)]
    usual = [setpoint.run(row, stream) for stream in streams]
    levers = {lever.name: lever for lever in setpoint.levers(row, usual[0], 1.0)}
    return row, streams, usual, levers


def _shed_pct(seed: int, name: str, place: float, warm_s: int = WARM_S) -> float:
    row, streams, usual, levers = _row(seed)
    arms = [setpoint.held(row, stream, levers[name], place) for stream in streams]
    means_w = [np.mean([run.power_w[warm_s:].mean() for run in runs]) for runs in (arms, usual)]
    return 100 * (1 - means_w[0] / means_w[1])


def _parked(seed: int) -> tuple[float, dict[str, float]]:
    right = _shed_pct(seed, "parking", PARKED)
    return right, {
        "half of the servers are parked, but the others have their work": 50.0,
        "that is what is still drawn: what is shed is asked": 100 - right,
        "the first minute is in that: leave it out": _shed_pct(seed, "parking", PARKED, 0),
    }


def _speed(seed: int) -> tuple[float, dict[str, float]]:
    row, streams, _, levers = _row(seed)
    after_s, shed_w = setpoint.step(row, streams, levers["parking"], PARKED, COMMAND_S)
    right = setpoint.reached_s(after_s, shed_w)
    return right, {
        "that is half of it: nine tenths are asked": setpoint.reached_s(after_s, shed_w, 0.5),
        "that counts from the begin of the stream: count from the command": right + COMMAND_S,
        "that is when the meter knows it: when power has come down is asked": right
        + row.telemetry.window_s
        + row.telemetry.delay_s,
    }


def _limited(seed: int) -> tuple[float, dict[str, float]]:
    return _shed_pct(seed, "batch limit", LIMITED), {
        "the first minute is in that: leave it out": _shed_pct(seed, "batch limit", LIMITED, 0),
        "that is what parking sheds at the same place": _shed_pct(seed, "parking", LIMITED),
        "nothing changed: hold the lever at its place, and compare with the usual power": 0.0,
    }


EXERCISES = {
    "modulation-1": Exercise(_parked, 0.2, "%"),
    "modulation-2": Exercise(_speed, 0.5, "s"),
    "modulation-3": Exercise(_limited, 0.2, "%"),
}
