"""Figures of all models beside each other: what they score, and what they cost."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from sitetrace.core.style import GENERATED, MEASURED, OTHER, PAPER

BASELINE = "#8A5A83"
LEAST_PCT, LEAST_R2 = 0.01, -1.0
TICKS = {"energy_error_pct": (0.1, 1, 10, 100), "nrmse_1s": (0.05, 0.1, 0.2, 0.5, 1, 2)}
FLOORS = (50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000)
DOTS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")
# what is taken out of the tidy table, and how its axis is called
PANELS = {
    "energy_error_pct": "energy error [%]",
    "ks": "KS",
    "nrmse_1s": "NRMSE at 1 s",
    "acf_r2": "ACF R² (below −1: at −1)",
}


def color_of(method: str) -> str:
    """Colour of a method by its family."""
    families = {"timeline": GENERATED, "states": OTHER, "powertrace_v1": PAPER, "floor": MEASURED}
    return next((c for name, c in families.items() if method.startswith(name)), BASELINE)


def by_method(medians: pd.DataFrame) -> Figure:
    """Four scores of each method, over all judged parts."""
    methods = sorted(dict.fromkeys(medians["method"]), key=lambda name: name.startswith("floor"))
    figure, panels = plt.subplots(2, 2, figsize=(8, 0.46 * len(methods) + 3.2), sharey=True)
    for axes, (name, label) in zip(panels.flat, PANELS.items(), strict=True):
        for row, method in enumerate(methods):
            values = medians.loc[medians["method"] == method, name].dropna()
            if values.empty:
                continue
            least, color = LEAST_R2 if name == "acf_r2" else LEAST_PCT, color_of(method)
            middle, values = max(values.median(), least), values.clip(lower=least)
            axes.hlines(row, values.min(), values.max(), color=color, lw=5, alpha=0.25)
            axes.plot(values, np.full(len(values), row), "|", color=color, ms=8)
            axes.plot(middle, row, "o", color=color, ms=7)
        if name in TICKS:
            axes.set_xscale("log")
            axes.set_xticks(TICKS[name], [f"{tick:g}" for tick in TICKS[name]])
            axes.xaxis.set_minor_formatter(NullFormatter())
        if name == "acf_r2":
            axes.set_xlim(-1.1, 1.1)
        axes.set_xlabel(label)
    panels[0, 0].set_yticks(range(len(methods)), methods)
    panels[0, 0].set_ylim(len(methods) - 0.4, -0.6)
    return figure


def place(ranks: pd.DataFrame) -> Figure:
    """Mean rank of each method by each score."""
    values = ranks.set_index("method")
    figure, axes = plt.subplots(figsize=(8, 0.36 * len(values) + 1.9))
    axes.imshow(values, cmap="cividis_r", aspect="auto", vmin=1, vmax=len(values))
    for i, j in np.ndindex(values.shape):
        dark = values.iloc[i, j] > 0.55 * len(values)
        color = "white" if dark else "black"
        axes.text(j, i, f"{values.iloc[i, j]:.1f}", ha="center", va="center", color=color)
    axes.set_xticks(range(values.shape[1]), values.columns, rotation=40, ha="right")
    axes.set_yticks(range(len(values)), values.index)
    axes.grid(visible=False)
    return figure


def cost(table: pd.DataFrame) -> Figure:
    """Fidelity against what a method costs."""
    figure, panels = plt.subplots(1, 2, figsize=(8, 4.6), sharey=True)
    ranked = table.dropna(subset="rank").sort_values("rank")
    for axes, column in zip(panels, ("numbers", "both"), strict=True):
        for marker, row in zip(DOTS, ranked.itertuples(), strict=False):
            color = color_of(row.method)
            axes.plot(
                getattr(row, column), row.rank, marker, color=color, ms=9, ls="", label=row.method
            )
    panels[0].set_xscale("symlog", linthresh=1)
    panels[0].set_xlim(-0.4, 4 * ranked["numbers"].max())
    panels[1].set_xscale("log")
    panels[1].set_xticks(FLOORS, [f"{tick:,}" for tick in FLOORS])
    panels[1].xaxis.set_minor_formatter(NullFormatter())
    panels[1].set_xlim(ranked["both"].min() / 1.5, ranked["both"].max() * 1.5)
    panels[0].invert_yaxis()
    panels[0].set_ylabel("mean rank over scores\nand parts (up: better)")
    panels[0].set_xlabel("numbers decided by the fit")
    panels[1].set_xlabel("time of generation\n[drawing as many normal numbers]")
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=4)
    return figure
