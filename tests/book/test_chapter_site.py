"""The chapter from servers to a site: its scene adds up, and its records answer the claims."""

import numpy as np
import pytest

from sitebook.old.chapters import site as chapter
from sitebook.old.plots import site as figures
from sitebook.old.sites import hierarchy, scene, setups
from sitetrace.planning.series import mean_w, power_at

SHAPE = (2, 2, 4)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    setup = setups.fitted_setup("testbed", "diurnal", 0.5, SHAPE, 12, folder)
    return scene.simulate(setup, "timeline", 1, folder)


def test_the_facility_is_the_sum_of_its_servers_times_the_pue(small):
    servers_w = power_at(small.site, "server").sum(axis=1)
    assert mean_w(small.facility_w) == pytest.approx(setups.PUE * mean_w(servers_w), rel=1e-6)
    units_kw = small.units["mean_kw"].groupby("level").sum()
    others_kw = small.setup.servers * small.setup.non_gpu_w / 1e3
    assert units_kw["rack"] == pytest.approx(units_kw["row"])
    assert units_kw["rack"] == pytest.approx(units_kw["server"] + others_kw)
    assert chapter.racks_kw(small).mean(axis=1).sum() == pytest.approx(units_kw["rack"])


def test_every_method_lies_below_the_nameplate_and_knows_its_own_rhythm(small):
    peak_w = {name: power_w.max() for name, power_w in small.quarters_w.items()}
    assert max(peak_w.values()) == peak_w["nameplate"]
    assert np.ptp(small.quarters_w["mean"]) == 0
    together = np.corrcoef(small.quarters_w["look-up"], small.quarters_w["timeline"])[0, 1]
    assert together > 0.8
    for power_w in small.quarters_w.values():
        assert len(power_w) == 48


def test_sums_of_servers_flatten_as_a_few_of_them_foretell(small):
    assert list(small.curve["servers"]) == [1, 4, 16]
    assert chapter.law_misses_pct(small.curve, small.parts) < 2
    assert chapter.law_misses_pct(small.curve, small.foretold) < 15
    assert chapter.conclusion(small).count("yes") == 3


def test_each_record_has_its_own_name_and_the_testbed_no_verdict(small):
    rows = chapter.found([small], None, "")
    names = [(row["name"], row["dataset"]) for row in rows]
    assert len(set(names)) == len(names)
    of_testbed = [row for row in rows if row["data"] == "testbed"]
    assert {row["verdict"] for row in of_testbed} <= {None, "cannot be tested"}
    # megawatts of another configuration answer nothing
    assert not {row["unit"] for row in of_testbed if row["claim"]} & {"kW", "MW"}


def test_the_papers_curve_and_nameplate_follow_from_its_own_tables():
    rows = {row["name"]: row for row in chapter.found([], None, "")}
    assert rows["constant site power (facility_constants B/tdp)"]["verdict"] == "follows"
    law = next(row for name, row in rows.items() if "greatest deviation" in name)
    assert law["value"] < 0.5
    assert 0.26 < rows["CoV to which the paper's curve flattens"]["value"] < 0.27


def test_tables_stand_beside_the_papers(small):
    levels = chapter.level_table([small])
    assert set(levels["source"]) == {"testbed", "paper, run B"}
    assert levels["level"].value_counts().eq(2).all()
    steps = chapter.resolution_table([small]).groupby("source")["step_s"].apply(list)
    assert steps["testbed"] == steps["paper, run A"]
    assert set(hierarchy.COLUMNS) <= set(levels.columns)


def test_traffic_that_nobody_knows_is_refused(tmp_path):
    from sitetrace.core.files import InputError

    with pytest.raises(InputError, match="servegen"):
        setups.traffic("tuesday", 1.0, tmp_path)


def test_figures_show_every_site_and_the_paper(small):
    assert len(figures.flattening([small]).axes) == 2
    assert len(figures.profile([small, small]).axes) == 2
    labels = figures.durations([small]).axes[0].get_legend_handles_labels()[1]
    assert labels == ["testbed", "paper, run A", "paper, run B"]


def test_the_measured_sites_have_recorded_rhythms_and_own_lengths(measured, tmp_path):
    traffic = setups.traffic("servegen", 0.05, tmp_path)
    assert traffic["pattern"] == "clients"
    azure = setups.traffic("azure", 0.05, tmp_path)
    scenario = setups.scenario_of(
        setups.fitted_setup("llama-3.1-70b_h100_cut", "azure", 0.05, SHAPE, 1, tmp_path),
        "timeline", 1, [{"levels": ["site"], "step_s": 1}],
    )  # fmt: skip
    assert azure["lengths"] == scenario.traffic.lengths
    assert scenario.non_gpu.constant_w == 500.0
