"""Each score by hand, within its bounds, and as others published it on measured runs."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sitetrace.evaluate import metrics
from sitetrace.evaluate.metrics import SCORES, acf, acf_r2, ks_distance, noise_floor, nrmse, scores

POWER_W = arrays(float, 30, elements=st.floats(1.0, 1000.0, width=32))
# c = +1, -1, +1, -1: sum c^2 = 4; three, two, one products remain.
ALTERNATING, ITS_ACF = np.array([2.0, 0.0, 2.0, 0.0]), np.array([-0.75, 0.5, -0.25])


def noise(n, seed=0):
    return 300.0 + 20.0 * np.random.default_rng(seed).standard_normal(n)


WALK_W = np.cumsum(noise(200) - 300.0)


@given(POWER_W, POWER_W, st.floats(0.01, 100.0))
def test_scores_keep_their_bounds(one, other, scale):
    assert 0.0 <= ks_distance(one, other) <= 1.0
    assert ks_distance(one, one) == 0.0
    assert ks_distance(one, other) == pytest.approx(ks_distance(other, one))
    assert acf_r2(one, other, 10) <= 1.0
    assert acf_r2(WALK_W, scale * WALK_W + 100.0, 50) == pytest.approx(1.0)
    if np.ptp(one) > 1e-3:
        assert nrmse(one * scale, other * scale) == pytest.approx(nrmse(one, other), rel=1e-6)


def test_acf_of_an_alternating_series_alternates():
    assert acf(ALTERNATING, 3) == pytest.approx(ITS_ACF)
    expected = 1.0 - (ITS_ACF**2).sum() / ((ITS_ACF - ITS_ACF.mean()) ** 2).sum()
    assert acf_r2(ALTERNATING, np.full(4, 7.0), 3) == pytest.approx(expected)
    assert metrics.acf_r2_white(ALTERNATING, 3) == pytest.approx(expected)


@pytest.mark.parametrize("wobble", [0.0, 1e-10])
def test_a_constant_even_with_rounding_noise_has_no_autocorrelation(wobble):
    constant = 300.0 + wobble * np.tile([0.0, 1.0], 30)
    assert (acf(constant, 5) == 0.0).all()
    assert np.isnan(metrics.correlation(noise(60), constant))
    assert acf_r2(constant, np.full(60, 200.0), 50) == 1.0
    assert acf_r2(constant, noise(60), 50) == 0.0


def test_both_published_lag_counts_and_fewer_only_when_the_series_is_too_short():
    assert [metrics.acf_lags(dt_s) for dt_s in (0.25, 1.0, 0.1)] == [50, 60, 125]
    one, other = np.cumsum(noise(51) - 300), np.cumsum(noise(51, 1) - 300)
    assert acf_r2(one, other, 60) == acf_r2(one, other, 50)
    assert acf_r2(one, other, 49) != acf_r2(one, other, 50)


def test_distances_and_errors_by_hand():
    assert ks_distance(np.array([1.0, 2.0]), np.array([3.0, 4.0, 5.0])) == 1.0
    assert ks_distance(np.array([1.0, 2.0]), np.array([2.0, 3.0])) == 0.5
    measured = np.array([100.0, 300.0])
    assert metrics.energy_error_pct(measured, np.array([90.0, 270.0])) == pytest.approx(-10.0)
    assert metrics.energy_error_pct(measured, measured[::-1]) == 0.0
    assert np.isnan(metrics.energy_error_pct(np.zeros(2), measured))
    assert nrmse(np.array([100.0, 200.0]), np.array([110.0, 190.0])) == pytest.approx(0.1)
    assert np.isnan(nrmse(np.full(3, 100.0), np.array([1.0, 2.0, 3.0])))
    # P95 of 0..100 is 95, of 0..200 in steps of 2 it is 190.
    ramp = np.arange(101.0)
    assert metrics.percentile_error_pct(ramp, 2 * ramp, 95) == pytest.approx(100)


def test_scores_of_a_perfect_trace_and_of_a_single_sample():
    perfect = scores(noise(100), noise(100), 0.25)
    assert tuple(perfect) == SCORES
    assert list(perfect.values()) == pytest.approx([0, 0, 0, 1, 0, 1, 0, 0, 100])
    single = scores(np.array([1.0]), np.array([1.0]), 1.0)
    assert single.pop("n_samples") == 1
    assert np.isnan(list(single.values())).all()


def test_noise_floor_interleaves_its_halves_and_needs_two():
    floor = noise_floor(noise(4000), 0.25, None)
    assert floor["ks_halves"] < 0.06
    assert floor["acf_r2_white"] <= 0.0
    assert set(floor) == {"ks_halves", "acf_r2_halves", "acf_r2_white"}
    # A step in the middle would be KS 1 between first and second half.
    step = np.concatenate([noise(800), noise(800, 1) + 500.0])
    assert noise_floor(step, 0.25, None)["ks_halves"] < 0.1
    short = noise_floor(noise(10), 0.25, None)
    assert np.isnan(short["ks_halves"]) and np.isnan(short["acf_r2_halves"])


def test_regression_finds_what_activity_tells_and_no_more():
    rng = np.random.default_rng(3)
    active = np.repeat(rng.integers(0, 10, 100), 10).astype(float)
    activity = pd.DataFrame({"active": active, "quiet_for_s": np.where(active > 0, 0.0, np.inf)})
    told = noise_floor(100.0 + 30.0 * active, 0.25, activity)
    assert told["correlation_regression"] > 0.999
    assert told["nrmse_regression"] < 0.01
    untold = noise_floor(noise(1000, 5), 0.25, pd.DataFrame({"active": np.zeros(1000)}))
    assert untold["acf_r2_regression"] == pytest.approx(untold["acf_r2_white"])
    assert np.isnan(untold["correlation_regression"])


@pytest.mark.parametrize("rate", ["0.125", "1", "2", "4"])
def test_published_seconds_score_as_published_and_near_the_whole_run(measured, rate):
    folder = measured / "deepseek-r1-distill-8b_h100_1s"
    panel = json.loads((folder / "run.json").read_text())["panels"][rate]
    table = pd.read_csv(folder / panel["file"])
    ours = scores(table["measured_w"].to_numpy(), table["predicted_w"].to_numpy(), 1.0)
    known = panel["from_this_copy_first_600_s"]
    assert round(ours["energy_error_signed_pct"], 5) == known["signed_energy_error_pct"]
    assert round(ours["nrmse"], 7) == known["nrmse_range"]
    assert round(1.0 - ours["ks"], 6) == known["ks_agreement"]
    assert round(ours["acf_r2"], 6) == known["acf_r2_lags_1_60"]
    assert ours["n_samples"] == panel["rows"]
    whole = panel["published_whole_run"]
    missing_share = 1.0 - panel["rows"] / panel["published_scored_seconds"]
    assert ours["energy_error_pct"] == pytest.approx(whole["energy_error_pct"], abs=0.02)
    assert ours["nrmse"] == pytest.approx(whole["nrmse_range"], abs=3e-4)
    assert abs(1.0 - ours["ks"] - whole["ks_agreement"]) <= missing_share
    assert ours["acf_r2"] == pytest.approx(whole["acf_r2"], abs=1e-3)


@pytest.mark.parametrize(
    ("spread", "least", "most"), [(10, 0.85, 0.95), (4, 0.4, 0.6), (40, 0.99, 1)]
)
def test_a_band_covers_its_share_where_the_spread_of_the_draws_is_right(spread, least, most):
    rng = np.random.default_rng(7)
    measured = rng.normal(300, 10, 2000)
    draws, right = rng.normal(300, spread, (39, 2000)), rng.normal(300, 10, (39, 2000))
    assert least <= metrics.coverage(measured, draws, 0.9) <= most
    assert metrics.crps(measured, draws) >= 0.97 * metrics.crps(measured, right)
    assert np.isnan(metrics.coverage(measured, draws[:1], 0.9))
