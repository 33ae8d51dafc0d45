"""What can be said of a state before it comes, by whom, and how surely."""

import numpy as np
import pandas as pd
import pytest

import sitetrace
from sitebook.old.chapters import transitions as chapter
from sitebook.old.judging.decomposition import labelled
from sitebook.old.judging.splits import split


@pytest.fixture(scope="module")
def judged():
    parts = split("testbed")
    model = sitetrace.load_model(sitetrace.shipped_model("testbed"))
    models = chapter.candidates(model, parts)
    frame, labels = labelled(model, parts.judge[0])
    _, fitting = labelled(model, parts.fit[0])
    return parts, model, models, frame, labels, fitting


def test_candidates_differ_in_their_transitions_alone(judged):
    _, model, models, *_ = judged
    assert list(models) == ["markov", "logit", "trees", "bigru"]
    assert all(each.mixture is model.mixture for each in models.values())
    assert len({type(each.transitions) for each in models.values()}) == 4


def test_knowing_the_load_beats_knowing_only_how_often_states_occur(judged):
    _, _, models, frame, labels, fitting = judged
    nats = chapter.told(models, frame, labels, fitting)
    assert len(nats) == labels.use.sum()
    mean = nats.mean()
    assert (mean <= 0).all()
    assert mean["logit"] > mean[chapter.PERSISTENCE] > mean[chapter.FREQUENCIES]


def test_an_interval_holds_its_mean_and_narrows_with_more_bins():
    rng = np.random.default_rng(3)
    widths = []
    for n in (400, 6400):
        nats = pd.DataFrame({"a": rng.normal(-1, 0.5, n)})
        row = chapter.likelihoods(nats, 0.25, np.random.default_rng(1)).iloc[0]
        assert row["low"] <= row["nats"] <= row["high"]
        widths.append(row["high"] - row["low"])
    assert widths[1] < widths[0] / 2


def test_a_fitted_chain_is_calibrated_on_its_own_seconds(judged):
    parts, model, models, *_ = judged
    own = labelled(model, parts.fit[0])
    predicted, observed = chapter.calibration({"logit": models["logit"]}, *own)["logit"]
    assert np.abs(predicted - observed).max() < 0.15


def test_frequencies_of_a_level_sum_to_one_or_were_never_seen(judged):
    _, model, _, frame, labels, _ = judged
    found = chapter.levels(frame, labels, model.mixture.n_states + 1)
    assert 1 <= len(found) <= 3
    for _, share in found:
        total = share.sum(axis=1)
        assert np.allclose(total[~np.isnan(total)], 1.0)


@pytest.mark.parametrize(
    ("state", "bins"), [([0, 1, 1, 1, 0, 2, 0], 2.0), ([0, 0, 0], 0.0), ([1, 2, 1, 2], 1.0)]
)
def test_stays_are_counted_above_idle(state, bins):
    assert chapter.stay_bins(np.array(state)) == bins


def test_every_candidate_runs_freely_beside_the_recording(judged):
    parts, _, models, _, labels, _ = judged
    runs = chapter.free_runs(models, parts.judge[0], labels, 2, 1).set_index("candidate")
    assert list(runs.index) == ["recording", *models, chapter.INDEPENDENT]
    assert runs.loc["logit", "energy_error_pct"] < 5
    assert runs.loc[chapter.INDEPENDENT, "stay_bins"] < runs.loc["recording", "stay_bins"]


def test_the_net_learns_more_from_more_recordings():
    for dataset in ("testbed", "measured"):
        curve = chapter.learning_curve(dataset)
        assert curve["held_out_nats"].iloc[-1] < curve["held_out_nats"].iloc[0]
        assert (curve["train_nats"] < curve["null_nats"]).all()


def test_training_to_the_end_turns_the_feature_study_around():
    study = chapter.sufficiency("measured")
    assert list(study["features"]) == ["A", "dA", "F2", "F3", "F6"]
    assert (study["ours, trained"] > study["ours, 1 epoch"]).all()


def test_records_name_what_they_answer_and_the_testbed_answers_nothing(judged):
    parts, _, models, frame, labels, fitting = judged
    nats = chapter.told(models, frame, labels, fitting)
    scored = chapter.likelihoods(nats, 0.25, np.random.default_rng(1))
    runs = chapter.free_runs({"logit": models["logit"]}, parts.judge[0], labels, 2, 1)
    rows = chapter.found(scored, runs, parts, "testbed", parts.judge[0].run)
    assert {row["verdict"] for row in rows} == {None, "cannot be tested"}
    assert len({(row["name"], row["dataset"]) for row in rows}) == len(rows)
    measured = chapter.found(scored, runs, split("qwen3-8b_a100_from_r4"), "measured", "run")
    claims = {row["claim"] for row in measured}
    assert "run_summary:llama-3-70b_H100_tp4:best_val_loss" in claims
    assert "best held-out log-likelihood: " in chapter.conclusion(scored, "testbed")
