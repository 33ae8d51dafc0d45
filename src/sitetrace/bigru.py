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
    """Bidirectional GRU over the activity of a whole series, and a softmax in each bin.

    The net of arXiv:2603.18383: its probabilities do not depend on the state before, so that a
    state persists only as far as the activity makes it certain. It sees the schedule's future.

    Parameters
    ----------
    columns : tuple of str
        Activity columns.
    center, scale : numpy.ndarray
        Standardisation of the columns, shape (columns,).
    input_weight, input_bias : numpy.ndarray
        Of both directions, shapes (2, 3 hidden, columns) and (2, 3 hidden).
    hidden_weight, hidden_bias : numpy.ndarray
        Of both directions, shapes (2, 3 hidden, hidden) and (2, 3 hidden).
    head, head_bias : numpy.ndarray
        Linear layer on both directions' states, shapes (states, 2 hidden) and (states,).
    """

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
        """Transition probabilities of each bin.

        Parameters
        ----------
        table : pandas.DataFrame
            Activity of the bins, a whole series.

        Returns
        -------
        numpy.ndarray
            Shape (bins, states, states), the same for every previous state (a view).
        """
        from scipy.special import softmax

        scaled = (table[list(self.columns)].to_numpy(dtype=float) - self.center) / self.scale
        share = softmax(self.logits(scaled), axis=1)
        n_bins, n_states = share.shape
        return np.broadcast_to(share[:, None, :], (n_bins, n_states, n_states))

    def logits(self, scaled: np.ndarray) -> np.ndarray:
        """Scores of the states in each bin.

        Parameters
        ----------
        scaled : numpy.ndarray
            Standardised columns of a whole series, shape (bins, columns).

        Returns
        -------
        numpy.ndarray
            Shape (bins, states).
        """
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
    """Train the net as the paper does, on all bins of the recordings.

    Idle is one of its states, so that bins before the load count too. Of several recordings the
    last by a seeded permutation validate (15%, at least one); of a single one its last fifth.

    Parameters
    ----------
    steps : Labelled
        States and activity of successive bins.
    columns : tuple of str
        Activity columns that drive the transitions.
    seed : int
        Seed of the weights that training begins with, and of the permutation.
    checkpoint : Path or str, optional
        File from which training goes on, and to which it is saved on the way.
    record : dict, optional
        Is given the loss by epoch.
    **limits
        ``hidden`` and ``epochs`` of `sitetrace.gru_training.train`, where not the paper's.

    Returns
    -------
    BiGRU
        Weights of the epoch with the least validation loss.

    Raises
    ------
    InputError
        If torch is not installed, or the checkpoint is of another training.
    """
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
