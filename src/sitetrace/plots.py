"""The book's figure types: measured, generated and the paper told apart at one glance."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import matplotlib.ticker
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sitetrace.metrics import acf, acf_lags
from sitetrace.states import Mixture
from sitetrace.trace import PowerTrace, Run, replacing

# Okabe and Ito's colours: told apart by the colour-blind, and of different grey
MEASURED, GENERATED, PAPER, OTHER = "#000000", "#0072B2", "#D55E00", "#009E73"
BAND = "#8CC4E8"
MARKERS = ("o", "s", "^", "v", "D", "P")


def use_style() -> None:
    """Set the book's type sizes and line widths for all figures that follow."""
    mpl.rcParams.update(
        {
            "figure.constrained_layout.use": True,
            "figure.figsize": (8.0, 3.4),
            "figure.dpi": 110,
            "font.size": 10,
            "axes.grid": True,
            "axes.axisbelow": True,
            "grid.color": "#DDDDDD",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "legend.frameon": False,
            "lines.linewidth": 1.2,
        }
    )


def recordings(runs: list[Run], source: str) -> Figure:
    """Power and running requests of several recordings, one below the other.

    Parameters
    ----------
    runs : list of Run
        Recordings with requests.
    source : str
        ``measured`` or ``testbed``.

    Returns
    -------
    matplotlib.figure.Figure
        One row a run, seconds from the first request.
    """
    figure, rows = plt.subplots(len(runs), 1, figsize=(8, 1.5 * len(runs) + 0.6), squeeze=False)
    for axes, run in zip(rows[:, 0], runs, strict=True):
        first = run.requests["arrival_s"].iloc[0]
        seconds = run.samples["time_s"] - first
        axes.plot(seconds, run.samples["power_w"], color=MEASURED, lw=0.8)
        axes.set_title(f"{run.name} ({source})", loc="left", fontsize=9)
        axes.set_ylabel("power [W]")
        if run.engine is not None:
            twin = axes.twinx()
            twin.plot(run.engine["time_s"] - first, run.engine["running"], color=PAPER, lw=0.8)
            twin.set_ylabel("running", color=PAPER)
            twin.grid(visible=False)
        axes.axvspan(seconds.iloc[0], min(0.0, seconds.iloc[-1]), color="#EEEEEE", zorder=0)
    rows[-1, 0].set_xlabel("time from the first request [s]")
    return figure


def meter_rise(runs: list[Run], source: str, span_s: float = 4.0) -> Figure:
    """How printed power rises when work begins after rest, by run.

    Parameters
    ----------
    runs : list of Run
        Recordings with engine counters.
    source : str
        ``measured`` or ``testbed``.
    span_s : float
        Seconds shown after the first request.

    Returns
    -------
    matplotlib.figure.Figure
        Printed power as a share of the way from idle to the median of the busy seconds.
    """
    figure, axes = plt.subplots(figsize=(8, 3.2))
    for i, run in enumerate(runs):
        first, last, _ = run.busy_span()
        samples = run.samples
        busy = samples["power_w"][samples["time_s"].between(first, last)].median()
        idle = run.idle_before_load_w()
        near = samples["time_s"].between(first - 1, first + span_s)
        share = (samples["power_w"][near] - idle) / (busy - idle)
        label = f"{run.configuration.model} {run.configuration.hardware}: {run.name[-12:]}"
        shade = (MEASURED, PAPER, GENERATED, OTHER, "#CC79A7", "#888888")[i % 6]
        axes.plot(
            samples["time_s"][near] - first,
            share,
            marker=MARKERS[i % 6],
            ms=4,
            label=label,
            c=shade,
        )
    axes.axhline(1, color="#888888", lw=0.8, ls=":")
    axes.set_xlabel("time from the first request [s]")
    axes.set_ylabel("share of the way\nfrom idle to busy")
    axes.set_title(f"what the meter prints when work begins ({source})", loc="left", fontsize=10)
    axes.legend(fontsize=8)
    return figure


