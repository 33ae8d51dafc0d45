"""Figures of whole servers at the plug."""

from __future__ import annotations

from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from sitetrace.core.style import BAND, GENERATED, MARKERS, MEASURED, OTHER, PAPER

PHASES = {"idle": OTHER, "ready": PAPER, "settled": GENERATED}
NODES = (MEASURED, GENERATED, OTHER)


def trace(table: pd.DataFrame, spans: dict[str, tuple[float, float]]) -> Figure:
    """One recording with its phases."""
    figure, panels = plt.subplots(2, 1, figsize=(8, 5.0))
    for axes in panels:
        for name, colour in PHASES.items():
            axes.axvspan(*spans[name], color=colour, alpha=0.25, lw=0, label=name)
        axes.plot(table["time_s"], table["power_w"] / 1000, color=MEASURED, lw=0.9)
        lost = table["time_s"][table["power_w"].isna()]
        axes.plot(lost, np.full(len(lost), table["power_w"].min() / 1000), "x", color=PAPER,
                  label="lost sample")  # fmt: skip
        axes.set_ylabel("wall power [kW]")
    panels[1].set_xlim(spans["ready"][0] - 30, min(spans["load"][0] + 120, spans["load"][1]))
    panels[1].set_xlabel("time [s]")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return figure


def other_power(found: pd.DataFrame, fits: dict[str, dict], constant_w: float) -> Figure:
    """Power besides the GPUs against the GPUs' watts, with what the bounds leave open."""
    figure, panels = plt.subplots(
        len(fits), 1, figsize=(8, 1.3 + 1.7 * len(fits)), sharex=True, sharey=True, squeeze=False
    )
    for axes, (node, fitted) in zip(panels[:, 0], fits.items(), strict=True):
        part, gpus = found[found["node"] == node], fitted["gpus"]
        gpu_w = np.array(fitted["gpu_w"])
        low, middle, high = (
            (gpus * each["base_w_per_gpu"] + each["per_gpu_w"] * gpus * gpu_w) / 1000
            for each in (fitted["low"], fitted, fitted["high"])
        )
        axes.fill_between(gpu_w, low, high, color=BAND, alpha=0.6, lw=0, label="band")
        axes.plot(gpu_w, middle, color=GENERATED, label="fitted line")
        axes.vlines(part["gpu_w"], part["other_w_low"] / 1000, part["other_w_high"] / 1000,
                    color=MEASURED, lw=1)  # fmt: skip
        axes.plot(part["gpu_w"], part["other_w"] / 1000, "o", color=MEASURED, label="level")
        axes.axhline(constant_w / 1000, color=PAPER, ls=":", lw=1.6, label="the paper's constant")
        axes.set_title(node.replace("_", " "), loc="left")
    panels[-1, 0].set_xlabel("power of a GPU [W]")
    panels[-1, 0].set_ylim(bottom=0)
    figure.supylabel("non-GPU power of a server [kW]")
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return figure


def power_factor(curve: pd.DataFrame) -> Figure:
    """Power factor against wall power."""
    figure, axes = plt.subplots(figsize=(8, 3.2))
    for (node, part), colour, mark in zip(curve.groupby("node"), NODES, MARKERS, strict=False):
        label = node.replace("_", " ")
        axes.plot(
            part["wall_kw"], part["power_factor"], mark + "-", ms=4, color=colour, label=label
        )
    axes.set_xlabel("wall power of a server [kW]")
    axes.set_ylabel("power factor")
    axes.legend()
    return figure


def one_second_steps(table: pd.DataFrame) -> Figure:
    """Greatest one-second steps of each load."""
    worst = table.groupby(["node", "model", "scenario"], as_index=False).max(numeric_only=True)
    figure, axes = plt.subplots(figsize=(8, 1.6 + 0.36 * len(worst)))
    rows = np.arange(len(worst))
    for sign, way in ((1, "up"), (-1, "down")):
        label = "while settled" if sign > 0 else None
        axes.barh(rows, 100 * sign * worst[f"step_{way}"], color=GENERATED, label=label)
        label = "begin and end included" if sign > 0 else None
        axes.plot(100 * sign * worst[f"any_{way}"], rows, "D", color=MEASURED, ms=5, label=label)
    axes.set_yticks(rows, _names(worst))
    axes.invert_yaxis()
    axes.axvline(0, color=MEASURED, lw=0.8)
    axes.set_xlabel("greatest step within a second [% of settled power]")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure


def repeats(spread: pd.DataFrame) -> Figure:
    """Spread between repeats of each load."""
    figure, axes = plt.subplots(figsize=(8, 1.6 + 0.36 * len(spread)))
    marks = {"median": ("o", GENERATED, "settled"), "ready": ("s", PAPER, "ready")}
    marks |= {"idle": ("^", OTHER, "idle")}
    for name, (mark, colour, label) in marks.items():
        axes.plot(100 * spread[f"{name}_spread"], _names(spread), mark, color=colour, label=label)
    axes.set_ylim(len(spread) - 0.5, -0.5)
    axes.set_xlim(left=0)
    axes.set_xlabel("greatest less least of the repeats [% of their mean]")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return figure


def _names(table: pd.DataFrame) -> list[str]:
    """Name loads for an axis; the node in full only where there are several."""
    words = (
        f"{row.node.split('_')[0]} {row.model} {row.scenario}".replace("_", " ")
        for row in table.itertuples()
    )
    return [fill(word, 32) for word in words]
