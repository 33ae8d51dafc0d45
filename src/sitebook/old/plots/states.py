"""Figures of power states."""

from __future__ import annotations

import matplotlib as mpl
import matplotlib.pyplot as plt
import matplotlib.ticker
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from sitetrace.core.style import BAND, GENERATED, MEASURED, PAPER
from sitetrace.power.states.mixture import Mixture


def states_over_histogram(power_w: np.ndarray, mixture: Mixture, source: str) -> Figure:
    """Histogram of power with the densities of its states."""
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
    """Free-run KS and BIC against the number of states."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.2))
    left.plot(free_runs["n_states"], free_runs["ks"], "o-", color=GENERATED)
    left.set_ylabel("KS of the free run")
    left.set_ylim(0)
    right.plot(bic["n_states"], bic["bic"], "s--", color=MEASURED)
    right.set_ylabel("BIC (smaller is better)")
    for axes in (left, right):
        axes.xaxis.set_major_locator(mpl.ticker.MaxNLocator(integer=True))
        axes.axvline(10, color=PAPER, ls=":", lw=1.4, label="the paper's K = 10")
        axes.set_xlabel("number of states K")
    figure.legend(*left.get_legend_handles_labels(), loc="outside upper center")
    return figure
