"""Fit of the kind `states`: the number of states and the transitions by cross-validation."""

from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from sitetrace.core.files import require
from sitetrace.core.types import LEAST_SAMPLES, Run
from sitetrace.evaluate.metrics import scores
from sitetrace.power.idle import Idle
from sitetrace.power.states import labels as labelled
from sitetrace.power.states import mixture as mixtures
from sitetrace.power.states import transitions as kinds
from sitetrace.power.states.bigru import fit_bigru
from sitetrace.power.states.mixture import Emissions, Mixture, fit_mixture
from sitetrace.power.states.model import StatesModel
from sitetrace.serving.activity import COLUMNS, PAPER_COLUMNS
from sitetrace.serving.calibration import calibrate

FITS = {"markov": kinds.fit_markov, "logit": kinds.fit_logit, "trees": kinds.fit_trees}
FITS |= {"bigru": fit_bigru}
FOLDS, DRAWS, SCORED = 4, 5, ("ks", "acf_r2", "energy_error_pct")
CANDIDATES = tuple(range(8, 17))  # numbers of states that are tried
KS_UNIT, ACF_UNIT, ENERGY_UNIT_PCT = 0.10, 0.05, 1.5  # one unit of loss: what is aimed at


def fit_states(
    runs: list[Run], provenance: dict, transitions: str, n_states: int | None, **how: Any
) -> StatesModel:
    """Fit engine, idle power, states, transitions and emissions; `how` as `fitting.fit`."""
    options, seed = {name: how[name] for name in ("emissions", "columns", "seed")}, how["seed"]
    (server, calibrated), dt = calibrate(runs), runs[0].dt
    frame = labelled.prepare(runs, server, dt)
    idle = labelled.idle_of(frame)
    working, power_w = labelled.usable(frame, idle)[1], frame["power_w"].to_numpy()
    few = f"{working.sum()} samples above idle while requests run, fewer than {LEAST_SAMPLES}"
    mend = "give a longer recording, or check that both clocks agree"
    require(working.sum() >= LEAST_SAMPLES, f"run {runs[0].name}", few, mend)
    tried, selection = partial(cross_validate, frame, idle, dt, **options), provenance["selection"]
    if n_states is None:
        # the net would take too long: logit stands for it
        pilot = "logit" if transitions in ("auto", "bigru") else transitions
        bic = zip(CANDIDATES, mixtures.bic_curve(power_w[working], CANDIDATES, seed)["bic"])
        rows = [{"n_states": k} | tried(pilot, k) | {"bic": value} for k, value in bic]
        selection["n_states"] = rows
        n_states = min(rows, key=lambda row: row["ks"])["n_states"]
    if transitions == "auto":
        rows = [{"kind": kind} | tried(kind, n_states) for kind in kinds.KINDS]
        selection["transitions"] = rows
        transitions = min(rows, key=lambda row: row["loss"])["kind"]
    mixture, training = fit_mixture(power_w[working], n_states, seed), {}
    net = {"seed": seed, "checkpoint": how["checkpoint"], "record": training}
    net = net if transitions == "bigru" else {}
    parts = (transitions, how["emissions"], how["columns"], np.ones(len(frame), dtype=bool))
    fitted = fit_parts(frame, idle, mixture, *parts, **net)
    # what the fit has seen, so that generating can warn outside of it
    seen = {"active": int(frame["active"].max())}
    for name in ("input_tokens", "output_tokens"):
        seen[name] = int(max(run.requests[name].max() for run in runs))
    provenance = provenance | calibrated | ({"training": training} if training else {})
    parts = (runs[0].configuration, dt, server, idle, mixture, *fitted)
    return StatesModel(*parts, (float(power_w.min()), float(power_w.max())), seen, provenance)


def fit_parts(
    frame: pd.DataFrame, idle: Idle, mixture: Mixture, kind, emissions, columns, keep, **net: Any
) -> tuple[kinds.Separable | kinds.Trees, Emissions]:
    """Fit transitions and emissions on the kept samples; `net` goes to `fit_bigru`."""
    steps = labelled.label(frame, idle, mixture, keep)
    columns = columns or (PAPER_COLUMNS if kind == "bigru" else COLUMNS)
    transitions = FITS[kind](steps, columns, **net)
    return transitions, mixtures.fit_emissions(emissions, labelled.stretches(steps, keep), mixture)


def cross_validate(
    frame: pd.DataFrame, idle: Idle, dt: Fraction, kind: str, n_states: int, **options: Any
) -> dict[str, float]:
    """Score free runs over blocks of time that the fit did not see; options as `fitting.fit`."""
    # medians of draws, samples without load as measured; nats a bin of the next state; the loss
    loaded, working = labelled.usable(frame, idle)
    power_w = frame["power_w"].to_numpy()
    generated, seed = np.tile(power_w, (DRAWS, 1)), options["seed"]
    likelihood, n_bins, net = 0.0, 0, {"seed": seed} if kind == "bigru" else {}
    for fold, block in enumerate(np.array_split(np.flatnonzero(loaded), FOLDS)):
        span = np.arange(block[0], block[-1] + 1)
        keep = np.ones(len(frame), dtype=bool)
        keep[span] = False
        mixture = fit_mixture(power_w[working & keep], n_states, seed)
        how = (kind, options["emissions"], options["columns"], keep)
        parts = fit_parts(frame, idle, mixture, *how, **net)
        labels, unseen = labelled.label(frame, idle, mixture), frame.iloc[span]
        limits = (float(power_w[keep].min()), float(power_w[keep].max()))
        # a model that can draw, without what only a file needs
        model = StatesModel(None, dt, None, idle, mixture, *parts, limits, {}, {})
        before, state, use = (each[span] for each in (labels.previous, labels.state, labels.use))
        for draw in range(DRAWS):
            rng = np.random.default_rng([seed, fold, draw])
            states = model.draw_states(unseen, rng.random(span.size), int(before[0]))
            generated[draw, span] = model.draw_power(states, unseen, rng)
        likelihood += use.sum() * kinds.log_likelihood(parts[0], unseen, before, state, use)
        n_bins += use.sum()
    drawn = [scores(power_w, draw, float(dt)) for draw in generated]
    found = {name: float(np.median([score[name] for score in drawn])) for name in SCORED}
    loss = found["ks"] / KS_UNIT + (1 - found["acf_r2"]) / ACF_UNIT
    loss += found["energy_error_pct"] / ENERGY_UNIT_PCT
    return found | {"log_likelihood": float(likelihood / n_bins), "loss": loss}
