"""Transitions as the paper's bidirectional GRU: states drawn bin by bin from the whole schedule."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd

from sitetrace.labelled import Labelled
from sitetrace.recurrence import states_along

CHUNK = 8192
SCALE_FLOOR = 1e-6
WEIGHTS = ("input_weight", "input_bias", "hidden_weight", "hidden_bias", "head", "head_bias")


@dataclass(frozen=True)
class BiGRU:
    """Bidirectional GRU over the activity of a whole series, and a softmax in each bin."""

    reach: ClassVar[None] = None

    columns: tuple[str, ...]
    center: np.ndarray
    scale: np.ndarray
    input_weight: np.ndarray
    input_bias: np.ndarray
    hidden_weight: np.ndarray
    hidden_bias: np.ndarray
    head: np.ndarray
    head_bias: np.ndarray

    def matrix(self, table: pd.DataFrame) -> np.ndarray:
        """Transition probabilities of each bin."""
        from scipy.special import softmax

        scaled = (table[list(self.columns)].to_numpy(dtype=float) - self.center) / self.scale
        share = softmax(self.logits(scaled), axis=1)
        n_bins, n_states = share.shape
        return np.broadcast_to(share[:, None, :], (n_bins, n_states, n_states))

    def logits(self, scaled: np.ndarray) -> np.ndarray:
        """Scores of the states in each bin."""
        weights = [getattr(self, name).astype(float) for name in WEIGHTS]
        input_weight, input_bias, hidden_weight, hidden_bias, head, head_bias = weights
        n_bins, hidden = len(scaled), hidden_weight.shape[2]
        score = np.tile(head_bias, (n_bins, 1))
        for way in (0, 1):
            # the second direction runs from the last bin to the first
            series, total = (scaled, score) if way == 0 else (scaled[::-1], score[::-1])
            part = np.ascontiguousarray(head[:, way * hidden : (way + 1) * hidden].T)
            state = np.zeros(hidden)
            for begin in range(0, n_bins, CHUNK):
                drive = series[begin : begin + CHUNK] @ input_weight[way].T + input_bias[way]
                states, _ = states_along(drive, hidden_weight[way], hidden_bias[way], state)
                total[begin : begin + CHUNK] += states @ part
                state = states[-1]
        return score


def fit_bigru(
    steps: Labelled,
    columns: tuple[str, ...],
    *,
    seed: int,
    checkpoint: Path | str | None = None,
    record: dict | None = None,
    **limits: int,
) -> BiGRU:
    """Train the net as the paper does, on all bins of the recordings."""
    from sitetrace.gru_training import hold_out, train

    fitting, validation = hold_out(steps.pieces, seed)
    features = steps.table[list(columns)].to_numpy(dtype=float)
    seen = np.concatenate([features[begin:end] for _, begin, end in fitting])
    center, scale = seen.mean(axis=0), np.maximum(seen.std(axis=0), SCALE_FLOOR)
    scaled = (features - center) / scale
    series, held_out = (
        [(scaled[begin:end], steps.state[begin:end]) for _, begin, end in part]
        for part in (fitting, validation)
    )
    options = {"seed": seed, "checkpoint": checkpoint} | limits
    weights, history = train(series, held_out, steps.n_states, **options)
    if record is not None:
        record.update(history)
    return BiGRU(columns, center, scale, **weights)
