"""The chapter on the grid: four descriptions of one site on one feeder."""

from dataclasses import replace

import numpy as np
import pytest
from synthetic_site import site_dataset

from sitebook.old.chapters import grid as chapter
from sitebook.old.chapters.grid import MEAN, MINUTE, NAMEPLATE, QUARTER
from sitebook.old.plots import grid as figures
from sitebook.old.sites.setups import fitted_setup
from sitetrace.studies.feeder import LOWEST_PU, constant, feeder_for, solve


@pytest.fixture(scope="module")
def connection(tmp_path_factory):
    setup = fitted_setup("testbed", "diurnal", 0.1, (2, 3, 4), 2.0, tmp_path_factory.mktemp("g"))
    return chapter.connect(setup, site_dataset(2 * 3600, 10.0))


@pytest.fixture(scope="module")
def hosted(connection):
    return chapter.hosting(connection)


def test_all_descriptions_are_solved_on_the_feeder_of_the_nameplate(connection):
    table = connection.table.set_index("described_by")
    assert list(table.index) == [MINUTE, QUARTER, MEAN, NAMEPLATE]
    assert len(connection.solved[MINUTE]) == 120
    assert len(connection.solved[QUARTER]) == 8
    assert table.loc[NAMEPLATE, "size_kva"] == connection.feeder.transformer_kva
    assert table.loc[MINUTE, "energy_mwh"] == pytest.approx(table.loc[QUARTER, "energy_mwh"])
    assert table.loc[MINUTE, "lowest_pu"] <= table.loc[QUARTER, "lowest_pu"]


def test_the_feeder_takes_as_many_sites_as_keep_within_limits_and_not_one_more(connection, hosted):
    hosted = hosted.set_index("described_by")
    assert hosted.loc[MINUTE, "sites"] >= hosted.loc[NAMEPLATE, "sites"] >= 1
    part = connection.parts[NAMEPLATE]
    for sites, inside in ((hosted.loc[NAMEPLATE, "sites"], True),
                          (hosted.loc[NAMEPLATE, "sites"] + 1, False)):  # fmt: skip
        larger = replace(
            connection.feeder, transformer_kva=sites * connection.feeder.transformer_kva
        )
        solved = solve(constant(part, sites * part.power_w[0]), larger).iloc[0]
        keeps = solved["line_a"] <= larger.ampacity_a
        keeps &= solved["voltage_pu"] >= LOWEST_PU
        assert keeps == inside


def test_a_feeder_is_the_same_in_per_unit_whatever_its_size():
    part = chapter.intervals(site_dataset(1800, 10.0), step_s=900)
    lowest = []
    for size_kva in (300.0, 2000.0):
        feeder = feeder_for(size_kva * 980)
        assert feeder.transformer_kva == size_kva
        load = constant(part, 0.9 * size_kva * 980)
        lowest.append(solve(load, feeder)["voltage_pu"].min())
    assert np.ptp(lowest) < 1e-5


def test_what_is_recorded_is_what_was_solved(connection, hosted):
    rows = {row["name"]: row for row in chapter.found(connection, hosted)}
    lowest = connection.solved[MINUTE]["voltage_pu"].min()
    assert rows[f"lowest voltage at the site, by {MINUTE}"]["value"] == pytest.approx(lowest, 1e-5)
    assert {row["data"] for row in rows.values()} == {"testbed"}
    assert len(rows) == 4 * 7
    assert "within range A" in chapter.conclusion(connection, hosted)


def test_figures_show_every_description(connection):
    import matplotlib.pyplot as plt

    figure = figures.day(connection)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == list(connection.solved)
    plt.close(figure)
