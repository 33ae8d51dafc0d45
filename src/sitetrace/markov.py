"""Transitions as a Markov chain for each level of activity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from sitetrace.labelled import Labelled
from sitetrace.walking import walk_levels

LEVELS = 5


@dataclass(frozen=True)
class Markov:
    """Markov chain with one transition matrix for each level of activity."""

    reach: ClassVar[int] = 0

    edges: np.ndarray
    column: str
    probability: np.ndarray

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
        return walk_levels(drive, self.edges, cumulated, quiet, uniform, start)


def fit_markov(steps: Labelled, columns: tuple[str, ...]) -> Markov:
    """Count transitions by level of activity."""
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
