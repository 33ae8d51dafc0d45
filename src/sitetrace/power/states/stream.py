"""A server of kind `states` that goes on from stretch to stretch, as it would all at once."""

from __future__ import annotations

import numpy as np

from sitetrace.core.files import InputError
from sitetrace.core.types import SEGMENT
from sitetrace.power.states.model import StatesModel
from sitetrace.power.states.transitions import walk
from sitetrace.serving.activity import ROW, activity_columns


def begin(model: StatesModel) -> dict:
    """Begin the first stretch: idle, and never at work before."""
    if model.transitions.reach is None:
        raise InputError(
            "a bidirectional net needs the whole day: sites take models with markov, logit, trees, "
            "coupled or independent transitions"
        )
    return {
        "segments": np.empty(0, SEGMENT),
        "arrivals_s": np.empty(0),
        "ends_s": np.empty(0),
        "activity": np.empty((len(ROW), 0)),
        "worked_s": np.array([-np.inf]),
        "state": np.array([0]),
        "emitted": np.array([np.nan]),
    }


def work(
    model: StatesModel,
    carried: dict,
    segments: np.ndarray,
    events: tuple[np.ndarray, np.ndarray],
    begin_s: float,
    n_bins: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, dict]:
    """Draw the watts of a server's bins in a stretch of time, and what the next goes on from."""
    # Segments (as in `Timeline`) begin in the stretch; arrivals and ends of requests ascend, later
    # ones are kept for later. It takes two random numbers a bin, whatever happens.
    ticks = np.arange(1, n_bins + 1, dtype=np.int64) * model.dt.numerator
    ends = begin_s + ticks / model.dt.denominator
    segments = np.concatenate([carried["segments"], segments])
    events = tuple(
        np.concatenate([carried[name], times])
        for name, times in zip(("arrivals_s", "ends_s"), events, strict=True)
    )
    worked_s = float(carried["worked_s"][0])
    seen = activity_columns(segments, events, ends, float(model.dt), carried["activity"], worked_s)
    quiet_for_s = seen[-1, -n_bins:]
    uniform = rng.random((2, n_bins))
    noise = uniform[1] if model.emissions.kind == "empirical" else rng.standard_normal(n_bins)
    hold_s = np.inf if model.idle is None else model.idle.hold_s
    quiet = (quiet_for_s >= hold_s) & (model.idle is not None)
    table = dict(zip(ROW, seen, strict=True))
    states = walk(model.transitions, table, quiet, uniform[0], int(carried["state"][0]))
    emitted = float(carried["emitted"][0])
    power_w, emitted = model.emissions.power_of(states - 1, model.mixture, noise, emitted)
    idle = np.flatnonzero(states == 0)
    power_w[idle] = 0.0
    if model.idle is not None:
        power_w[idle] = model.idle.power_w(quiet_for_s[idle], uniform[1, idle])
    begun = np.searchsorted(segments["start_s"], ends[-1], side="left")
    return model.within_range(power_w), {
        "segments": segments[segments["end_s"] > ends[-1]],
        "arrivals_s": events[0][events[0] > ends[-1]],
        "ends_s": events[1][events[1] > ends[-1]],
        "activity": seen[:, -max(model.transitions.reach, 1) :].copy(),
        "worked_s": np.array([segments["end_s"][begun - 1] if begun else worked_s]),
        "state": states[-1:].copy(),
        "emitted": np.array([float(emitted)]),
    }
