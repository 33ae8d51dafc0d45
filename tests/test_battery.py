"""A battery at a row, and a cap: energy is kept, and more battery never carries fewer racks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sitetrace.studies import battery
from sitetrace.studies.capacity import random_orders

LIMIT_W = 100e3
powers = arrays(np.float64, st.integers(2, 60), elements=st.floats(20e3, 160e3))
batteries = {
    "power_w": powers,
    "store_kwh": st.floats(0.0, 20.0),
    "rate_w": st.floats(0.0, 80e3),
    "efficiency": st.floats(0.5, 1.0),
    "dt_s": st.sampled_from([1.0, 60.0, 900.0]),
}


@settings(max_examples=100, deadline=None)
@given(**batteries)
def test_a_battery_keeps_energy_and_its_own_bounds(power_w, store_kwh, rate_w, efficiency, dt_s):
    run = battery.with_battery(power_w, dt_s, LIMIT_W, store_kwh, rate_w, efficiency)
    assert run["stored_kwh"].between(0.0, store_kwh + 1e-12).all()
    flow_w = (run["grid_w"] - run["power_w"]).to_numpy()
    assert (np.abs(flow_w) <= rate_w + 1e-6).all()
    above = power_w > LIMIT_W
    assert (flow_w[above] <= 0).all() and (flow_w[~above] >= 0).all()
    assert (run["grid_w"] <= np.maximum(power_w, LIMIT_W) + 1e-6).all()
    stored_j = np.where(flow_w > 0, efficiency, 1.0) * flow_w * dt_s
    change_j = np.diff(run["stored_kwh"], prepend=store_kwh) * battery.J_PER_KWH
    np.testing.assert_allclose(change_j, stored_j, atol=1e-2, rtol=1e-9)


@settings(max_examples=100, deadline=None)
@given(**batteries)
def test_the_least_battery_is_enough_and_a_smaller_one_is_not(
    power_w, store_kwh, rate_w, efficiency, dt_s
):
    need = battery.needed_kwh(power_w, dt_s, LIMIT_W, rate_w, efficiency)
    twice_w = np.tile(power_w, 2)
    if not np.isfinite(need):
        lacking_w = power_w.max() - LIMIT_W > rate_w
        run = battery.with_battery(np.tile(power_w, 3), dt_s, LIMIT_W, 100.0, rate_w, efficiency)
        first_day, second_day = run["stored_kwh"].iloc[[len(power_w) - 1, len(twice_w) - 1]]
        assert lacking_w or second_day < first_day or run["grid_w"].max() > LIMIT_W
        return
    enough = battery.with_battery(twice_w, dt_s, LIMIT_W, need * (1 + 1e-9), rate_w, efficiency)
    assert enough["grid_w"].max() <= LIMIT_W + 1e-3
    if need > 1e-3:
        less = battery.with_battery(twice_w, dt_s, LIMIT_W, 0.99 * need, rate_w, efficiency)
        assert less["grid_w"].max() > LIMIT_W


def test_the_need_of_one_rectangle_is_its_area_however_the_day_ends():
    def need(power_w, rate_w=30e3):
        return battery.needed_kwh(power_w, 3600.0, LIMIT_W, rate_w, 1.0)

    power_w = np.full(24, 90e3)
    power_w[12] = 130e3
    assert (need(power_w), need(power_w, 29e3)) == (pytest.approx(30.0), np.inf)
    power_w[[22, 23]] = 130e3  # two more hours over the limit; then across midnight
    assert need(power_w) == need(np.roll(power_w, 1)) == pytest.approx(60.0)


def test_a_row_above_its_limit_on_average_has_no_battery_that_helps():
    power_w = np.where(np.arange(100) % 2, 90e3, 115e3)
    assert battery.needed_kwh(power_w, 60.0, LIMIT_W, 1e6) == np.inf
    assert battery.capped(power_w, 60.0, LIMIT_W)["backlog_kwh"] == np.inf


def test_a_cap_cuts_what_is_above_the_limit():
    power_w = np.array([90.0, 110.0, 120.0, 60.0, 105.0, 95.0]) * 1e3
    expected = {"share_pct": 50.0, "greatest_kw": 20.0, "longest_s": 120.0, "wait_s": 18.0}
    expected |= {"cut_kwh": 35.0 / 60, "backlog_kwh": 30.0 / 60}
    found = battery.capped(power_w, 60.0, LIMIT_W)
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    assert not any(battery.capped(power_w, 60.0, 130e3).values())


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), efficiency=st.floats(0.5, 1.0))
def test_more_battery_never_carries_fewer_racks(seed, efficiency):
    rng = np.random.default_rng(seed)
    racks_w = rng.uniform(8e3, 24e3, (10, 40))
    rates_w, stores_kwh = [0.0, 5e3, 20e3, 80e3], [0.0, 0.1, 1.0, 10.0]
    orders = random_orders(10, 4, rng)
    needs = battery.day_needs(racks_w, 60.0, LIMIT_W, rates_w, orders, efficiency)
    table = battery.racks_held(needs, stores_kwh)
    grid = table.pivot(index="rate_w", columns="store_kwh", values="racks")
    assert (grid.diff(axis=0).dropna() >= 0).all().all()
    assert (grid.diff(axis=1).iloc[:, 1:] >= 0).all().all()
    assert grid.loc[0.0].nunique() == 1 and grid[0.0].nunique() == 1
    without = needs[needs["rate_w"] == 0.0].groupby("racks")["needed_kwh"].max()
    assert grid.loc[0.0, 0.0] == (without == 0.0).sum()
