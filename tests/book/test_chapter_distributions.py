"""What the chapter on distributions computes: nulls, shifts by AR(1), idle ends, sources."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from sitebook.old.chapters import distributions as chapter
from sitebook.old.judging import decomposition
from sitebook.old.judging.comparison import open_run
from sitebook.old.judging.splits import split
from sitebook.old.looks import carryover, idle_ends, normality
from sitetrace.core.registry import shipped_model
from sitetrace.power.modelfile import load_model
from sitetrace.power.states.mixture import Emissions, Mixture
from sitetrace.power.states.transitions import Independent

# neighbours overlap, so that labels cut
STATES = Mixture(np.array([300.0, 306.0, 312.0]), np.full(3, 4.0), np.array([0.3, 0.4, 0.3]))
EMPTY = np.empty((0, 0))


@pytest.fixture(scope="module")
def model():
    return load_model(shipped_model("testbed"))


@pytest.fixture(scope="module")
def part():
    return split("testbed").judge[0]


@pytest.fixture(scope="module")
def drawn(model, part):
    return decomposition.decompose(model, split("testbed").fit[0], part, 3, 1)


def test_labels_alone_make_gaussian_samples_fail_but_not_against_their_null():
    rng = np.random.default_rng(1)
    pool = normality.labelled_draws(STATES, 1500, rng)
    states = np.repeat([0, 1, 2], [part.size for part in pool])
    found = normality.state_tests(np.concatenate(pool), states, STATES, rng)
    assert (found["shapiro"] < 0.01).all()
    assert (found["null_rejected"] > 0.9).all()
    assert (found["against_null"] > 0.02).all()


def test_power_that_is_no_gaussian_fails_against_the_null_too():
    rng = np.random.default_rng(2)
    two_levels = rng.choice([304.5, 307.5], 300) + rng.normal(0, 0.1, 300)
    found = normality.state_tests(two_levels, np.ones(300, dtype=int), STATES, rng)
    assert found["against_null"].item() == pytest.approx(1 / (1 + normality.REPEATS))


def test_memory_within_a_state_is_found_only_where_there_is_some():
    rng = np.random.default_rng(3)
    far = Mixture(np.array([100.0, 300.0]), np.array([5.0, 5.0]), np.array([0.5, 0.5]))
    states = np.tile(np.repeat([0, 1], 40), 25)
    emissions = Emissions("ar1_deviation", np.array([0.8, 0.0]), EMPTY)
    stretch = [(states, emissions.power_of(states, far, rng.standard_normal(states.size))[0])]
    found = normality.memory_by_state(stretch, far, rng)
    assert found["phi"][0] == pytest.approx(0.8, abs=0.1)
    assert found["phi"][0] > 3 * found["chance"][0]
    assert found["phi"][1] <= 0.1
    first = normality.residual_acf(stretch, far, 3, rng).iloc[0]
    assert first["acf"] > first["high"]


def test_the_shift_by_ar1_is_the_simulated_one():
    config, rng = "gpt-oss-120b_A100_tp4", np.random.default_rng(4)
    mixture, emissions = carryover.published_emissions(config)
    for stay in (0.0, 0.9):
        shifts = carryover.published_shifts((stay,)).set_index("config")
        states = carryover.draw_states(mixture, stay, 200_000, rng)
        plain, own, dragged = (
            Emissions(kind, emissions.phi, EMPTY)
            .power_of(states, mixture, rng.standard_normal(states.size))[0]
            .mean()
            for kind in ("gaussian", "ar1_deviation", "ar1")
        )
        assert 100 * (dragged / plain - 1) == pytest.approx(shifts["shift_pct"][config], abs=1)
        assert own == pytest.approx(plain, rel=1e-3)


def test_equal_memory_of_all_states_shifts_nothing_and_kept_states_neither():
    mean_w = STATES.weight @ STATES.mean_w
    assert carryover.mean_power_w(STATES, np.full(3, 0.9), 0.0) == pytest.approx(mean_w)
    unequal = np.array([0.9, 0.5, 0.0])
    assert carryover.mean_power_w(STATES, unequal, 1.0) == pytest.approx(mean_w)
    assert carryover.mean_power_w(STATES, unequal, 0.0) > mean_w + 1


def test_states_are_kept_as_often_as_asked():
    states = carryover.draw_states(STATES, 0.9, 50_000, np.random.default_rng(5))
    same = (states[1:] == states[:-1]).mean()
    assert same == pytest.approx(0.9 + 0.1 * (STATES.weight**2).sum(), abs=0.01)
    assert np.bincount(states) / states.size == pytest.approx(STATES.weight, abs=0.03)


def test_idle_ends_explain_the_published_spread_which_the_gap_does_not_know():
    ends = idle_ends.published_ends()
    main, older = ends[ends["main"]], ends[~ends["main"]]
    errors = idle_ends.spread_errors(main).set_index("explanation")
    assert len(main) == 25
    assert errors["median_pct"]["idle ends put back"] < errors["median_pct"].max() / 5
    assert (older["share_pct"] < 0.1).all()
    assert (main["idle_s"] < 60).all()


def test_a_mixture_has_the_mean_of_its_samples_and_the_gap_tells_what_was_left_out():
    own = idle_ends.own_ends(open_run("testbed/poisson"), 4, 1)
    assert own["whole_gap_pct"] == pytest.approx(0, abs=1e-3)
    assert own["busy_gap_pct"] > 1
    assert own["implied_pct"] == pytest.approx(own["share_pct"], abs=0.5)


def test_power_goes_to_another_board_and_back(model):
    power_w = np.array([85.0, 150.0, 300.0, 480.0])
    there = model.rebase(power_w, model.idle.mean_w + 20)
    back = decomposition.on_fitted_board(model, there, model.idle.mean_w + 20)
    assert back == pytest.approx(power_w, abs=0.5)


def test_bins_have_the_probability_that_many_paths_show(model, part):
    frame, _ = decomposition.labelled(model, part)
    frame = frame.iloc[:300]
    share = decomposition.bin_probabilities(model, frame)
    assert share.sum(axis=1) == pytest.approx(1)
    rng = np.random.default_rng(6)
    paths = np.array([model.draw_states(frame, rng.random(300)) for _ in range(400)])
    seen = (paths[:, :, None] == np.arange(share.shape[1])).mean(axis=0)
    assert np.abs(seen - share).max() < 0.12
    single = np.array([decomposition.draw_independent(share, rng) for _ in range(400)])
    assert single.mean() == pytest.approx(paths.mean(), rel=0.02)


def test_states_that_know_nothing_of_arrivals_score_worst_and_those_of_the_recording_best(drawn):
    plain = chapter.by_source(drawn, pruned=False).query("emissions == 'gaussian'")
    median = plain.groupby("source")[["acf_r2", "energy_error_pct"]].median()
    assert median["acf_r2"].idxmax() == "oracle"
    assert median["acf_r2"].idxmin() == "marginal"
    assert median["energy_error_pct"].idxmax() == "marginal"


def test_oracle_states_need_no_transitions(model, part, drawn):
    blind = replace(model, transitions=Independent(model.mixture.weight))
    again = decomposition.decompose(blind, split("testbed").fit[0], part, 1, 1)
    known = [t[(t["source"] == "oracle") & (t["draw"] == 0)]["ks"].tolist() for t in (drawn, again)]
    assert known[0] == known[1]


def test_pruning_leaves_the_worst_part_out_and_a_single_part_in(drawn):
    worse = drawn.assign(judged="worse", energy_error_pct=drawn["energy_error_pct"] + 50)
    both = pd.concat([drawn, worse])
    kept = chapter.by_source(both, pruned=True)
    pd.testing.assert_frame_equal(kept, chapter.by_source(drawn, pruned=True))
    assert (chapter.by_source(both, pruned=False)["energy_error_pct"] > 20).all()


def test_a_copy_of_the_recording_scores_perfectly_alone_and_pooled():
    wave = 300 + 50 * np.sin(np.arange(400) / 9)
    spans = {(c, s): (wave, np.array([wave]), 0.25) for c in chapter.CLOCKS for s in chapter.SPANS}
    powers = {"a": spans, "b": spans}
    pooled = chapter.pooled_scores(powers).iloc[0]
    assert pooled.tolist() == pytest.approx([0, 0, 1, 0])
    table = chapter.ks_table(chapter.score_draws(powers))
    assert len(table) == 8
    assert (table["ks_max"] == 0).all()
    assert (table["floor"] > 0).all()


def test_without_a_state_that_remembers_the_paper_s_ar1_is_not_tested(drawn):
    asleep = chapter._ar1_records("llama-3.1-70b_h100_cut", drawn, False, "measured")
    awake = chapter._ar1_records("llama-3.1-70b_h100_cut", drawn, True, "measured")
    assert {row["verdict"] for row in asleep} == {"cannot be tested"}
    assert all(row["claim"].startswith("fidelity_ar1:llama-3-70b_H100_tp4:") for row in awake)
    assert all(row["value"] is not None for row in awake)


def test_the_paper_s_own_tables_tell_how_often_ar1_was_worse():
    rows = chapter.paper_found(
        carryover.published_shifts((0.0, chapter.STAY)), idle_ends.published_ends()
    )
    by_name = {row["name"]: row["value"] for row in rows}
    assert by_name["ACF R² lower with AR(1)"] == 25
    assert by_name["energy error greater with AR(1)"] == 24
    assert by_name["mixture mean above training mean, median of the main configurations"] > 2.5


def test_behind_known_states_of_a_measured_run_ar1_drags_levels_along(measured):
    parts = split("llama-3.1-70b_h100_cut")
    wide = decomposition.with_states(parts, 4, 1)
    known = decomposition.decompose_split(wide, parts, 3, 1).query("source == 'oracle'")
    ks = known.groupby("emissions")["ks"].median()
    assert ks["ar1"] > 1.2 * ks["gaussian"]
    assert ks["ar1_deviation"] < 1.2 * ks["gaussian"]