def states_over_histogram(power_w: np.ndarray, mixture: Mixture, source: str) -> Figure:
    """Histogram of power with the densities of its states.

    Parameters
    ----------
    power_w : numpy.ndarray
        Samples above idle, watts.
    mixture : Mixture
        The states.
    source : str
        ``measured`` or ``testbed``.

    Returns
    -------
    matplotlib.figure.Figure
        States as lines, their sum as a heavy one.
    """
    from scipy.stats import norm

    figure, axes = plt.subplots()
    low, high = np.quantile(power_w, [0.0, 1.0])
    grid = np.linspace(low - 10, high + 10, 1500)
    density = mixture.weight * norm.pdf(grid[:, None], mixture.mean_w, mixture.sigma_w)
    axes.hist(power_w, bins=80, density=True, color="#BBBBBB", label=f"{source} samples")
    axes.plot(grid, density, color=BAND, lw=1)
    axes.plot(grid, density.sum(axis=1), color=GENERATED, lw=1.8, label="sum of the states")
    axes.plot([], [], color=BAND, label=f"{mixture.n_states} states")
    # a narrow state would dwarf all others
    axes.set_ylim(0, 1.6 * np.histogram(power_w, bins=80, density=True)[0].max())
    axes.set_xlabel("power [W]")
    axes.set_ylabel("density [1/W]")
    axes.legend()
    return figure


def state_count(free_runs: pd.DataFrame, bic: pd.DataFrame) -> Figure:
    """Free-run KS and BIC against the number of states.

    Parameters
    ----------
    free_runs : pandas.DataFrame
        Columns ``n_states``, ``ks``.
    bic : pandas.DataFrame
        Columns ``n_states``, ``bic``.

    Returns
    -------
    matplotlib.figure.Figure
        Two panels.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 2.8))
    left.plot(free_runs["n_states"], free_runs["ks"], "o-", color=GENERATED)
    left.set_ylabel("KS of the free run")
    left.set_ylim(0)
    right.plot(bic["n_states"], bic["bic"], "s--", color=MEASURED)
    right.set_ylabel("BIC (smaller is better)")
    for axes in (left, right):
        axes.xaxis.set_major_locator(mpl.ticker.MaxNLocator(integer=True))
        axes.axvline(10, color=PAPER, ls=":", lw=1.4, label="the paper's K = 10")
        axes.set_xlabel("number of states K")
        axes.legend(fontsize=8)
    return figure


def running_requests(run: Run, times_s: np.ndarray, simulated: np.ndarray, source: str) -> Figure:
    """Draw simulated running requests beside the engine's own counter.

    Parameters
    ----------
    run : Run
        Recording with engine counters.
    times_s, simulated : numpy.ndarray
        Times (s) and simulated count, shape (n,).
    source : str
        ``measured`` or ``testbed``.

    Returns
    -------
    matplotlib.figure.Figure
        Both as steps.
    """
    figure, axes = plt.subplots(figsize=(8, 2.8))
    first = run.requests["arrival_s"].iloc[0]
    counter = run.engine
    axes.step(
        counter["time_s"] - first, counter["running"], where="post", color=MEASURED,
        label=f"engine's counter ({source})",
    )  # fmt: skip
    axes.step(
        times_s - first, simulated, where="post", color=GENERATED, ls="--", label="simulated engine"
    )
    axes.set_xlim(-2, counter["time_s"].iloc[-1] - first)
    axes.set_xlabel("time from the first request [s]")
    axes.set_ylabel("running requests")
    axes.legend(loc="upper left", ncols=2, bbox_to_anchor=(0, 1.18))
    return figure


def _band(axes: Axes, draws: list[PowerTrace], first: float) -> None:
    power = np.array([draw.power_w for draw in draws])
    seconds = draws[0].time_s + draws[0].dt_s - first
    if len(draws) > 1:
        low, high = np.quantile(power, [0.05, 0.95], axis=0)
        axes.fill_between(
            seconds, low, high, step="pre", color=BAND, lw=0, label="generated, 5% to 95% of draws"
        )
    axes.step(seconds, power[0], where="pre", color=GENERATED, lw=0.8, label="generated, one draw")


def band_over_line(run: Run, draws: list[PowerTrace], source: str, zoom_s: float = 30.0) -> Figure:
    """Lay the generated band over the recorded line: the whole, and some seconds of it.

    Parameters
    ----------
    run : Run
        The judged recording.
    draws : list of PowerTrace
        Generated traces.
    source : str
        ``measured`` or ``testbed``.
    zoom_s : float
        Seconds shown in the lower panel.

    Returns
    -------
    matplotlib.figure.Figure
        Two panels.
    """
    figure, panels = plt.subplots(2, 1, figsize=(8, 5.2))
    first = run.requests["arrival_s"].iloc[0]
    seconds = run.samples["time_s"] - first
    for axes in panels:
        _band(axes, draws, first)
        axes.step(
            seconds, run.samples["power_w"], where="pre", color=MEASURED, lw=0.9, label=source
        )
        axes.set_ylabel("power [W]")
    panels[0].set_xlim(seconds.iloc[0], seconds.iloc[-1])
    middle = 0.4 * max(seconds.iloc[-1], zoom_s)
    panels[1].set_xlim(middle, middle + zoom_s)
    panels[1].set_xlabel("time from the first request [s]")
    panels[0].legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=3, fontsize=9)
    return figure


def distribution_and_acf(
    measured_w: np.ndarray, generated_w: list[np.ndarray], dt_s: float, source: str
) -> Figure:
    """Distribution of power and autocorrelation, recorded beside generated.

    Parameters
    ----------
    measured_w : numpy.ndarray
        Recorded power, watts, shape (n,).
    generated_w : list of numpy.ndarray
        Generated power on the same bins, one array a draw.
    dt_s : float
        Step, seconds.
    source : str
        ``measured`` or ``testbed``.

    Returns
    -------
    matplotlib.figure.Figure
        Two panels.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.2))
    share = np.linspace(0, 1, 400)
    lags = min(acf_lags(dt_s), measured_w.size - 1)
    seconds = np.arange(1, lags + 1) * dt_s
    for i, power_w in enumerate(generated_w):
        label = "generated, each draw" if i == 0 else None
        left.plot(np.quantile(power_w, share), share, color=BAND, lw=1, label=label)
        right.plot(seconds, acf(power_w, lags), color=BAND, lw=1, label=label)
    left.plot(np.quantile(measured_w, share), share, color=MEASURED, lw=1.6, label=source)
    right.plot(seconds, acf(measured_w, lags), color=MEASURED, lw=1.6, label=source)
    left.set_xlabel("power [W]")
    left.set_ylabel("share of samples below")
    right.set_xlabel("lag [s]")
    right.set_ylabel("autocorrelation")
    left.legend(fontsize=9)
    return figure


