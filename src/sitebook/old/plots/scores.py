"""Figures of generated traces beside recordings, and of their scores."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from sitetrace.core.style import BAND, GENERATED, MARKERS, MEASURED, OTHER, PAPER, band_of_draws
from sitetrace.core.types import PowerTrace, Run
from sitetrace.evaluate.metrics import acf, acf_lags


def band_over_line(run: Run, draws: list[PowerTrace], source: str, zoom_s: float = 30.0) -> Figure:
    """Lay the generated band over the recorded line: the whole, and some seconds of it."""
    figure, panels = plt.subplots(2, 1, figsize=(8, 5.2))
    first = run.requests["arrival_s"].iloc[0]
    seconds = run.samples["time_s"] - first
    for axes in panels:
        band_of_draws(axes, draws, first)
        axes.step(
            seconds, run.samples["power_w"], where="pre", color=MEASURED, lw=0.9, label=source
        )
        axes.set_ylabel("power [W]")
    panels[0].set_xlim(seconds.iloc[0], seconds.iloc[-1])
    middle = 0.4 * max(seconds.iloc[-1], zoom_s)
    panels[1].set_xlim(middle, middle + zoom_s)
    panels[1].set_xlabel("time from the first request [s]")
    panels[0].legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=3)
    return figure


def distribution_and_acf(
    measured_w: np.ndarray, generated_w: list[np.ndarray], dt_s: float, source: str
) -> Figure:
    """Distribution of power and autocorrelation, recorded beside generated."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.6))
    share = np.linspace(0, 1, 400)
    lags = min(acf_lags(dt_s), measured_w.size - 1)
    seconds = np.arange(1, lags + 1) * dt_s
    for i, power_w in enumerate(generated_w):
        label = "generated, each draw" if i == 0 else None
        left.plot(np.quantile(power_w, share), share, color=BAND, lw=1, label=label)
        right.plot(seconds, acf(power_w, lags), color=BAND, lw=1, label=label)
    left.plot(np.quantile(measured_w, share), share, color=MEASURED, lw=1.6, label=source)
    right.plot(seconds, acf(measured_w, lags), color=MEASURED, lw=1.6, label=source)
    left.set_xlabel("power [W]")
    left.set_ylabel("share of samples below")
    right.set_xlabel("lag [s]")
    right.set_ylabel("autocorrelation")
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2)
    return figure


def energy_errors(table: pd.DataFrame, paper_pct: np.ndarray, source: str) -> Figure:
    """Energy errors by judged run and method, beside the paper's configurations."""
    judged, methods = list(dict.fromkeys(table["judged"])), list(dict.fromkeys(table["method"]))
    figure, axes = plt.subplots(figsize=(8, 0.42 * len(judged) + 2.0))
    colors = [GENERATED, OTHER, "#CC79A7", "#E69F00", MEASURED]
    for i, method in enumerate(methods):
        rows = table[table["method"] == method]
        offset = 0.12 * (i - (len(methods) - 1) / 2)
        place = [judged.index(name) + offset for name in rows["judged"]]
        error_pct = np.maximum(rows["energy_error_pct"], 0.01)
        axes.plot(
            error_pct, place, MARKERS[i % 6], color=colors[i % 5], ms=6 if i else 8, label=method
        )
    axes.plot(
        paper_pct,
        np.full(paper_pct.size, len(judged)),
        "|",
        color=PAPER,
        ms=14,
        mew=1.5,
        label="paper, each configuration",
    )
    axes.axvline(5, color=PAPER, ls=":", lw=1)
    axes.set_xscale("log")
    axes.set_yticks(range(len(judged) + 1), [*judged, "paper: 25 configurations"])
    axes.set_ylim(len(judged) + 0.6, -0.6)
    axes.set_xlabel("absolute energy error [%] (dotted: 5%)")
    axes.set_title(f"judged on {source} runs", loc="left")
    figure.legend(loc="outside lower center", ncols=3)
    return figure
