"""Fit of the kind `states`: the number of states and the transitions by cross-validation."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sitetrace.core.files import InputError
from sitetrace.core.types import LEAST_SAMPLES, Run
from sitetrace.evaluate.metrics import scores
from sitetrace.power.idle import Idle
from sitetrace.power.load import longest_requests
from sitetrace.power.states.bigru import fit_bigru
from sitetrace.power.states.labels import (
    TrainingBins,
    idle_of,
    label,
    prepare,
    stretches,
    unbroken,
    usable,
)
from sitetrace.power.states.mixture import (
    Emissions,
    Mixture,
    bic_curve,
    fit_emissions,
    fit_mixture,
)
from sitetrace.power.states.model import StatesModel
from sitetrace.power.states.transitions import (
    KINDS,
    Separable,
    fit_logit,
    fit_markov,
    log_likelihood,
)
from sitetrace.power.states.trees import Trees, fit_trees
from sitetrace.serving.activity import COLUMNS, PAPER_COLUMNS
from sitetrace.serving.calibration import calibrate

FITS = {"markov": fit_markov, "logit": fit_logit, "trees": fit_trees, "bigru": fit_bigru}
FOLDS, DRAWS = 4, 5
# numbers of states that are tried
CANDIDATES = tuple(range(8, 17))
# what counts as one unit of loss: the aims for KS, 1 - ACF R2 and energy
KS_UNIT, ACF_UNIT, ENERGY_UNIT_PCT = 0.10, 0.05, 1.5


def fit_states(
    runs: list[Run],
    provenance: dict,
    transitions: str,
    n_states: int | None,
    emissions: str,
    columns: tuple[str, ...] | None,
    *,
    seed: int,
    checkpoint: Path | str | None,
) -> StatesModel:
    """Fit engine, idle power, states, transitions and emissions; options as `fitting.fit`."""
    server, told = calibrate(runs)
    dt = runs[0].dt
    frame = prepare(runs, server, dt)
    idle = idle_of(frame)
    _, working = usable(frame, idle)
    power_w = frame["power_w"].to_numpy()
    if working.sum() < LEAST_SAMPLES:
        raise InputError(
            f"run {runs[0].name}: {working.sum()} samples above idle while requests run, fewer "
            f"than {LEAST_SAMPLES}: give a longer recording, or check that both clocks agree"
        )
    selection: dict[str, list[dict]] = provenance["selection"]
    options = {"emissions": emissions, "columns": columns, "seed": seed}
    if n_states is None:
        # the net would take too long: logit stands for it
        pilot = "logit" if transitions in ("auto", "bigru") else transitions
        rows = [
            {"n_states": k, **cross_validate(frame, idle, dt, pilot, k, **options)}
            for k in CANDIDATES
        ]
        bic = bic_curve(power_w[working], CANDIDATES, seed)["bic"]
        selection["n_states"] = [row | {"bic": value} for row, value in zip(rows, bic, strict=True)]
        n_states = min(rows, key=lambda row: row["ks"])["n_states"]
    if transitions == "auto":
        rows = [
            {"kind": kind, **cross_validate(frame, idle, dt, kind, n_states, **options)}
            for kind in KINDS
        ]
        selection["transitions"] = rows
        transitions = min(rows, key=lambda row: row["loss"])["kind"]
    mixture = fit_mixture(power_w[working], n_states, seed)
    net, training = {}, {}
    if transitions == "bigru":
        net = {"seed": seed, "checkpoint": checkpoint, "record": training}
    everything = np.ones(len(frame), dtype=bool)
    fitted = fit_parts(frame, idle, mixture, transitions, emissions, columns, everything, **net)
    return StatesModel(
        configuration=runs[0].configuration,
        dt=dt,
        server=server,
        idle=idle,
        mixture=mixture,
        transitions=fitted[0],
        emissions=fitted[1],
        power_range_w=(float(power_w.min()), float(power_w.max())),
        # what the fit has seen, so that generating can warn outside of it
        fitted={"active": int(frame["active"].max())} | longest_requests(runs),
        provenance=provenance | told | ({"training": training} if training else {}),
    )


def fit_parts(
    frame: pd.DataFrame,
    idle: Idle,
    mixture: Mixture,
    kind: str,
    emissions: str,
    columns: tuple[str, ...] | None,
    keep: np.ndarray,
    **net: Any,
) -> tuple[Separable | Trees, Emissions]:
    """Fit transitions and emissions on the kept samples; `net` goes to `fit_bigru`."""
    labels = label(frame, idle, mixture)
    taught = (labels.previous, labels.state, labels.use & keep, mixture.n_states + 1)
    steps = TrainingBins(frame, *taught, unbroken(frame, keep))
    # all columns, but for the net the paper's two
    columns = columns or (PAPER_COLUMNS if kind == "bigru" else COLUMNS)
    transitions = FITS[kind](steps, columns, **net)
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
    """Score free runs over blocks of time that the fit did not see."""
    # KS, ACF R2 and energy error, medians of the draws over whole recordings in which the samples
    # without load are the measured ones; nats a bin of the next state; and the loss, in units.
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
            states = model.draw_states(frame.iloc[span], rng.random(span.size), start)
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
