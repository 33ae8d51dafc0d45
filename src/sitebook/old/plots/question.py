"""Figures of the first chapter."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from sitebook.old.plots.published import short
from sitetrace.core.style import MEASURED, PAPER


def nameplate(table: pd.DataFrame, source: str) -> Figure:
    """Mean and greatest power of servers as shares of their nameplate."""
    colour = PAPER if source == "paper" else MEASURED
    table = table.sort_values("mean_share")
    place = np.arange(len(table))
    figure, axes = plt.subplots(figsize=(8, 0.25 * len(table) + 1.4))
    axes.hlines(place, table["mean_share"], table["max_share"], color="#AAAAAA", lw=2)
    axes.plot(table["mean_share"], place, "o", color=colour, ms=6, label=f"mean ({source})")
    axes.plot(table["max_share"], place, "|", color=colour, ms=12, mew=2, label="greatest sample")
    axes.axvline(1, color=MEASURED, lw=1, ls=":", label="nameplate")
    axes.set_yticks(place, [short(name) for name in table["server"]])
    axes.set_ylim(-0.6, len(table) - 0.4)
    axes.set_xlim(0)
    axes.set_xlabel("power over nameplate of the GPUs that serve")
    figure.legend(loc="outside upper center", ncols=3)
    return figure
