"""From runs to labelled bins: which sample is in which state, and which of them teach."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd

from sitetrace.core.types import Run
from sitetrace.power.idle import Idle, fit_idle
from sitetrace.power.states.mixture import Mixture
from sitetrace.serving.activity import activity_table
from sitetrace.serving.engine import Server, simulate

MAX_GAP_STEPS = 4
Piece = tuple[int, int, int]  # samples without a hole: recording, first row, row after the last


@dataclass(frozen=True)
class TrainingBins:
    """What transitions learn from: activity and states of successive bins, run below run."""

    table: pd.DataFrame
    previous: np.ndarray  # state of the sample before; 0 is idle
    state: np.ndarray
    use: np.ndarray  # which samples teach
    n_states: int  # with idle
    pieces: tuple[Piece, ...]  # unbroken, that a fit may see


def prepare(runs: list[Run], server: Server, dt: Fraction) -> pd.DataFrame:
    """Put power beside the simulated activity of the same bins, run below run."""
    # a sample `begins` after a hole of four steps; where it is `fresh` its last state is not known
    parts = []
    for number, run in enumerate(runs):
        times = run.samples["time_s"].to_numpy()
        part = activity_table(simulate(run.requests, server), times, float(dt))
        part["power_w"] = run.samples["power_w"].to_numpy()
        part["before_load"], part["recording"] = times < run.requests["arrival_s"].iloc[0], number
        part["begins"] = np.diff(times, prepend=-np.inf) > (MAX_GAP_STEPS + 0.5) * float(dt)
        part["fresh"] = part["begins"] | (np.arange(times.size) < MAX_GAP_STEPS)
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def idle_of(frame: pd.DataFrame) -> Idle:
    """Learn the idle power of the board from prepared samples."""
    return fit_idle(*(frame[name].to_numpy() for name in ("power_w", "before_load", "quiet_for_s")))


def usable(frame: pd.DataFrame, idle: Idle) -> tuple[np.ndarray, np.ndarray]:
    """Which samples belong to the load, and which of these are above the idle band."""
    # before the first request a test request may run that is not in the log
    loaded = ~(frame["quiet_for_s"] >= idle.hold_s) & ~frame["before_load"]
    return loaded.to_numpy(), (loaded & (frame["power_w"] > idle.band_w)).to_numpy()


def label(frame: pd.DataFrame, idle: Idle, mixture: Mixture, keep=None) -> TrainingBins:
    """Label prepared samples, all or those kept: 0 where idle, else the mixture's states from 1."""
    loaded, working = usable(frame, idle)
    keep = np.ones(len(frame), dtype=bool) if keep is None else keep
    state = np.where(working, mixture.label(frame["power_w"].to_numpy()) + 1, 0)
    labels = (np.r_[0, state[:-1]], state, loaded & keep & ~frame["fresh"].to_numpy())
    return TrainingBins(frame, *labels, mixture.n_states + 1, unbroken(frame, keep))


def unbroken(frame: pd.DataFrame, keep: np.ndarray) -> tuple[Piece, ...]:
    """Find the stretches of kept samples without a hole of more than four steps."""
    edges = frame["begins"].to_numpy() | np.diff(keep, prepend=keep[0])
    begin = np.unique(np.r_[0, np.flatnonzero(edges)])
    pieces = np.array([frame["recording"].to_numpy()[begin], begin, np.r_[begin[1:], len(frame)]])
    return tuple(map(tuple, pieces[:, keep[begin]].T.tolist()))


def stretches(labels: TrainingBins, keep: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Cut kept samples above idle where idle, a hole or a new recording comes between."""
    # as the mixture's states (from 0: none is idle) and watts
    frame, working = labels.table, (labels.state > 0) & keep
    cuts = np.flatnonzero(np.diff(working) | frame["fresh"].to_numpy()[1:]) + 1
    columns = (working, labels.state - 1, frame["power_w"].to_numpy())
    parts = zip(*(np.split(column, cuts) for column in columns), strict=True)
    return [(state, power_w) for works, state, power_w in parts if works[0]]


def window_features(table: Any, columns: tuple[str, ...], width: int) -> np.ndarray:
    """Activity of each bin and of the bins before it, side by side, shape (bins, features)."""
    now = bin_features(table, columns).T
    return np.hstack([now[np.maximum(np.arange(len(now)) - lag, 0)] for lag in range(width)])


def bin_features(table: Any, columns: tuple[str, ...]) -> np.ndarray:
    """Activity of each bin, shape (features, bins): the columns asked for, and one more."""
    now = [np.asarray(table[name], dtype=float) for name in columns]
    # prompt tokens are given as a logarithm too, since their power saturates
    if "prefill_tokens" in columns:
        now.append(np.log1p(now[columns.index("prefill_tokens")]))
    return np.array(now)