def energy_errors(table: pd.DataFrame, paper_pct: np.ndarray, source: str) -> Figure:
    """Energy errors by judged run and method, beside the paper's configurations.

    Parameters
    ----------
    table : pandas.DataFrame
        Columns ``judged``, ``method``, ``energy_error_pct``.
    paper_pct : numpy.ndarray
        Energy errors that the paper's repository reports, percent, one a configuration.
    source : str
        ``measured`` or ``testbed``.

    Returns
    -------
    matplotlib.figure.Figure
        A point a run and method on a logarithmic axis.
    """
    judged, methods = list(dict.fromkeys(table["judged"])), list(dict.fromkeys(table["method"]))
    figure, axes = plt.subplots(figsize=(8, 0.42 * len(judged) + 2.0))
    colors = [GENERATED, OTHER, "#CC79A7", "#E69F00", MEASURED]
    for i, method in enumerate(methods):
        rows = table[table["method"] == method]
        offset = 0.12 * (i - (len(methods) - 1) / 2)
        place = [judged.index(name) + offset for name in rows["judged"]]
        error_pct = np.maximum(rows["energy_error_pct"], 0.01)
        axes.plot(
            error_pct, place, MARKERS[i % 6], color=colors[i % 5], ms=6 if i else 8, label=method
        )
    axes.plot(
        paper_pct, np.full(paper_pct.size, len(judged)), "|", color=PAPER, ms=14, mew=1.5,
        label="paper, each configuration",
    )  # fmt: skip
    axes.axvline(5, color=PAPER, ls=":", lw=1)
    axes.set_xscale("log")
    axes.set_yticks(range(len(judged) + 1), [*judged, "paper: 25 configurations"])
    axes.set_ylim(len(judged) + 0.6, -0.6)
    axes.set_xlabel("absolute energy error [%] (dotted: 5%)")
    axes.set_title(f"judged on {source} runs", loc="left", fontsize=10)
    figure.legend(loc="outside lower center", ncols=3, fontsize=9)
    return figure


def save_comparison(path: Path | str, recording: Run | pd.DataFrame, draws: list) -> None:
    """Draw a recording and generated traces into a PNG file, whole or not at all.

    Parameters
    ----------
    path : Path or str
        Picture to be written.
    recording : Run or pandas.DataFrame
        A run, or its samples alone.
    draws : list of PowerTrace
        Generated traces.
    """
    samples = recording.samples if isinstance(recording, Run) else recording
    mpl.use("Agg")
    use_style()
    figure, axes = plt.subplots()
    first = samples["time_s"].iloc[0]
    _band(axes, draws, first)
    seconds = samples["time_s"] - first
    axes.step(seconds, samples["power_w"], where="pre", color=MEASURED, lw=0.9, label="measured")
    axes.set_xlim(0, seconds.iloc[-1])
    axes.set_xlabel("time from the first sample [s]")
    axes.set_ylabel("power [W]")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=3, fontsize=9)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150)
    plt.close(figure)
