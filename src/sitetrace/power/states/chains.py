"""Transitions that are tables: Markov chains by load, states coupled to it or independent.

The weights of the paper's state classifier are not published. `Coupled` and `Independent` need
nothing but the weights of its mixtures: the coupling is a rule of sitetrace and not of
arXiv:2603.18383, independent draws are what the paper's repository calls marginal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numba
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from sitetrace.power.states.labels import TrainingBins

LEVELS = 5
# a variance above the mean by less than this share is the mean's: Poisson
EXCESS = 1e-6
# counts rarer than this stand for an interval of this length
LEAST_SHARE = 1e-9


@dataclass(frozen=True)
class Markov:
    """Markov chain with one transition matrix for each level of activity."""

    reach: ClassVar[int] = 0

    edges: np.ndarray  # limits of the levels, shape (levels - 1,)
    column: str  # of activity, that chooses the level
    probability: np.ndarray  # shape (levels, previous, states)

    def matrix(self, table: pd.DataFrame) -> np.ndarray:
        """Transition probabilities of each bin."""
        level = np.searchsorted(self.edges, table[self.column].to_numpy(), side="right")
        return self.probability[level]

    def path(
        self, table: Mapping[str, ArrayLike], quiet: np.ndarray, uniform: np.ndarray, start: int
    ) -> np.ndarray:
        """Draw a sequence of states, as by `matrix`."""
        drive = np.asarray(table[self.column], dtype=float)
        drive = drive[drive.size - quiet.size :]
        cumulated = np.cumsum(self.probability, axis=2)
        return _walk_levels(drive, self.edges, cumulated, quiet, uniform, start)


def fit_markov(steps: TrainingBins, columns: tuple[str, ...]) -> Markov:
    """Count transitions by level of activity: fifths of decode tokens, else of the first column."""
    column = "decode_tokens" if "decode_tokens" in columns else columns[0]
    drive = steps.table[column].to_numpy()[steps.use]
    edges = np.unique(np.quantile(drive, np.linspace(0, 1, LEVELS + 1)[1:-1]))
    level = np.searchsorted(edges, drive, side="right")
    counts = np.zeros((edges.size + 1, steps.n_states, steps.n_states))
    np.add.at(counts, (level, steps.previous[steps.use], steps.state[steps.use]), 1.0)
    # a row seldom seen leans on the level's state frequencies, these on those of all levels
    overall = counts.sum(axis=(0, 1)) / counts.sum()
    by_level = counts.sum(axis=1, keepdims=True) + overall
    counts += by_level / by_level.sum(axis=2, keepdims=True)
    return Markov(edges, column, counts / counts.sum(axis=2, keepdims=True))


@dataclass(frozen=True)
class Coupled:
    """States in the order of the active count: the busier the server, the higher the state."""

    reach: ClassVar[int] = 0

    active_mean: float
    active_sd: float
    weight: np.ndarray  # of each state of the mixture, lowest mean power first

    def matrix(self, table: pd.DataFrame) -> np.ndarray:
        """Transition probabilities of each bin."""
        counts, place = np.unique(table["active"].to_numpy(), return_inverse=True)
        return _whatever_was_before(self.shares(counts)[place])

    def shares(self, counts: np.ndarray) -> np.ndarray:
        """Probability of each state given the active count, shape (counts, states)."""
        # The interval from F(A - 1) to F(A) of a count A, F its distribution function, is laid over
        # the cumulated weights: a state's probability is its share of it. When A follows the
        # assumed distribution, every state gets its weight.
        distribution = active_distribution(self.active_mean, self.active_sd)
        high = np.maximum(distribution.cdf(counts), LEAST_SHARE)
        low = np.minimum(distribution.cdf(counts - 1), high - LEAST_SHARE)
        edges = np.r_[0.0, np.cumsum(self.weight) / self.weight.sum()]
        overlap = np.minimum(high[:, None], edges[1:]) - np.maximum(low[:, None], edges[:-1])
        overlap = np.maximum(overlap, 0.0)
        return overlap / overlap.sum(axis=1, keepdims=True)


@dataclass(frozen=True)
class Independent:
    """States drawn from the mixture's weights in every bin, whatever the server does."""

    reach: ClassVar[int] = 0

    weight: np.ndarray

    def matrix(self, table: pd.DataFrame) -> np.ndarray:
        """Transition probabilities of each bin."""
        share = self.weight / self.weight.sum()
        return _whatever_was_before(np.broadcast_to(share, (len(table), share.size)))


def active_distribution(mean: float, sd: float):  # noqa: ANN201
    """Negative binomial of a known mean and standard deviation; Poisson if that is no wider."""
    from scipy.stats import nbinom, poisson

    if sd**2 <= mean * (1 + EXCESS):
        return poisson(mean)
    return nbinom(mean**2 / (sd**2 - mean), mean / sd**2)


def _whatever_was_before(share: np.ndarray) -> np.ndarray:
    """Give every previous state the same probabilities, and idle outside the mixture none."""
    share = np.pad(share, ((0, 0), (1, 0)))
    n_bins, n_states = share.shape
    return np.broadcast_to(share[:, None, :], (n_bins, n_states, n_states))


@numba.njit(cache=True, nogil=True)
def walk_matrix(matrix, quiet, uniform, start):
    """Draw one state after the other by probabilities of shape (bins, previous, states)."""
    # Bins that are quiet are idle; numbers from 0 to 1 decide in the others.
    path = np.empty(quiet.size, dtype=np.int64)
    state = start
    for i in range(quiet.size):
        if quiet[i]:
            state = 0
        else:
            total, target = 0.0, uniform[i]
            previous, state = state, matrix.shape[2] - 1
            for k in range(matrix.shape[2]):
                total += matrix[i, previous, k]
                if target < total:
                    state = k
                    break
        path[i] = state
    return path


@numba.njit(cache=True, nogil=True)
def _walk_levels(drive, edges, cumulated, quiet, uniform, start):
    """Draw states by the cumulated probabilities of a chain for each level of a drive."""
    path = np.empty(quiet.size, dtype=np.int64)
    state, last = start, cumulated.shape[2] - 1
    for i in range(quiet.size):
        if quiet[i]:
            state = 0
        else:
            level = 0
            while level < edges.size and edges[level] <= drive[i]:
                level += 1
            row = cumulated[level, state]
            state = 0
            while state < last and row[state] <= uniform[i]:
                state += 1
        path[i] = state
    return path
