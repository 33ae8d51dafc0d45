"""Figures of racks below a row's limit: by method, by risk, with a cap, with a battery."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from sitetrace.core.style import BAND, GENERATED, MEASURED, OTHER, PAPER

LEAST_MARGIN = 30  # steps
STEPS = {1: ("1 s", GENERATED, "-"), 60: ("1 min", OTHER, "--"), 900: ("15 min", PAPER, ":")}


def by_method(table: pd.DataFrame) -> Figure:
    """Racks in a row by method and terms."""
    names = table["source"] + ", " + table["terms"]
    groups = list(dict.fromkeys(names))
    gaps = names.map({name: place for place, name in enumerate(groups)})
    place = np.arange(len(table)) + 1.6 * gaps
    figure, axes = plt.subplots(figsize=(8, 0.6 + 0.26 * (place.max() + 2)))
    colors = np.where(table["source"] == "the paper", PAPER, GENERATED)
    axes.barh(place, table["racks"], color=colors, height=0.75)
    for y, racks in zip(place, table["racks"], strict=True):
        axes.text(racks, y, f" {racks:.0f}", va="center")
    axes.set_yticks(place, table["method"])
    for name in groups:
        axes.text(0, place[names == name].min() - 1.0, name, va="center", weight="bold")
    axes.set_ylim(place.max() + 0.7, -1.6)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("racks in the row")
    return figure


def peaks(table: pd.DataFrame, limit_kw: float) -> Figure:
    """Peak against the number of racks: of random subsets of one day, and of several days."""
    second = table[table["step_s"] == 1].assign(peak_kw=table["peak_w"] / 1e3)
    mean = second.groupby("racks")["peak_kw"].mean()
    figure, panels = plt.subplots(2, 1, figsize=(8, 5.2), sharex=True)
    kept = second[second["racks"] >= 0.5 * second["racks"].max()]
    first = kept[kept["day"] == 0]
    for axes, base in ((panels[0], 0.0 * mean), (panels[1], mean)):
        ends = first.groupby("racks")["peak_kw"].quantile([0.05, 0.95]).unstack()
        off = base.loc[ends.index]
        axes.fill_between(ends.index, ends[0.05] - off, ends[0.95] - off, color=BAND,
                          label="subsets of the first day, 5% to 95%")  # fmt: skip
        for day, part in kept.groupby("day"):
            middle = part.groupby("racks")["peak_kw"].median()
            label = {"label": "medians, each day"} if day == 0 else {}
            axes.plot(middle.index, middle - off, color=GENERATED, lw=0.9, **label)
    panels[0].axhline(limit_kw, color=MEASURED, ls="--", label="limit")
    panels[0].set_ylabel("peak, 1 s [kW]")
    panels[1].set_ylabel("less the mean [kW]")
    panels[1].set_xlabel("racks in the row")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3)
    return figure


def spread(table: pd.DataFrame) -> Figure:
    """Spread of the peak over subsets of one day, and over days with racks of their own."""
    figure, axes = plt.subplots(figsize=(8, 3.4))
    axes.plot(table["racks"], table["between_kw"], "o", ms=4, color=GENERATED,
              label="over days, each with fresh racks")  # fmt: skip
    axes.plot(table["racks"], table["within_kw"], "s", ms=4, color=PAPER,
              label="over subsets of one day's racks")  # fmt: skip
    axes.plot(table["racks"], table["expected_kw"], color=PAPER, lw=1,
              label="the same for independent racks, drawn without replacement")  # fmt: skip
    axes.set_ylim(0, None)
    axes.set_xlabel("racks in the row")
    axes.set_ylabel("standard deviation\nof the peak, 1 s [kW]")
    axes.legend(loc="upper left")
    top = 1.45 * float(np.nanmax(table[["between_kw", "within_kw", "expected_kw"]].to_numpy()))
    axes.set_ylim(0, top or 1.0)
    return figure


def risk(curve: pd.DataFrame) -> Figure:
    """Probability of a day above the limit, and minutes a year, against the number of racks."""
    rising = curve.loc[(curve["probability"] > 0) & (curve["probability"] < 1), "racks"]
    first, last = (rising.min() - 3, rising.max() + 3) if len(rising) else (1, curve["racks"].max())
    shown = curve[curve["racks"].between(first, last)]
    figure, panels = plt.subplots(2, 1, figsize=(8, 5.4), sharex=True)
    for step_s, (label, color, line) in STEPS.items():
        part = shown[shown["step_s"] == step_s]
        panels[0].plot(part["racks"], part["probability"], line, color=color, label=label)
        some = part[part["minutes_a_year"] > 0]
        panels[1].plot(some["racks"], some["minutes_a_year"], line, color=color, label=label)
        if step_s == 1:
            panels[0].fill_between(part["racks"], part["low"], part["high"], color=BAND, lw=0,
                                   alpha=0.5, label="1 s: 95%, a trial is a day")  # fmt: skip
            off = (part["first_day"] - part["first_low"], part["first_high"] - part["first_day"])
            panels[0].errorbar(part["racks"], part["first_day"], yerr=np.maximum(off, 0.0), fmt="o",
                               ms=3, lw=1, capsize=2, color=MEASURED,
                               label="first day alone, a trial is a subset")  # fmt: skip
            panels[1].fill_between(some["racks"], some["minutes_low"].clip(lower=1e-1),
                                   some["minutes_high"].clip(lower=1e-1), color=BAND, lw=0,
                                   alpha=0.5)  # fmt: skip
    panels[0].set_ylabel("probability that a day\nexceeds the limit")
    panels[1].set_ylabel("time above [min a year]")
    panels[1].set_yscale("log")
    panels[1].minorticks_off()
    panels[1].set_xlabel("racks in the row")
    figure.legend(
        *panels[0].get_legend_handles_labels(),
        loc="outside upper center",
        ncols=3,
    )
    return figure


def battery(table: pd.DataFrame) -> Figure:
    """Racks that a battery carries, against its energy."""
    figure, axes = plt.subplots(figsize=(8, 3.4))
    rates = list(dict.fromkeys(table["rate_w"]))
    shades = plt.colormaps["viridis"](np.linspace(0.0, 0.85, len(rates)))
    widths = np.linspace(5.0, 1.2, len(rates))  # lines that coincide stay visible
    for rate_w, shade, width in zip(rates, shades, widths, strict=True):
        part = table[table["rate_w"] == rate_w]
        axes.plot(part["store_kwh"], part["racks"], "o-", ms=width + 2, lw=width, color=shade,
                  drawstyle="steps-post", label=f"{rate_w / 1e3:g} kW")  # fmt: skip
    smallest = table.loc[table["store_kwh"] > 0, "store_kwh"].min()
    axes.set_xscale("symlog", linthresh=smallest)
    stores = sorted(set(table["store_kwh"]))
    axes.set_xticks(stores, [f"{store:g}" for store in stores])
    axes.minorticks_off()
    axes.yaxis.set_major_locator(plt.MaxNLocator(integer=True))
    axes.set_xlabel("usable energy of the battery [kWh]")
    axes.set_ylabel("racks with no exceedance")
    figure.legend(title="its power", loc="outside upper center", ncols=len(rates))
    return figure


def discharge(run: pd.DataFrame, limit_kw: float) -> Figure:
    """Draw the deepest discharge of a battery, from full to full."""
    stored = run["stored_kwh"]
    deepest = int(stored.idxmin())
    full = np.flatnonzero(stored.to_numpy() >= stored.max())
    first = full[full <= deepest].max(initial=0)
    last = full[full >= deepest].min(initial=len(run) - 1)
    margin = max(LEAST_MARGIN, (last - first) // 2)
    part = run.iloc[max(first - margin, 0) : last + margin]
    minutes = part["time_s"] / 60
    scale, unit = (1, "kWh") if stored.max() - stored.min() >= 1 else (1e3, "Wh")
    figure, panels = plt.subplots(2, 1, figsize=(8, 4.6), sharex=True, height_ratios=[3, 1.6])
    panels[0].plot(minutes, part["power_w"] / 1e3, color=GENERATED, label="row")
    panels[0].plot(minutes, part["grid_w"] / 1e3, "--", color=PAPER, label="from the grid")
    panels[0].axhline(limit_kw, color=MEASURED, lw=1, ls=":", label="limit")
    panels[0].set_ylabel("power [kW]")
    figure.legend(
        *panels[0].get_legend_handles_labels(),
        loc="outside upper center",
        ncols=3,
    )
    panels[1].plot(minutes, scale * (part["stored_kwh"] - stored.max()), color=OTHER)
    panels[1].set_ylabel(f"stored, less\nfull [{unit}]")
    panels[1].set_xlabel("minutes since the day began")
    return figure
