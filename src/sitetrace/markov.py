"""Transitions as a Markov chain for each level of activity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd

from sitetrace.labelled import Labelled

LEVELS = 5


@dataclass(frozen=True)
class Markov:
    """Markov chain with one transition matrix for each level of activity.

    Parameters
    ----------
    edges : numpy.ndarray
        Limits of the levels of the first activity column, shape (levels - 1,).
    column : str
        The activity column.
    probability : numpy.ndarray
        Shape (levels, states, states), rows sum to 1.
    """

    reach: ClassVar[int] = 0

    edges: np.ndarray
    column: str
    probability: np.ndarray

    def matrix(self, table: pd.DataFrame) -> np.ndarray:
        """Transition probabilities of each bin.

        Parameters
        ----------
        table : pandas.DataFrame
            Activity of the bins.

        Returns
        -------
        numpy.ndarray
            Shape (bins, states, states).
        """
        level = np.searchsorted(self.edges, table[self.column].to_numpy(), side="right")
        return self.probability[level]


def fit_markov(steps: Labelled, columns: tuple[str, ...]) -> Markov:
    """Count transitions by level of activity.

    Parameters
    ----------
    steps : Labelled
        States and activity of successive bins.
    columns : tuple of str
        Activity columns that drive the transitions.

    Returns
    -------
    Markov
        Fitted transitions.
    """
    column = "decode_tokens" if "decode_tokens" in columns else columns[0]
    drive = steps.table[column].to_numpy()[steps.use]
    edges = np.unique(np.quantile(drive, np.linspace(0, 1, LEVELS + 1)[1:-1]))
    level = np.searchsorted(edges, drive, side="right")
    counts = np.zeros((edges.size + 1, steps.n_states, steps.n_states))
    np.add.at(counts, (level, steps.previous[steps.use], steps.state[steps.use]), 1.0)
    # a row seldom seen leans on the level's steps.state frequencies, these on those of all levels
    overall = counts.sum(axis=(0, 1)) / counts.sum()
    by_level = counts.sum(axis=1, keepdims=True) + overall
    counts += by_level / by_level.sum(axis=2, keepdims=True)
    return Markov(edges, column, counts / counts.sum(axis=2, keepdims=True))
