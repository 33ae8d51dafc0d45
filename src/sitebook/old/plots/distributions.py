"""Figures of the chapter on distributions."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from sitebook.old.judging.comparison import TESTBED
from sitebook.old.judging.decomposition import SOURCES
from sitebook.old.looks.normality import REPEATS, labelled_draws
from sitetrace.core.style import BAND, GENERATED, MARKERS, MEASURED, OTHER, PAPER
from sitetrace.power.states.mixture import Mixture

SHARES = np.linspace(0, 1, 400)
SPAN_STYLE = {"whole": "-", "busy": "--"}
KIND_STYLE = {
    "gaussian": (MEASURED, "independent draws"),
    "ar1": (PAPER, "the paper's AR(1)"),
    "ar1_deviation": (GENERATED, "AR(1) of the own deviation"),
    "empirical": (OTHER, "drawn from seen samples"),
}
POOL = 40_000
# ACF R² has no lower end: all below this are drawn at it
LEAST_R2 = -1.0


def _short(judged: str) -> str:
    return judged.removeprefix(TESTBED).replace("_", " ")


def cdfs(powers: dict[str, dict], source: str) -> Figure:
    """Distribution functions of every judged part, recorded and generated."""
    n_rows = -(-len(powers) // 2)
    figure, panels = plt.subplots(n_rows, 2, figsize=(8, 0.6 + 2.5 * n_rows), squeeze=False)
    for axes, (judged, spans) in zip(panels.flat, powers.items(), strict=False):
        for span, line in SPAN_STYLE.items():
            measured_w, generated_w, _ = spans["native", span]
            drawn = np.quantile(generated_w, SHARES, axis=1)
            axes.fill_betweenx(SHARES, drawn.min(axis=1), drawn.max(axis=1), color=BAND, lw=0)
            label = f"generated, {span}"
            axes.plot(np.median(drawn, axis=1), SHARES, line, color=GENERATED, label=label)
            axes.plot(np.quantile(measured_w, SHARES), SHARES, line, color=MEASURED,
                      label=f"{source}, {span}")  # fmt: skip
        axes.set_title(_short(judged), loc="left")
        axes.set_xlabel("power [W]")
        axes.set_ylabel("share below")
    for axes in panels.flat[len(powers) :]:
        axes.set_visible(False)
    handles, names = panels.flat[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=2)
    return figure


def quantiles(spans: dict, source: str) -> Figure:
    """Quantiles of generated power against those of the recording."""
    figure, panels = plt.subplots(2, 2, figsize=(8, 6.4))
    for axes, ((clock, span), (measured_w, generated_w, _)) in zip(
        panels.flat, spans.items(), strict=True
    ):
        wanted = np.quantile(measured_w, SHARES)
        drawn = np.quantile(generated_w, SHARES, axis=1)
        axes.fill_between(wanted, drawn.min(axis=1), drawn.max(axis=1), color=BAND, lw=0,
                          label="all draws")  # fmt: skip
        axes.plot(wanted, np.median(drawn, axis=1), ".", ms=3, color=GENERATED, label="median draw")
        axes.axline((wanted.mean(), wanted.mean()), slope=1, color=MEASURED, lw=1, label="equal")
        step = "native step" if clock == "native" else "1 s means"
        axes.set_title(f"{step}, {span}", loc="left")
        axes.set_xlabel(f"{source} quantile [W]")
        axes.set_ylabel("generated quantile [W]")
    handles, names = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=3)
    return figure


def state_quantiles(
    power_w: np.ndarray,
    states: np.ndarray,
    mixture: Mixture,
    source: str,
    rng: np.random.Generator,
) -> Figure:
    """Quantiles of the four most frequent states against the Gaussian of each."""
    from scipy.stats import norm

    pool = labelled_draws(mixture, POOL, rng)
    counts = np.bincount(states, minlength=mixture.n_states)
    figure, panels = plt.subplots(2, 2, figsize=(8, 6.4))
    for axes, k in zip(panels.flat, np.sort(np.argsort(counts)[-4:]), strict=False):
        found = np.sort((power_w[states == k] - mixture.mean_w[k]) / mixture.sigma_w[k])
        expected = norm.ppf((np.arange(found.size) + 0.5) / found.size)
        drawn = np.sort(rng.choice(pool[k], size=(REPEATS, found.size)), axis=1)
        low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
        scale = [(end - mixture.mean_w[k]) / mixture.sigma_w[k] for end in (low, high)]
        axes.fill_between(expected, *scale, color=BAND, lw=0, label="Gaussian, then labelled")
        axes.plot(expected, found, ".", ms=4, color=MEASURED, label=source)
        axes.axline((0, 0), slope=1, color=GENERATED, lw=1, label="Gaussian")
        axes.set_title(f"state at {mixture.mean_w[k]:.0f} W, n = {found.size}",
                       loc="left")  # fmt: skip
        axes.set_xlabel("normal quantile")
        axes.set_ylabel("(power - mean) / sd")
    handles, names = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=3)
    return figure


def residual_memory(tables: dict[str, pd.DataFrame], dt_s: float, source: str) -> Figure:
    """Autocorrelation of residuals within states."""
    n_rows = -(-len(tables) // 2)
    figure, panels = plt.subplots(n_rows, 2, figsize=(8, 0.9 + 2.6 * n_rows), squeeze=False)
    for axes, (title, table) in zip(panels.flat, tables.items(), strict=True):
        lag_s = table["lag"] * dt_s
        axes.fill_between(lag_s, table["low"], table["high"], color=BAND, lw=0,
                          label="shuffled, 95%")  # fmt: skip
        axes.plot(lag_s, table["acf"], "o-", color=MEASURED, label=source)
        axes.axhline(0, color="#888888", lw=0.8)
        axes.set_title(title, loc="left")
        axes.set_xlabel("lag [s]")
        axes.set_ylabel("autocorrelation")
        axes.set_ylim(-1, 1)
    handles, names = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=2)
    return figure


def published_shift(shifts: pd.DataFrame, stay: float) -> Figure:
    """Energy shift that the published AR(1) coefficients imply, and the published errors."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.5))
    wide = shifts.pivot(index="stay", columns="config", values="shift_pct")
    left.plot(wide.index, wide, color=PAPER, lw=0.7, alpha=0.5)
    left.plot(wide.index, wide.median(axis=1), color=PAPER, lw=2.4, label="median")
    left.plot([], [], color=PAPER, lw=0.7, alpha=0.5, label="each configuration")
    left.axhline(0, color=MEASURED, lw=0.8)
    left.set_xlabel("probability that a bin keeps its state")
    left.set_ylabel("energy shift by AR(1) [%]")
    left.legend()
    chosen = shifts[shifts["stay"] == stay]
    right.plot(chosen["shift_pct"], chosen["rise_pct"], "o", color=PAPER)
    right.axhline(0, color=MEASURED, lw=0.8)
    right.set_xlabel(f"computed shift at {stay:g} [%]")
    right.set_ylabel("published rise of the\nenergy error [percentage points]")
    return figure


