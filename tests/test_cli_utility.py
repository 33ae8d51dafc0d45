"""The commands export and report: one line for bad input, nothing half-written."""

import shutil

import pandas as pd
import pytest
import xarray as xr
from synthetic_site import in_file, site_dataset


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    return in_file(site_dataset(8000), tmp_path_factory.mktemp("cli") / "site.zarr")


def test_export_and_report_write_what_they_say(call, site, tmp_path):
    code, out, err = call("export", site, "--format", "csv15", "-o", tmp_path / "a.csv")
    assert code == 0
    assert "facility, 8 intervals of 900 s from 2026-07-01T00:00:00+02:00" in out
    assert err == "note: the last 800 s fill no interval and are left out\n"
    assert len(pd.read_csv(tmp_path / "a.csv")) == 8
    assert call("report", site, "-o", tmp_path / "r.html")[::2] == (0, "")
    assert (tmp_path / "r.html").read_text("utf-8").startswith("<!doctype html>")


BAD = {
    "export none.zarr": "none.zarr",
    "export text.zarr": "text.zarr",
    "export other.zarr": "other.zarr",
    "export SITE --unit hall": "hall: no such unit",
    "export SITE --step 100000": "shorter than one interval",
    "export SITE --format pypsa -o full": "is there already",
    "export SITE -o no/such/place.csv": "no folder no/such",
    "report SITE -o full": "is there already",
    "report damaged.zarr": "damaged.zarr: damaged",
    "export damaged.zarr": "damaged.zarr: damaged",
    "export uneven.zarr": "no multiple of the dataset's 420 s",
    "report SITE --power-factor 0": "--power-factor 0",
}


@pytest.mark.parametrize("command", BAD)
def test_bad_input_is_one_line_and_writes_nothing(command, call, site, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.zarr").write_text("no zarr")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "kept").write_text("mine")
    xr.Dataset({"x": ("t", [1.0])}).to_zarr(tmp_path / "other.zarr", consolidated=False)
    shutil.copytree(site, tmp_path / "damaged.zarr")
    for chunk in (tmp_path / "damaged.zarr" / "power_w" / "c").rglob("*"):
        if chunk.is_file():
            chunk.write_bytes(b"damaged")
    in_file(site_dataset(4200, step_s=420), tmp_path / "uneven.zarr")
    before = sorted(str(path) for path in tmp_path.rglob("*"))
    given = command.replace("SITE", str(site)).split()
    given += [] if "--format" in given or given[0] == "report" else ["--format", "csv15"]
    code, out, err = call(*given, *([] if "-o" in given else ["-o", "out"]))
    assert (code, out) == (2, "")
    assert err.count("\n") == 1 and BAD[command] in err
    assert sorted(str(path) for path in tmp_path.rglob("*")) == before
