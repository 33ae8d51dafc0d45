"""Figures of recordings."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from sitetrace.core.style import GENERATED, MARKERS, MEASURED, OTHER, PAPER
from sitetrace.core.types import Run


def recordings(runs: list[Run], source: str) -> Figure:
    """Power and running requests of several recordings, one below the other."""
    figure, rows = plt.subplots(len(runs), 1, figsize=(8, 1.5 * len(runs) + 0.6), squeeze=False)
    for axes, run in zip(rows[:, 0], runs, strict=True):
        first = run.requests["arrival_s"].iloc[0]
        seconds = run.samples["time_s"] - first
        axes.plot(seconds, run.samples["power_w"], color=MEASURED, lw=0.8)
        axes.set_title(f"{run.name} ({source})", loc="left")
        axes.set_ylabel("power [W]")
        if run.engine is not None:
            twin = axes.twinx()
            twin.plot(run.engine["time_s"] - first, run.engine["running"], color=PAPER, lw=0.8)
            twin.set_ylabel("running", color=PAPER)
            twin.grid(visible=False)
        axes.axvspan(seconds.iloc[0], min(0.0, seconds.iloc[-1]), color="#EEEEEE", zorder=0)
    rows[-1, 0].set_xlabel("time from the first request [s]")
    return figure


def meter_rise(runs: list[Run], source: str, span_s: float = 4.0) -> Figure:
    """How printed power rises when work begins after rest, by run."""
    figure, axes = plt.subplots(figsize=(8, 3.0 + 0.12 * len(runs)))
    for i, run in enumerate(runs):
        first = run.busy_span()[0]
        samples, counter = run.samples, run.engine
        running = np.interp(samples["time_s"], counter["time_s"], counter["running"]) >= 1
        busy = samples["power_w"][running].median()
        idle = run.idle_before_load_w()
        near = samples["time_s"].between(first - 1, first + span_s)
        share = (samples["power_w"][near] - idle) / (busy - idle)
        label = run.name.replace("_", " ")
        shade = (MEASURED, PAPER, GENERATED, OTHER, "#CC79A7", "#888888")[i % 6]
        axes.plot(
            samples["time_s"][near] - first,
            share,
            marker=MARKERS[i % 6],
            ms=4,
            ls=("-", ":")[i // 6 % 2],
            label=label,
            c=shade,
        )
    axes.axhline(1, color="#888888", lw=0.8, ls=":")
    axes.set_xlabel("time from the first request [s]")
    axes.set_ylabel("share of the way\nfrom idle to busy")
    axes.set_title(f"what the meter prints when work begins ({source})", loc="left")
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def running_requests(run: Run, times_s: np.ndarray, simulated: np.ndarray, source: str) -> Figure:
    """Draw simulated running requests beside the engine's own counter."""
    figure, axes = plt.subplots(figsize=(8, 2.8))
    first = run.requests["arrival_s"].iloc[0]
    counter = run.engine
    axes.step(
        counter["time_s"] - first,
        counter["running"],
        where="post",
        color=MEASURED,
        label=f"engine's counter ({source})",
    )
    axes.step(
        times_s - first, simulated, where="post", color=GENERATED, ls="--", label="simulated engine"
    )
    axes.set_xlim(-2, counter["time_s"].iloc[-1] - first)
    axes.set_xlabel("time from the first request [s]")
    axes.set_ylabel("running requests")
    axes.legend(loc="upper left", ncols=2, bbox_to_anchor=(0, 1.18))
    return figure
