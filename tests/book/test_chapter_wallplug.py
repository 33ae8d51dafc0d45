"""The chapter wall-plug: the testbed's known node comes back, and what is not known is said."""

import numpy as np
import pytest

from sitebook.old.chapters import wall_plug as chapter
from sitebook.old.wallplug import non_gpu, wallplug
from sitetrace.core.files import InputError


@pytest.fixture(scope="module")
def node():
    return chapter.open_nodes("testbed", 1)


@pytest.fixture(scope="module")
def fits(node):
    return non_gpu.fit_each(non_gpu.levels(*node[1:]))


def test_the_simulated_meter_loses_samples_and_the_reader_knows(node):
    tables, table, _ = node
    assert table["lost"].gt(0).all()
    assert all((samples["power_w"].dropna() > 0).all() for samples in tables.values())


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_band_holds_the_simulated_nodes_truth(seed):
    _, table, limits = chapter.open_nodes("testbed", seed)
    fitted = non_gpu.fit_each(non_gpu.levels(table, limits))["testbed"]
    least, greatest = fitted["per_gpu_w_band"]
    assert least < chapter.TESTBED_SLOPE < greatest
    for gpu_w in (800.0, 3000.0):
        true_w = chapter.TESTBED_BASE_W + chapter.TESTBED_SLOPE * gpu_w
        low, high = (chapter.at_gpu_power(fitted[side], gpu_w) for side in ("low", "high"))
        assert low < true_w < high


def test_base_and_slope_come_back_when_the_gpus_watts_are_known(node):
    _, table, limits = node
    loaded = [chapter.TESTBED_SHARE * each for each in chapter.TESTBED_LIMITS_W.values()]
    known = limits.assign(idle_low_w=chapter.TESTBED_LOADED_W, idle_high_w=chapter.TESTBED_LOADED_W)
    known = known.assign(load_low_w=loaded, load_high_w=loaded)
    fitted = non_gpu.fit_each(non_gpu.levels(table, known))["testbed"]
    base_w = chapter.TESTBED_BASE_W / chapter.TESTBED_GPUS
    assert fitted["base_w_per_gpu"] == pytest.approx(base_w, rel=0.002)
    assert fitted["per_gpu_w"] == pytest.approx(chapter.TESTBED_SLOPE, rel=0.01)
    assert fitted["low"] == fitted["high"]


def test_a_greater_power_limit_gives_fewer_wall_watts_for_each_gpu_watt(node):
    converted = chapter.conversion(non_gpu.levels(*node[1:]))
    assert (np.diff(converted["gpu_w"]) > 0).all()
    assert (np.diff(converted["wall_per_gpu_w"]) < 0).all()
    assert (converted["other_w_low"] < converted["other_w_high"]).all()


def test_the_papers_own_constant_gives_the_papers_own_site():
    line = {"base_w_per_gpu": 1000 / chapter.PAPER_GPUS, "per_gpu_w": 0.0}
    site = chapter.paper_site(line | {"low": line, "high": line})
    assert site["more_pct"].abs().max() < 1e-9
    # 15 minutes and 1 s have one mean; the published one with PUE is 633.35 kW
    assert site.loc["paper", "energy_mwh"] == pytest.approx(633.35 * 8.76, rel=1e-4)


def test_power_factor_rises_with_load_on_the_simulated_node(node):
    curve = chapter.factor_by_load(*node[:2])
    assert curve["power_factor"].is_monotonic_increasing
    assert curve["power_factor"].between(0.9, 1).all()


def test_the_phases_of_a_recording_follow_each_other(node):
    tables, *_ = node
    told = wallplug.phases(next(iter(tables.values())))
    assert sorted(told, key=told.get) == ["idle", "ready", "load", "settled"]
    assert all(begin_s < end_s for begin_s, end_s in told.values())


def test_the_testbed_gives_no_verdict_about_the_papers_constant(node, fits):
    _, table, limits = node
    rows = chapter.found(
        table, wallplug.repeats(table), non_gpu.levels(table, limits), fits, "testbed", "testbed"
    )
    answered = [row for row in rows if row["claim"]]
    assert {row["claim"] for row in answered} == {
        "settings:overhead:value",
        "settings:tdp_overhead:value",
    }
    assert {row["verdict"] for row in answered} == {"cannot be tested"}
    assert len({row["name"] for row in rows}) == len(rows)


def test_an_unknown_source_is_refused():
    with pytest.raises(InputError, match="testbed"):
        chapter.open_nodes("elsewhere", 1)


def test_all_figures_are_drawn(node, fits):
    from matplotlib import pyplot as plt

    from sitebook.old.plots import wall_plug as figures

    tables, table, limits = node
    shown = next(iter(tables.values()))
    converted = chapter.conversion(non_gpu.levels(table, limits))
    drawn = [
        figures.trace(shown, wallplug.phases(shown)),
        figures.other_power(converted, fits, 1000.0),
        figures.power_factor(chapter.factor_by_load(tables, table)),
        figures.one_second_steps(table),
        figures.repeats(wallplug.repeats(table)),
    ]
    for figure in drawn:
        labels = [axes.get_xlabel() for axes in figure.axes]
        assert any("[" in label for label in labels)
        plt.close(figure)


def test_on_the_measured_nodes_the_constant_lies_below_every_band(measured):
    _, table, limits = chapter.open_nodes("measured", 1)
    levels = non_gpu.levels(table, limits)
    fits = non_gpu.fit_each(levels)
    assert (chapter.conversion(levels)["other_w_low"] > 1000).all()
    site = chapter.paper_site(fits[non_gpu.DEFAULT_NODE])
    assert 20 < site.loc["low", "more_pct"] < site.loc["high", "more_pct"] < 60
    assert chapter.truth("measured").startswith("no GPU watts")
