"""Colours, marks and type of all figures."""

import matplotlib as mpl

# Okabe and Ito's colours: told apart by the colour-blind, and of different grey
MEASURED, GENERATED, PAPER, OTHER = "#000000", "#0072B2", "#D55E00", "#009E73"
BAND = "#8CC4E8"
MARKERS = ("o", "s", "^", "v", "D", "P")
# a light grid behind the data, no box around it
PLAIN = {"axes.grid": True, "axes.axisbelow": True, "grid.color": "#DDDDDD"}
PLAIN |= {"axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False}
# a figure shrinks to less than half its size on a phone
SIZES = dict.fromkeys(("font.size", "axes.titlesize", "figure.labelsize"), 12)
SIZES |= dict.fromkeys(("xtick.labelsize", "ytick.labelsize", "legend.fontsize"), 11)
SIZES |= {"figure.figsize": (8.0, 3.4), "figure.dpi": 110, "lines.linewidth": 1.2}


def use_style() -> None:
    """Set the book's type sizes and line widths for all figures that follow."""
    mpl.rcParams.update(PLAIN | SIZES | {"figure.constrained_layout.use": True})
