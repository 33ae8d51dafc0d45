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
    """Keep the seconds of a run that a fit may see.

    Parameters
    ----------
    run : Run
        The recording.
    start_s, stop_s : float or None
        Begin and end, seconds after the first request; None leaves that end as it is.

    Returns
    -------
    Run
        Samples, counters and request timings outside are gone; earlier arrivals stay, since they
        load the engine, but without their measured times.

    Raises
    ------
    InputError
        If nothing is left.
    """
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
    """Put power beside the simulated activity of the same bins, run below run.

    Parameters
    ----------
    runs : list of Run
        Fitting runs.
    server : Server
        Calibrated engine.
    dt : fractions.Fraction
        Step of the samples, seconds.

    Returns
    -------
    pandas.DataFrame
        Activity table with ``power_w``, ``before_load`` (sample before the first arrival) and
        ``fresh`` (no sample within four steps before it, or among the first of its run),
        ``recording`` (number of the run) and ``begins`` (no sample within four steps before it).
    """
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
    """States of prepared samples, and which of them teach transitions and emissions.

    Parameters
    ----------
    state, previous : numpy.ndarray
        State in each sample and in the one before, integers from 0 (idle), shape (n,).
    use : numpy.ndarray
        Which samples teach, booleans, shape (n,).
    """

    state: np.ndarray
    previous: np.ndarray
    use: np.ndarray


def usable(frame: pd.DataFrame, idle: Idle) -> tuple[np.ndarray, np.ndarray]:
    """Which samples belong to the load, and which of these are above the idle band.

    Parameters
    ----------
    frame : pandas.DataFrame
        Prepared samples.
    idle : Idle
        Idle power.

    Returns
    -------
    loaded, working : numpy.ndarray
        Booleans, shape (n,). Samples before the first request never teach: a test request that
        is not in the log may run there.
    """
    quiet = frame["quiet_for_s"].to_numpy() >= idle.hold_s
    loaded = ~quiet & ~frame["before_load"].to_numpy()
    return loaded, loaded & (frame["power_w"].to_numpy() > idle.band_w)


def label(frame: pd.DataFrame, idle: Idle, mixture: Mixture) -> Labels:
    """Label prepared samples with their states.

    Parameters
    ----------
    frame : pandas.DataFrame
        Prepared samples.
    idle : Idle
        Idle power.
    mixture : Mixture
        States above idle.

    Returns
    -------
    Labels
        State 0 is idle.
    """
    loaded, working = usable(frame, idle)
    state = np.where(working, mixture.label(frame["power_w"].to_numpy()) + 1, 0)
    previous = np.r_[0, state[:-1]]
    return Labels(state, previous, loaded & ~frame["fresh"].to_numpy())


def unbroken(frame: pd.DataFrame, keep: np.ndarray) -> tuple[tuple[int, int, int], ...]:
    """Find the stretches of kept samples without a hole of more than four steps.

    Parameters
    ----------
    frame : pandas.DataFrame
        Prepared samples.
    keep : numpy.ndarray
        Samples that may teach, booleans, shape (n,).

    Returns
    -------
    tuple of tuple of int
        Number of the recording, first row, row after the last.
    """
    edges = frame["begins"].to_numpy() | np.diff(keep, prepend=keep[0])
    begin = np.unique(np.r_[0, np.flatnonzero(edges)])
    end = np.r_[begin[1:], len(frame)]
    recording = frame["recording"].to_numpy()[begin]
    found = zip(recording.tolist(), begin.tolist(), end.tolist(), strict=True)
    return tuple(piece for piece in found if keep[piece[1]])


def stretches(
    frame: pd.DataFrame, labels: Labels, keep: np.ndarray
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Cut kept samples above idle where idle, a hole or a new recording comes between.

    Parameters
    ----------
    frame : pandas.DataFrame
        Prepared samples.
    labels : Labels
        Their states.
    keep : numpy.ndarray
        Samples that may teach, booleans, shape (n,).

    Returns
    -------
    list of tuple of numpy.ndarray
        State of the mixture (idle left out, so from 0) and power in watts of each stretch.
    """
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
    """Fit transitions and emissions on the kept samples.

    Parameters
    ----------
    frame : pandas.DataFrame
        Prepared samples.
    idle, mixture : Idle, Mixture
        The states.
    kind, emissions : str
        Kinds of transitions and emissions.
    columns : tuple of str or None
        Activity columns that drive the transitions; None takes the kind's own.
    keep : numpy.ndarray
        Samples that may teach, booleans, shape (n,).
    **net
        For transitions ``bigru``: as `sitetrace.bigru.fit_bigru`.

    Returns
    -------
    tuple
        Transitions and emissions.
    """
    labels = label(frame, idle, mixture)
    taught = (labels.previous, labels.state, labels.use & keep, mixture.n_states + 1)
    pieces = unbroken(frame, keep)
    transitions = fit_transitions(kind, frame, *taught, columns, pieces, **net)
    return transitions, fit_emissions(emissions, stretches(frame, labels, keep), mixture)
