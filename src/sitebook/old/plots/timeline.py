"""Figures of the kind timeline: steps, meter, surface, a minute, its parts, what is left over."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from sitebook.old.judging.parts_off import FULL, SHOWN
from sitetrace.core.style import BAND, GENERATED, MARKERS, MEASURED, OTHER, PAPER
from sitetrace.power.timeline.surface import Surface

SHADES = (GENERATED, PAPER, OTHER)
PROMPT_TOKENS = 1500


def counters(table: pd.DataFrame, source: str) -> Figure:
    """Draw running requests and tokens a second, by the engine's counters and as simulated."""
    figure, (upper, lower) = plt.subplots(2, 1, figsize=(8, 4.4), sharex=True)
    time_s = table["time_s"].to_numpy()
    seconds = np.arange(np.ceil(time_s[0]), time_s[-1])
    for suffix, color, style, label in (
        ("", MEASURED, "-", f"engine's counter ({source})"),
        ("_simulated", GENERATED, "--", "simulated engine"),
    ):
        upper.step(time_s, table[f"running{suffix}"], where="post", color=color, ls=style)
        made = np.interp(seconds, time_s, table[f"tokens{suffix}"])
        lower.step(seconds[1:], np.diff(made), where="pre", color=color, ls=style, label=label)
    upper.set_ylabel("running requests")
    lower.set_ylabel("tokens generated\nin a second")
    lower.set_xlabel("time from the first request [s]")
    handles, labels = lower.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2)
    return figure


def meter_profiles(
    windows: dict[str, pd.DataFrame], clocks: dict[str, pd.DataFrame], truth_s: float | None
) -> Figure:
    """Loss of the fit by the meter's window, and by the mean age of what it prints."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.6), sharey=True)
    for k, (name, table) in enumerate(windows.items()):
        style = {"color": SHADES[k], "marker": MARKERS[k], "ms": 5}
        left.plot(table["window_s"], table["above"], label=name.replace("_", " "), **style)
        table = clocks[name]
        right.plot(table["lag_s"] + table["update_s"] / 2, table["above"], ls="none", **style)
    if truth_s is not None:
        left.axvline(truth_s, color=MEASURED, ls=":", label="true window")
    left.set_xscale("log")
    left.set_xticks([0.025, 0.1, 0.25, 1.0], ["0.025", "0.1", "0.25", "1"])
    left.minorticks_off()
    left.set_yscale("symlog", linthresh=3.0)
    left.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    left.set_ylim(-0.5, 2.0 * max(table["above"].max() for table in windows.values()))
    left.set_xlabel("window [s]")
    right.set_xlabel("lag + renewal/2 [s]")
    left.set_ylabel("loss above the least")
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3)
    return figure


def microscopes(
    views: dict[str, pd.DataFrame], readings: dict[str, pd.DataFrame], source: str
) -> Figure:
    """Power of some seconds, what a meter may print of it, and what it printed."""
    figure, rows = plt.subplots(len(views), 1, figsize=(8, 2.4 * len(views) + 0.6), squeeze=False)
    for axes, (name, view) in zip(rows[:, 0], views.items(), strict=True):
        axes.fill_between(
            view["time_s"], view["low_w"], view["high_w"], color=BAND, label="a reading may be"
        )
        axes.plot(view["time_s"], view["power_w"], color="#888888", lw=0.8, label="power of steps")
        axes.plot(view["time_s"], view["mean_w"], color=GENERATED, label="expected reading")
        seen = readings[name]
        axes.plot(seen["time_s"], seen["measured"], "o", color=MEASURED, ms=5, label=source)
        axes.set_title(name.replace("_", " "), loc="left")
        axes.set_ylabel("power [W]")
    rows[-1, 0].set_xlabel("time [s]")
    handles, labels = rows[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=4)
    return figure


def surfaces(
    laws: dict[str, tuple[Surface, int, int]], truth: tuple[np.ndarray, np.ndarray] | None
) -> Figure:
    """Watts a GPU by the batch, cold and warm, and by the prompt tokens of a step."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.8), sharey=True)
    tokens = np.arange(0.0, PROMPT_TOKENS)
    for (name, (law, gpus, most)), color in zip(laws.items(), SHADES, strict=False):
        batch = np.arange(1.0, most + 1)
        cold_w = law.step_power_w(batch, np.zeros(most)) / gpus
        label = name.replace("_", " ")
        warm_w = cold_w + law.warm_w / gpus
        left.plot(batch, cold_w, color=color, label=f"{label}: cold / 1 decoding")
        left.plot(batch, warm_w, color=color, ls="--", label=f"{label}: warm / {most} decoding")
        for count, style in ((1, "-"), (most, "--")):
            power_w = law.step_power_w(np.full(tokens.size, count), tokens) / gpus
            right.plot(tokens, power_w, color=color, ls=style)
        right.axhline(law.limit_w / gpus, color=color, ls=":", lw=0.9)
    if truth is not None:
        left.plot(*truth, "D", color=MEASURED, ms=6, label="true mean of a state")
    left.set_xlabel("sequences decoding")
    right.set_xlabel("prompt tokens in the step")
    left.set_ylabel("power of a GPU [W]")
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2)
    return figure


