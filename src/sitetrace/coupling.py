"""States without a classifier: coupled to the active count, or drawn from the weights alone.

The weights of the paper's state classifier are not published. Both kinds here need nothing but
the weights of its mixtures. The coupling is a rule of sitetrace and not of arXiv:2603.18383;
independent draws are what the paper's repository calls marginal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd

# a variance above the mean by less than this share is the mean's: Poisson
EXCESS = 1e-6
# counts rarer than this stand for an interval of this length
LEAST_SHARE = 1e-9


@dataclass(frozen=True)
class Coupled:
    """States in the order of the active count: quantile coupling, a rule of sitetrace."""

    reach: ClassVar[int] = 0

    active_mean: float
    active_sd: float
    weight: np.ndarray

    def matrix(self, table: pd.DataFrame) -> np.ndarray:
        """Transition probabilities of each bin."""
        counts, place = np.unique(table["active"].to_numpy(), return_inverse=True)
        return _whatever_was_before(self.shares(counts)[place])

    def shares(self, counts: np.ndarray) -> np.ndarray:
        """Probability of each state given the active count."""
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
    """Distribution of a count of known mean and standard deviation."""
    from scipy.stats import nbinom, poisson

    if sd**2 <= mean * (1 + EXCESS):
        return poisson(mean)
    return nbinom(mean**2 / (sd**2 - mean), mean / sd**2)


def _whatever_was_before(share: np.ndarray) -> np.ndarray:
    """Give every previous state the same probabilities, and idle outside the mixture none."""
    share = np.pad(share, ((0, 0), (1, 0)))
    n_bins, n_states = share.shape
    return np.broadcast_to(share[:, None, :], (n_bins, n_states, n_states))
