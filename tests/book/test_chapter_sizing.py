"""The chapter on sizing: all methods over seeds, and what the records may say of them."""

import numpy as np
import pytest

from sitebook.old.chapters import sizing as chapter
from sitebook.old.plots import sizing as figures
from sitebook.old.sites import setups
from sitetrace.core.registry import read_paper_table


@pytest.fixture(scope="module")
def setup(tmp_path_factory):
    folder = tmp_path_factory.mktemp("setup")
    return setups.fitted_setup("testbed", "diurnal", 0.5, (1, 1, 3), 1, folder)


@pytest.fixture(scope="module")
def table(setup, tmp_path_factory):
    return chapter.summary([setup], [1, 2, 3], tmp_path_factory.mktemp("sizing"))


def value(table, method, quantity):
    return table.loc[("testbed", method, quantity), "value"]


def test_all_methods_are_there_and_only_models_vary_with_the_seed(table):
    methods = dict.fromkeys(table.index.get_level_values("method"))
    assert list(methods) == [
        "nameplate", "mean", "look-up", "timeline", chapter.WALL_PLUG, "states",
    ]  # fmt: skip
    assert (table["seeds"] == 3).all()
    width = (table["high"] - table["low"]).unstack("quantity")["peak"].loc["testbed"]
    assert width["nameplate"] == width["mean"] == 0
    assert (width[["look-up", "timeline", "states"]] > 0).all()


def test_quantities_hold_together(table, setup):
    for method in ("nameplate", "look-up", "timeline", "states"):
        peak, transformer = (value(table, method, name) for name in ("peak", "transformer"))
        assert transformer == pytest.approx(peak / 0.9)
        assert value(table, method, "energy_year") == pytest.approx(
            8760 * value(table, method, "mean")
        )
        assert value(table, method, "par") >= 1
    gpu_w = 400.0 * setup.servers
    others_w = setup.servers * setup.non_gpu_w
    assert 1e6 * value(table, "nameplate", "peak") == pytest.approx(1.3 * (gpu_w + others_w))


def test_short_ramps_are_greater_than_long_ones_of_chance(table):
    rows = chapter.ramp_rows(table, "testbed").query("method == 'timeline' and way == 'up'")
    assert rows.set_index("step_s")["value"].loc[1.0] > rows["value"].iloc[-1]
    down = chapter.ramp_rows(table, "testbed").query("way == 'down'")
    assert (down["value"] <= 0).all()


def test_the_papers_diversity_is_never_above_coincidence(table):
    for method in ("timeline", "states"):
        shared = value(table, method, "coincidence")
        assert value(table, method, "paper_diversity") <= shared < 1
    assert ("testbed", "look-up", "coincidence") not in table.index


def test_each_record_has_its_own_name_and_tables_show_all_methods(table, setup):
    rows = chapter.found([setup], table)
    names = [(row["name"], row["dataset"]) for row in rows]
    assert len(set(names)) == len(names)
    assert {row["verdict"] for row in rows if row["data"] == "testbed"} <= {
        None,
        "cannot be tested",
    }
    cells = chapter.sizing_cells(table, "testbed")
    assert len(cells) == len(chapter.SHOWN)
    assert cells["timeline"].str.contains("to").any()
    units = cells["quantity"].str.extract(r"\[(.*)\]")[0].dropna()
    assert set(units) == {"kW", "kW/h", "kVA", "MWh", "kW per 15 min"}
    assert chapter.conclusion(table, "testbed", "timeline").startswith("the model's 15-minute")


def test_the_papers_nameplate_follows_from_its_settings():
    rows = chapter.found([], None)
    assert {row["verdict"] for row in rows} == {"follows"}
    assert len(rows) == 4


def test_the_papers_tables_are_shown_whole():
    shown = chapter.paper_cells()
    assert shown.drop(columns="quantity").notna().sum().sum() == len(
        read_paper_table("sizing")
    ) + len(read_paper_table("interconnection"))


def test_figures_have_a_panel_a_site(table):
    assert len(figures.peaks(table, "").axes) == 1
    axes = figures.ramps(table).axes[0]
    assert np.array([text.get_text() for text in axes.get_xticklabels()]).tolist() == [
        "1 s", "1 min", "5 min", "15 min",
    ]  # fmt: skip
