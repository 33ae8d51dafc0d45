"""Colours, marks and type of all figures."""

from __future__ import annotations

import matplotlib as mpl

# Okabe and Ito's colours: told apart by the colour-blind, and of different grey
MEASURED, GENERATED, PAPER, OTHER = "#000000", "#0072B2", "#D55E00", "#009E73"
BAND = "#8CC4E8"
MARKERS = ("o", "s", "^", "v", "D", "P")
# a light grid behind the data, no box around it
PLAIN = {
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#DDDDDD",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}


def use_style() -> None:
    """Set the book's type sizes and line widths for all figures that follow."""
    mpl.rcParams.update(
        PLAIN
        | {
            "figure.constrained_layout.use": True,
            "figure.figsize": (8.0, 3.4),
            "figure.dpi": 110,
            # a figure shrinks to less than half its size on a phone
            "font.size": 12,
            "axes.titlesize": 12,
            "figure.labelsize": 12,
            "xtick.labelsize": 11,
            "ytick.labelsize": 11,
            "legend.fontsize": 11,
            "lines.linewidth": 1.2,
        }
    )
