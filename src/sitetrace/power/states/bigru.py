"""The paper's bidirectional GRU: the states it predicts without torch, and its recurrence.

With s the logistic function, x the input and h the state before, each bin takes

    r = s(U_r x + c_r + W_r h + b_r)            z = s(U_z x + c_z + W_z h + b_z)
    n = tanh(U_n x + c_n + r (W_n h + b_n))     h' = (1 - z) n + z h

in the layout of ``torch.nn.GRU``: the rows of r, z and n one below the other. torch spends its time
between the small steps of such a series: compiled, they take a tenth of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numba
import numpy as np
import pandas as pd

# bins that are worked on at once
CHUNK = 8192
WEIGHTS = ("input_weight", "input_bias", "hidden_weight", "hidden_bias", "head", "head_bias")


@dataclass(frozen=True)
class BiGRU:
    """Bidirectional GRU over the activity of a whole series, and a softmax in each bin."""

    # Its probabilities do not depend on the state before, so that a state persists only as far as
    # the activity makes it certain; and it sees the schedule's future.

    reach: ClassVar[None] = None

    columns: tuple[str, ...]
    center: np.ndarray  # standardisation of the columns, as `scale`
    scale: np.ndarray
    # of both directions: U, c, W, b
    input_weight: np.ndarray
    input_bias: np.ndarray
    hidden_weight: np.ndarray
    hidden_bias: np.ndarray
    # from both directions' states to the scores of the states of power
    head: np.ndarray
    head_bias: np.ndarray

    def matrix(self, table: pd.DataFrame) -> np.ndarray:
        """Probabilities of the states in each bin, the same after every state (a view)."""
        from scipy.special import softmax

        scaled = (table[list(self.columns)].to_numpy(dtype=float) - self.center) / self.scale
        share = softmax(self.logits(scaled), axis=1)
        n_bins, n_states = share.shape
        return np.broadcast_to(share[:, None, :], (n_bins, n_states, n_states))

    def logits(self, scaled: np.ndarray) -> np.ndarray:
        """Scores of the states in each bin, given standardised columns of a whole series."""
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


@numba.njit(cache=True)
def states_along(drive, weight, bias, start):  # noqa: ANN001, ANN201
    """Follow the states along a series of one direction: states, and gates for the gradient."""
    # `drive` is U x + c, shape (bins, 3 hidden); `weight` and `bias` are W and b; gates are r, z, n
    # and W_n h + b_n side by side.
    n_bins, size = drive.shape[0], start.size
    columns = weight.T.copy()
    hidden = np.empty((n_bins, size), dtype=drive.dtype)
    gates = np.empty((n_bins, 4 * size), dtype=drive.dtype)
    before = start
    one = drive.dtype.type(1)
    for i in range(n_bins):
        pull = bias.copy()
        for j in range(size):
            for k in range(3 * size):
                pull[k] += before[j] * columns[j, k]
        for j in range(size):
            r = one / (one + math.exp(-(drive[i, j] + pull[j])))
            z = one / (one + math.exp(-(drive[i, size + j] + pull[size + j])))
            inner = pull[2 * size + j]
            n = math.tanh(drive[i, 2 * size + j] + r * inner)
            hidden[i, j] = (one - z) * n + z * before[j]
            gates[i, j] = r
            gates[i, size + j] = z
            gates[i, 2 * size + j] = n
            gates[i, 3 * size + j] = inner
        before = hidden[i]
    return hidden, gates


@numba.njit(cache=True)
def gradient_along(slope, hidden, gates, weight):  # noqa: ANN001, ANN201
    """Carry a loss's gradient by each state back through a series that began at the zero state."""
    # Gives the gradients by U x + c and by W h + b of each bin, shape (bins, 3 hidden) each.
    n_bins, size = hidden.shape
    by_drive = np.empty((n_bins, 3 * size), dtype=hidden.dtype)
    by_pull = np.empty((n_bins, 3 * size), dtype=hidden.dtype)
    carried = np.zeros(size, dtype=hidden.dtype)
    one = hidden.dtype.type(1)
    for i in range(n_bins - 1, -1, -1):
        for j in range(size):
            r, z = gates[i, j], gates[i, size + j]
            n, inner = gates[i, 2 * size + j], gates[i, 3 * size + j]
            before = hidden[i - 1, j] if i > 0 else hidden.dtype.type(0)
            total = slope[i, j] + carried[j]
            by_n = total * (one - z) * (one - n * n)
            by_r = by_n * inner * r * (one - r)
            by_z = total * (before - n) * z * (one - z)
            by_drive[i, j] = by_pull[i, j] = by_r
            by_drive[i, size + j] = by_pull[i, size + j] = by_z
            by_drive[i, 2 * size + j] = by_n
            by_pull[i, 2 * size + j] = by_n * r
            carried[j] = total * z
        for k in range(3 * size):
            for j in range(size):
                carried[j] += by_pull[i, k] * weight[k, j]
    return by_drive, by_pull
