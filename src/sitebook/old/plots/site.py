"""Figures of a site: its day, its racks, and how power gets smoother from server to site."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sitebook.old.chapters import site as chapter
from sitebook.old.sites import hierarchy
from sitebook.old.sites.scene import Scene
from sitetrace.core.registry import read_paper_table
from sitetrace.core.style import BAND, GENERATED, MARKERS, MEASURED, OTHER, PAPER

COLOURS = {
    "nameplate": MEASURED,
    "mean": "#777777",
    "look-up": OTHER,
    "timeline": GENERATED,
    "states": GENERATED,
}
STYLES = {"nameplate": ":", "mean": "--", "look-up": "-", "timeline": "-", "states": "-"}


def _panels(scenes: list[Scene], height: float, **shared: bool) -> tuple[Figure, list[Axes]]:
    size = (8, 0.6 + height * len(scenes))
    figure, panels = plt.subplots(len(scenes), 1, figsize=size, squeeze=False, **shared)
    for axes, scene in zip(panels[:, 0], scenes, strict=True):
        axes.set_title(scene.label, loc="left")
    return figure, list(panels[:, 0])


def _of_paper(axes: Axes, scene: Scene, numbers: dict[str, str]) -> None:
    """Mark numbers of the paper's run B, on the panel of its own configuration alone."""
    if scene.setup.data != "paper":
        return
    row = read_paper_table("facility").query("run == 'B' and method == 'ours' and step_s == 900")
    for column, label in numbers.items():
        axes.axhline(row[column].iloc[0], ls="-.", color=PAPER, label=label)


def profile(scenes: list[Scene]) -> Figure:
    """Power of the facility over the day, by minute and by quarter of an hour."""
    figure, panels = _panels(scenes, 2.2, sharex=True)
    for axes, scene in zip(panels, scenes, strict=True):
        for step_s, colour, label in ((60.0, BAND, "1 min"), (900.0, GENERATED, "15 min")):
            table = chapter.minutes_of_day(scene, step_s)
            axes.step(table["hour"], table["power_kw"], where="post", color=colour, label=label)
        _of_paper(axes, scene, {"peak_kw": "paper, peak", "mean_kw": "paper, mean"})
        axes.set_ylabel("facility [kW]")
        axes.legend(ncols=4, loc="upper left")
        axes.margins(y=0.25)
    panels[-1].set_xlabel("hour of the day")
    panels[-1].set_xticks(np.arange(0, scenes[-1].setup.hours + 1, 3))
    return figure


def methods(scenes: list[Scene]) -> Figure:
    """Power of the facility at 15 minutes by every method."""
    figure, panels = _panels(scenes, 2.3, sharex=True)
    for axes, scene in zip(panels, scenes, strict=True):
        for name, power_w in scene.quarters_w.items():
            hours = np.arange(len(power_w)) / 4
            style = {"color": COLOURS[name], "ls": STYLES[name], "label": name}
            axes.step(hours, power_w / 1e3, where="post", **style)
        axes.set_ylabel("facility [kW]")
        axes.set_ylim(bottom=0)
        axes.legend(ncols=4, loc="lower left")
    panels[-1].set_xlabel("hour of the day")
    panels[-1].set_xticks(np.arange(0, scenes[-1].setup.hours + 1, 3))
    return figure


def durations(scenes: list[Scene]) -> Figure:
    """Load duration curves at 15 minutes over the own mean, and the paper's percentiles."""
    figure, axes = plt.subplots(figsize=(8, 3.4))
    for scene, style in zip(scenes, ("-", "--", ":", "-."), strict=False):
        share, power_kw = chapter.durations(scene)[scene.method]
        axes.plot(
            100 * share, power_kw / power_kw.mean(), style, color=GENERATED, label=scene.label
        )
    facility = read_paper_table("facility").query("method == 'ours' and step_s == 900")
    for row, marker in zip(facility.itertuples(), MARKERS, strict=False):
        points = np.array([row.peak_kw, row.load_p99_kw, row.load_p95_kw]) / row.mean_kw
        axes.plot([0, 1, 5], points, marker, color=PAPER, label=f"paper, run {row.run}")
    axes.set_xlabel("share of the time [%]")
    axes.set_ylabel("power over its mean")
    axes.legend()
    return figure