def minutes(lines: dict[str, pd.DataFrame], source: str) -> Figure:
    """Measured readings with the generated ones under them, a pair of rows a recording."""
    count = 2 * len(lines)
    figure, rows = plt.subplots(count, 1, figsize=(8, 1.7 * count + 0.5))
    for k, (name, table) in enumerate(lines.items()):
        pair = rows[2 * k : 2 * k + 2]
        low, high = table[["measured", "generated"]].stack().agg(["min", "max"])
        for axes, column, color in zip(
            pair, ("measured", "generated"), (MEASURED, GENERATED), strict=True
        ):
            axes.step(table["time_s"], table[column], where="pre", color=color, lw=0.9)
            axes.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))
            axes.set_xlim(table["time_s"].iloc[0], table["time_s"].iloc[-1])
            kind = f"recorded ({source})" if column == "measured" else column
            axes.set_title(f"{name.replace('_', ' ')}: {kind}", loc="left")
            axes.set_ylabel("power [W]")
        pair[0].tick_params(labelbottom=False)
    rows[-1].set_xlabel("time from the begin of the judged seconds [s]")
    return figure


def parts(scored: pd.DataFrame) -> Figure:
    """Draw three scores of the full model and of the same without each of its parts."""
    names, judged = (list(dict.fromkeys(scored[column])) for column in ("part", "judged"))
    figure, panels = plt.subplots(1, 3, figsize=(8, 0.36 * len(names) + 1.9), sharey=True)
    for axes, title in zip(panels, SHOWN, strict=True):
        for k, run in enumerate(judged):
            rows = scored[scored["judged"] == run].set_index("part").loc[names]
            value = rows[title]
            reach = [value - rows[f"{title}_low"], rows[f"{title}_high"] - value]
            place = np.arange(len(names)) + 0.24 * (k - (len(judged) - 1) / 2)
            style = {"color": SHADES[k], "fmt": MARKERS[k], "ms": 5, "lw": 1.0}
            axes.errorbar(value, place, xerr=reach, label=run.replace("_", " "), **style)
            axes.axvline(value[FULL], color=SHADES[k], lw=0.8, ls=":")
        axes.set_xlabel(title.removesuffix(", busy"))
        axes.xaxis.set_major_locator(MaxNLocator(3))
    panels[0].set_yticks(range(len(names)), names)
    panels[0].set_ylim(len(names) - 0.4, -0.6)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=1)
    return figure


def memory(lines: dict[str, dict[str, np.ndarray]], dt_s: float) -> Figure:
    """Autocorrelation of what the expected reading leaves over while the engine works."""
    figure, panels = plt.subplots(
        1, len(lines), figsize=(8, 3.2), sharey=True, sharex=True, squeeze=False
    )
    for axes, (name, curves) in zip(panels[0], lines.items(), strict=True):
        for (label, values), color, mark in zip(
            curves.items(), (MEASURED, GENERATED), MARKERS, strict=False
        ):
            lag_s = dt_s * np.arange(1, len(values) + 1)
            axes.plot(lag_s, values, color=color, marker=mark, ms=4, label=label)
        axes.axhline(0, color="#888888", lw=0.8)
        axes.set_title(name.replace("_", " "), loc="left")
        axes.set_xlabel("lag [s]")
    panels[0, 0].set_ylabel("autocorrelation\nof what is left over")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2)
    return figure
