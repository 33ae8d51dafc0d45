"""Transitions by multinomial logit of activity and the previous state, and the walk along them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numba
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from sitetrace.power.states.labels import TrainingBins, bin_features, window_features

# bins that are worked on while they are still in the nearest memory
SLICE = 250
PENALTY = 1.0
WINDOW = 2
# score of a state that was never seen
NEVER = -50.0


@dataclass(frozen=True)
class Logit:
    """Multinomial logit of activity (this bin and the one before) and the previous state."""

    reach: ClassVar[int] = WINDOW - 1

    columns: tuple[str, ...]
    center: np.ndarray  # standardisation of the features, as `scale`
    scale: np.ndarray
    weight: np.ndarray  # of the features, shape (states, features)
    intercept: np.ndarray
    lag: np.ndarray  # score of a state by the one before, shape (previous, states)

    def matrix(self, table: pd.DataFrame) -> np.ndarray:
        """Transition probabilities of each bin."""
        from scipy.special import softmax

        scaled = (window_features(table, self.columns, WINDOW) - self.center) / self.scale
        score = scaled @ self.weight.T + self.intercept
        return softmax(score[:, None, :] + self.lag[None, :, :], axis=-1)

    def path(
        self, table: Mapping[str, ArrayLike], quiet: np.ndarray, uniform: np.ndarray, start: int
    ) -> np.ndarray:
        """Draw a sequence of states, as by `matrix`."""
        features = bin_features(table, self.columns)
        if features.shape[1] == quiet.size:  # nothing is known of the bin before
            features = np.hstack([features[:, :1], features])
        weight = self.weight / self.scale
        intercept = self.intercept - weight @ self.center
        now, before = np.ascontiguousarray(weight.T).reshape(WINDOW, len(features), -1)
        law = (now, before, intercept)
        return _walk_logit(features, law, np.exp(self.lag), quiet, uniform, start)


def fit_logit(steps: TrainingBins, columns: tuple[str, ...]) -> Logit:
    """Fit the logit, lightly regularised."""
    from sklearn.linear_model import LogisticRegression

    features = window_features(steps.table, columns, WINDOW)[steps.use]
    center, scale = features.mean(axis=0), features.std(axis=0)
    scale = np.where(scale > 1e-9, scale, 1.0)
    before = np.eye(steps.n_states)[steps.previous[steps.use]]
    design = np.column_stack([(features - center) / scale, before])
    model = LogisticRegression(C=PENALTY, max_iter=5000).fit(design, steps.state[steps.use])
    coefficients = np.zeros((steps.n_states, design.shape[1]))
    intercept = np.full(steps.n_states, NEVER)
    rows, offsets = model.coef_, model.intercept_
    if model.classes_.size == 2:  # scikit-learn keeps one row for two classes
        rows, offsets = np.vstack([-rows, rows]) / 2, np.r_[-offsets, offsets] / 2
    coefficients[model.classes_], intercept[model.classes_] = rows, offsets
    split = features.shape[1]
    return Logit(
        columns, center, scale, coefficients[:, :split], intercept, coefficients[:, split:].T
    )


@numba.njit(cache=True, nogil=True)
def _walk_logit(features, law, factor, quiet, uniform, start):
    """Draw one state after the other by a multinomial logit of this bin and the one before."""
    # Features are of shape (features, one or more earlier bins + bins); `factor` weighs a state by
    # the one before, shape (previous, states).
    path = np.empty(quiet.size, dtype=np.int64)
    earlier, n_states = features.shape[1] - quiet.size, len(factor)
    chance, state = np.empty((n_states, SLICE)), start
    for first in range(0, quiet.size, SLICE):
        size = min(SLICE, quiet.size - first)
        _weigh(features, earlier + first, law, chance, size)
        for i in range(size):
            row, state = factor[state], 0
            if not quiet[first + i]:
                total = 0.0
                for k in range(n_states):
                    total += chance[k, i] * row[k]
                target, total = uniform[first + i] * total, 0.0
                for k in range(n_states - 1):
                    total += chance[k, i] * row[k]
                    state += total <= target
            path[first + i] = state
    return path


@numba.njit(cache=True, nogil=True)
def _weigh(features, first, law, chance, size):
    """Weigh each state in successive bins but for the state before: the likeliest by 1."""
    weight, weight_before, intercept = law
    top = np.full(size, -np.inf)
    for k in range(len(chance)):
        score = chance[k]
        score[:] = intercept[k]
        for f in range(len(features)):
            now, before = features[f, first:], features[f, first - 1 :]
            w, w_before = weight[f, k], weight_before[f, k]
            for i in range(size):
                score[i] += now[i] * w + before[i] * w_before
        for i in range(size):
            top[i] = score[i] if score[i] > top[i] else top[i]
    for k in range(len(chance)):
        score = chance[k]
        for i in range(size):
            score[i] = _exponential(score[i] - top[i])


@numba.njit(cache=True, nogil=True)
def _exponential(x):
    """Exponential of a number from minus infinity to 0, right within 1e-13."""
    # unlike the library's it is compiled for several numbers at once
    x = (x if x > -40.0 else -40.0) * (1 / 256)
    high = 1 / 24 + x * (1 / 120) + x * x * (1 / 720 + x * (1 / 5040))
    power = 1.0 + x + x * x * (1 / 2 + x * (1 / 6) + x * x * high)
    power *= power
    power *= power
    power *= power
    power *= power
    power *= power
    power *= power
    power *= power
    return power * power
