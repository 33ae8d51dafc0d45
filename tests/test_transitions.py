"""Transitions follow the activity, keep persistence, and give true probabilities."""

import numpy as np
import pandas as pd
import pytest

from sitetrace.power.states.labels import TrainingBins, window_features
from sitetrace.power.states.transitions import (
    KINDS,
    fit_transitions,
    log_likelihood,
    walk,
    walk_matrix,
)
from sitetrace.serving.activity import COLUMNS, PAPER_COLUMNS

STICKY = np.array([[0.0, 0.5, 0.5, 0.0], [0.0, 0.9, 0.08, 0.02], [0.0, 0.1, 0.8, 0.1],
                   [0.0, 0.02, 0.18, 0.8]])  # fmt: skip


def activity(n, rng):
    table = pd.DataFrame({name: rng.random(n) for name in COLUMNS})
    return table.assign(quiet_for_s=0.0)


def chain(matrix, n, rng):
    path, state = [], 0
    for _ in range(n):
        state = rng.choice(matrix.shape[0], p=matrix[state])
        path.append(state)
    return np.array(path)


@pytest.fixture(scope="module")
def observed():
    rng = np.random.default_rng(1)
    state = chain(STICKY, 6000, rng)
    return activity(state.size, rng), np.r_[0, state[:-1]], state


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("columns", [COLUMNS, PAPER_COLUMNS])
def test_rows_are_probabilities(observed, kind, columns):
    table, previous, state = observed
    use = np.arange(state.size) < 500
    fitted = fit_transitions(kind, TrainingBins(table, previous, state, use, 5, ()), columns)
    matrix = fitted.matrix(table.iloc[:50])
    assert matrix.shape == (50, 5, 5)
    assert (matrix >= 0).all()
    assert matrix.sum(axis=2) == pytest.approx(1)
    # state 4 was never seen
    assert matrix[:, 1, 4].max() < 0.01


@pytest.mark.parametrize("kind", KINDS)
def test_a_chain_without_drive_is_recovered(observed, kind):
    table, previous, state = observed
    fitted = fit_transitions(
        kind, TrainingBins(table, previous, state, np.ones(state.size, bool), 4, ())
    )
    found = fitted.matrix(table)[:, 1:].mean(axis=0)
    seen = np.bincount(previous, minlength=4)[1:, None]
    error = 4 * np.sqrt(STICKY[1:] * (1 - STICKY[1:]) / seen) + 0.03
    assert (np.abs(found - STICKY[1:]) < error).all()


@pytest.mark.parametrize("kind", KINDS)
def test_sampling_keeps_persistence(observed, kind):
    table, previous, state = observed
    fitted = fit_transitions(
        kind, TrainingBins(table, previous, state, np.ones(state.size, bool), 4, ())
    )
    path = walk(fitted, table, np.zeros(len(table), bool),
                np.random.default_rng(2).random(len(table)), 0)  # fmt: skip
    stays = np.mean(path[1:] == path[:-1])
    assert stays == pytest.approx(np.mean(state[1:] == state[:-1]), abs=0.03)


@pytest.mark.parametrize("kind", ["logit", "trees"])
def test_states_follow_the_drive(kind):
    rng = np.random.default_rng(3)
    table = activity(3000, rng)
    state = 1 + (table["decode_tokens"].to_numpy() > 0.5) + (table["prefill_tokens"] > 0.8)
    state = state.to_numpy()
    previous = np.r_[0, state[:-1]]
    fitted = fit_transitions(kind, TrainingBins(table, previous, state, np.ones(3000, bool), 4, ()))
    fresh = activity(1000, rng)
    truth = 1 + (fresh["decode_tokens"].to_numpy() > 0.5) + (fresh["prefill_tokens"] > 0.8)
    path = walk(fitted, fresh, np.zeros(1000, bool), rng.random(1000), 0)
    assert np.mean(path == truth) > 0.75
    share = np.bincount(state, minlength=4) / state.size
    null = (share[share > 0] * np.log(share[share > 0])).sum()
    told = log_likelihood(fitted, table, previous, state, np.ones(3000, bool))
    assert null + 0.3 < told <= 0


def test_trees_give_what_scikit_learn_gives(observed):
    from sklearn.ensemble import GradientBoostingClassifier

    from sitetrace.power.states import trees

    table, previous, state = observed
    use = np.arange(state.size) < 400
    fitted = fit_transitions("trees", TrainingBins(table, previous, state, use, 4, ()))
    design = np.column_stack([window_features(table, COLUMNS, 4), previous]).astype(np.float32)
    reference = GradientBoostingClassifier(
        n_estimators=trees.ROUNDS, max_depth=trees.DEPTH,
        learning_rate=trees.RATE, random_state=0,
    ).fit(design[use], state[use])  # fmt: skip
    expected = reference.predict_proba(design)
    mine = fitted.matrix(table)[np.arange(state.size), previous][:, reference.classes_]
    assert mine == pytest.approx(expected, abs=1e-6)


def test_quiet_bins_are_idle_and_a_path_can_be_continued(observed):
    table, previous, state = observed
    fitted = fit_transitions(
        "logit", TrainingBins(table, previous, state, np.ones(state.size, bool), 4, ())
    )
    quiet = np.arange(len(table)) % 7 == 0
    path = walk(fitted, table, quiet, np.random.default_rng(4).random(len(table)), 0)
    assert (path[quiet] == 0).all()
    assert (path[~quiet] > 0).all()
    always = np.array([walk(fitted, table[:1], quiet[1:2], np.random.default_rng(i).random(1), 3)[0]
                       for i in range(400)])  # fmt: skip
    assert np.mean(always == 3) == pytest.approx(STICKY[3, 3], abs=0.1)


@pytest.mark.parametrize("kind", KINDS)
def test_states_are_drawn_with_the_probabilities_of_the_matrix(observed, kind):
    table, previous, state = observed
    fitted = fit_transitions(
        kind, TrainingBins(table, previous, state, np.ones(state.size, bool), 5, ())
    )
    quiet = np.arange(len(table)) % 11 < 2
    for seed in range(5):
        uniform = np.random.default_rng(seed).random(len(table))
        expected = walk_matrix(fitted.matrix(table), quiet, uniform, 2)
        assert (fitted.path(table, quiet, uniform, 2) == expected).all()
