"""What utilities and grid tools take: forms, times and the energy kept."""

import json
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_site import site_dataset

from sitetrace.planning.exports import FORMATS, export
from sitetrace.planning.series import intervals

ATOM, ESPI = "{http://www.w3.org/2005/Atom}", "{http://naesb.org/espi}"
# Facts of the schema espi.xsd (NAESB REQ.21 4.0): elements that we write, in a type's order.
ORDER = {
    "LocalTimeParameters": "dstEndRule dstOffset dstStartRule tzOffset",
    "UsagePoint": "ServiceCategory status",
    "ServiceCategory": "kind",
    "MeterReading": "",
    "ReadingType": "accumulationBehaviour commodity dataQualifier defaultQuality flowDirection "
    "intervalLength kind phase powerOfTenMultiplier uom",
    "IntervalBlock": "interval IntervalReading",
    "IntervalReading": "timePeriod value",
    **dict.fromkeys(["interval", "timePeriod", "billingPeriod"], "duration start"),
    "UsageSummary": "billingPeriod overallConsumptionLastPeriod peakDemand statusTimeStamp "
    "commodity",
    "overallConsumptionLastPeriod": "powerOfTenMultiplier uom value",
    "peakDemand": "powerOfTenMultiplier timeStamp uom value",
}
# 4 delta data, 1 electricity, 12 normal, 12 projected, 1 forward, 12 energy, 224 ABC, 72 Wh
CODES = ["4", "1", "12", "12", "1", "900", "12", "224", "-3", "72"]
UINT32, INT48, INT64 = (0, 2**32 - 1), (-(2**47), 2**47), (-(2**63), 2**63 - 1)
RANGES = {"value": INT48, "powerOfTenMultiplier": (-12, 9), "uom": (0, 255), "status": (0, 255)}
RANGES |= dict.fromkeys(["duration", "intervalLength"], UINT32)
RANGES |= dict.fromkeys(["start", "tzOffset", "dstOffset", "timeStamp", "statusTimeStamp"], INT64)


@pytest.fixture(scope="module")
def site():
    return site_dataset()


@pytest.fixture(scope="module")
def energy_kwh(site):
    return float(site.power_w.sel(unit="facility").astype(float).sum()) / 3.6e6


@pytest.fixture
def green(site, tmp_path):
    export(site, "greenbutton", tmp_path / "site.xml")
    return ElementTree.parse(tmp_path / "site.xml").getroot()


def read_exported(form, path, step_s=900):
    """Energy of an export in kWh, by the reader that its tool would use."""
    hours = step_s / 3600
    if form == "csv15":
        return pd.read_csv(path)["energy_kwh"].sum()
    if form == "pandapower":
        return pd.read_csv(path, index_col=0)["facility_p_mw"].sum() * 1e3 * hours
    if form == "pypsa":
        table = pd.read_csv(path / "loads-p_set.csv", index_col=0, parse_dates=True)
        weights = pd.read_csv(path / "snapshots.csv", index_col="snapshot", parse_dates=True)
        return (table["facility"] * weights["objective"]).sum() * 1e3
    if form == "opendss":
        return np.loadtxt(path / "site.csv").sum() * hours
    readings = ElementTree.parse(path).getroot().iter(f"{ESPI}IntervalReading")
    return sum(int(each.find(f"{ESPI}value").text) for each in readings) / 1e6


@pytest.mark.parametrize("form", FORMATS)
def test_every_form_holds_the_energy_of_the_dataset(form, site, energy_kwh, tmp_path):
    told = export(site, form, tmp_path / "out")
    assert read_exported(form, tmp_path / "out") == pytest.approx(energy_kwh, rel=1e-6)
    assert "96 intervals of 900 s" in told[0]
    assert len(told) == 1


@settings(max_examples=20, deadline=None)
@given(
    level=st.floats(1e3, 1e9),
    minutes=st.integers(120, 400),
    step_min=st.sampled_from([5, 15, 30, 60]),
    seed=st.integers(0, 99),
)
def test_whole_intervals_keep_energy_whatever_power_and_step(level, minutes, step_min, seed):
    site = site_dataset(minutes * 60, 10.0, seed=seed)
    site["power_w"] = site["power_w"] * np.float32(level / 5e4)
    part = intervals(site, "site", step_min * 60)
    whole = minutes // step_min * step_min * 6
    exact_kwh = site.power_w.sel(unit="site").values[:whole].astype(float).sum() / 3.6e5
    assert part.energy_milliwh.sum() / 1e6 == pytest.approx(exact_kwh, rel=1e-6)
    assert part.left_out_s == minutes % step_min * 60
    assert (np.abs(part.energy_milliwh - part.power_w * step_min * 60 / 3.6) <= 1).all()


def test_interval_csv_states_local_times_units_and_running_total(site, tmp_path):
    export(site, "csv15", tmp_path / "site.csv")
    table = pd.read_csv(tmp_path / "site.csv", index_col="interval_beginning")
    assert list(table) == ["power_mean_kw", "energy_kwh", "cumulative_kwh"]
    assert table.index[0] == "2026-07-01T00:00:00+02:00"
    assert table.index[-1] == "2026-07-01T23:45:00+02:00"
    assert table["cumulative_kwh"].to_numpy() == pytest.approx(table["energy_kwh"].cumsum())
    assert table["energy_kwh"].to_numpy() == pytest.approx(table["power_mean_kw"] / 4, abs=1e-6)
    about = json.loads((tmp_path / "site.csv.json").read_text())
    assert (about["data"], about["what"]) == ("testbed", "simulated, not metered")


