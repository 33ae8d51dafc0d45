"""Looks at states: what is put in comes out, and chance is told apart."""

from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest

from sitebook import judging, looks
from sitetrace.core.registry import shipped_model
from sitetrace.power.modelfile import load_model
from sitetrace.power.states.mixture import Emissions, Mixture, fit_mixture
from sitetrace.power.states.transitions import Independent

TWO = Mixture(np.array([200.0, 300.0]), np.array([2.0, 2.0]), np.array([0.5, 0.5]))
# neighbours overlap, so that labels cut
THREE = Mixture(np.array([300.0, 306.0, 312.0]), np.full(3, 4.0), np.array([0.3, 0.4, 0.3]))
EMPTY = np.empty((0, 0))


@pytest.fixture
def rng():
    return np.random.default_rng(4)


@pytest.fixture(scope="module")
def model():
    return load_model(shipped_model("testbed"))


def test_a_hole_ends_a_stay_and_idle_is_none():
    state, begins = np.array([1, 1, 2, 2, 2, 0, 0, 1]), np.zeros(8, dtype=bool)
    assert looks.stays(state)["bins"].to_list() == [2, 3, 1]
    begins[4] = True
    assert looks.stays(state, begins)["bins"].to_list() == [2, 2, 1, 1]


def test_a_markov_chain_stays_geometrically_and_longer_than_independent_draws(rng):
    state = 1 + np.cumsum(rng.random(6000) < 0.2) % 2
    last = looks.survival(looks.stays(state), 0.25)
    assert (last["recorded"] - last["geometric"]).abs().max() < 0.05
    assert last["independent draws"][0.5] < last["recorded"][0.5] / 2


def test_what_the_load_decides_it_tells_and_chance_tells_nothing(rng):
    active = rng.integers(0, 10, 3000).astype(float)
    table = pd.DataFrame({"active": active, "delta_active": np.diff(active, prepend=0)})
    decided = looks.information(table, (active > 4).astype(int), 1).loc["A"]
    assert decided["plug_in"] == pytest.approx(1.0) and decided["shuffled"] < 0.01
    chance = looks.information(table, rng.integers(0, 10, 3000), 1)
    assert chance.loc["F2", "plug_in"] > 0.05  # a table of many cells looks informative
    assert (chance["low"] < 0.01).all() and (chance["above_chance"].abs() < 0.01).all()


def test_the_testbeds_true_states_are_recovered():
    run = judging.open_run("testbed/poisson")
    known, power_w = looks.known_states("", run), run.samples["power_w"].to_numpy()
    fitted = fit_mixture(power_w, known.n_states, 1)
    assert (np.abs(fitted.mean_w - known.mean_w) < 0.2 * known.sigma_w).all()
    assert looks.distance(power_w, known) < 0.04


def test_samples_are_near_their_own_mixture_and_bic_counts_states_set_apart(rng):
    power_w = looks.drawn_w(TWO, 4000, rng)
    assert looks.distance(power_w, TWO) < 0.03
    assert looks.distance(power_w, looks.above(TWO, 250.0)) == pytest.approx(0.5, abs=0.03)
    assert looks.least_bic(power_w[:400], (1, 2, 3, 4), 1) == 2


def test_labels_alone_make_gaussian_samples_fail_but_not_against_their_null(rng):
    power_w = looks.drawn_w(THREE, 1500, rng)
    found = looks.state_tests(power_w, THREE.label(power_w), THREE, rng)
    assert (found["shapiro_p"] < 0.05).all() and (found["null rejected"] > 0.9).all()
    assert (found["against null"] > 0.02).all()
    levels = rng.choice([304.5, 307.5], 300) + rng.normal(0, 0.1, 300)
    other = looks.state_tests(levels, np.ones(300, dtype=int), THREE, rng)
    assert other["against null"].item() == pytest.approx(1 / (1 + looks.REPEATS))


def test_memory_within_a_state_is_found_only_where_there_is_some(rng):
    states = np.tile(np.repeat([0, 1], 40), 25)
    emissions = Emissions("ar1_deviation", np.array([0.8, 0.0]), EMPTY)
    watts, _ = emissions.power_of(states, TWO, rng.standard_normal(states.size))
    found = looks.memory_by_state([(states, watts)], TWO, rng)
    assert found["phi"].to_list() == pytest.approx([0.8, 0.0], abs=0.1)
    assert found["phi"][0] > 3 * found["chance"][0]


def test_the_shift_by_ar1_is_the_simulated_one_and_nothing_where_states_stay(rng):
    phi, mean_w = np.array([0.9, 0.5, 0.0]), THREE.weight @ THREE.mean_w
    assert looks.ar1_mean_w(THREE, phi, 1.0) == pytest.approx(mean_w)
    assert looks.ar1_mean_w(THREE, np.full(3, 0.9), 0.0) == pytest.approx(mean_w)
    left = THREE.weight * (1 - phi)
    assert looks.ar1_mean_w(THREE, phi, 0.0) == pytest.approx(left @ THREE.mean_w / left.sum())
    states = looks.kept_states(THREE, 0.8, 200_000, rng)
    assert np.mean(states[1:] == states[:-1]) == pytest.approx(0.8 + 0.2 * 0.34, abs=0.01)
    drawn, _ = Emissions("ar1", phi, EMPTY).power_of(states, THREE, rng.standard_normal(200_000))
    assert drawn.mean() == pytest.approx(looks.ar1_mean_w(THREE, phi, 0.8), abs=0.1)


def test_bins_have_the_probability_that_many_paths_show(model, rng):
    table = looks.labelled(model, judging.open_run("testbed/poisson_low")).table.iloc[:200]
    share = looks.bin_probabilities(model, table)
    paths = np.array([model.draw_states(table, rng.random(200)) for _ in range(400)])
    assert (
        np.abs((paths[:, :, None] == np.arange(share.shape[1])).mean(axis=0) - share).max() < 0.12
    )
    single = np.array([looks.by_chance(share, rng.random(200)) for _ in range(400)])
    assert single.mean() == pytest.approx(paths.mean(), rel=0.02)


def test_states_of_the_recording_score_best_and_those_blind_to_arrivals_worst(model):
    parts = judging.split("testbed")
    parts = replace(parts, judge=parts.judge[:1])
    blind = replace(model, transitions=Independent(model.mixture.weight))
    methods = {source: partial(looks.from_states, model, source) for source in looks.SOURCES}
    methods["blind oracle"] = partial(looks.from_states, blind, "oracle")
    score = judging.judge(methods, parts, 2, 1).groupby("method")[["acf_r2", "ks"]].median()
    assert score["acf_r2"].idxmin() == "marginal" and score["acf_r2"].max() > 0.99
    assert score["acf_r2"]["oracle"] > score["acf_r2"]["predicted"]
    assert score["ks"]["oracle"] == score["ks"]["blind oracle"]  # an oracle needs no transitions
