"""Which power state comes next: P(state | previous state, activity).

State 0 is idle; the mixture's states follow from 1. All kinds but the trees have one form,

    P(k | j, bin) ~ weight[bin, k] factor[level(bin), j, k].

The weights of the paper's classifier are not published: `Coupled` (a rule of sitetrace, not of
arXiv:2603.18383) and `Independent` (its repository's marginal) need nothing but its mixtures.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numba
import numpy as np
from numpy.typing import ArrayLike

from sitetrace.power.states.labels import TrainingBins, bin_features, window_features

# training the net needs torch, an optional dependency: it is no candidate unless it is asked for
KINDS = ("markov", "logit", "trees")
LEVELS, PENALTY, WINDOW = 5, 1.0, 2
ROUNDS, DEPTH, RATE, TREE_WINDOW = 40, 2, 0.1, 4
PIECE, SLICE = 16384, 250  # bins worked on while still in near memory, and in the nearest
EXCESS = 1e-6  # a variance above the mean by less than this share is the mean's: Poisson
LEAST_SHARE = 1e-9  # counts rarer than this stand for an interval of this length
NEVER = -50.0  # score of a state that was never seen
Table = Mapping[str, ArrayLike]  # activity by its columns
# weight (bins or 1, states or 1), factor (levels, previous or 1, states or 1), level of each bin
Factors = tuple[np.ndarray, np.ndarray, np.ndarray]


class Separable:
    """Transitions of the one form: `_factors` of a table gives weight, factor and level by bin."""

    reach: ClassVar[int | None] = 0  # bins before a bin that it looks at; None: the whole series

    def matrix(self, table: Table) -> np.ndarray:
        """Transition probabilities, shape (bins, previous, states); a view where none matters."""
        weight, factor, level = self._factors(table)
        share = weight[:, None, :] * factor[level]
        share = share / share.sum(axis=2, keepdims=True)
        return np.broadcast_to(share, (level.size, share.shape[2], share.shape[2]))

    def path(self, table: Table, quiet: np.ndarray, uniform: np.ndarray, start: int) -> np.ndarray:
        """Turn numbers from 0 to 1 into states; the table may begin with earlier bins."""
        # piece by piece, so that memory stays small and near
        path, known = np.empty(quiet.size, dtype=np.int64), len(table["active"]) - quiet.size
        reach, size = (known, quiet.size or 1) if self.reach is None else (self.reach, PIECE)
        for first in range(0, quiet.size, size):
            here = slice(first, first + size)
            seen = slice(max(known + first - reach, 0), known + first + size)
            near = {name: np.asarray(column)[seen] for name, column in table.items()}
            given = (quiet[here], uniform[here], start)
            path[here] = _walk(*self._laid_out(near, quiet[here].size), *given)
            start = path[here][-1]
        return path

    def expected_w(self, table: Table, quiet, state_w, phi) -> tuple[np.ndarray, np.ndarray]:
        """Mean watts of the mixture's states over all walks from idle, and how likely idle is."""
        # idle emits nothing here, and hands on what was emitted before it
        emitted = (quiet, np.r_[0.0, state_w], np.r_[1.0, phi])
        return _mean_walk(*self._laid_out(table, quiet.size), *emitted)

    def _laid_out(self, table: Table, n_bins: int) -> Factors:
        weight, factor, level = self._factors(table)
        n_states = max(weight.shape[1], factor.shape[2])
        weight = np.ascontiguousarray(np.broadcast_to(weight, (len(weight), n_states)).T)
        factor = np.ascontiguousarray(np.broadcast_to(factor, (len(factor), n_states, n_states)))
        return weight, factor, level[level.size - n_bins :]


def whatever_was_before(weight: np.ndarray, n_bins: int) -> Factors:
    """Factors of transitions that are the same after every state."""
    return weight, np.ones((1, 1, 1)), np.zeros(n_bins, dtype=np.int64)


@dataclass(frozen=True)
class Markov(Separable):
    """Markov chain with one transition matrix for each level of activity."""

    edges: np.ndarray  # limits of the levels, shape (levels - 1,)
    column: str  # of activity, that chooses the level
    probability: np.ndarray  # shape (levels, previous, states)

    def _factors(self, table: Table) -> Factors:
        # there are few edges: to compare with each is faster than to search
        level = np.sum(self.edges[:, None] <= np.asarray(table[self.column], float), axis=0)
        return np.ones((1, 1)), self.probability, level


