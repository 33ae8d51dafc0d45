"""Transitions follow the activity, keep persistence, and give true probabilities."""

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import GradientBoostingClassifier

from sitetrace.power.states import transitions as trees
from sitetrace.power.states.fit import FITS
from sitetrace.power.states.labels import TrainingBins, window_features
from sitetrace.power.states.transitions import KINDS, log_likelihood
from sitetrace.serving.activity import COLUMNS, PAPER_COLUMNS

STICKY = np.array([[0.0, 0.5, 0.5, 0.0], [0.0, 0.9, 0.08, 0.02], [0.0, 0.1, 0.8, 0.1],
                   [0.0, 0.02, 0.18, 0.8]])  # fmt: skip


def activity(n, rng):
    table = pd.DataFrame({name: rng.random(n) for name in COLUMNS})
    return table.assign(quiet_for_s=0.0)


def fit_of(kind, observed, n_states=4, columns=COLUMNS, use=True):
    table, previous, state = observed
    use = np.ones(state.size, bool) & use
    return FITS[kind](TrainingBins(table, previous, state, use, n_states, ()), columns)


@pytest.fixture(scope="module")
def observed():
    rng = np.random.default_rng(1)
    state = [0]
    for _ in range(6000):
        state.append(rng.choice(4, p=STICKY[state[-1]]))
    return activity(6000, rng), np.array(state[:-1]), np.array(state[1:])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("columns", [COLUMNS, PAPER_COLUMNS])
def test_rows_are_probabilities(observed, kind, columns):
    matrix = fit_of(kind, observed, 5, columns, np.arange(6000) < 500).matrix(observed[0][:50])
    assert matrix.shape == (50, 5, 5)
    assert (matrix >= 0).all()
    assert matrix.sum(axis=2) == pytest.approx(1)
    assert matrix[:, 1, 4].max() < 0.01  # state 4 was never seen


@pytest.mark.parametrize("kind", KINDS)
def test_a_chain_without_drive_is_recovered_and_keeps_its_persistence(observed, kind):
    table, previous, state = observed
    fitted = fit_of(kind, observed)
    found = fitted.matrix(table)[:, 1:].mean(axis=0)
    seen = np.bincount(previous, minlength=4)[1:, None]
    error = 4 * np.sqrt(STICKY[1:] * (1 - STICKY[1:]) / seen) + 0.03
    assert (np.abs(found - STICKY[1:]) < error).all()
    uniform = np.random.default_rng(2).random(len(table))
    path = fitted.path(table, np.zeros(len(table), bool), uniform, 0)
    stays = np.mean(path[1:] == path[:-1])
    assert stays == pytest.approx(np.mean(state[1:] == state[:-1]), abs=0.03)


@pytest.mark.parametrize("kind", ["logit", "trees"])
def test_states_follow_the_drive(kind):
    def driven(table):
        return 1 + (table["decode_tokens"].to_numpy() > 0.5) + (table["prefill_tokens"] > 0.8)

    rng = np.random.default_rng(3)
    table, fresh = activity(3000, rng), activity(1000, rng)
    state = driven(table).to_numpy()
    previous = np.r_[0, state[:-1]]
    fitted = fit_of(kind, (table, previous, state))
    path = fitted.path(fresh, np.zeros(1000, bool), rng.random(1000), 0)
    assert np.mean(path == driven(fresh)) > 0.75
    share = np.bincount(state, minlength=4) / state.size
    null = (share[share > 0] * np.log(share[share > 0])).sum()
    told = log_likelihood(fitted, table, previous, state, np.ones(3000, bool))
    assert null + 0.3 < told <= 0


def test_trees_give_what_scikit_learn_gives(observed):
    table, previous, state = observed
    use = np.arange(state.size) < 400
    fitted = fit_of("trees", observed, use=use)
    design = np.column_stack([window_features(table, COLUMNS, 4), previous]).astype(np.float32)
    options = {"n_estimators": trees.ROUNDS, "max_depth": trees.DEPTH, "random_state": 0}
    reference = GradientBoostingClassifier(learning_rate=trees.RATE, **options)
    reference.fit(design[use], state[use])
    mine = fitted.matrix(table)[np.arange(state.size), previous][:, reference.classes_]
    assert mine == pytest.approx(reference.predict_proba(design), abs=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_states_are_drawn_with_the_probabilities_of_the_matrix(observed, kind):
    table, fitted = observed[0][:2000], fit_of(kind, observed, 5)
    quiet = np.arange(len(table)) % 11 < 2
    reached = np.cumsum(fitted.matrix(table), axis=2)[:, :, :-1]
    for seed in range(5):
        uniform = np.random.default_rng(seed).random(len(table))
        state, expected = 2, []
        for i, still in enumerate(quiet):
            state = 0 if still else (reached[i, state] <= uniform[i]).sum()
            expected.append(state)
        assert (fitted.path(table, quiet, uniform, 2) == expected).all()
        # earlier bins of the table are seen, and get no number
        later = fitted.path(table, quiet[9:], uniform[9:], expected[8])
        assert (later == expected[9:]).all()
