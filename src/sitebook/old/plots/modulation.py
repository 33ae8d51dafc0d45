"""Figures of power modulation: watts against waiting, steps, requests to shed, tracking."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from sitetrace.core.style import BAND, GENERATED, MEASURED, OTHER, PAPER

COLORS = {"admission": PAPER, "parking": GENERATED, "batch limit": OTHER, "clock": BAND}
MARKS = {"admission": "s", "parking": "o", "batch limit": "^", "clock": ""}
RULED = "clock (assumed rule, each variant)"
COSTS = {
    "ttft_p50_ratio": "TTFT, P50, × usual",
    "ttft_p95_ratio": "TTFT, P95, × usual",
    "tpot_ratio": "time per token, × usual",
}


def _name(lever: str, seen: set) -> str:
    """Label a lever once."""
    label = "_" if lever in seen else (RULED if lever == "clock" else lever)
    seen.add(lever)
    return label


def curves(table: pd.DataFrame) -> Figure:
    """Draw what is shed against what it costs, by lever and load."""
    rates = list(dict.fromkeys(table["rate"]))
    figure, panels = plt.subplots(
        len(rates), 3, figsize=(8, 1.3 + 2.2 * len(rates)), sharex=True, sharey="col", squeeze=False
    )
    for i, (row, rate) in enumerate(zip(panels, rates, strict=True)):
        for axes, (column, label) in zip(row, COSTS.items(), strict=True):
            seen: set = set()
            part = table[table["rate"] == rate]
            for (lever, _), line in part.groupby(["lever", "label"], sort=False):
                shed = np.concatenate([[0.0], line["shed_pct"]])
                cost = np.concatenate([[1.0], line[column]])
                axes.plot(
                    shed,
                    cost,
                    color=COLORS[lever],
                    marker=MARKS[lever],
                    ms=4,
                    label=_name(lever, seen),
                    zorder=1 if lever == "clock" else 2,
                )
            if column.startswith("ttft"):
                axes.set_yscale("log")
            axes.set_title("" if i else label, loc="left")
        row[0].set_ylabel(f"{rate:g} requests/s\na server")
    for axes in panels[-1]:
        axes.set_xlabel("shed [% of usual]")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2)
    return figure


def steps(courses: dict[str, np.ndarray], tick_s: float) -> Figure:
    """Percent shed after a command, mean over streams."""
    figure, axes = plt.subplots(figsize=(8, 3.4))
    seen: set = set()
    for label, shed in courses.items():
        lever = next(name for name in COLORS if label.startswith(name))
        last = lever == "clock" and label is list(courses)[-1]
        name = "clock, set from outside (assumed rule)" if last else _name(lever, seen)
        after_s = tick_s * (np.arange(shed.size) + 0.5)
        axes.plot(after_s, shed, color=COLORS[lever], ls="--" if last else "-", label=name, lw=1.6)
    axes.set_xlim(0, 90)
    axes.set_xlabel("time after the command [s]")
    axes.set_ylabel("shed [% of usual]")
    figure.legend(loc="outside upper center", ncols=2)
    return figure


def _smooth(values: np.ndarray, count: int = 5) -> np.ndarray:
    """Means of blocks."""
    return values[: values.size // count * count].reshape(-1, count).mean(axis=1)


def calls(courses: dict, share: float) -> Figure:
    """Row power of one stream while less is asked for, by lever."""
    chosen = {}
    for (label, asked), course in courses.items():
        lever = next(name for name in COLORS if label.startswith(name))
        if asked == share:
            chosen.setdefault(lever, (label, course))
    figure, panels = plt.subplots(2, 2, figsize=(8, 5), sharex=True, sharey=True)
    for axes, (label, course) in zip(panels.flat, chosen.values(), strict=True):
        usual = course["usual"]
        minutes = (np.arange(usual.power_w.size // 5) + 0.5) * 5 * usual.tick_s / 60
        axes.plot(minutes, _smooth(usual.power_w) / 1e3, color="#999999", lw=0.8, label="usual")
        fixed, followed = (_smooth(course[arm].power_w) / 1e3 for arm in ("fixed", "followed"))
        axes.plot(minutes, fixed, color=OTHER, lw=0.9, label="fixed place")
        axes.plot(minutes, followed, color=GENERATED, lw=1.1, label="set-point followed")
        clock = usual.tick_s * np.arange(usual.power_w.size) / 60
        axes.plot(clock, course["setpoint_w"] / 1e3, color=MEASURED, lw=1.6, label="set-point")
        axes.set_title(label.replace("γ", "rule: γ"), loc="left")
        axes.set_ylim(0)
    figure.supxlabel("time [min]")
    figure.supylabel("row power [kW]")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=4)
    return figure


def waits(courses: dict, share: float, bound_s: float) -> Figure:
    """Median time to first token by arrival, of one stream, while less is asked for."""
    figure, axes = plt.subplots(figsize=(8, 3.4))
    seen: set = set()
    for (label, asked), course in courses.items():
        if asked != share:
            continue
        lever = next(name for name in COLORS if label.startswith(name))
        arm, asked_s = course["followed"], np.flatnonzero(~np.isnan(course["setpoint_w"]))
        half = pd.Series(arm.ttft_s).groupby(arm.arrival_s // 30).median()
        name = _name(lever, seen)
        dash = "--" if lever == "batch limit" else "-"  # it may lie on that of admission
        axes.plot((half.index + 0.5) / 2, half, color=COLORS[lever], ls=dash, lw=1.5, label=name)
    ends = arm.tick_s * np.array([asked_s[0], asked_s[-1] + 1]) / 60
    axes.axvspan(*ends, color="#EEEEEE", zorder=0)
    axes.axhline(bound_s, color=MEASURED, lw=0.9, ls=":", label=f"bound of {bound_s:g} s")
    axes.set_yscale("log")
    axes.set_xlabel("time of arrival [min]")
    axes.set_ylabel("median TTFT [s]")
    figure.legend(loc="outside upper center", ncols=3)
    return figure


def tracking(courses: dict, labels: list[str], tick_s: float) -> Figure:
    """Set-points and the power that follows them, one stream, means of 5 s."""
    signals = list(dict.fromkeys(signal for signal, _ in courses))
    figure, panels = plt.subplots(len(signals), 1, figsize=(8, 4.8), sharex=True, sharey=True)
    for axes, signal in zip(panels, signals, strict=True):
        for label in labels:
            setpoint_w, power_w = courses[signal, label]
            lever = next(name for name in COLORS if label.startswith(name))
            minutes = (np.arange(power_w.size // 5) + 0.5) * 5 * tick_s / 60
            axes.plot(minutes, _smooth(power_w) / 1e3, color=COLORS[lever], label=label)
        clock = tick_s * np.arange(setpoint_w.size) / 60
        axes.plot(clock, setpoint_w / 1e3, color=MEASURED, lw=1.6, label="set-point")
        axes.set_title(signal, loc="left")
    figure.supxlabel("time [min]")
    figure.supylabel("row power [kW]")
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=3)
    return figure
