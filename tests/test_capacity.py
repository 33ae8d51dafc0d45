"""Racks below a row's limit: the paper's rule, the risk curve, what overlap of subsets hides."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import lfilter
from synthetic_site import site_dataset

from sitetrace.core.files import InputError
from sitetrace.studies import capacity


def synthetic_racks(seed, racks=12, seconds=3600):
    """One load shape for all racks, and noise of each one's own with a memory of a minute."""
    normals = np.random.default_rng(seed).standard_normal((racks, seconds))
    shape_w = 10_000.0 + 1_500.0 * np.sin(np.linspace(0.0, 2 * np.pi, seconds))
    memory = np.exp(-1.0 / 60.0)
    return shape_w + 800.0 * lfilter([np.sqrt(1 - memory**2)], [1.0, -memory], normals)


def test_racks_are_taken_from_a_site_with_their_step():
    site = site_dataset(600, step_s=0.25)
    found, dt_s = capacity.rack_powers(site)
    assert dt_s == 0.25
    np.testing.assert_array_equal(found.T, site.power_w.values[:, site.level.values == "rack"])
    with pytest.raises(InputError, match="keep"):
        capacity.rack_powers(site.isel(unit=[0]))


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 8), st.integers(1, 5), st.integers(0, 2**32 - 1), st.floats(1.0, 100.0))
def test_peaks_of_subsets_are_those_of_their_sums_and_never_fall(racks, draws, seed, limit_kw):
    rng = np.random.default_rng(seed)
    racks_w = rng.uniform(0.0, 20e3, (racks, 50))
    orders = capacity.random_orders(racks, draws, rng)
    assert (np.sort(orders, axis=1) == np.arange(racks)).all()
    peak_w, above = capacity.subset_peaks(racks_w, orders, limit_kw * 1e3)
    assert (np.diff(peak_w, axis=1) >= 0).all() and (np.diff(above, axis=1) >= 0).all()
    for order, peaks, counts in zip(orders, peak_w, above, strict=True):
        sums_w = np.cumsum(racks_w[order], axis=0)
        np.testing.assert_allclose(peaks, sums_w.max(axis=1))
        np.testing.assert_array_equal(counts, (sums_w > limit_kw * 1e3).sum(axis=1))


def test_constant_racks_fit_as_often_as_they_go_into_the_limit():
    published = capacity.constant_capacity(26e3, 600e3)
    assert published == {"racks": 23, "peak_p50_kw": 598.0, "peak_p95_kw": 598.0}
    rng, flat = np.random.default_rng(1), np.full((30, 20), 26e3)
    assert capacity.capacity(flat, 600e3, 10, rng) == published
    # if all fit, more are drawn with replacement, up to twice as many
    for limit_w, racks in ((14.5e3, 14), (1e6, 20), (900.0, 0)):
        assert capacity.capacity(np.full((10, 20), 1e3), limit_w, 5, rng)["racks"] == racks


def test_the_rule_finds_the_greatest_number_that_keeps_the_limit():
    racks_w = synthetic_racks(2)
    found = capacity.capacity(racks_w, 110e3, 200, np.random.default_rng(1))
    assert 0 < found["racks"] < len(racks_w)
    assert found["peak_p50_kw"] <= found["peak_p95_kw"] <= 110.0
    orders = capacity.random_orders(len(racks_w), 200, np.random.default_rng(2))
    peak_w, _ = capacity.subset_peaks(racks_w, orders, 110e3)
    assert np.percentile(peak_w[:, found["racks"]], 95) > 110e3


def peaks_of_days(days):
    found = []
    for day in range(days):
        how = (1.0, 118e3, [1, 60, 900], 60, np.random.default_rng(day))
        found.append(capacity.day_peaks(synthetic_racks(day), *how).assign(day=day))
    return pd.concat(found)


def test_longer_means_and_fewer_racks_never_exceed_more():
    curve = capacity.risk_curve(peaks_of_days(4), 118e3)
    by_step = curve.pivot(index="racks", columns="step_s", values="probability")
    assert (by_step.diff().dropna() >= 0).all().all()
    assert (by_step[1] >= by_step[60]).all() and (by_step[60] >= by_step[900]).all()
    assert 0 < by_step[1].max() and (by_step[1] > by_step[900]).any()
    racks = capacity.most_racks(curve, 0.05)
    assert racks[1] <= racks[60] <= racks[900]
    assert (capacity.most_racks(curve, 0.05, "high") <= racks).all()


def test_intervals_hold_the_estimate_and_days_are_fewer_than_subsets():
    curve = capacity.risk_curve(peaks_of_days(4), 118e3)
    estimates = {"": "probability", "first_": "first_day", "minutes_": "minutes_a_year"}
    for prefix, estimate in estimates.items():
        assert (curve[f"{prefix}low"] <= curve[estimate] + 1e-6).all()
        assert (curve[estimate] <= curve[f"{prefix}high"] + 1e-6).all()
    assert ((curve["high"] - curve["low"]) > (curve["first_high"] - curve["first_low"])).all()
    # one day gives no interval of the minutes
    curve = capacity.risk_curve(peaks_of_days(1), 118e3)
    assert curve["minutes_low"].isna().all() and curve["high"].max() == 1.0


def test_the_minutes_a_year_are_those_of_the_share_of_time():
    always = np.full((2, 900), 10e3)
    peaks = capacity.day_peaks(always, 1.0, 15e3, [1], 3, np.random.default_rng(1)).assign(day=0)
    curve = capacity.risk_curve(peaks, 15e3).set_index("racks")
    assert curve["minutes_a_year"].tolist() == [0.0, capacity.MINUTES_PER_YEAR]


def test_the_spread_between_subsets_collapses_at_all_racks_and_that_between_days_does_not():
    spread = capacity.peak_spread(peaks_of_days(8)).query("step_s == 1").set_index("racks")
    assert spread["within_kw"].iloc[-1] == pytest.approx(0.0, abs=1e-9)
    assert spread["between_kw"].iloc[-1] > 0.3
    assert spread["within_kw"].loc[3] > 0.3


def test_equal_terms_take_the_pue_on_both_sides_or_on_neither():
    racks_w = synthetic_racks(1, racks=14)
    terms = capacity.by_terms(racks_w, 15.2e3, 26e3, 130e3, 1.3, 40, 1)["racks"].unstack("method")
    names = ("as published", "IT power for all", "with PUE for all")
    published, plain, pue = (terms.loc[name] for name in names)
    assert published["nameplate"] == 5 and plain["nameplate"] == 130 // 15.2
    assert published["mean"] == pue["mean"] < plain["mean"]
    assert published["generated"] == plain["generated"] > pue["generated"]
    assert plain["generated"] <= plain["mean"]
