"""The report: one page on its own, the numbers of the dataset, the same bytes each time."""

import json
import re

import numpy as np
import pytest
from synthetic_site import site_dataset

from sitetrace.core.files import InputError
from sitetrace.planning.report import compose, write_report


@pytest.fixture(scope="module")
def site():
    return site_dataset(4 * 3600)


@pytest.fixture(scope="module")
def page(site):
    return compose(site, 0.9)


def test_the_page_asks_for_nothing_is_made_the_same_and_its_figures_have_words(
    site, page, tmp_path
):
    assert "<script" not in page and "@import" not in page
    for address in re.findall(r"(?:src|href)=\"([^\"]*)\"|url\(([^)]*)\)", page):
        assert "".join(address).startswith("data:image/svg+xml;base64,")
    assert "http" not in re.sub(r"base64,[^\"]*", "", page)
    assert len(re.findall(r"<figure>\n<img [^>]*alt=\"[^\"]{30,}\"", page)) == 4
    write_report(site, tmp_path / "a.html")
    assert (tmp_path / "a.html").read_bytes() == page.encode()


def racks_of(site):
    return site.power_w.values[:, site.level.values == "rack"].astype(float)


def test_numbers_are_those_of_the_dataset(site, page):
    watts = site.power_w.sel(unit="facility").values.astype(float)
    wide = watts.reshape(-1, 900).mean(axis=1)
    coincidence = site.power_w.sel(unit="site").values.max() / racks_of(site).max(axis=0).sum()
    for told in (
        f"{wide.max() / 1e3:,.1f} kW",
        f"{watts.max() / 1e3:,.1f} kW",
        f"{wide.max() / 0.9e3:,.1f} kVA",
        f"{watts.mean() * 8.76e-3:,.1f} MWh",
        f"{np.diff(wide).max() / 1e3:+,.2f}",
        f"{coincidence:.3f}",
    ):
        assert told in page


def test_the_whole_and_its_parts_peak_in_the_same_time():
    """Also where the highest power of all stands after the last whole interval."""
    site = site_dataset(2 * 900 + 100)
    site["power_w"][-50:] *= 2
    factor = site.power_w.sel(unit="site").values.max() / racks_of(site).max(axis=0).sum()
    assert f">{factor:.3f}</td>" in compose(site, 0.9)
    assert factor <= 1


def test_what_the_attributes_say_cannot_break_the_page(site):
    given = {"title": "<script>alert(1)</script> & co", "data": "<b>", "scenario": "no json"}
    text = compose(site.assign_attrs(given).isel(unit=[0, 1, 2]), 0.9)
    assert "<script>" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; co" in text
    assert text.count("<figure>") == 3, "without racks or rows there is no map"
    assert "Coincidence" not in text
    for scenario in ({}, {"topology": None, "fleet": None}, {"pue": "?"}):
        little = compose(site.assign_attrs(scenario=json.dumps(scenario)), 0.9)
        assert "<li>The PUE is not stated.</li>" in little


def test_steps_coarser_than_the_data_are_left_out_and_one_sample_is_refused():
    page = compose(site_dataset(7200, 60.0), 1.0)
    assert "means over 1 min</td>" in page
    assert "means over 1 s</td>" not in page
    with pytest.raises(InputError, match="fewer than two"):
        compose(site_dataset(1), 0.9)