def test_pandapower_reads_active_and_reactive_power_of_several_loads(site, tmp_path):
    export(site, "pandapower", tmp_path / "rows.csv", ["row-0", "row-1"], power_factor=0.8)
    table = pd.read_csv(tmp_path / "rows.csv", index_col=0)
    assert table.index.tolist() == list(range(96))
    assert list(table) == ["row-0_p_mw", "row-0_q_mvar", "row-1_p_mw", "row-1_q_mvar"]
    assert table["row-0_q_mvar"].to_numpy() == pytest.approx(table["row-0_p_mw"] * 0.75, abs=1e-8)


def test_pypsa_finds_loads_on_a_bus_and_the_hours_of_each_snapshot(site, tmp_path):
    export(site, "pypsa", tmp_path / "net", ["row-0", "row-1"], step_s=3600)
    files = {path.stem: pd.read_csv(path, index_col=0) for path in (tmp_path / "net").iterdir()}
    assert set(files) == {"snapshots", "buses", "loads", "loads-p_set"}
    assert list(files["loads-p_set"]) == files["loads"].index.tolist() == ["row-0", "row-1"]
    assert set(files["loads"]["bus"]) <= set(files["buses"].index)
    assert files["snapshots"]["snapshot"].tolist() == files["loads-p_set"].index.tolist()
    assert files["loads-p_set"].index[0] == "2026-06-30 22:00:00"
    assert (files["snapshots"][["objective", "stores", "generators"]] == 1.0).all().all()


def test_opendss_takes_as_many_points_as_are_stated(site, tmp_path):
    import opendssdirect as dss

    export(site, "opendss", tmp_path / "dss")
    lines = (tmp_path / "dss" / "site.dss").read_text()
    assert "npts=96 sInterval=900 csvfile=site.csv UseActual=yes" in lines
    dss.Text.Command("clear")
    dss.Text.Command("new circuit.c")
    dss.Text.Command(f'redirect "{tmp_path / "dss" / "site.dss"}"')
    dss.LoadShape.Name("site")
    assert dss.LoadShape.Npts() == 96
    assert dss.LoadShape.SInterval() == 900
    expected = intervals(site).power_w / 1e3
    assert np.array(dss.LoadShape.PMult()) == pytest.approx(expected, abs=1e-5)


def test_green_button_keeps_the_schemas_order_codes_and_types(green):
    for node in green.iter():
        name = node.tag.removeprefix(ESPI)
        if node.tag.startswith(ESPI) and (len(node) or name in ORDER):
            inner = dict.fromkeys(child.tag.removeprefix(ESPI) for child in node)
            assert " ".join(inner) == ORDER[name], name
        if node.tag.startswith(ESPI) and name in RANGES:
            low, high = RANGES[name]
            assert low <= int(node.text) <= high, name
    written = {node.tag.removeprefix(ESPI) for node in green.iter()}
    assert set(ORDER) <= written
    assert [child.text for child in next(green.iter(f"{ESPI}ReadingType"))] == CODES
    assert next(green.iter(f"{ESPI}ServiceCategory")).find(f"{ESPI}kind").text == "0"


def test_green_button_entries_are_atom_and_find_each_other(green):
    assert green.tag == f"{ATOM}feed"
    nodes = [green, *green.findall(f"{ATOM}entry")]
    needed = {f"{ATOM}{name}" for name in ("id", "title", "updated")}
    assert all(needed <= {child.tag for child in node} for node in nodes)
    ids = [node.find(f"{ATOM}id").text for node in nodes]
    assert len(set(ids)) == len(ids)
    assert all(name.startswith("urn:uuid:") and len(name) == 45 for name in ids)
    links = [(link.get("rel"), link.get("href")) for link in green.iter(f"{ATOM}link")]
    own = {href for rel, href in links if rel == "self"}
    places = own | {place.rpartition("/")[0] for place in own}
    assert {href for rel, href in links if rel == "related"} <= places


def test_green_button_readings_follow_each_other_without_gap(green):
    def found(name):
        return [int(node.text) for node in green.iter(f"{ESPI}{name}")]

    start = pd.Timestamp("2026-07-01T00:00:00+02:00").timestamp()
    periods = [[int(node.text) for node in each] for each in green.iter(f"{ESPI}timePeriod")]
    assert periods == [[900, start + 900 * i] for i in range(96)]
    (block,) = green.iter(f"{ESPI}interval")
    assert block.find(f"{ESPI}duration").text == "86400"
    assert found("tzOffset") == [7200]
    *values, total, _ = found("value")
    assert total == round(sum(values) / 1e3)


def test_the_same_site_gives_the_same_bytes_and_another_unit_other_names(site, tmp_path):
    for name, unit in (("a", "facility"), ("b", "facility"), ("c", "site")):
        export(site, "greenbutton", tmp_path / name, [unit])
    a, b, c = ((tmp_path / name).read_bytes() for name in "abc")
    assert a == b
    assert a.partition(b"</id>")[0] != c.partition(b"</id>")[0]
