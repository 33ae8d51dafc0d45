"""A recording and generated traces in one picture: `evaluate --plot`."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from sitetrace.core.files import replacing
from sitetrace.core.style import BAND, GENERATED, MEASURED, use_style
from sitetrace.core.types import PowerTrace, Run


def band_of_draws(axes: Axes, draws: list[PowerTrace], first: float) -> None:
    """Draw the 5% to 95% band of generated traces and, over it, one of them."""
    power = np.array([draw.power_w for draw in draws])
    seconds = draws[0].time_s + draws[0].dt_s - first
    if len(draws) > 1:
        low, high = np.quantile(power, [0.05, 0.95], axis=0)
        axes.fill_between(
            seconds, low, high, step="pre", color=BAND, lw=0, label="generated, 5% to 95% of draws"
        )
    axes.step(seconds, power[0], where="pre", color=GENERATED, lw=0.8, label="generated, one draw")


def save_comparison(path: Path | str, recording: Run | pd.DataFrame, draws: list) -> None:
    """Draw a recording and generated traces into a PNG file, whole or not at all."""
    samples = recording.samples if isinstance(recording, Run) else recording
    mpl.use("Agg")
    use_style()
    figure, axes = plt.subplots()
    first = samples["time_s"].iloc[0]
    band_of_draws(axes, draws, first)
    seconds = samples["time_s"] - first
    axes.step(seconds, samples["power_w"], where="pre", color=MEASURED, lw=0.9, label="measured")
    axes.set_xlim(0, seconds.iloc[-1])
    axes.set_xlabel("time from the first sample [s]")
    axes.set_ylabel("power [W]")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=3)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150)
    plt.close(figure)
