"""Figures of what happens to a model far from where it was fitted."""

from __future__ import annotations

import re
from textwrap import fill

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from sitetrace.core.style import GENERATED, MEASURED, OTHER, PAPER

SCORES = {"energy_error_pct": "energy error [%]", "ks": "KS", "nrmse": "NRMSE, 1 s"}


def traffic(table: pd.DataFrame, names: pd.Series) -> Figure:
    """Scores of each judged part."""
    figure, panels = plt.subplots(1, 3, figsize=(8, 1.4 + 0.28 * len(table)), sharey=True)
    for axes, (column, label) in zip(panels, SCORES.items(), strict=True):
        axes.barh(names, table[column], color=GENERATED)
        axes.set_xlabel(label)
        axes.xaxis.set_major_locator(plt.MaxNLocator(3))
        axes.xaxis.set_major_formatter("{x:g}")
    panels[0].invert_yaxis()
    return figure


def machines(table: pd.DataFrame) -> Figure:
    """Energy error of each model on each server."""
    order = list(dict.fromkeys(table["to"]))
    grid = table.pivot(index="from", columns="to", values="energy_error_signed_pct")
    grid = grid.loc[[name for name in [*order, "later model"] if name in grid.index], order]
    figure, axes = plt.subplots(figsize=(8, 4.6))
    sns.heatmap(
        grid,
        annot=True,
        fmt="+.1f",
        cmap="PuOr_r",
        center=0.0,
        ax=axes,
        cbar=False,
        xticklabels=[_stacked(name) for name in order],
        yticklabels=[_stacked(name) for name in grid.index],
        linewidths=1.0,
    )
    axes.set_xlabel("judged on")
    axes.set_ylabel("fitted on")
    axes.tick_params(axis="x", rotation=0)
    axes.tick_params(axis="y", rotation=0)
    return figure


def _stacked(name: str) -> str:
    """Break a configuration into lines short enough for a column."""
    model, _, gpus = re.sub("-(Instruct|it)\\b", "", name.split("/")[-1]).partition(" ")
    return "\n".join([*fill(model.replace("-", "- "), 11).replace("- ", "-").split("\n"), gpus])


def saturated(table: pd.DataFrame) -> Figure:
    """Power a GPU against the batch limit, measured and continued from the lower half."""
    models = list(dict.fromkeys(table["model"]))
    rows = (len(models) + 1) // 2
    figure, panels = plt.subplots(rows, 2, figsize=(8, 2.3 * rows), sharey=True)
    for axes, model in zip(panels.flat, models, strict=False):
        part = table[table["model"] == model]
        axes.plot(
            part["batch_limit"], part["line_w"], ":", lw=2, color=OTHER, label="straight line"
        )
        axes.plot(part["batch_limit"], part["surface_w"], color=GENERATED, label="saturating")
        for judged, face in ((False, MEASURED), (True, "white")):
            some = part[part["judged"] == judged]
            name = "measured, judged" if judged else "measured, fitted"
            axes.plot(
                some["batch_limit"], some["mean_w"], "o", ms=5, mfc=face, color=MEASURED, label=name
            )
        axes.set_xscale("log", base=2)
        axes.set_title(model, loc="left")
        axes.set_ylim(0, 1.15 * table["mean_w"].max())
    for axes in panels.flat[len(models) :]:
        axes.remove()
    handles, labels = panels.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=4)
    figure.supxlabel("batch limit [sequences]")
    figure.supylabel("power a GPU [W]")
    return figure


def boards(table: pd.DataFrame) -> Figure:
    """Energy error with the fitted board's idle power and with the judged board's own."""
    figure, axes = plt.subplots(figsize=(8, 3.2))
    for column, label, color, marker in (
        ("kept", "idle power of the fitted board", PAPER, "s"),
        ("own", "idle power of the judged board", GENERATED, "o"),
    ):
        axes.plot(table["idle_w"], table[column], marker, color=color, label=label)
    axes.axhline(0, color=MEASURED, lw=0.8)
    axes.set_xlabel("idle power of the judged board less the fitted one [W]")
    axes.set_ylabel("energy error [%]")
    axes.legend()
    return figure
