"""Colours, marks and type of all figures, and a recording beside generated traces."""

from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from sitetrace.core.files import replacing
from sitetrace.core.types import PowerTrace

# Okabe and Ito's colours: told apart by the colour-blind, and of different grey
MEASURED, GENERATED, PAPER, OTHER = "#000000", "#0072B2", "#D55E00", "#009E73"
BAND, MARKERS = "#8CC4E8", ("o", "s", "^", "v", "D", "P")
# a light grid behind the data, no box around it
PLAIN = {"axes.grid": True, "axes.axisbelow": True, "grid.color": "#DDDDDD"}
PLAIN |= {"axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False}
# a figure shrinks to less than half its size on a phone
SIZES = dict.fromkeys(("font.size", "axes.titlesize", "figure.labelsize"), 12)
SIZES |= dict.fromkeys(("xtick.labelsize", "ytick.labelsize", "legend.fontsize"), 11)
SIZES |= {"figure.figsize": (8.0, 3.4), "figure.dpi": 100, "lines.linewidth": 1.2}


def use_style() -> None:
    """Set the book's type sizes and line widths for all figures that follow."""
    mpl.rcParams.update(PLAIN | SIZES | {"figure.constrained_layout.use": True})


def band_of_draws(axes: Axes, draws: list[PowerTrace], first_s: float) -> None:
    """Draw the 5% to 95% band of generated traces and, over it, one of them."""
    seconds = draws[0].time_s + draws[0].dt_s - first_s
    if len(draws) > 1:
        band_w = np.quantile([draw.power_w for draw in draws], [0.05, 0.95], axis=0)
        band = {"color": BAND, "lw": 0, "label": "generated, 5% to 95% of draws"}
        axes.fill_between(seconds, *band_w, step="pre", **band)
    how = {"where": "pre", "color": GENERATED, "lw": 0.8, "label": "generated, one draw"}
    axes.step(seconds, draws[0].power_w, **how)


def save_comparison(path: Path | str, samples: pd.DataFrame, draws: list[PowerTrace]) -> None:
    """Draw recorded samples and generated traces into a PNG file, whole or not at all."""
    mpl.use("Agg")
    use_style()
    figure, axes = plt.subplots()
    first_s = samples["time_s"].iloc[0]
    band_of_draws(axes, draws, first_s)
    seconds = samples["time_s"] - first_s
    axes.step(seconds, samples["power_w"], where="pre", color=MEASURED, lw=0.9, label="measured")
    axes.set_xlim(0, seconds.iloc[-1])
    axes.set(xlabel="time from the first sample [s]", ylabel="power [W]")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=3)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150)
    plt.close(figure)
