"""What a fit finds on the testbed is what was put in: states, transitions, energy."""

from fractions import Fraction
from typing import NamedTuple

import numpy as np
import pytest
from synthetic_site import run_of

import sitetrace
from sitetrace.power.states.fit import fit_parts
from sitetrace.power.states.labels import TrainingBins, idle_of, label, prepare, usable
from sitetrace.power.states.mixture import fit_mixture
from sitetrace.power.states.model import StatesModel
from sitetrace.power.states.transitions import Markov
from sitetrace.serving.activity import COLUMNS
from sitetrace.testbed import EPOCH_S, STATES, Testbed, simulate_run
from sitetrace.workload.streams import poisson

DT = Fraction(1, 4)
SEEDS = range(20)
TRUTH = Testbed()
LEAD_S, TAIL_S = 20.0, 8.0
TRAINING_S, UNSEEN_S = 300.0, 200.0


def served(seed, rate_per_s, duration_s):
    rng = np.random.default_rng(seed)
    requests = poisson(rate_per_s, duration_s, rng)
    return simulate_run(
        TRUTH, requests.assign(arrival_s=(EPOCH_S + requests["arrival_s"]).round(3)), rng
    )


def recorded(tables):
    how = {"engine": tables["engine"], "info": {"tensor_parallel": 1}}
    return run_of(tables["requests"], tables["power"], **how)


class Recovered(NamedTuple):
    """A fit behind the known server, and the truth beside it."""

    model: StatesModel
    markov: Markov
    labels: TrainingBins
    true_state: np.ndarray


def recover(seed):
    tables = served([seed, 0], 2.5, TRAINING_S)
    run = recorded(tables)
    frame = prepare([run], TRUTH.server, DT)
    power_w, idle = frame["power_w"].to_numpy(), idle_of(frame)
    mixture = fit_mixture(power_w[usable(frame, idle)[1]], len(STATES) - 1, seed)
    markov, logit = (
        fit_parts(frame, idle, mixture, kind, "gaussian", COLUMNS, np.ones(len(frame), dtype=bool))
        for kind in ("markov", "logit")
    )
    parts = (TRUTH.server, idle, mixture, *logit, (float(power_w.min()), float(power_w.max())))
    model = StatesModel(run.configuration, DT, *parts, fitted={}, provenance={})
    true_state = tables["truth"]["state"].to_numpy()
    return Recovered(model, markov[0], label(frame, idle, mixture), true_state)


@pytest.fixture(scope="module")
def recovered():
    return [recover(seed) for seed in SEEDS]


def energy_error(model, seed, rate_per_s):
    """Relative error of a generated trace against the true energy of unseen requests."""
    tables = served([seed, 1], rate_per_s, UNSEEN_S)
    true_w = tables["truth"]["power_w"].to_numpy()
    rng = np.random.default_rng([seed, 2])
    trace = model.generate(tables["requests"], rng=rng, lead_s=LEAD_S, tail_s=TAIL_S)
    drawn_w = trace.power_w[: true_w.size]
    return drawn_w.sum() / true_w.sum() - 1


def test_means_of_the_states_and_the_states_of_samples_are_found(recovered):
    for found in recovered:
        means = np.r_[found.model.idle.mean_w, found.model.mixture.mean_w]
        assert (np.abs(means - TRUTH.mean_w) < np.maximum(0.01 * TRUTH.mean_w, 3.0)).all()
        use = found.labels.use
        assert np.mean(found.labels.state[use] == found.true_state[use]) > 0.98


def transition_errors(found, seed):
    """Predicted less counted transitions of an unseen stream, and the counts' standard error."""
    tables = served([seed, 3], 2.5, 3 * TRAINING_S)
    state = tables["truth"]["state"].to_numpy()
    matrix = found.markov.matrix(prepare([recorded(tables)], TRUTH.server, DT))
    here = np.r_[0, state[:-1]]
    taught = np.r_[0, found.true_state[:-1]][found.labels.use]
    # idle under load lasts a few bins only: its row is not learned from one run
    for k in range(1, len(STATES)):
        counted = np.bincount(state[here == k], minlength=len(STATES)) / np.sum(here == k)
        both = 1 / np.sum(here == k) + 1 / np.sum(taught == k)
        error = np.sqrt(counted * (1 - counted) * both)
        difference = matrix[here == k, k].mean(axis=0) - counted
        yield from zip(difference[error > 0], error[error > 0], strict=True)


def test_transitions_of_unseen_streams_lie_in_their_95_percent_intervals(recovered):
    pairs = [transition_errors(found, seed) for seed, found in zip(SEEDS, recovered, strict=True)]
    difference, error = np.array([pair for of_seed in pairs for pair in of_seed]).T
    covered = np.mean(np.abs(difference) < 1.96 * error)
    assert covered > 0.95 - 4 * np.sqrt(0.95 * 0.05 / error.size)


@pytest.mark.parametrize("rate_per_s", [1.0, 1.8, 3.0])
def test_energy_of_unseen_requests_is_met_below_and_above_the_fitted_rate(recovered, rate_per_s):
    errors = [energy_error(found.model, s, rate_per_s) for s, found in enumerate(recovered)]
    assert np.abs(errors).max() < 0.02


def test_a_whole_fit_that_must_learn_the_server_meets_the_energy_too():
    run = recorded(served([0, 0], 2.5, TRAINING_S))
    model = sitetrace.fit([run], seed=1, transitions="logit", n_states=4)
    assert model.mixture.mean_w == pytest.approx(TRUTH.mean_w[1:], rel=0.01)
    assert model.server.c0_s == pytest.approx(TRUTH.server.c0_s, rel=0.1)
    assert abs(energy_error(model, 0, 1.8)) < 0.03
