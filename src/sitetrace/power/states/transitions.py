"""Which power state comes next: P(state | previous state, activity), four ways to learn it.

State 0 is idle; the mixture's states follow from 1. Every kind has a method ``matrix(table)``:
probabilities of shape (bins, previous state, state), and says its ``reach``: how many bins before a
bin it looks at; None if at the whole series. `walk` goes from state to state, so that a state
persists as it did in the measured runs; Markov, logit and trees have a compiled ``path`` for it,
which works out the probabilities after the state that is there alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from sitetrace.power.states.bigru import BiGRU
from sitetrace.power.states.chains import Coupled, Independent, Markov, fit_markov, walk_matrix
from sitetrace.power.states.gru_training import fit_bigru
from sitetrace.power.states.labels import TrainingBins
from sitetrace.power.states.logit import Logit, fit_logit
from sitetrace.power.states.trees import Trees, fit_trees
from sitetrace.serving.activity import COLUMNS, PAPER_COLUMNS

# training the net needs torch, an optional dependency: it is no candidate unless it is asked for
KINDS = ("markov", "logit", "trees")
FITS = {"markov": fit_markov, "logit": fit_logit, "trees": fit_trees, "bigru": fit_bigru}
# the last two are not learnt: see `sitetrace.power.states.chains`
Transitions = Markov | Logit | Trees | BiGRU | Coupled | Independent


def fit_transitions(
    kind: str,
    steps: TrainingBins,
    columns: tuple[str, ...] | None = None,
    **net: Any,  # noqa: ANN401
) -> Transitions:
    """Learn transitions driven by activity columns: all, but for the net the paper's two."""
    if columns is None:
        columns = PAPER_COLUMNS if kind == "bigru" else COLUMNS
    return FITS[kind](steps, columns, **net)


def walk(
    transitions: Transitions,
    table: Mapping[str, ArrayLike],
    quiet: np.ndarray,
    uniform: np.ndarray,
    start: int,
) -> np.ndarray:
    """Turn numbers from 0 to 1 into states; before their bins the table may hold earlier ones."""
    if isinstance(transitions, Markov | Logit | Trees):
        return transitions.path(table, quiet, uniform, start)
    table = pd.DataFrame(table)
    matrix = transitions.matrix(table)[len(table) - quiet.size :]
    return walk_matrix(matrix, quiet, uniform, start)


def log_likelihood(
    transitions: Transitions,
    table: pd.DataFrame,
    previous: np.ndarray,
    state: np.ndarray,
    use: np.ndarray,
) -> float:
    """Mean ln P(state | previous state, activity) of observed states, nats a bin."""
    matrix = transitions.matrix(table)
    chosen = matrix[np.arange(len(table)), previous, state][use]
    return float(np.log(np.maximum(chosen, 1e-12)).mean())
