"""Where a generated trace goes wrong: its states exchanged for better and for worse ones.

The paper's repository calls them oracle (states of the recording), predicted (drawn by the model)
and marginal (drawn from the states' shares). A fourth stands between: each bin's state drawn with
the probability that the model gives it, but whatever the bin before was.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from sitebook.old.judging.comparison import open_run
from sitebook.old.judging.splits import Part, Split
from sitetrace.core.types import cut_run
from sitetrace.evaluate.metrics import scores
from sitetrace.power.fitting import fit
from sitetrace.power.states.fit import cross_validate
from sitetrace.power.states.labels import TrainingBins, label, prepare, stretches
from sitetrace.power.states.model import StatesModel

SOURCES = ("oracle", "predicted", "forgetful", "marginal")
EMISSIONS = ("gaussian", "ar1", "ar1_deviation", "empirical")
SCORES = ("ks", "acf_r2", "energy_error_pct", "energy_error_signed_pct")
GRID = 4000


def labelled(model: StatesModel, part: Part) -> tuple[pd.DataFrame, TrainingBins]:
    """Lay the recording of a part beside its simulated activity, and label it."""
    run = cut_run(open_run(part.run), part.start_s, part.stop_s)
    frame = prepare([run], model.server, model.dt)
    return frame, label(frame, model.idle, model.mixture)


def on_fitted_board(model: StatesModel, power_w: np.ndarray, idle_w: float) -> np.ndarray:
    """Carry power of another board to the one that the model was fitted on."""
    grid_w = np.linspace(0.0, 1.5 * max(model.power_range_w[1], power_w.max()), GRID)
    return np.interp(power_w, model.rebase(grid_w, idle_w), grid_w)


def bin_probabilities(model: StatesModel, table: pd.DataFrame) -> np.ndarray:
    """Probability of each state in each bin, when all that went before is unknown."""
    matrix = model.transitions.matrix(table)
    quiet = table["quiet_for_s"].to_numpy() >= model.idle.hold_s
    idle = np.eye(matrix.shape[2])[0]
    share = np.empty((len(table), idle.size))
    last = idle
    for i, still in enumerate(quiet):
        last = share[i] = idle if still else last @ matrix[i]
    return share


def draw_independent(share: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw each bin's state by itself."""
    reached = np.cumsum(share, axis=1) / share.sum(axis=1, keepdims=True)
    return (rng.random(len(share))[:, None] >= reached[:, :-1]).sum(axis=1)


def decompose(
    model: StatesModel, fitted: Part, judged: Part, draws: int, seed: int
) -> pd.DataFrame:
    """Score every source of states with every kind of emissions on judged seconds."""
    _, taught = labelled(model, fitted)
    counts = np.bincount(taught.state, minlength=model.mixture.n_states + 1)
    run = open_run(judged.run)
    idle_w = run.idle_before_load_w() or model.idle.mean_w
    frame = prepare([run], model.server, model.dt)
    own = frame.assign(power_w=on_fitted_board(model, frame["power_w"].to_numpy(), idle_w))
    known = label(own, model.idle, model.mixture).state
    shares = {
        "forgetful": bin_probabilities(model, frame),
        "marginal": np.broadcast_to(counts / counts.sum(), (len(frame), counts.size)),
    }
    since_s = run.samples["time_s"].to_numpy() - run.requests["arrival_s"].iloc[0]
    rows = (since_s >= (-np.inf if judged.start_s is None else judged.start_s)) & (
        since_s < (np.inf if judged.stop_s is None else judged.stop_s)
    )
    measured_w = frame["power_w"].to_numpy()[rows]
    found = []
    for draw in range(draws):
        for source in SOURCES:
            rng = np.random.default_rng([seed, draw])
            if source == "oracle":
                states = known
            elif source == "predicted":
                states = model.draw_states(frame, rng.random(len(frame)))
            else:
                states = draw_independent(shares[source], rng)
            for kind in EMISSIONS:
                emitting = replace(model, emissions=replace(model.emissions, kind=kind))
                power_w = emitting.draw_power(states, frame, np.random.default_rng([seed, draw, 1]))
                power_w = model.rebase(power_w, idle_w)[rows]
                scored = scores(measured_w, power_w, float(model.dt))
                told = {"judged": judged.run, "source": source, "emissions": kind, "draw": draw}
                found.append(told | {name: scored[name] for name in SCORES})
    return pd.DataFrame(found)


def decompose_split(model: StatesModel, parts: Split, draws: int, seed: int) -> pd.DataFrame:
    """Decompose every judged part of a split; arguments and columns as `decompose`."""
    tables = [decompose(model, parts.fit[0], judged, draws, seed) for judged in parts.judge]
    return pd.concat(tables, ignore_index=True)


def with_states(parts: Split, n_states: int, seed: int) -> StatesModel:
    """Fit a model with a stated number of states and logit transitions."""
    part = parts.fit[0]
    cut = {"start_s": part.start_s, "stop_s": part.stop_s}
    return fit([open_run(part.run)], seed=seed, transitions="logit", n_states=n_states, **cut)


def fitted_stretches(model: StatesModel, parts: Split) -> list[tuple[np.ndarray, np.ndarray]]:
    """Cut the fitting seconds into unbroken stretches of labelled power above idle."""
    frame, labels = labelled(model, parts.fit[0])
    return stretches(labels, np.ones(len(frame), dtype=bool))


def emission_scores(model: StatesModel, parts: Split, counts: list[int], seed: int) -> pd.DataFrame:
    """Cross-validate free runs with each kind of emissions on the fitting seconds."""
    frame, _ = labelled(model, parts.fit[0])
    rows = []
    for n_states in counts:
        for kind in EMISSIONS:
            options = {"emissions": kind, "columns": None, "seed": seed}
            found = cross_validate(frame, model.idle, model.dt, "logit", n_states, **options)
            kept = {key: found[key] for key in ("ks", "acf_r2", "energy_error_pct")}
            rows.append({"n_states": n_states, "emissions": kind} | kept)
    return pd.DataFrame(rows)
