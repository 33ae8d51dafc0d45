"""A trace comes back from each format as it went in; damage gets one line."""

import json
import os
from fractions import Fraction

import numpy as np
import pytest

from sitetrace.core.files import InputError
from sitetrace.core.types import PowerTrace
from sitetrace.measured.traces import ENDINGS, read_trace, write_trace

EPOCH_S = 1_700_000_000.125
PROVENANCE = {"data": "testbed", "seed": 3, "busy_end_s": EPOCH_S + 40.5, "model_sha256": "ab" * 32}


def draws(n=1, dt=Fraction(1, 3), start_s=EPOCH_S, bins=200):
    rng = np.random.default_rng(1)
    power_w = np.round(rng.uniform(80, 700, (n, bins)), 3) + 1000 * np.arange(n)[:, None]
    return [PowerTrace(start_s, dt, row) for row in power_w]


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("n", [1, 12])
def test_every_format_gives_back_clock_power_and_provenance_and_is_replaced(tmp_path, ending, n):
    path = tmp_path / f"trace{ending}"
    write_trace(path, draws(n), PROVENANCE)
    read, provenance = read_trace(path)
    assert [(trace.dt, trace.start_s) for trace in read] == n * [(Fraction(1, 3), EPOCH_S)]
    for got, put in zip(read, draws(n), strict=True):
        assert got.power_w == pytest.approx(put.power_w, abs=1e-9)
    assert provenance.items() >= (PROVENANCE | {"units": "W", "dt_s": "1/3"}).items()
    names = sorted(p.name for p in tmp_path.iterdir())
    write_trace(path, draws(bins=50), PROVENANCE | {"seed": 4})
    read, provenance = read_trace(path)
    assert [trace.power_w.size for trace in read] == [50]
    assert provenance["seed"] == 4
    assert sorted(p.name for p in tmp_path.iterdir()) == names


def test_a_csv_is_for_people_with_its_provenance_beside_it_and_is_read_without(tmp_path):
    path = tmp_path / "trace.csv"
    write_trace(path, draws(dt=Fraction(1, 4)), PROVENANCE)
    lines = path.read_text().splitlines()
    assert lines[0] == "time_s,power_w"
    assert lines[1].startswith("1700000000.125000,")
    assert json.loads((tmp_path / "trace.csv.json").read_text())["data"] == "testbed"
    (tmp_path / "trace.csv.json").unlink()
    read, provenance = read_trace(path)
    assert (read[0].dt, provenance) == (Fraction(1, 4), {})


def test_an_unknown_ending_or_place_is_refused_before_anything_is_written(tmp_path):
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "mine.zarr").mkdir()
    (tmp_path / "file.zarr").write_text("mine")
    (tmp_path / "mine.zarr" / "letter.txt").write_text("mine")
    names = sorted(p.name for p in tmp_path.iterdir())
    told = dict.fromkeys(("folder.csv", "file.zarr", "mine.zarr"), "in the way")
    told |= {"trace.xlsx": "unknown ending", "missing/trace.csv": "no folder"}
    for name, why in told.items():
        with pytest.raises(InputError, match=why):
            write_trace(tmp_path / name, draws(), PROVENANCE)
    assert sorted(p.name for p in tmp_path.iterdir()) == names


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_full_disk_leaves_the_old_trace(tmp_path, ending, monkeypatch):
    path = tmp_path / f"trace{ending}"
    write_trace(path, draws(), PROVENANCE)

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    for name in ("pandas.DataFrame.to_csv", "pandas.DataFrame.to_parquet",
                 "xarray.Dataset.to_netcdf", "xarray.Dataset.to_zarr"):  # fmt: skip
        monkeypatch.setattr(name, full)
    with pytest.raises(InputError, match="No space left"):
        write_trace(path, draws(3), PROVENANCE | {"seed": 9})
    read, provenance = read_trace(path)
    assert (len(read), provenance["seed"]) == (1, 3)


@pytest.mark.parametrize("renamed_before", [0, 1])
def test_a_kill_leaves_no_csv_beside_attributes_of_another(tmp_path, monkeypatch, renamed_before):
    path, rename, renamed = tmp_path / "trace.csv", os.replace, []
    write_trace(path, draws(), PROVENANCE)

    def killed(source, target):
        if len(renamed) == renamed_before:
            raise KeyboardInterrupt
        renamed.append(target)
        rename(source, target)

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        write_trace(path, draws(bins=50), PROVENANCE | {"seed": 4})
    read, provenance = read_trace(path)
    assert (read[0].power_w.size, provenance) == ((200, 50)[renamed_before], {})


@pytest.mark.parametrize("ending", [".csv", ".parquet", ".nc"])
@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_file_cut_short_is_refused_with_its_name(tmp_path, ending, share):
    path = tmp_path / f"trace{ending}"
    write_trace(path, draws(), PROVENANCE)
    content = path.read_bytes()
    # a CSV is cut within a line, after its time
    end = content.find(b",", int(share * len(content)) + 30) if ending == ".csv" else None
    path.write_bytes(content[: end or int(share * len(content))] if share else b"")
    with pytest.raises(InputError, match=f"trace{ending}"):
        read_trace(path)


GOOD = "time_s,power_w\n" + "".join(f"{k / 4},100\n" for k in range(40))
BAD = {
    "no rows": ("time_s,power_w\n", "no rows"),
    "other columns": ("time,watts\n0,1\n1,1\n", "time_s"),
    "a gap": (GOOD.replace("5.0,100\n", ""), "not equidistant"),
    "text": (GOOD.replace("5.0,100\n", "5.0,lots\n"), "line 22, power_w"),
    "below zero": (GOOD.replace("5.0,100\n", "5.0,-1\n"), "no power"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_csv_is_refused_in_one_line(tmp_path, name):
    text, told = BAD[name]
    path = tmp_path / "trace.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=told) as error:
        read_trace(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


FIELDS = [("dt_s", each) for each in ("0/1", "fast", "1e999999999", None, "1/2")]
FIELDS += [("start_s", each) for each in ("noon", 5.0, None)]


@pytest.mark.parametrize("field", FIELDS)
def test_provenance_that_does_not_belong_to_the_trace_is_refused(tmp_path, field):
    write_trace(tmp_path / "trace.csv", draws(), PROVENANCE)
    beside = tmp_path / "trace.csv.json"
    beside.write_text(json.dumps(json.loads(beside.read_text()) | dict([field])))
    with pytest.raises(InputError, match="trace.csv"):
        read_trace(tmp_path / "trace.csv")


def test_a_missing_file_a_folder_and_a_damaged_zarr_are_refused(tmp_path):
    (tmp_path / "folder.csv").mkdir()
    write_trace(tmp_path / "trace.zarr", draws(), PROVENANCE)
    (tmp_path / "trace.zarr" / "zarr.json").write_text("{")
    told = {"folder.csv": "folder.csv", "trace.zarr": "trace.zarr"}
    for name, why in (told | {"none.csv": "no such file", "power.txt": "unknown ending"}).items():
        with pytest.raises(InputError, match=why):
            read_trace(tmp_path / name)
