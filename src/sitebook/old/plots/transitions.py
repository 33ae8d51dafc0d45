"""Figures of transitions between power states."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from sitetrace.core.style import BAND, GENERATED, MARKERS, MEASURED, OTHER, PAPER

COLORS = (GENERATED, OTHER, PAPER, MEASURED)


def matrices(levels: list[tuple[str, np.ndarray]]) -> Figure:
    """Transition frequencies by level of activity."""
    figure, panels = plt.subplots(
        1, len(levels), figsize=(8, 3.4), sharey=True, squeeze=False, layout="constrained"
    )
    for axes, (name, share) in zip(panels[0], levels, strict=True):
        image = axes.imshow(share, vmin=0, vmax=1, cmap="cividis", origin="lower")
        axes.set_title(name)
        axes.set_xlabel("next state")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(4, integer=True))
        axes.grid(visible=False)
    panels[0][0].set_ylabel("state before")
    figure.colorbar(image, ax=panels[0], label="share", shrink=0.8)
    return figure


def reliability(curves: dict[str, tuple[np.ndarray, np.ndarray]]) -> Figure:
    """Draw observed against predicted shares of bins whose state stays."""
    figure, axes = plt.subplots(figsize=(6, 4))
    axes.plot([0, 1], [0, 1], color="#888888", lw=0.8, ls=":")
    for k, (name, (predicted, observed)) in enumerate(curves.items()):
        axes.plot(predicted, observed, MARKERS[k] + "-", color=COLORS[k], label=name)
    axes.set_xlabel("predicted probability that the state stays")
    axes.set_ylabel("share of bins in which it did")
    axes.legend()
    return figure


def likelihood(scored: pd.DataFrame) -> Figure:
    """Held-out log-likelihood of each candidate with its interval."""
    figure, axes = plt.subplots(figsize=(8, 3.0))
    place = np.arange(len(scored))
    spread = [scored["nats"] - scored["low"], scored["high"] - scored["nats"]]
    axes.errorbar(scored["nats"], place, xerr=spread, fmt="o", color=GENERATED, capsize=3)
    axes.set_yticks(place, scored["candidate"])
    axes.set_ylim(len(scored) - 0.5, -0.5)
    axes.set_xlabel("held-out log-likelihood [nats a bin] (right is better)")
    return figure


def training(history: dict) -> Figure:
    """Loss of the net by epoch."""
    figure, axes = plt.subplots(figsize=(8, 3.2))
    epoch = np.arange(1, len(history["train_nats"]) + 1)
    axes.plot(epoch, history["train_nats"], color=GENERATED, label="training seconds")
    axes.plot(epoch, history["held_out_nats"], color=MEASURED, ls="--", label="validation seconds")
    axes.axvline(history["best_epoch"], color=PAPER, ls=":", label="epoch kept")
    axes.set_xlabel("epoch")
    axes.set_ylabel("cross-entropy [nats a bin]")
    axes.legend()
    return figure


def learning(curve: pd.DataFrame, published: np.ndarray) -> Figure:
    """Held-out loss of the net against the seconds that it was fitted on."""
    figure, axes = plt.subplots(figsize=(8, 3.6))
    seconds = curve["seconds"]
    axes.fill_between(seconds, curve["held_out_low"], curve["held_out_high"], color=BAND)
    axes.plot(seconds, curve["held_out_nats"], "o-", color=GENERATED, label="held out")
    axes.plot(seconds, curve["train_nats"], "s--", color=OTHER, label="training")
    axes.plot(seconds, curve["null_nats"], color=MEASURED, ls=":", label="null (shares of states)")
    edge = np.full(published.size, seconds.max() * 1.4)
    axes.plot(edge, published, "_", color=PAPER, ms=16, label="the paper's validation losses")
    axes.set_xscale("log")
    axes.xaxis.set_minor_locator(NullLocator())
    ticks = [25 * 2**k for k in range(10) if seconds.min() < 50 * 2**k < 4 * seconds.max()]
    axes.set_xticks(ticks, ticks)
    axes.set_xlabel("seconds of recording fitted on")
    axes.set_ylabel("cross-entropy [nats a bin]")
    axes.legend()
    return figure


def features(study: pd.DataFrame) -> Figure:
    """Information that sets of features hold about the state."""
    figure, axes = plt.subplots(figsize=(8, 3.2))
    place = np.arange(len(study))
    axes.axhline(0, color=MEASURED, lw=0.8)
    axes.plot(place - 0.12, study["paper, 1 epoch"], "_", color=PAPER, ms=16, mew=2,
              label="paper, 1 epoch")  # fmt: skip
    axes.plot(place, study["ours, 1 epoch"], "s", color=OTHER, label="ours, 1 epoch")
    spread = [study["ours, trained"] - study["low"], study["high"] - study["ours, trained"]]
    axes.errorbar(place + 0.12, study["ours, trained"], yerr=np.maximum(spread, 0), fmt="o",
                  color=GENERATED, capsize=3, label="ours, trained")  # fmt: skip
    axes.set_xticks(place, study["features"])
    axes.set_xlabel("set of features")
    axes.set_ylabel("information ratio")
    figure.legend(loc="outside upper center", ncols=3)
    return figure
