"""Days of a row: each is looked at with all its racks, has its own load, and repeats."""

import numpy as np
import pytest
import xarray as xr
from test_capacity import synthetic_racks

from sitebook import row_days
from sitetrace import load_model, shipped_model


def site(day):
    racks_w = (0.96 + 0.04 * day) * synthetic_racks(day, racks=14)
    time = np.datetime64("2001-01-01", "ns") + np.arange(racks_w.shape[1]) * np.timedelta64(1, "s")
    found = xr.Dataset({"power_w": (("time", "unit"), racks_w.T.astype(np.float32))})
    names = [f"rack-0-{i}" for i in range(14)]
    known = {"level": ("unit", ["rack"] * 14), "nameplate_w": ("unit", np.full(14, 15_200.0))}
    return found.assign_coords({"time": time, "unit": names} | known)


def test_each_day_is_looked_at_with_all_its_racks():
    days = row_days.study(map(site, range(3)), 130e3, [2e3, 20e3], 12, 1)
    assert days.dt_s == 1.0 and days.nameplate_w == 15_200.0
    for table in (days.capacity, days.peaks, days.needs):
        assert table["day"].nunique() == 3
    assert days.peaks["racks"].max() == 14
    assert days.capacity["racks"].is_monotonic_decreasing  # each day has more load
    assert len(days.caps) and (days.caps[["greatest_kw", "share_pct"]] > 0).all(axis=None)


def test_days_nearest_the_mean_come_first():
    loads = row_days.daily_loads("", 400, 1)
    assert np.all(np.diff(np.abs(np.subtract(loads, 1.0))) >= 0)
    assert np.mean(loads) == pytest.approx(1.0, abs=0.05)
    assert np.std(loads) == pytest.approx(row_days.DAY_CV, abs=0.02)


def test_loads_of_a_production_trace_are_shares_of_its_mean(measured):
    every = row_days.daily_loads("servegen", 14, 1)
    assert np.mean(every) == pytest.approx(1.0)
    assert set(row_days.daily_loads("servegen", 4, 1)) <= set(every)


def test_simulated_days_differ_by_seed_and_load_and_repeat():
    plan = {"rows": 1, "racks_per_row": 2, "servers_per_rack": 1, "hours": 0.25}
    traffic = {"pattern": "diurnal", "rate_per_server": 0.4, "swing": 0.5, "peak_hour": 0}
    model = load_model(shipped_model("testbed_timeline"))

    def totals(loads):
        sites = row_days.simulated_days(model, plan, traffic, 125.0, loads, 1)
        return [row_days.rack_powers(each)[0].sum() for each in sites]

    first = totals([1.0, 1.0, 0.2])
    assert first[0] != first[1] and first[2] < min(first[:2])
    assert totals([1.0]) == first[:1]
