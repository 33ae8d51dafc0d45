"""Which power state comes next: P(state | previous state, activity), three ways.

State 0 is idle; the mixture's states follow from 1. Every kind has one method,
``matrix(table)``: probabilities of shape (bins, previous state, state). `sample_path` walks
through them, so that a state persists as it did in the measured runs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
import pandas as pd

from sitetrace.activity import COLUMNS

KINDS = ("markov", "logit", "trees")
LEVELS = 5
LOGIT_PENALTY = 1.0
TREE_ROUNDS = 40
TREE_DEPTH = 2
TREE_RATE = 0.1
CHUNK = 16384


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


@dataclass(frozen=True)
class Logit:
    """Multinomial logit of activity (this bin and the one before) and the previous state.

    Parameters
    ----------
    columns : tuple of str
        Activity columns.
    center, scale : numpy.ndarray
        Standardisation of the features, shape (features,).
    weight : numpy.ndarray
        Weights of the features, shape (states, features).
    intercept : numpy.ndarray
        Shape (states,); minus infinity would be a state never seen: it is -50 there.
    lag : numpy.ndarray
        Weight of the previous state, shape (previous, states).
    """

    columns: tuple[str, ...]
    center: np.ndarray
    scale: np.ndarray
    weight: np.ndarray
    intercept: np.ndarray
    lag: np.ndarray

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
        scaled = (window_features(table, self.columns, 2) - self.center) / self.scale
        score = scaled @ self.weight.T + self.intercept
        return _softmax(score[:, None, :] + self.lag[None, :, :])


@dataclass(frozen=True)
class Trees:
    """Gradient-boosted trees on a window of activity and the previous state's rank.

    Parameters
    ----------
    columns : tuple of str
        Activity columns.
    prior : numpy.ndarray
        Score of each state before the first tree, shape (states,).
    roots : numpy.ndarray
        First node of each tree, shape (rounds, states); -1 where a state has no tree.
    feature, left, right : numpy.ndarray
        Of each node: feature split at (-1 in a leaf) and the two nodes below.
    value : numpy.ndarray
        Of each node: the threshold, or in a leaf what it adds to the score.
    """

    columns: tuple[str, ...]
    prior: np.ndarray
    roots: np.ndarray
    feature: np.ndarray
    left: np.ndarray
    right: np.ndarray
    value: np.ndarray

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
        features = window_features(table, self.columns, 4).astype(np.float32)
        nodes = (self.roots, self.feature, self.left, self.right, self.value)
        return _softmax(_tree_scores(features, self.prior, *nodes))


Transitions = Markov | Logit | Trees


def window_features(table: pd.DataFrame, columns: tuple[str, ...], width: int) -> np.ndarray:
    """Activity of each bin and of the bins before it, side by side.

    Parameters
    ----------
    table : pandas.DataFrame
        Activity of successive bins.
    columns : tuple of str
        Columns to take; prompt tokens are also given as logarithm, since their power saturates.
    width : int
        Number of bins.

    Returns
    -------
    numpy.ndarray
        Shape (bins, features).
    """
    now = table[list(columns)].astype(float)
    if "prefill_tokens" in columns:
        now = now.assign(log_prefill=np.log1p(now["prefill_tokens"]))
    return np.column_stack([now.shift(lag).fillna(now.iloc[0]).to_numpy() for lag in range(width)])


def _softmax(score: np.ndarray) -> np.ndarray:
    from scipy.special import softmax

    return softmax(score, axis=-1)


@numba.njit(cache=True)
def _tree_scores(features, prior, roots, feature, left, right, value):  # noqa: ANN001, ANN202
    """Sum of leaf values for every bin and every previous state (the last feature)."""
    n_rows, n_states = features.shape[0], prior.size
    score = np.empty((n_rows, n_states, n_states))
    for row in range(n_rows):
        for previous in range(n_states):
            for state in range(n_states):
                total = prior[state]
                for tree in range(roots.shape[0]):
                    node = roots[tree, state]
                    while node >= 0 and feature[node] >= 0:
                        f = feature[node]
                        x = features[row, f] if f < features.shape[1] else np.float32(previous)
                        node = left[node] if x <= value[node] else right[node]
                    total += value[node] if node >= 0 else 0.0
                score[row, previous, state] = total
    return score


def fit_transitions(
    kind: str,
    table: pd.DataFrame,
    previous: np.ndarray,
    state: np.ndarray,
    use: np.ndarray,
    n_states: int,
    columns: tuple[str, ...] = COLUMNS,
) -> Transitions:
    """Learn the transitions of one kind.

    Parameters
    ----------
    kind : str
        ``markov``, ``logit`` or ``trees``.
    table : pandas.DataFrame
        Activity of successive bins (several runs one below the other).
    previous, state : numpy.ndarray
        State before and in each bin, integers from 0 (idle), shape (n,).
    use : numpy.ndarray
        Which bins to learn from, booleans, shape (n,).
    n_states : int
        Number of states with idle.
    columns : tuple of str
        Activity columns; ``PAPER_COLUMNS`` gives the paper's two features.

    Returns
    -------
    Markov, Logit or Trees
        Ready for `sample_path`.
    """
    if kind == "markov":
        return _fit_markov(table, previous, state, use, n_states, columns)
    if kind == "logit":
        return _fit_logit(table, previous, state, use, n_states, columns)
    return _fit_trees(table, previous, state, use, n_states, columns)


def _fit_markov(table, previous, state, use, n_states, columns) -> Markov:  # noqa: ANN001
    column = "decode_tokens" if "decode_tokens" in columns else columns[0]
    drive = table[column].to_numpy()[use]
    edges = np.unique(np.quantile(drive, np.linspace(0, 1, LEVELS + 1)[1:-1]))
    level = np.searchsorted(edges, drive, side="right")
    counts = np.zeros((edges.size + 1, n_states, n_states))
    np.add.at(counts, (level, previous[use], state[use]), 1.0)
    # a row seldom seen leans on the level's state frequencies, these on those of all levels
    overall = counts.sum(axis=(0, 1)) / counts.sum()
    by_level = counts.sum(axis=1, keepdims=True) + overall
    counts += by_level / by_level.sum(axis=2, keepdims=True)
    return Markov(edges, column, counts / counts.sum(axis=2, keepdims=True))


def _fit_logit(table, previous, state, use, n_states, columns) -> Logit:  # noqa: ANN001
    from sklearn.linear_model import LogisticRegression

    features = window_features(table, columns, 2)[use]
    center, scale = features.mean(axis=0), features.std(axis=0)
    scale = np.where(scale > 1e-9, scale, 1.0)
    before = np.eye(n_states)[previous[use]]
    design = np.column_stack([(features - center) / scale, before])
    model = LogisticRegression(C=LOGIT_PENALTY, max_iter=5000).fit(design, state[use])
    coefficients = np.zeros((n_states, design.shape[1]))
    intercept = np.full(n_states, -50.0)
    rows, offsets = model.coef_, model.intercept_
    if model.classes_.size == 2:  # scikit-learn keeps one row for two classes
        rows, offsets = np.vstack([-rows, rows]) / 2, np.r_[-offsets, offsets] / 2
    coefficients[model.classes_], intercept[model.classes_] = rows, offsets
    split = features.shape[1]
    return Logit(
        columns, center, scale, coefficients[:, :split], intercept, coefficients[:, split:].T
    )


def _fit_trees(table, previous, state, use, n_states, columns) -> Trees:  # noqa: ANN001
    from sklearn.ensemble import GradientBoostingClassifier

    features = window_features(table, columns, 4)[use]
    design = np.column_stack([features, previous[use]]).astype(np.float32)
    model = GradientBoostingClassifier(
        n_estimators=TREE_ROUNDS, max_depth=TREE_DEPTH, learning_rate=TREE_RATE, random_state=0
    ).fit(design, state[use])
    share = np.bincount(state[use], minlength=n_states) / use.sum()
    prior = np.log(np.maximum(share, np.exp(-50.0)))
    if model.classes_.size == 2:  # one tree a round, for the log odds of the second class
        prior = prior - prior[model.classes_[0]]
    roots = np.full((TREE_ROUNDS, n_states), -1)
    parts, size = [], 0
    for i, row in enumerate(model.estimators_):
        for label, regressor in zip(model.classes_[-row.size :], row, strict=True):
            tree = regressor.tree_
            leaf = tree.children_left < 0
            value = np.where(leaf, TREE_RATE * tree.value[:, 0, 0], tree.threshold)
            feature = np.where(leaf, -1, tree.feature)
            below = (tree.children_left + size, tree.children_right + size)
            parts.append((feature, *(np.where(leaf, -1, side) for side in below), value))
            roots[i, label] = size
            size += leaf.size
    feature, left, right, value = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Trees(columns, prior, roots, feature, left, right, value)


@numba.njit(cache=True)
def _walk(matrix, quiet, uniform, start):  # noqa: ANN001, ANN202
    """Draw one state after the other; quiet bins are idle."""
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


def sample_path(
    transitions: Transitions,
    table: pd.DataFrame,
    quiet: np.ndarray,
    rng: np.random.Generator,
    start: int = 0,
) -> np.ndarray:
    """Draw a sequence of states.

    Parameters
    ----------
    transitions : Markov, Logit or Trees
        Fitted transitions.
    table : pandas.DataFrame
        Activity of the bins.
    quiet : numpy.ndarray
        Bins in which the board is certainly idle, booleans, shape (n,).
    rng : numpy.random.Generator
        Source of randomness.
    start : int
        State before the first bin; continues a path.

    Returns
    -------
    numpy.ndarray
        States, integers from 0 (idle), shape (n,).
    """
    uniform = rng.random(len(table))
    path = np.empty(len(table), dtype=np.int64)
    for begin in range(0, len(table), CHUNK):
        end = begin + CHUNK
        # the window reaches back over the edge of a chunk
        early = max(begin - 3, 0)
        matrix = transitions.matrix(table.iloc[early:end])[begin - early :]
        path[begin:end] = _walk(matrix, quiet[begin:end], uniform[begin:end], start)
        start = path[min(end, len(table)) - 1]
    return path


def log_likelihood(
    transitions: Transitions,
    table: pd.DataFrame,
    previous: np.ndarray,
    state: np.ndarray,
    use: np.ndarray,
) -> float:
    """Mean log-likelihood of observed states, nats a bin.

    Parameters
    ----------
    transitions : Markov, Logit or Trees
        Fitted transitions.
    table : pandas.DataFrame
        Activity of successive bins.
    previous, state : numpy.ndarray
        State before and in each bin, shape (n,).
    use : numpy.ndarray
        Bins that count, booleans, shape (n,).

    Returns
    -------
    float
        Mean of ``ln P(state | previous, activity)``, each at least ``ln 1e-12``.
    """
    matrix = transitions.matrix(table)
    chosen = matrix[np.arange(len(table)), previous, state][use]
    return float(np.log(np.maximum(chosen, 1e-12)).mean())
