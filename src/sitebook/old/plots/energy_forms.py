"""Figures of energy errors: both ways of putting runs together, and the signs."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from sitetrace.core.style import BAND, GENERATED, MEASURED, PAPER

LEAST_PCT = 0.01
TICKS_PCT = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20)


def both_forms(paper: pd.DataFrame, ours: pd.DataFrame) -> Figure:
    """Energy errors of the paper's configurations and of our splits, in both forms."""
    names = [*paper["config"], *ours["split"]]
    figure, axes = plt.subplots(figsize=(8, 0.26 * len(names) + 1.6))
    for table, color, label, first in (
        (paper, PAPER, "paper", 0),
        (ours, GENERATED, "ours", len(paper)),
    ):
        place = range(first, first + len(table))
        median, pooled = (
            table[form].clip(lower=LEAST_PCT) for form in ("median_pct", "pooled_pct")
        )
        axes.hlines(place, median, pooled, color=color, lw=1, alpha=0.6)
        axes.plot(median, place, "o", color=color, label=f"{label}, median over runs")
        axes.plot(pooled, place, "o", color=color, mfc="white", label=f"{label}, runs pooled")
    axes.axvline(5, color=MEASURED, ls=":", lw=1)
    axes.axhline(len(paper) - 0.5, color=MEASURED, lw=0.6)
    axes.set_xscale("log")
    axes.set_xticks(TICKS_PCT, [f"{tick:g}" for tick in TICKS_PCT])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_yticks(range(len(names)), [name.replace("_", " ") for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    all_pct = pd.concat([paper, ours])[["median_pct", "pooled_pct"]].to_numpy()
    axes.set_xlim(0.8 * max(all_pct.min(), LEAST_PCT), 1.3 * all_pct.max())
    axes.set_xlabel("absolute energy error [%] (dotted: 5%)")
    figure.legend(loc="outside upper center", ncols=2)
    return figure


def signed(parts: pd.DataFrame, names: pd.Series) -> Figure:
    """Signed energy error of each judged part, with the range of its draws."""
    figure, axes = plt.subplots(figsize=(8, 0.4 * len(parts) + 1.2))
    place = range(len(parts))
    low, high = (parts[f"energy_error_signed_pct_{end}"] for end in ("low", "high"))
    axes.hlines(place, low, high, color=BAND, lw=6, label="range of the draws")
    axes.plot(parts["energy_error_signed_pct"], place, "o", color=GENERATED, label="median draw")
    axes.axvline(0, color=MEASURED, lw=0.8)
    axes.set_yticks(place, names)
    axes.set_ylim(len(parts) - 0.4, -0.6)
    axes.set_xlabel("energy error [%]: above 0, too much")
    figure.legend(loc="outside upper center", ncols=2)
    return figure
