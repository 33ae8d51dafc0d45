"""What the chapter on published numbers says follows from them."""

import numpy as np
import pytest

from sitebook.old.chapters import published as chapter
from sitebook.old.ledger.records import write_records
from sitetrace import load_model, shipped_model
from sitetrace.core.registry import read_paper_table
from sitetrace.serving.engine import simulate
from sitetrace.workload.streams import poisson

CONFIG = "llama-3-70b_H100_tp4"
ENGINE = load_model(shipped_model("llama-3.1-70b_h100_cut"))


@pytest.fixture(scope="module")
def campaign():
    return chapter.campaign(seed=1)


@pytest.fixture(scope="module")
def waits():
    requests, rng = poisson(1.0, 600.0, np.random.default_rng(1)), np.random.default_rng(2)
    models = chapter.ways_of_serving(CONFIG, ENGINE)
    timelines = {name: simulate(requests, model.server, rng) for name, model in models.items()}
    return chapter.served_table(models, timelines, 3)


def test_every_main_mixture_draws_more_than_the_recordings_that_it_was_fitted_on(campaign):
    assert len(campaign) == 25
    # as the README of data/paper says
    assert campaign["mixture_pct"].min() == pytest.approx(2.5, abs=0.05)
    assert campaign["mixture_pct"].max() == pytest.approx(5.8, abs=0.05)


def test_independent_draws_inherit_the_mixtures_excess(campaign):
    error = campaign["independent_pct"] - campaign["mixture_pct"]
    assert error.abs().max() < 1.0


def test_default_lengths_bring_active_requests_near_the_published_ones(campaign):
    assert campaign["active_ratio"].between(0.8, 1.25).all()
    # one per cent more requests at once cannot move the mean by more than the load does
    assert campaign["coupled_pct"].abs().max() < 15


def test_independent_states_explain_no_autocorrelation(campaign):
    assert (campaign["marginal_acf_r2"] < 0).all()
    assert (campaign["marginal_energy_pct"] > 5).all()


def test_the_constant_rate_makes_long_prompts_wait(waits):
    ttft = waits.set_index("serving")
    assert ttft.loc["constant rate", "ttft_long_s"] > 4 * ttft.loc["engine", "ttft_long_s"]
    assert ttft.loc["constant rate", "ttft_short_s"] < 2 * ttft.loc["engine", "ttft_short_s"]
    # power sees little of it
    assert np.ptp(waits["mean_power_w"]) < 0.05 * waits["mean_power_w"].mean()


def test_scores_that_need_the_recordings_are_named_without_a_value(campaign, waits):
    rows = write_records(chapter.found(campaign, waits, CONFIG, ENGINE))
    claimed = [row for row in rows if row["claim"]]
    assert len(claimed) == 16
    assert {row["verdict"] for row in claimed} == {"cannot be tested"}
    assert {row["data"] for row in rows if row["dataset"].endswith("engine")} == {"measured"}


def test_the_offer_says_why_models_are_missing():
    table = chapter.offer_table()
    assert ((table["not_made"] == 0) == (table["why_not"] == "")).all()
    assert (table["made"] + table["not_made"]).eq(33).all()


def test_what_is_offered_is_what_the_tables_hold():
    offers = chapter.offers()
    assert len(offers) == 33
    made = offers == ""
    assert set(offers.index[made["independent"]]) == set(
        read_paper_table("serving_surrogate")["config"]
    )
    # the main ones all have a model whose states follow the load
    assert set(offers.index[made["coupled"]]) == set(read_paper_table("run_summary")["config"])
    assert made.sum().to_dict() == {
        "coupled": 25, "independent": 29, "AR(1)": 25, "log-normal TTFT": 25}  # fmt: skip
