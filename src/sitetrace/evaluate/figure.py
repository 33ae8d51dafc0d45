"""A recording and generated traces in one picture: `evaluate --plot`."""

from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from sitetrace.core.files import replacing
from sitetrace.core.style import BAND, GENERATED, MEASURED, use_style
from sitetrace.core.types import PowerTrace, Run


def band_of_draws(axes: Axes, draws: list[PowerTrace], first_s: float) -> None:
    """Draw the 5% to 95% band of generated traces and, over it, one of them."""
    power_w = np.array([draw.power_w for draw in draws])
    seconds = draws[0].time_s + draws[0].dt_s - first_s
    if len(draws) > 1:
        band = {"color": BAND, "lw": 0, "label": "generated, 5% to 95% of draws"}
        axes.fill_between(seconds, *np.quantile(power_w, [0.05, 0.95], axis=0), step="pre", **band)
    axes.step(
        seconds, power_w[0], where="pre", color=GENERATED, lw=0.8, label="generated, one draw"
    )


def save_comparison(path: Path | str, recording: Run | pd.DataFrame, draws: list) -> None:
    """Draw a recording and generated traces into a PNG file, whole or not at all."""
    samples = recording.samples if isinstance(recording, Run) else recording
    mpl.use("Agg")
    use_style()
    figure, axes = plt.subplots()
    first_s = samples["time_s"].iloc[0]
    band_of_draws(axes, draws, first_s)
    seconds = samples["time_s"] - first_s
    axes.step(seconds, samples["power_w"], where="pre", color=MEASURED, lw=0.9, label="measured")
    labels = {"xlabel": "time from the first sample [s]", "ylabel": "power [W]"}
    axes.set(xlim=(0, seconds.iloc[-1]), **labels)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=3)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150)
    plt.close(figure)
