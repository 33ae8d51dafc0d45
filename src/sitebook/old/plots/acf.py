"""Figures of autocorrelation."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from sitetrace.core.style import BAND, GENERATED, MARKERS, MEASURED, OTHER, PAPER


def bands(spans: dict[str, pd.DataFrame], source: str) -> Figure:
    """Autocorrelation of the recording and of the draws, a panel for each span."""
    figure, panels = plt.subplots(1, len(spans), figsize=(8, 3.4), sharey=True)
    for axes, (name, table) in zip(panels, spans.items(), strict=True):
        lag_s = table.index
        axes.fill_between(
            lag_s, table["draws_low"], table["draws_high"], color=BAND, label="draws, range"
        )
        axes.fill_between(
            lag_s,
            table["low"],
            table["high"],
            color=MEASURED,
            alpha=0.15,
            lw=0,
            label=f"{source}, 95%",
        )
        axes.plot(lag_s, table["measured"], color=MEASURED, label=source)
        axes.plot(lag_s, table["white"], color=PAPER, ls=":", label="white noise, 95%")
        axes.plot(lag_s, -table["white"], color=PAPER, ls=":")
        axes.set_title(name, loc="left")
        axes.set_xlabel("lag [s]")
    panels[0].set_ylabel("autocorrelation")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4)
    return figure


def by_model(table: pd.DataFrame, paper: np.ndarray) -> Figure:
    """ACF R² of each model, over whole recordings and over busy seconds."""
    judged = list(dict.fromkeys(table["judged"]))
    models = sorted(dict.fromkeys(table["model"]), key=lambda name: not name.startswith("states"))
    figure, panels = plt.subplots(
        1, 2, figsize=(8, 0.36 * len(models) + 2.1), sharey=True, sharex=True
    )
    for axes, span in zip(panels, ("whole", "busy"), strict=True):
        for k, name in enumerate(judged):
            rows = table[table["judged"] == name]
            value = rows[span].astype(float).clip(lower=-1)
            place = [
                models.index(model) + 0.1 * (k - (len(judged) - 1) / 2) for model in rows["model"]
            ]
            axes.plot(
                value,
                place,
                MARKERS[k % len(MARKERS)],
                color=(GENERATED, OTHER)[k % 2],
                mfc=("none" if k > 1 else None),
                ms=6,
                label=name.replace("_", " "),
            )
        axes.axvline(1, color=MEASURED, lw=0.8)
        axes.set_xlim(-1.1, 1.1)
        axes.set_title({"whole": "whole recording", "busy": "busy seconds"}[span])
        axes.set_xlabel("ACF R² (below −1: at −1)")
    panels[0].plot(
        np.clip(paper, -1, None), np.full(paper.size, len(models)), "|", color=PAPER, ms=12
    )
    names = [*models, "the paper's configurations"]
    panels[0].set_yticks(range(len(names)), names)
    panels[0].set_ylim(len(names) - 0.4, -0.6)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2)
    return figure


def idle_share(effect: pd.DataFrame) -> Figure:
    """Draw what a trace without memory scores, by the idle share of the recording."""
    figure, axes = plt.subplots(figsize=(8, 3.4))
    share = effect["idle_share"]
    axes.fill_between(share, effect["low"].clip(-1), effect["high"].clip(-1), color=BAND)
    axes.plot(
        share,
        effect["acf_r2"].clip(-1),
        "o-",
        color=GENERATED,
        label="ACF R² of the shuffled recording",
    )
    axes.plot(share, effect["between"], "s--", color=OTHER, label="variance between idle and busy")
    axes.axhline(0, color=MEASURED, lw=0.8)
    axes.set_ylim(-1.1, 1.05)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_xlabel("idle share of the recording")
    axes.set_ylabel("score, share")
    axes.legend(loc="lower right")
    return figure
