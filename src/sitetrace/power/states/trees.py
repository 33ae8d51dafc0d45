"""Transitions as gradient-boosted trees on a window of activity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numba
import numpy as np

from sitetrace.power.states.labels import TrainingBins, window_features
from sitetrace.power.states.transitions import Table

ROUNDS, DEPTH, RATE, WINDOW = 40, 2, 0.1, 4


@dataclass(frozen=True)
class Trees:
    """Gradient-boosted trees on a window of activity and the previous state's rank."""

    reach: ClassVar[int] = WINDOW - 1

    columns: tuple[str, ...]
    prior: np.ndarray  # score of each state before the first tree
    roots: np.ndarray  # first node of each tree, shape (rounds, states); -1 where there is no tree
    # of each node: the feature that it splits at (-1 in a leaf), the nodes below, and the threshold
    # (in a leaf what it adds to the score)
    feature: np.ndarray
    left: np.ndarray
    right: np.ndarray
    value: np.ndarray

    def matrix(self, table: Table) -> np.ndarray:
        """Transition probabilities, shape (bins, previous, states)."""
        from scipy.special import softmax

        features = window_features(table, self.columns, WINDOW).astype(np.float32)
        return softmax(_all_scores(features, self._forest), axis=-1)

    def path(self, table: Table, quiet: np.ndarray, uniform: np.ndarray, start: int) -> np.ndarray:
        """Turn numbers from 0 to 1 into states, as `Separable.path`."""
        features = window_features(table, self.columns, WINDOW).astype(np.float32)
        features = features[len(features) - quiet.size :]
        return _walk_trees(features, self._forest, quiet, uniform, start)

    @property
    def _forest(self) -> tuple[np.ndarray, ...]:
        return self.prior, self.roots, self.feature, self.left, self.right, self.value


def fit_trees(steps: TrainingBins, columns: tuple[str, ...]) -> Trees:
    """Fit boosted trees and lay their nodes out flat."""
    from sklearn.ensemble import GradientBoostingClassifier

    features = window_features(steps.table, columns, WINDOW)[steps.use]
    design = np.column_stack([features, steps.previous[steps.use]]).astype(np.float32)
    model = GradientBoostingClassifier(
        n_estimators=ROUNDS, max_depth=DEPTH, learning_rate=RATE, random_state=0
    ).fit(design, steps.state[steps.use])
    share = np.bincount(steps.state[steps.use], minlength=steps.n_states) / steps.use.sum()
    prior = np.log(np.maximum(share, np.exp(-50.0)))
    if model.classes_.size == 2:  # one tree a round, for the log odds of the second class
        prior = prior - prior[model.classes_[0]]
    roots = np.full((ROUNDS, steps.n_states), -1)
    parts, size = [], 0
    for i, row in enumerate(model.estimators_):
        for label, regressor in zip(model.classes_[-row.size :], row, strict=True):
            tree = regressor.tree_
            leaf = tree.children_left < 0
            value = np.where(leaf, RATE * tree.value[:, 0, 0], tree.threshold)
            feature = np.where(leaf, -1, tree.feature)
            below = (tree.children_left + size, tree.children_right + size)
            parts.append((feature, *(np.where(leaf, -1, side) for side in below), value))
            roots[i, label] = size
            size += leaf.size
    feature, left, right, value = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Trees(columns, prior, roots, feature, left, right, value)


@numba.njit(cache=True, nogil=True)
def _score(seen, previous, state, forest):
    """Sum of leaf values of one state in one bin after a previous state (the last feature)."""
    prior, roots, feature, left, right, value = forest
    total = prior[state]
    for tree in range(len(roots)):
        node = roots[tree, state]
        while node >= 0 and feature[node] >= 0:
            f = feature[node]
            x = seen[f] if f < seen.size else np.float32(previous)
            node = left[node] if x <= value[node] else right[node]
        total += value[node] if node >= 0 else 0.0
    return total


@numba.njit(cache=True, nogil=True)
def _all_scores(features, forest):
    """Scores in every bin after every previous state, shape (bins, previous, states)."""
    n_states = forest[0].size
    score = np.empty((len(features), n_states, n_states))
    for row, previous, state in np.ndindex(score.shape):
        score[row, previous, state] = _score(features[row], previous, state, forest)
    return score


@numba.njit(cache=True, nogil=True)
def _walk_trees(features, forest, quiet, uniform, start):
    """Draw one state after the other, with the scores after the state that is there alone."""
    path, score = np.empty(quiet.size, dtype=np.int64), np.empty(forest[0].size)
    state = start
    for row in range(quiet.size):
        previous, state = state, 0
        if not quiet[row]:
            for k in range(score.size):
                score[k] = _score(features[row], previous, k, forest)
            score = np.cumsum(np.exp(score - score.max()))
            while state < score.size - 1 and score[state] <= uniform[row] * score[-1]:
                state += 1
        path[row] = state
    return path
