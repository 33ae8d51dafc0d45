"""From runs to labelled samples, and from these to the fitted parts of a model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd

from sitetrace.activity import activity_table
from sitetrace.emissions import Emissions, fit_emissions
from sitetrace.files import InputError
from sitetrace.idle import Idle
from sitetrace.serving import Server, simulate
from sitetrace.states import Mixture
from sitetrace.trace import Run
from sitetrace.transitions import Transitions, fit_transitions

MAX_GAP_STEPS = 4
LEAST_SAMPLES = 60


def cut_run(run: Run, start_s: float | None, stop_s: float | None) -> Run:
    """Keep the seconds of a run that a fit may see."""
    if start_s is None and stop_s is None:
        return run
    first = float(run.requests["arrival_s"].iloc[0])
    begin = -np.inf if start_s is None else first + start_s
    end = np.inf if stop_s is None else first + stop_s
    requests = run.requests[run.requests["arrival_s"] < end].reset_index(drop=True)
    if "ttft_s" in requests:
        answered = requests["arrival_s"] + requests["ttft_s"]
        inside = (requests["arrival_s"] >= begin) & (answered < end)
        requests["ttft_s"] = requests["ttft_s"].where(inside)
    if "end_s" in requests:
        requests["end_s"] = requests["end_s"].where(requests["end_s"].between(begin, end))
    engine = run.engine
    if engine is not None:
        engine = engine[engine["time_s"].between(begin, end)].reset_index(drop=True)
    inside = run.samples["time_s"].between(begin, end)
    samples = run.samples[inside].reset_index(drop=True)
    published = run.published
    if published is not None:
        published = published[inside.to_numpy()].reset_index(drop=True)
    if requests.empty:
        raise InputError(f"run {run.name}: no request before {stop_s} s: widen --to")
    if len(samples) < LEAST_SAMPLES:
        raise InputError(
            f"run {run.name}: {len(samples)} power samples from {start_s} to {stop_s} s after the "
            f"first request, fewer than {LEAST_SAMPLES}: widen --from/--to"
        )
    parts = {"requests": requests, "engine": engine, "samples": samples}
    return replace(run, **parts, published=published)


def prepare(runs: list[Run], server: Server, dt: Fraction) -> pd.DataFrame:
    """Put power beside the simulated activity of the same bins, run below run."""
    parts = []
    for number, run in enumerate(runs):
        times = run.samples["time_s"].to_numpy()
        part = activity_table(simulate(run.requests, server), times, float(dt))
        part["power_w"] = run.samples["power_w"].to_numpy()
        part["before_load"] = times < run.requests["arrival_s"].iloc[0]
        part["recording"] = number
        part["begins"] = np.diff(times, prepend=-np.inf) > (MAX_GAP_STEPS + 0.5) * float(dt)
        part["fresh"] = part["begins"]
        part.loc[: MAX_GAP_STEPS - 1, "fresh"] = True
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


@dataclass(frozen=True)
class Labels:
    """States of prepared samples, and which of them teach transitions and emissions."""

    state: np.ndarray
    previous: np.ndarray
    use: np.ndarray


def usable(frame: pd.DataFrame, idle: Idle) -> tuple[np.ndarray, np.ndarray]:
    """Which samples belong to the load, and which of these are above the idle band."""
    quiet = frame["quiet_for_s"].to_numpy() >= idle.hold_s
    loaded = ~quiet & ~frame["before_load"].to_numpy()
    return loaded, loaded & (frame["power_w"].to_numpy() > idle.band_w)


def label(frame: pd.DataFrame, idle: Idle, mixture: Mixture) -> Labels:
    """Label prepared samples with their states."""
    loaded, working = usable(frame, idle)
    state = np.where(working, mixture.label(frame["power_w"].to_numpy()) + 1, 0)
    previous = np.r_[0, state[:-1]]
    return Labels(state, previous, loaded & ~frame["fresh"].to_numpy())


def unbroken(frame: pd.DataFrame, keep: np.ndarray) -> tuple[tuple[int, int, int], ...]:
    """Find the stretches of kept samples without a hole of more than four steps."""
    edges = frame["begins"].to_numpy() | np.diff(keep, prepend=keep[0])
    begin = np.unique(np.r_[0, np.flatnonzero(edges)])
    end = np.r_[begin[1:], len(frame)]
    recording = frame["recording"].to_numpy()[begin]
    found = zip(recording.tolist(), begin.tolist(), end.tolist(), strict=True)
    return tuple(piece for piece in found if keep[piece[1]])


def stretches(
    frame: pd.DataFrame, labels: Labels, keep: np.ndarray
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Cut kept samples above idle where idle, a hole or a new recording comes between."""
    working = (labels.state > 0) & keep
    cuts = np.flatnonzero(np.diff(working) | frame["fresh"].to_numpy()[1:]) + 1
    power_w = frame["power_w"].to_numpy()
    return [
        (labels.state[rows] - 1, power_w[rows])
        for rows in np.split(np.arange(len(frame)), cuts)
        if working[rows].all()
    ]


def fit_parts(
    frame: pd.DataFrame,
    idle: Idle,
    mixture: Mixture,
    kind: str,
    emissions: str,
    columns: tuple[str, ...] | None,
    keep: np.ndarray,
    **net: Any,  # noqa: ANN401
) -> tuple[Transitions, Emissions]:
    """Fit transitions and emissions on the kept samples."""
    labels = label(frame, idle, mixture)
    taught = (labels.previous, labels.state, labels.use & keep, mixture.n_states + 1)
    pieces = unbroken(frame, keep)
    transitions = fit_transitions(kind, frame, *taught, columns, pieces, **net)
    return transitions, fit_emissions(emissions, stretches(frame, labels, keep), mixture)
