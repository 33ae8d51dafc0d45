"""Figures of sizing: peaks and ramps by method, with their intervals over seeds."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from sitebook.old.chapters import sizing as chapter
from sitetrace.core.registry import read_paper_table
from sitetrace.core.style import GENERATED, MARKERS, MEASURED, OTHER, PAPER

COLOURS = {"timeline": GENERATED, "states": MEASURED, "look-up": OTHER}
MARK = dict(zip(COLOURS, MARKERS, strict=False))
STEPS = {1.0: "1 s", 60.0: "1 min", 300.0: "5 min", 900.0: "15 min"}
PAPER_NAMES = {"tdp": "nameplate", "mean": "mean", "ours": "states"}


def _size(sites: int, height: float) -> tuple[float, float]:
    return 8, 0.7 + height * sites


def peaks(table: pd.DataFrame, paper: str) -> Figure:
    """Peak and mean at 15 minutes by method."""
    sites = list(dict.fromkeys(table.index.get_level_values("site")))
    figure, panels = plt.subplots(len(sites), 1, figsize=_size(len(sites), 2.0), squeeze=False)
    for axes, site in zip(panels[:, 0], sites, strict=True):
        wide = table.loc[site]["value"].unstack("quantity", sort=False)
        full_mw = wide.loc["nameplate", "peak"]
        for quantity, face in (("mean", "white"), ("peak", GENERATED)):
            part = table.loc[site].xs(quantity, level="quantity") / full_mw
            spread = [part["value"] - part["low"], part["high"] - part["value"]]
            style = {"mfc": face, "color": GENERATED, "ms": 7, "capsize": 3}
            shown = f"{quantity}, interval over seeds"
            axes.errorbar(
                part["value"], part.index, xerr=np.abs(spread), fmt="o", label=shown, **style
            )
        if site == paper:
            _paper_marks(axes)
        axes.set_title(site.replace("_", " "), loc="left")
        axes.set_xlim(0, max(1.1, 1.1 * wide["peak"].max() / full_mw))
        axes.invert_yaxis()
        axes.margins(y=0.15)
    panels[-1, 0].set_xlabel("facility power over the nameplate of its servers")
    handles, labels = panels[-1, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2)
    return figure


def _paper_marks(axes: plt.Axes) -> None:
    """Mark the paper's peaks and means, over the nameplate that it takes."""
    wide = read_paper_table("sizing").pivot(index="method", columns="quantity", values="value")
    for quantity, face in (("mean", "white"), ("peak", PAPER)):
        shares = wide[quantity] / wide.loc["tdp", "peak"]
        style = {"mfc": face, "color": PAPER, "ms": 7, "label": f"{quantity}, paper (run B)"}
        names = list(PAPER_NAMES)
        axes.plot(shares[names], [PAPER_NAMES[name] for name in names], "s", **style)


def ramps(table: pd.DataFrame) -> Figure:
    """Greatest rises and falls against how long the means are."""
    sites = list(dict.fromkeys(table.index.get_level_values("site")))
    figure, panels = plt.subplots(
        len(sites), 1, figsize=_size(len(sites), 2.2), squeeze=False, sharex=True
    )
    place = {step_s: i for i, step_s in enumerate(STEPS)}
    for axes, site in zip(panels[:, 0], sites, strict=True):
        rows = chapter.ramp_rows(table, site)
        methods = [name for name in COLOURS if name in set(rows["method"])]
        for i, method in enumerate(methods):
            part = rows[rows["method"] == method]
            at = part["step_s"].map(place) + 0.16 * (i - (len(methods) - 1) / 2)
            spread = np.abs([part["value"] - part["low"], part["high"] - part["value"]])
            style = {"ms": 5, "capsize": 2, "color": COLOURS[method], "label": method}
            axes.errorbar(at, part["value"], spread, fmt=MARK[method], **style)
        axes.axhline(0, color=MEASURED, lw=0.8)
        axes.set_title(site.replace("_", " "), loc="left")
        axes.set_ylabel("ramp [% of mean]")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3)
    panels[-1, 0].set_xticks(list(place.values()), list(STEPS.values()))
    panels[-1, 0].set_xlabel("length of the means between which the ramp lies")
    return figure
