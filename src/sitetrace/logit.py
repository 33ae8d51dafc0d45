"""Transitions as a multinomial logit of activity and the previous state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from sitetrace.labelled import Labelled, bin_features, window_features
from sitetrace.walking import walk_logit

PENALTY = 1.0
WINDOW = 2
# score of a state that was never seen
NEVER = -50.0


@dataclass(frozen=True)
class Logit:
    """Multinomial logit of activity (this bin and the one before) and the previous state."""

    reach: ClassVar[int] = WINDOW - 1

    columns: tuple[str, ...]
    center: np.ndarray
    scale: np.ndarray
    weight: np.ndarray
    intercept: np.ndarray
    lag: np.ndarray

    def matrix(self, table: pd.DataFrame) -> np.ndarray:
        """Transition probabilities of each bin."""
        scaled = (window_features(table, self.columns, WINDOW) - self.center) / self.scale
        score = scaled @ self.weight.T + self.intercept
        from scipy.special import softmax

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
        return walk_logit(features, law, np.exp(self.lag), quiet, uniform, start)


def fit_logit(steps: Labelled, columns: tuple[str, ...]) -> Logit:
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
