"""Figures of request streams: rates, bunching, lengths, and weeks of many clients."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from sitebook.old.chapters.traffic import (
    BY_COUNTS,
    BY_GAPS,
    RECORDED,
    SCALES_S,
    THINNED,
    dispersion,
)
from sitetrace.core.style import BAND, GENERATED, MEASURED, OTHER

MINUTE_S, DAY_S = 60.0, 86400.0
LOOKS = {
    RECORDED: {"color": MEASURED, "lw": 1.4},
    THINNED: {"color": OTHER, "lw": 1.2},
    BY_GAPS: {"color": GENERATED, "lw": 1.2},
    BY_COUNTS: {"color": GENERATED, "lw": 1.2, "ls": "--"},
}
PLAIN = FuncFormatter(lambda value, _: f"{value:g}")


def _name_1_2_5(axis: Axis) -> None:
    """Name 1, 2 and 5 of each decade of a logarithmic axis."""
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(PLAIN)
    axis.set_minor_formatter(NullFormatter())


def rates(drawn: dict[str, dict[str, list[pd.DataFrame]]], thin: float) -> Figure:
    """Draw requests a second by minute: recorded, thinned, and of the law fitted to gaps."""
    figure, axes = plt.subplots(len(drawn), 1, figsize=(8, 2.3 * len(drawn) + 0.6), squeeze=False)
    for axis, (name, kinds) in zip(axes[:, 0], drawn.items(), strict=True):
        for kind in (RECORDED, THINNED, BY_GAPS):
            table = kinds[kind][0]
            after_s = table["arrival_s"].to_numpy() - kinds[RECORDED][0]["arrival_s"].iloc[0]
            if kind == BY_GAPS:
                after_s = table["arrival_s"].to_numpy()
            edges_s = np.arange(0, after_s[-1], MINUTE_S)
            counts = np.histogram(after_s, edges_s)[0] / MINUTE_S
            counts = counts / (thin if kind == THINNED else 1)
            label = f"{kind} to {thin:g}, over {thin:g}" if kind == THINNED else kind
            axis.stairs(counts, edges_s / MINUTE_S, baseline=None, label=label, **LOOKS[kind])
        axis.set_title(name, loc="left")
        axis.set_ylabel("requests/s")
        axis.set_ylim(0)
    axes[-1, 0].set_xlabel("minutes from the first request")
    figure.legend(
        *axes[0, 0].get_legend_handles_labels(),
        loc="outside upper center",
        ncols=3,
    )
    return figure


def bunching(drawn: dict[str, dict[str, list[pd.DataFrame]]], thin: float) -> Figure:
    """Index of dispersion of counts against the length of the windows."""
    figure, axes = plt.subplots(1, len(drawn), figsize=(8, 4.0), sharey=True, squeeze=False)
    for axis, (name, kinds) in zip(axes[0], drawn.items(), strict=True):
        for kind, tables in kinds.items():
            index = dispersion(tables)
            axis.plot(SCALES_S, np.median(index, axis=0), label=kind, **LOOKS[kind])
            if len(tables) > 1:
                ends = (index.min(axis=0), index.max(axis=0))
                axis.fill_between(SCALES_S, *ends, color=LOOKS[kind]["color"], alpha=0.15, lw=0)
        recorded = dispersion(kinds[RECORDED])[0]
        axis.plot(SCALES_S, 1 + thin * (recorded - 1), color=OTHER, ls=":", marker="o", ms=4,
                  label="1 + share kept × (recorded − 1)")  # fmt: skip
        axis.axhline(1, color="#888888", lw=0.8)
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.xaxis.set_major_formatter(PLAIN)
        axis.yaxis.set_major_formatter(PLAIN)
        axis.set_title(name, loc="left")
        axis.set_xlabel("window [s]")
    axes[0, 0].set_ylabel("variance over mean of counts")
    figure.legend(
        *axes[0, 0].get_legend_handles_labels(),
        loc="outside upper center",
        ncols=2,
    )
    return figure


def token_lengths(drawn: dict[str, dict[str, list[pd.DataFrame]]]) -> Figure:
    """Quantiles of prompt and answer lengths, recorded and of the fitted law."""
    figure, axes = plt.subplots(
        2, len(drawn), figsize=(8, 5.0), sharex=True, sharey="row", squeeze=False
    )
    share = np.linspace(0.5, 99.5, 199)
    for column, (name, kinds) in zip(axes.T, drawn.items(), strict=True):
        for axis, side in zip(column, ("input", "output"), strict=True):
            for kind in (RECORDED, BY_GAPS):
                tokens = pd.concat(kinds[kind])[f"{side}_tokens"]
                label = "log-normal law" if kind == BY_GAPS else kind
                axis.plot(share, np.percentile(tokens, share), label=label, **LOOKS[kind])
            axis.set_yscale("log")
            axis.yaxis.set_major_formatter(PLAIN)
        column[0].set_title(name, loc="left")
        column[1].set_xlabel("percentile of requests")
    axes[0, 0].set_ylabel("prompt [tokens]")
    axes[1, 0].set_ylabel("answer [tokens]")
    figure.legend(
        *axes[0, 0].get_legend_handles_labels(),
        loc="outside upper center",
        ncols=2,
    )
    return figure


def weeks(days: dict[str, pd.DataFrame]) -> Figure:
    """Rate by ten minutes of many clients, recorded and drawn."""
    figure, axes = plt.subplots(len(days), 1, figsize=(8, 2.4 * len(days) + 0.6), squeeze=False)
    for axis, (name, table) in zip(axes[:, 0], days.items(), strict=True):
        at = table["time_s"] / DAY_S
        axis.plot(at, table["generated"], color=BAND, lw=1.6, label="generated")
        axis.plot(at, table["recorded"], color=MEASURED, lw=0.7, label="recorded, scaled")
        axis.set_title(name, loc="left")
        axis.set_ylabel("requests/s")
        axis.set_ylim(0)
    axes[-1, 0].set_xlabel("days")
    figure.legend(
        *axes[0, 0].get_legend_handles_labels(),
        loc="outside upper center",
        ncols=2,
    )
    return figure


def weeks_of_lengths(days: dict[str, pd.DataFrame]) -> Figure:
    """Mean prompt and answer by six hours of many clients, recorded and drawn."""
    figure, axes = plt.subplots(len(days), 1, figsize=(8, 2.4 * len(days) + 0.6), squeeze=False)
    for axis, (name, table) in zip(axes[:, 0], days.items(), strict=True):
        parts = table.iloc[::36]
        for side, colour, words in (("input", GENERATED, "prompt"), ("output", OTHER, "answer")):
            at = parts["time_s"] / DAY_S
            axis.plot(at, parts[f"{side}_generated"], color=colour, label=f"{words}, generated")
            axis.plot(at, parts[f"{side}_recorded"], ls="none", marker="o", ms=3.5, mfc="none",
                      color=MEASURED, label="summaries of clients that have them")  # fmt: skip
        axis.set_yscale("log")
        _name_1_2_5(axis.yaxis)
        axis.set_title(name, loc="left")
        axis.set_ylabel("mean tokens")
    axes[-1, 0].set_xlabel("days")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend([handles[k] for k in (0, 2, 1)], [labels[k] for k in (0, 2, 1)],
                  loc="outside upper center", ncols=3)  # fmt: skip
    return figure


def slowed(tables: dict[str, pd.DataFrame]) -> Figure:
    """Bunching of many clients as recorded, with each client slowed, and thinned."""
    figure, axes = plt.subplots(1, len(tables), figsize=(8, 3.6), sharey=True, squeeze=False)
    looks = ({"color": MEASURED}, {"color": GENERATED}, {"color": OTHER})
    for axis, (name, table) in zip(axes[0], tables.items(), strict=True):
        for look, (kind, index) in zip(looks, table.items(), strict=True):
            axis.plot(table.index, index, marker="o", ms=3.5, label=kind, **look)
        axis.axhline(1, color="#888888", lw=0.8)
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.xaxis.set_major_formatter(PLAIN)
        _name_1_2_5(axis.yaxis)
        axis.set_title(name, loc="left")
        axis.set_xlabel("window [s]")
    axes[0, 0].set_ylabel("variance over mean of counts")
    figure.legend(
        *axes[0, 0].get_legend_handles_labels(),
        loc="outside upper center",
        ncols=3,
    )
    return figure
