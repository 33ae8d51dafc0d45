"""Figures of the chapter on the paper's configurations as models."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sitetrace.core.style import BAND, GENERATED, MEASURED, OTHER, PAPER
from sitetrace.core.types import Timeline
from sitetrace.evaluate.metrics import acf, acf_lags

SERVING = {
    "constant rate": (PAPER, "o", "-"),
    "log-normal TTFT": (OTHER, "s", "--"),
    "engine": (GENERATED, "^", "-"),
}


def short(config: str) -> str:
    """Shorten the name of a configuration for a figure."""
    return config.replace("deepseek-r1-distill", "deepseek").replace("_", " ")


def mean_power(table: pd.DataFrame) -> Figure:
    """Mean power of mixtures and of generated campaigns against the published training means."""
    figure, axes = plt.subplots(figsize=(8, 0.26 * len(table) + 1.6))
    place = np.arange(len(table))
    for name, mark, colour, label in (
        ("mixture_pct", "|", PAPER, "mean of the mixture"),
        ("coupled_pct", "o", GENERATED, "generated, coupled states"),
        ("independent_pct", "s", BAND, "generated, independent states"),
    ):
        size = {"ms": 12, "mew": 2} if mark == "|" else {"ms": 6}
        axes.plot(table[name], place, mark, color=colour, label=label, **size)
    axes.axvline(0, color=MEASURED, lw=1)
    axes.set_yticks(place, [short(name) for name in table.index])
    axes.set_ylim(len(table) - 0.4, -0.6)
    axes.set_xlabel("mean power beyond the published training mean [%]")
    figure.legend(loc="outside upper center", ncols=2)
    return figure


def serving(timelines: dict[str, Timeline], zoom_s: float = 120.0) -> Figure:
    """Time to the first token by length of the prompt, and active requests, by way of serving."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.6))
    for name, timeline in timelines.items():
        colour, mark, line = SERVING[name]
        done = timeline.requests
        ttft_s = done["first_token_s"] - done["arrival_s"]
        left.plot(done["input_tokens"], ttft_s, mark, color=colour, ms=3, alpha=0.7)
        times_s = done["arrival_s"].min() + np.arange(0, zoom_s, 0.25)
        active = np.searchsorted(np.sort(done["arrival_s"]), times_s, side="right")
        active = active - np.searchsorted(np.sort(done["end_s"]), times_s, side="right")
        right.step(times_s - times_s[0], active, color=colour, ls=line, lw=1.3)
        left.plot([], [], mark, ls=line, color=colour, label=name)
    left.set_xscale("log")
    left.set_yscale("log")
    left.set_xlabel("prompt [tokens]")
    left.set_ylabel("time to first token [s]")
    right.set_xlabel("time from the first request [s]")
    right.set_ylabel("active requests")
    figure.legend(loc="outside upper center", ncols=3)
    return figure


def coupled_and_independent(
    power_w: dict[str, np.ndarray], active: np.ndarray, dt_s: float, zoom_s: float = 60.0
) -> Figure:
    """Power drawn with coupled and with independent states for the same requests."""
    figure, (above, below, bottom) = plt.subplots(3, 1, figsize=(8, 6.4), height_ratios=(2, 1, 2))
    bins = int(zoom_s / dt_s)
    begin = max((active.size - bins) // 2, 0)
    rows = slice(begin, begin + bins)
    seconds = np.arange(active[rows].size) * dt_s
    lags = acf_lags(dt_s)
    for name, colour in (("independent", BAND), ("coupled", GENERATED)):
        above.step(seconds, power_w[name][rows], where="post", color=colour, lw=1)
        bottom.plot(np.arange(1, lags + 1) * dt_s, acf(power_w[name], lags), color=colour,
                    lw=1.8, label=f"{name} states")  # fmt: skip
    below.step(seconds, active[rows], where="post", color=MEASURED, lw=1)
    for axes in (above, below):
        axes.set_xlim(0, zoom_s)
    below.yaxis.set_major_locator(MaxNLocator(integer=True))
    above.set_ylabel("power [W]")
    below.set_ylabel("active\nrequests")
    below.set_xlabel("time [s]")
    bottom.set_xlabel("lag [s]")
    bottom.set_ylabel("autocorrelation")
    figure.legend(*bottom.get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure
