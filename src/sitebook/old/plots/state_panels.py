"""Figures of the chapter on states."""

from __future__ import annotations

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sitetrace.core.style import BAND, GENERATED, MARKERS, MEASURED, OTHER, PAPER
from sitetrace.power.states.mixture import Mixture

GREY = "#BBBBBB"
PANEL_BINS = 60
WATTS = "power [W]"


def _histogram(axes: Axes, power_w: np.ndarray, mixture: Mixture, color: str) -> None:
    """Draw samples and the densities of the states, cut where a narrow state would dwarf all."""
    from scipy.stats import norm

    grid = np.linspace(power_w.min() - 10, power_w.max() + 10, 2000)
    density = mixture.weight * norm.pdf(grid[:, None], mixture.mean_w, mixture.sigma_w)
    height = np.histogram(power_w, bins=PANEL_BINS, density=True)[0].max()
    axes.hist(power_w, bins=PANEL_BINS, density=True, color=GREY)
    axes.plot(grid, density, color=BAND, lw=1)
    axes.plot(grid, density.sum(axis=1), color=color, lw=1.6)
    axes.set_ylim(0, 1.4 * height)


def histograms(panels: dict[str, tuple[np.ndarray, Mixture]]) -> Figure:
    """Histograms of power with the densities of their states, two panels a row."""
    rows = -(-len(panels) // 2)
    columns = min(len(panels), 2)
    figure, grid = plt.subplots(rows, columns, figsize=(8, 2.6 * rows + 0.2), squeeze=False)
    for axes, (title, (power_w, mixture)) in zip(grid.flat, panels.items(), strict=False):
        _histogram(axes, power_w, mixture, GENERATED)
        axes.set_title(title.split("/")[-1].replace("-Instruct", ""), loc="left")
        axes.set_xlabel(WATTS)
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    for axes in grid[:, 0]:
        axes.set_ylabel("density [1/W]")
    return figure


def bic_curves(ours: pd.DataFrame, published: pd.DataFrame, source: str) -> Figure:
    """BIC against the number of states, each curve from its least (0) to its greatest value (1)."""
    figure, axes = plt.subplots(figsize=(8, 3.6))
    for number, (_, part) in enumerate(published.groupby("config")):
        label = "the paper's configurations" if number == 0 else None
        _normalised(axes, part, color=PAPER, lw=0.7, alpha=0.7, label=label)
    _normalised(axes, ours, color=MEASURED, lw=1.8, label=source)
    axes.axvline(10, color=PAPER, ls=":", lw=1.4, label="the paper's K = 10")
    axes.xaxis.set_major_locator(mpl.ticker.MaxNLocator(integer=True))
    axes.set_xlabel("number of states K")
    axes.set_ylabel("BIC, normalised")
    figure.legend(loc="outside lower center", ncols=3)
    return figure


def _normalised(axes: Axes, table: pd.DataFrame, **line) -> None:  # noqa: ANN003
    bic = table["bic"].to_numpy()
    height = (bic - bic.min()) / np.ptp(bic)
    axes.plot(table["n_states"], height, "-", **line)
    axes.plot(table["n_states"].iloc[bic.argmin()], 0, "o", color=line["color"], ms=5)


def states_in_time(
    time_s: np.ndarray, power_w: np.ndarray, state: np.ndarray, active: np.ndarray
) -> Figure:
    """Power on a ground coloured by state, the active requests below."""
    figure, (upper, lower) = plt.subplots(
        2, 1, figsize=(8, 4.4), sharex=True, height_ratios=(3, 1.3)
    )
    step_s = np.median(np.diff(time_s))
    edges = np.append(time_s - step_s, time_s[-1])
    height = [power_w.min() - 15, power_w.max() + 15]
    colours = mpl.colormaps["viridis"].resampled(int(state.max()) + 1)
    shown = upper.pcolormesh(
        edges, height, state[None, :], cmap=colours, vmin=-0.5, vmax=state.max() + 0.5, alpha=0.75
    )
    upper.step(time_s, power_w, color="white", lw=2.6)
    upper.step(time_s, power_w, color=MEASURED, lw=1.1)
    upper.grid(False)
    upper.set_ylabel(WATTS)
    ticks = mpl.ticker.MaxNLocator(integer=True)
    figure.colorbar(shown, ax=upper, label="state (0: idle)", ticks=ticks, pad=0.01)
    lower.step(time_s, active, color=OTHER)
    lower.set_ylabel("active A")
    lower.set_xlabel("time since the first request [s]")
    return figure


def dwell_times(table: pd.DataFrame, curve: pd.DataFrame) -> Figure:
    """Mean stay by state, and how many stays last longer, beside laws without memory."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.4))
    left.plot(table["mean_w"], table["stay_s"], "o-", color=MEASURED, label="found")
    left.plot(
        table["mean_w"], table["independent_s"], "s--", color=PAPER, ms=4, label="independent draws"
    )
    left.set_ylim(0)
    left.set_xlabel("mean power of the state [W]")
    left.set_ylabel("mean stay [s]")
    right.step(curve.index, curve["found"], where="post", color=MEASURED, label="found")
    right.plot(curve.index, curve["geometric"], "o", color=GENERATED, ms=4, label="geometric")
    right.set_yscale("log")
    right.set_xlabel("time t [s]")
    right.set_ylabel("share of stays longer than t")
    for axes in (left, right):
        axes.legend()
    return figure


def given_active(share: pd.DataFrame, samples: pd.Series) -> Figure:
    """Distribution of the state at each number of active requests, as a map."""
    figure, (upper, lower) = plt.subplots(2, 1, figsize=(8, 4.6), sharex=True, height_ratios=(3, 1))
    active = np.asarray(share.columns)
    edges = np.append(active - 0.5, active[-1] + 0.5)
    rows = np.arange(len(share) + 1) - 0.5
    shown = upper.pcolormesh(edges, rows, share.to_numpy(), cmap="cividis", vmin=0, vmax=1)
    upper.grid(False)
    upper.set_ylabel("state")
    upper.yaxis.set_major_locator(mpl.ticker.MaxNLocator(integer=True))
    figure.colorbar(shown, ax=upper, label="P(state | A)", pad=0.01)
    lower.bar(samples.index, samples, color=GREY, width=0.9)
    lower.set_ylabel("samples")
    lower.set_xlabel("active requests A")
    return figure


def published(table: pd.DataFrame) -> Figure:
    """All published states on one axis of nameplate power, a row a configuration."""
    order = table[["gpu", "config"]].drop_duplicates().sort_values(["gpu", "config"])
    place = {name: row for row, name in enumerate(order["config"])}
    figure, axes = plt.subplots(figsize=(8, 8.6))
    for gpu, color in (("A100", OTHER), ("H100", PAPER)):
        part = table[table["gpu"] == gpu]
        height = part["config"].map(place)
        axes.hlines(
            height, part["mean"] - part["sigma"], part["mean"] + part["sigma"], color=color, lw=1.6
        )
        axes.scatter(
            part["mean"],
            height,
            s=6 + 300 * part["weight"],
            color=color,
            alpha=0.55,
            lw=0,
            label=gpu,
        )
    axes.axvline(1, color=MEASURED, ls=":", lw=1.2)
    names = [name.replace("deepseek-r1-distill", "deepseek").replace("_", " ") for name in place]
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlabel("power of a state, share of GPUs × nameplate (TDP)")
    figure.legend(loc="outside upper center", ncols=2, markerscale=0.6)
    return figure


def beside(power_w: np.ndarray, fitted: Mixture, known: Mixture, name: str, source: str) -> Figure:
    """Densities of a recording's states and of those it is held against."""
    from scipy.stats import norm

    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.8))
    low, high = np.quantile(power_w, [0.002, 0.998])
    grid = np.linspace(low - 30, high + 30, 2000)
    left.hist(power_w, bins=PANEL_BINS, range=(grid[0], grid[-1]), density=True, color=GREY)
    top = left.get_ylim()[1]
    for mixture, color, style, label in (
        (fitted, GENERATED, "-", "fitted states"),
        (known, PAPER, "--", name),
    ):
        scaled = (grid[:, None] - mixture.mean_w) / mixture.sigma_w
        density = (norm.pdf(scaled) / mixture.sigma_w) @ mixture.weight
        left.plot(grid, density, color=color, ls=style)
        right.plot(grid, norm.cdf(scaled) @ mixture.weight, color=color, ls=style, label=label)
        top = max(top, min(density.max(), 3 * top))
    left.set_ylim(0, 1.05 * top)
    right.ecdf(power_w, color=MEASURED, label=source)
    right.set_xlim(grid[0], grid[-1])
    for axes, label in ((left, "density [1/W]"), (right, "share of samples below")):
        axes.set_xlabel(WATTS)
        axes.set_ylabel(label)
    figure.legend(loc="outside lower center", ncols=3)
    return figure


def batch_limits(table: pd.DataFrame) -> Figure:
    """Level and width of power against the batch limit, a line a model."""
    figure, panels = plt.subplots(1, 2, figsize=(8, 4.0))
    colours = (MEASURED, GENERATED, PAPER, OTHER, "#CC79A7")
    for number, (model, part) in enumerate(table.groupby("model", sort=False)):
        for axes, column in zip(panels, ("mean_w", "width_w"), strict=True):
            label = model if axes is panels[0] else None
            axes.plot(
                part["batch_limit"],
                part[column],
                f"{MARKERS[number % len(MARKERS)]}-",
                color=colours[number % len(colours)],
                ms=4,
                label=label,
            )
    for axes, label in zip(panels, ("mean", "5% to 95%"), strict=True):
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(mpl.ticker.ScalarFormatter())
        axes.set_ylim(0)
        axes.set_xlabel("batch limit")
        axes.set_ylabel(f"power a GPU, {label} [W]")
    figure.legend(loc="outside lower center", ncols=3)
    return figure
