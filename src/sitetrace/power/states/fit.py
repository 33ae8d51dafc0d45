"""Fit of the kind `states`: transitions and emissions, numbers of states by cross-validation."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd

from sitetrace.evaluate.metrics import scores
from sitetrace.power.idle import Idle
from sitetrace.power.states.labels import Labelled, label, stretches, unbroken, usable
from sitetrace.power.states.mixture import Emissions, Mixture, fit_emissions, fit_mixture
from sitetrace.power.states.model import StatesModel
from sitetrace.power.states.transitions import Transitions, fit_transitions, log_likelihood

FOLDS = 4
DRAWS = 5
# what counts as one unit of loss: the aims for KS, 1 - ACF R2 and energy
KS_UNIT, ACF_UNIT, ENERGY_UNIT_PCT = 0.10, 0.05, 1.5


def fit_parts(
    frame: pd.DataFrame,
    idle: Idle,
    mixture: Mixture,
    kind: str,
    emissions: str,
    columns: tuple[str, ...] | None,
    keep: np.ndarray,
    **net: Any,  # noqa: ANN401
) -> tuple[Transitions, Emissions]:
    """Fit transitions and emissions on the kept samples."""
    labels = label(frame, idle, mixture)
    taught = (labels.previous, labels.state, labels.use & keep, mixture.n_states + 1)
    steps = Labelled(frame, *taught, unbroken(frame, keep))
    transitions = fit_transitions(kind, steps, columns, **net)
    return transitions, fit_emissions(emissions, stretches(frame, labels, keep), mixture)


def cross_validate(
    frame: pd.DataFrame,
    idle: Idle,
    dt: Fraction,
    kind: str,
    n_states: int,
    *,
    emissions: str,
    columns: tuple[str, ...] | None,
    seed: int,
) -> dict[str, float]:
    """Score free runs over blocks of time that the fit did not see.

    KS, ACF R2 and energy error, medians of the draws over whole recordings in which the samples
    without load are the measured ones; nats a bin of the next state; and the loss, in units.
    """
    loaded, working = usable(frame, idle)
    power_w = frame["power_w"].to_numpy()
    rows = np.flatnonzero(loaded)
    generated = np.tile(power_w, (DRAWS, 1))
    likelihood, n_bins = 0.0, 0
    net = {"seed": seed} if kind == "bigru" else {}
    for fold, block in enumerate(np.array_split(rows, FOLDS)):
        span = np.arange(block[0], block[-1] + 1)
        keep = np.ones(len(frame), dtype=bool)
        keep[span] = False
        mixture = fit_mixture(power_w[working & keep], n_states, seed)
        parts = fit_parts(frame, idle, mixture, kind, emissions, columns, keep, **net)
        labels = label(frame, idle, mixture)
        limits = (float(power_w[keep].min()), float(power_w[keep].max()))
        # a model that can draw, without what only a file needs
        model = StatesModel(None, dt, None, idle, mixture, *parts, limits, {}, {})
        for draw in range(DRAWS):
            rng = np.random.default_rng([seed, fold, draw])
            start = int(labels.previous[span[0]])
            states = model.draw_states(frame.iloc[span], rng, start)
            generated[draw, span] = model.draw_power(states, frame.iloc[span], rng)
        told = labels.use[span]
        likelihood += told.sum() * log_likelihood(
            parts[0], frame.iloc[span], labels.previous[span], labels.state[span], told
        )
        n_bins += told.sum()
    drawn = [scores(power_w, draw, float(dt)) for draw in generated]
    ks, acf_r2, energy = (
        float(np.median([score[name] for score in drawn]))
        for name in ("ks", "acf_r2", "energy_error_pct")
    )
    loss = ks / KS_UNIT + (1 - acf_r2) / ACF_UNIT + energy / ENERGY_UNIT_PCT
    return {
        "ks": ks,
        "acf_r2": acf_r2,
        "energy_error_pct": energy,
        "log_likelihood": float(likelihood / n_bins),
        "loss": loss,
    }