@dataclass(frozen=True)
class Logit(Separable):
    """Multinomial logit of activity (this bin and the one before) and the previous state."""

    reach: ClassVar[int] = WINDOW - 1
    columns: tuple[str, ...]
    center: np.ndarray  # standardisation of the features, as `scale`
    scale: np.ndarray
    weight: np.ndarray  # of the features, shape (states, features)
    intercept: np.ndarray
    lag: np.ndarray  # score of a state by the one before, shape (previous, states)

    def _factors(self, table: Table) -> Factors:
        features, weight = bin_features(table, self.columns), self.weight / self.scale
        chance = np.empty((len(weight), features.shape[1]))  # each state lies in one piece
        _score_bins(features, weight, self.intercept - weight @ self.center, chance)
        factor = np.exp(self.lag - self.lag.max(axis=1, keepdims=True))
        return np.exp(chance, out=chance).T, factor[None], np.zeros(chance.shape[1], np.int64)


@dataclass(frozen=True)
class Coupled(Separable):
    """States in the order of the active count: the busier the server, the higher the state."""

    active_mean: float
    active_sd: float
    weight: np.ndarray  # of each state of the mixture, lowest mean power first

    def _factors(self, table: Table) -> Factors:
        # F(A - 1) to F(A) of a count A is laid over the cumulated weights: a state takes its share
        counts, place = np.unique(np.asarray(table["active"], float), return_inverse=True)
        distribution = active_distribution(self.active_mean, self.active_sd)
        high = np.maximum(distribution.cdf(counts), LEAST_SHARE)
        low = np.minimum(distribution.cdf(counts - 1), high - LEAST_SHARE)
        edges = np.r_[0.0, np.cumsum(self.weight) / self.weight.sum()]
        overlap = np.minimum(high[:, None], edges[1:]) - np.maximum(low[:, None], edges[:-1])
        overlap = overlap.clip(0.0)
        share = np.insert(overlap / overlap.sum(axis=1, keepdims=True), 0, 0.0, axis=1)
        return whatever_was_before(share[place], place.size)


@dataclass(frozen=True)
class Independent(Separable):
    """States drawn from the mixture's weights in every bin, whatever the server does."""

    weight: np.ndarray

    def _factors(self, table: Table) -> Factors:
        return whatever_was_before(np.insert(self.weight, 0, 0.0)[None], len(table["active"]))


@dataclass(frozen=True)
class Trees:
    """Gradient-boosted trees on a window of activity and the previous state's rank."""

    reach: ClassVar[int] = TREE_WINDOW - 1
    columns: tuple[str, ...]
    prior: np.ndarray  # score of each state before the first tree
    roots: np.ndarray  # first node of each tree, shape (rounds, states); -1 where there is no tree
    # of each node: feature it splits at (-1 in a leaf), nodes below, threshold (a leaf: its score)
    feature: np.ndarray
    left: np.ndarray
    right: np.ndarray
    value: np.ndarray

    def matrix(self, table: Table) -> np.ndarray:
        """Transition probabilities, shape (bins, previous, states)."""
        from scipy.special import softmax

        return softmax(_all_scores(*self._laid_out(table)), axis=-1)

    def path(self, table: Table, quiet: np.ndarray, uniform: np.ndarray, start: int) -> np.ndarray:
        """Turn numbers from 0 to 1 into states, as `Separable.path`."""
        features, forest = self._laid_out(table)
        return _walk_trees(features[len(features) - quiet.size :], forest, quiet, uniform, start)

    def _laid_out(self, table: Table) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
        forest = (self.prior, self.roots, self.feature, self.left, self.right, self.value)
        return window_features(table, self.columns, TREE_WINDOW).astype(np.float32), forest


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
    weight, lag = np.split(coefficients, [features.shape[1]], axis=1)
    return Logit(columns, center, scale, weight, intercept, lag.T)


def fit_trees(steps: TrainingBins, columns: tuple[str, ...]) -> Trees:
    """Fit boosted trees and lay their nodes out flat."""
    from sklearn.ensemble import GradientBoostingClassifier

    features = window_features(steps.table, columns, TREE_WINDOW)[steps.use]
    design = np.column_stack([features, steps.previous[steps.use]]).astype(np.float32)
    how = {"n_estimators": ROUNDS, "max_depth": DEPTH, "learning_rate": RATE, "random_state": 0}
    model = GradientBoostingClassifier(**how).fit(design, steps.state[steps.use])
    share = np.bincount(steps.state[steps.use], minlength=steps.n_states) / steps.use.sum()
    prior = np.log(np.maximum(share, np.exp(-50.0)))
    if model.classes_.size == 2:  # one tree a round, for the log odds of the second class
        prior = prior - prior[model.classes_[0]]
    roots, parts, size = np.full((ROUNDS, steps.n_states), -1), [], 0
    for i, row in enumerate(model.estimators_):
        for label, regressor in zip(model.classes_[-row.size :], row, strict=True):
            tree, leaf = regressor.tree_, regressor.tree_.children_left < 0
            value = np.where(leaf, RATE * tree.value[:, 0, 0], tree.threshold)
            of_inner = (tree.feature, tree.children_left + size, tree.children_right + size)
            parts.append((*(np.where(leaf, -1, column) for column in of_inner), value))
            roots[i, label] = size
            size += leaf.size
    feature, left, right, value = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Trees(columns, prior, roots, feature, left, right, value)


