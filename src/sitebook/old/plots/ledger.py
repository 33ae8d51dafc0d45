"""Figure of the ledger: how many numbers of the paper have which verdict."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from sitetrace.core.style import BAND, GENERATED, OTHER, PAPER

COLOURS = {
    "reproduced": GENERATED,
    "reproduced on other data": BAND,
    "not reproduced": PAPER,
    "follows": OTHER,
    "does not follow": "#CC79A7",
    "cannot be tested": "#999999",
    "chapter not written yet": "#DDDDDD",
}


def verdicts(counts: pd.DataFrame) -> Figure:
    """Stack the numbers of results by verdict, one bar a chapter."""
    figure, axes = plt.subplots(figsize=(8, 0.42 * len(counts) + 1.7))
    left = pd.Series(0, index=counts.index)
    for verdict in counts:
        axes.barh(
            counts.index,
            counts[verdict],
            left=left,
            color=COLOURS[verdict],
            height=0.7,
            edgecolor="white",
            linewidth=0.5,
            label=verdict,
        )
        left += counts[verdict]
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("results of the paper [numbers]")
    axes.set_ylabel("chapter")
    figure.legend(loc="outside upper center", ncols=3)
    return figure