def simulated_memory(drawn: pd.DataFrame, dt_s: float) -> Figure:
    """Autocorrelation of power drawn from a published mixture."""
    groups = list(drawn.groupby("stay"))
    figure, panels = plt.subplots(1, len(groups), figsize=(8, 3.4), sharey=True)
    for axes, (stay, part) in zip(panels, groups, strict=True):
        for row in part.itertuples():
            color, name = KIND_STYLE[row.emissions]
            style = "--" if row.emissions == "ar1_deviation" else "-"
            lag_s = dt_s * np.arange(1, row.acf.size + 1)
            axes.plot(lag_s, row.acf, style, color=color, lw=1.8, label=name)
        kept = "drawn anew in every bin" if stay == 0 else f"kept with probability {stay:g}"
        axes.set_title(f"state {kept}", loc="left")
        axes.set_xlabel("lag [s]")
    panels[0].set_ylabel("autocorrelation")
    panels[0].legend()
    return figure


def sources(drawn: pd.DataFrame, paper: pd.DataFrame, source: str) -> Figure:
    """ACF R² and energy error by where the states come from."""
    figure, panels = plt.subplots(2, 1, figsize=(8, 6.2), sharex=True)
    plain = drawn[drawn["emissions"] == "gaussian"]
    medians = plain.groupby(["judged", "source"])[["acf_r2", "energy_error_pct"]].median()
    columns = {"acf_r2": "acf_r2_noprune", "energy_error_pct": "delta_energy_pct_noprune"}
    least = {"acf_r2": LEAST_R2, "energy_error_pct": 0.01}
    for axes, (key, column) in zip(panels, columns.items(), strict=True):
        for number, (judged, part) in enumerate(medians.groupby("judged")):
            place = [SOURCES.index(name) - 0.1 + 0.04 * number for _, name in part.index]
            axes.plot(place, part[key].clip(lower=least[key]), MARKERS[number % 6],
                      color=GENERATED, label=_short(judged))  # fmt: skip
        place = [SOURCES.index(name) + 0.25 for name in paper["strategy"]]
        axes.plot(place, paper[column].clip(lower=least[key]), "_", ms=16, mew=2, color=PAPER,
                  label="paper, all runs")  # fmt: skip
    panels[0].set_ylabel(f"ACF R²\n(below {LEAST_R2:g}: at the edge)")
    panels[1].set_ylabel("absolute\nenergy error [%]")
    panels[1].set_yscale("log")
    panels[1].set_xticks(range(len(SOURCES)), SOURCES)
    panels[1].set_xlabel("where the states come from")
    panels[0].set_title(f"judged on {source} runs", loc="left")
    figure.legend(
        *panels[0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=2,
    )
    return figure


def ends(table: pd.DataFrame) -> Figure:
    """Idle ends that explain the published mixtures, and the spread they predict."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.6))
    for main, color, name in ((True, PAPER, "main"), (False, OTHER, "older fit")):
        part = table[table["main"] == main]
        left.plot(part["gap_pct"], part["idle_s"], "o", color=color, label=name)
    left.set_xlabel("mixture mean above training mean [%]")
    left.set_ylabel("idle time implied [s of ten minutes]")
    left.legend()
    part = table[table["main"]]
    for column, marker, color, name in (
        ("mixture_sd_w", "s", MEASURED, "mixture as published"),
        ("restored_sd_w", "o", PAPER, "idle ends put back"),
    ):
        error_pct = 100 * (part[column] / part["sd_w"] - 1)
        right.plot(part["gap_pct"], error_pct, marker, color=color, mfc="none", label=name)
    right.axhline(0, color="#888888", lw=0.8)
    right.set_xlabel("mixture mean above training mean [%]")
    right.set_ylabel("predicted less published sd [%]")
    right.set_ylim(None, 6)
    right.legend(loc="upper left")
    return figure