def active_distribution(mean: float, sd: float):
    """Negative binomial of a known mean and standard deviation; Poisson if that is no wider."""
    from scipy.stats import nbinom, poisson

    if sd**2 <= mean * (1 + EXCESS):
        return poisson(mean)
    return nbinom(mean**2 / (sd**2 - mean), mean / sd**2)


def log_likelihood(kind: Separable, table: Table, previous, state, use) -> float:
    """Mean ln P(state | previous state, activity) of observed states, nats a bin."""
    matrix = kind.matrix(table)
    chosen = matrix[np.arange(len(matrix)), previous, state][use]
    return float(np.log(np.maximum(chosen, 1e-12)).mean())


@numba.njit(cache=True, nogil=True)
def _score_bins(features, weight, intercept, chance):
    """Score each state in each bin but for the state before, the likeliest by 0."""
    top, n = np.empty(SLICE), len(features)
    for first in range(0, chance.shape[1], SLICE):
        size = min(SLICE, chance.shape[1] - first)
        top[:] = -np.inf
        for k in range(len(chance)):
            score = chance[k, first : first + size]
            score[:] = intercept[k]
            for f in range(n):
                here, w, w_before = features[f, first:], weight[k, f], weight[k, n + f]
                # nothing is known before the first bin
                score[0] += here[0] * w + features[f, max(first - 1, 0)] * w_before
                for i in range(1, size):
                    score[i] += here[i] * w + here[i - 1] * w_before
            for i in range(size):
                top[i] = score[i] if score[i] > top[i] else top[i]
        for k in range(len(chance)):
            for i in range(size):
                chance[k, first + i] -= top[i]


@numba.njit(cache=True, nogil=True)
def _walk(weight, factor, level, quiet, uniform, start):
    path = np.empty(quiet.size, dtype=np.int64)
    state, n_states, earlier = start, len(weight), weight.shape[1] - quiet.size
    for i in range(quiet.size):
        row, at, state = factor[level[i], state], max(earlier + i, 0), 0
        if not quiet[i]:
            total = 0.0
            for k in range(n_states):
                total += weight[k, at] * row[k]
            target, total = uniform[i] * total, 0.0
            for k in range(n_states - 1):
                total += weight[k, at] * row[k]
                state += total <= target
        path[i] = state
    return path


@numba.njit(cache=True, nogil=True)
def _mean_walk(weight, factor, level, quiet, state_w, phi):
    # What a state emits goes on to the next with its phi, as in the paper's AR(1); `emitted` is its
    # mean times the probability of the state. A walk that never emitted begins at a state's mean.
    n_states, earlier = len(weight), weight.shape[1] - quiet.size
    power_w, idle = np.empty(quiet.size), np.empty(quiet.size)
    share, emitted, never = np.zeros(n_states), np.zeros(n_states), 1.0
    share[0] = 1.0
    for i in range(quiet.size):
        came, brought, at = np.zeros(n_states), np.zeros(n_states), max(earlier + i, 0)
        if quiet[i]:
            came[0], brought[0] = 1.0, emitted.sum()
        for j in range(0 if quiet[i] else n_states):
            chance = weight[:, at] * factor[level[i], j]
            chance /= chance.sum()
            came += share[j] * chance
            brought += emitted[j] * chance
            if j == 0:
                brought += never * chance * state_w
                never *= chance[0]
        share, emitted = came, came * state_w * (1.0 - phi) + brought * phi
        power_w[i], idle[i] = emitted[1:].sum(), share[0]
    return power_w, idle


@numba.njit(cache=True, nogil=True)
def _score(seen, previous, state, forest):
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
    n_states = forest[0].size
    score = np.empty((len(features), n_states, n_states))
    for row, previous, state in np.ndindex(score.shape):
        score[row, previous, state] = _score(features[row], previous, state, forest)
    return score


@numba.njit(cache=True, nogil=True)
def _walk_trees(features, forest, quiet, uniform, start):
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
