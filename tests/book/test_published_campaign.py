"""What the published numbers alone give."""

import numpy as np
import pytest

from sitebook.published import campaign, configurations, missing_numbers
from sitetrace.core.registry import read_paper_table
from sitetrace.evaluate.metrics import acf_lags, acf_r2


def test_every_main_mixture_draws_more_than_the_samples_that_it_was_fitted_on():
    main = configurations().query("main")
    excess_pct = 100 * (main["mixture_mean_w"] / main["power_mean_w"] - 1)
    # as the README of data/paper says
    ends = (len(main), excess_pct.min(), excess_pct.max())
    assert ends == pytest.approx((25, 2.5, 5.8), abs=0.05)


def test_what_can_be_made_is_what_the_tables_hold():
    made = missing_numbers() == ""
    counts = {"coupled": 25, "independent": 29, "AR(1)": 25, "log-normal TTFT": 25}
    assert made.sum().to_dict() == counts
    assert set(made.index[made["coupled"]]) == set(read_paper_table("run_summary")["config"])


@pytest.mark.parametrize("config", ["llama-3-70b_H100_tp4", "deepseek-r1-distill-8b_A100_tp2"])
def test_a_campaign_comes_near_the_published_load_and_mean_and_independent_states_forget(config):
    power_w, active, _ = campaign(config, seed=1)
    known = configurations().loc[config]
    assert active / known["active_mean"] == pytest.approx(1.0, abs=0.25)
    mean_w = {states: np.concatenate(parts).mean() for states, parts in power_w.items()}
    assert mean_w["independent"] == pytest.approx(known["mixture_mean_w"], rel=0.01)
    assert mean_w["coupled"] == pytest.approx(known["power_mean_w"], rel=0.15)
    pairs = zip(power_w["coupled"], power_w["independent"], strict=True)
    assert np.median([acf_r2(*pair, acf_lags(0.25)) for pair in pairs]) < 0
