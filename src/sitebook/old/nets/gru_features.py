"""Labels and features for nets that are studied, and what a net makes of them in nats."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from sitetrace.core.types import Run
from sitetrace.power.states.bigru import BiGRU
from sitetrace.power.states.labels import TrainingBins, label, prepare
from sitetrace.power.states.model import StatesModel
from sitetrace.power.states.transitions import log_likelihood
from sitetrace.serving.activity import COLUMNS
from sitetrace.serving.engine import simulate


def labelled(model: StatesModel, runs: list[Run]) -> TrainingBins:
    """Label recordings with a model's states, beside all features of the study."""
    frame = prepare(runs, model.server, model.dt)
    events = pd.concat([_events(run, model) for run in runs], ignore_index=True)
    labels = label(frame, model.idle, model.mixture)
    return replace(labels, table=pd.concat([frame[list(COLUMNS)], events], axis=1))


def _events(run: Run, model: StatesModel) -> pd.DataFrame:
    """Count what arrives and what starts in each bin of a recording."""
    fate = simulate(run.requests, model.server).requests
    ends = run.samples["time_s"].to_numpy()

    def summed(times: str, amount: pd.Series | float) -> np.ndarray:
        order = np.argsort(fate[times].to_numpy(), kind="stable")
        amounts = np.broadcast_to(np.asarray(amount, dtype=float), len(fate))[order]
        total = np.r_[0.0, np.cumsum(amounts)]
        sides = (ends - float(model.dt), ends)
        before, after = (np.searchsorted(fate[times].to_numpy()[order], t, "right") for t in sides)
        return total[after] - total[before]

    arriving = summed("arrival_s", fate["input_tokens"])
    return pd.DataFrame(
        {
            "arriving": summed("arrival_s", 1.0),
            "input_arriving": arriving,
            "output_arriving": summed("arrival_s", fate["output_tokens"]),
            "log_input_arriving": np.log1p(arriving),
            "input_starting": summed("start_s", fate["input_tokens"]),
        }
    )


def cross_entropy(net: BiGRU, steps: TrainingBins, pieces: list[tuple[int, int, int]]) -> float:
    """Mean of -ln P(state) over unbroken stretches, each a series of its own."""
    total = n_bins = 0
    for _, begin, end in pieces:
        seen = (steps.previous[begin:end], steps.state[begin:end], np.ones(end - begin, dtype=bool))
        total -= log_likelihood(net, steps.table.iloc[begin:end], *seen) * (end - begin)
        n_bins += end - begin
    return float(total / n_bins)


def null_entropy(steps: TrainingBins, pieces: list[tuple[int, int, int]]) -> float:
    """Entropy of the states' frequencies."""
    from scipy.stats import entropy

    state = np.concatenate([steps.state[begin:end] for _, begin, end in pieces])
    return float(entropy(np.bincount(state)))