def racks(scene: Scene) -> Figure:
    """Power of each rack over the day."""
    power_kw = chapter.racks_kw(scene)
    figure, axes = plt.subplots(figsize=(8, 3.6))
    extent = (0, scene.setup.hours, -0.5, len(power_kw) - 0.5)
    image = axes.imshow(
        power_kw, aspect="auto", origin="lower", cmap="cividis", extent=extent, interpolation="none"
    )
    axes.set_xlabel("hour of the day")
    axes.set_ylabel("rack")
    axes.yaxis.set_major_locator(plt.MaxNLocator(integer=True))
    axes.grid(visible=False)
    figure.colorbar(image, ax=axes, label="rack [kW]")
    return figure


def flattening(scenes: list[Scene]) -> Figure:
    """Coefficient of variation against servers, with both laws."""
    count = len(scenes) + 1
    rows = (count + 1) // 2
    figure, panels = plt.subplots(rows, 2, figsize=(8, 1.0 + 2.7 * rows), sharey=True)
    for axes, scene in zip(panels.flat, scenes, strict=False):
        _curve(axes, scene.curve, scene.foretold, "theory", GENERATED)
        axes.set_title(scene.label, loc="left")
    table = read_paper_table("cov_by_servers")
    law = hierarchy.law_through_ends(table)
    axes = panels.flat[len(scenes)]
    _curve(axes, table, law, "cov_theory", PAPER)
    axes.set_title("paper, run A", loc="left")
    for spare in panels.flat[count:]:
        spare.remove()
    handles, labels = panels.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2)
    figure.supxlabel("servers")
    figure.supylabel("coefficient of variation")
    return figure


def _curve(axes: Axes, table: pd.DataFrame, law: hierarchy.Parts, theory: str, colour: str) -> None:
    servers = table["servers"].to_numpy()
    fine = np.geomspace(servers[0], servers[-1], 60)
    axes.plot(fine, law.cov_of(fine), color=MEASURED, label="two parts")
    axes.plot(servers, table[theory], ":", lw=2, color="#777777", label="independent servers")
    axes.axhline(law.floor, ls="--", lw=1, color=OTHER, label="floor of the two parts")
    spread = [table["cov"] - table["cov_p5"], table["cov_p95"] - table["cov"]]
    style = {"ms": 5, "color": colour, "label": "sums of servers"}
    axes.errorbar(servers, table["cov"], np.maximum(spread, 0), fmt="o", **style)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(servers, [str(n) for n in servers])
    axes.minorticks_off()
    axes.set_yticks([0.02, 0.05, 0.1, 0.2, 0.5], ["0.02", "0.05", "0.1", "0.2", "0.5"])


def resolutions(table: pd.DataFrame) -> Figure:
    """Peak-to-average ratio against the length of the means."""
    figure, axes = plt.subplots(figsize=(8, 3.2))
    for (source, part), marker in zip(table.groupby("source", sort=False), MARKERS, strict=False):
        colour = PAPER if source.startswith("paper, run") else GENERATED
        axes.plot(part["step_s"], part["par"], marker + "-", color=colour, label=source)
    axes.set_xscale("log")
    steps = sorted(set(table["step_s"]))
    axes.set_xticks(steps, [f"{step:g} s" if step < 60 else f"{step / 60:g} min" for step in steps])
    axes.minorticks_off()
    axes.set_xlabel("length of the means")
    axes.set_ylabel("peak over mean")
    figure.legend(loc="outside upper center", ncols=2)
    return figure
