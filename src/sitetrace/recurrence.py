"""The gated recurrent unit of one direction: its states along a series, and their gradient.

With s the logistic function, x the input and h the state before, each bin takes

    r = s(U_r x + c_r + W_r h + b_r)        z = s(U_z x + c_z + W_z h + b_z)
    n = tanh(U_n x + c_n + r (W_n h + b_n))     h' = (1 - z) n + z h

in the layout of ``torch.nn.GRU``: the rows of r, z and n one below the other. torch spends its
time between the small steps of such a series: compiled, they take a tenth of it.
"""

from __future__ import annotations

import math

import numba
import numpy as np


@numba.njit(cache=True)
def states_along(drive, weight, bias, start):  # noqa: ANN001, ANN201
    """Follow the states along a series."""
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
    """Carry a loss's gradient back through a series that began at the zero state."""
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
