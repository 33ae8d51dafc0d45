"""The chapter oversubscription: equal terms, days with loads of their own, answers to the paper."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
from test_capacity import synthetic_racks

from sitebook.old.chapters import oversubscription as chapter
from sitebook.old.plots import oversubscription as figures
from sitebook.old.sites import row_days
from sitetrace.studies import battery

LIMIT_KW, RACK_KW = 130.0, 26.0
STORES_KWH = [0.0, 0.01, 0.1, 1.0]


def site(day):
    racks_w = (0.96 + 0.04 * day) * synthetic_racks(day, racks=14)
    power_w = np.column_stack([racks_w.sum(axis=0), *racks_w]).astype(np.float32)
    time = np.datetime64("2001-01-01", "ns") + np.arange(len(power_w)) * np.timedelta64(1, "s")
    units, levels = ["site", *(f"rack-0-{i}" for i in range(14))], ["site"] + ["rack"] * 14
    coordinates = {"time": time, "unit": units, "level": ("unit", levels)}
    found = xr.Dataset({"power_w": (("time", "unit"), power_w)}, coords=coordinates)
    nameplate_w = np.where(found["level"] == "rack", 15_200.0, 14 * 15_200.0)
    return found.assign_coords(nameplate_w=("unit", nameplate_w))


@pytest.fixture(scope="module")
def days():
    return row_days.study((site(day) for day in range(3)), LIMIT_KW, [2.0, 20.0], 40, 4, 12, 1)


@pytest.fixture(scope="module")
def counts(days):
    return chapter.methods(days, LIMIT_KW, RACK_KW, 12)


def test_each_day_is_looked_at_with_all_its_racks(days):
    assert days.dt_s == 1.0 and days.nameplate_w == 15_200.0
    for table in (days.capacity, days.peaks, days.needs, days.caps):
        assert table["day"].nunique() == 3
    assert days.peaks["racks"].max() == 14 and (days.capacity["racks"] <= 14).all()
    assert days.capacity["racks"].is_monotonic_decreasing  # each day has more load
    cut = days.caps[days.caps["greatest_kw"] > 0]
    assert len(cut) and (cut["share_pct"] > 0).all()


def test_equal_terms_take_the_pue_on_both_sides_or_on_neither(counts):
    racks = counts.set_index(["terms", "method"])["racks"]
    published, plain, pue = chapter.TERMS
    assert racks[published, "nameplate"] == 5
    assert racks[plain, "nameplate"] == int(LIMIT_KW // 15.2)
    assert racks[published, "mean"] == racks[pue, "mean"] < racks[plain, "mean"]
    assert racks[published, "generated"] == racks[plain, "generated"] > racks[pue, "generated"]
    assert racks[plain, "generated"] <= racks[plain, "mean"]


def test_the_papers_counts_stand_above_ours(counts):
    table = chapter.beside_paper(counts.assign(source="testbed"))
    assert len(table) == 5 + 9
    assert (
        table.set_index(["source", "method"]).loc[("the paper", "generated"), "racks"].item() == 57
    )


def test_days_nearest_the_mean_come_first_and_a_record_gives_its_own():
    loads = chapter.daily_loads("", 400, 0.2, 1)
    assert np.all(np.diff(np.abs(np.subtract(loads, 1.0))) >= 0)
    assert np.mean(loads) == pytest.approx(1.0, abs=0.05)
    assert np.std(loads) == pytest.approx(0.2, abs=0.03)


def test_loads_of_a_production_trace_are_shares_of_its_mean(measured):
    path = measured.parent / "workload" / "servegen" / "m-small_rates.csv"
    every = chapter.daily_loads(path, 14, 0.0, 1)
    assert np.mean(every) == pytest.approx(1.0)
    assert set(chapter.daily_loads(path, 4, 0.0, 1)) <= set(every)


def test_the_risk_is_shown_from_the_last_sure_number_to_the_first_hopeless_one(days):
    shown = chapter.crossing(chapter.risks(days, LIMIT_KW))
    assert shown["probability"].iloc[0] == 0.0
    assert shown["at_15_min"].le(shown["probability"]).all()
    assert chapter.spread(days)["within_kw"].iloc[-1] == pytest.approx(0.0, abs=1e-9)


def test_records_answer_the_paper_without_a_verdict_on_the_testbed(days, counts):
    curve, held = chapter.risks(days, LIMIT_KW), chapter.held(days, STORES_KWH)
    rows = chapter.found(counts, days, curve, held, "testbed", "invented", answers=True)
    names = [row["name"] for row in rows]
    assert len(names) == len(set(names))
    answered = {row["claim"]: row for row in rows if row["claim"]}
    assert set(answered) == {
        f"oversubscription:ours:{column}" for column in ("racks", "peak_p50_kw", "peak_p95_kw")
    }
    assert {row["verdict"] for row in answered.values()} == {"cannot be tested"}
    text = chapter.conclusion(counts, chapter.spread(days), held)
    assert "subsets, more over days" in text


def test_figures_show_every_method_day_and_battery(days, counts):
    curve, held = chapter.risks(days, LIMIT_KW), chapter.held(days, STORES_KWH)
    bars = figures.by_method(chapter.beside_paper(counts.assign(source="testbed"))).axes[0]
    assert len(bars.patches) == 14
    assert len(figures.peaks(days.peaks, LIMIT_KW).axes[1].lines) == 3
    assert figures.risk(curve).axes[1].get_yscale() == "log"
    assert len(figures.battery(held).axes[0].lines) == 2
    assert len(figures.spread(chapter.spread(days)).axes[0].lines) == 3
    run = battery.with_battery(days.racks_w[:11].sum(axis=0), 1.0, 125e3, 1.0, 20e3)
    panels = figures.discharge(run, 125.0).axes
    missing_wh = panels[1].lines[0].get_ydata()
    assert missing_wh.min() == pytest.approx(1e3 * (run["stored_kwh"].min() - 1.0))
    plt.close("all")


def test_simulated_days_differ_by_seed_and_load_and_repeat():
    plan = {"rows": 1, "racks_per_row": 2, "servers_per_rack": 1, "hours": 0.25}
    traffic = {"pattern": "diurnal", "rate_per_server": 0.4, "swing": 0.5, "peak_hour": 0}

    def totals(loads):
        sites = row_days.simulated_days("testbed_timeline", plan, traffic, 125.0, loads, 1)
        return [row_days.rack_powers(each)[0].sum() for each in sites]

    first = totals([1.0, 1.0, 0.2])
    assert first[0] != first[1] and first[2] < min(first[:2])
    assert totals([1.0]) == first[:1]
