"""Generated traces in files: CSV, Parquet, NetCDF or Zarr by the file's ending."""

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd

from sitetrace.core import files
from sitetrace.core.files import InputError, replacing, require
from sitetrace.core.types import PowerTrace, parse_step

ENDINGS = (".csv", ".parquet", ".nc", ".zarr")


def write_trace(path: Path | str, traces: list[PowerTrace], provenance: dict) -> None:
    """Write draws on one clock, whole or not at all; attributes of a CSV into ``<name>.json``."""
    path, first = files.check_place(path, ENDINGS), traces[0]
    step = f"{first.dt.numerator}/{first.dt.denominator}"
    attributes = {"units": "W", "dt_s": step, "start_s": first.start_s, **provenance}
    names = ["power_w"] if len(traces) == 1 else [f"power_w_{i}" for i in range(len(traces))]
    table = pd.DataFrame(dict(zip(names, (trace.power_w for trace in traces), strict=True)))
    table.insert(0, "time_s", first.time_s)
    table.attrs = attributes
    if path.suffix == ".csv":
        beside = path.with_name(path.name + ".json")
        with replacing(beside) as written, replacing(path) as temporary:
            written.write_text(json.dumps(attributes, indent=1) + "\n", encoding="utf-8")
            table["time_s"] = table["time_s"].map("{:.6f}".format)
            table.to_csv(temporary, index=False, float_format="%.3f")
            # a kill may leave a CSV without its attributes, never with those of another
            beside.unlink(missing_ok=True)
        return
    dataset = table.set_index("time_s").to_xarray().assign_attrs(attributes)
    for name in names:
        dataset[name].attrs = {"units": "W"}
    dataset["time_s"].attrs = {"units": "s", "long_name": "begin of bin"}
    with replacing(path) as temporary:
        if path.suffix == ".nc":
            dataset.to_netcdf(temporary)
        elif path.suffix == ".zarr":
            dataset.to_zarr(temporary, consolidated=False)
        else:
            table.to_parquet(temporary, index=False)


def read_trace(path: Path | str) -> tuple[list[PowerTrace], dict]:
    """Read the draws of a generated trace in any of its formats, and their provenance."""
    path, again = Path(path), "write it anew"
    require(path.suffix in ENDINGS, path, "unknown ending", f"use {' '.join(ENDINGS)}")
    require(path.exists(), path, "no such file", "check the path")
    table, attributes = _read(path)
    # zarr keeps columns in the order of their names, where power_w_10 comes before power_w_2
    columns = sorted((n for n in table if n.startswith("power_w")), key=lambda n: (len(n), n))
    require(columns and "time_s" in table, path, "no columns time_s and power_w", again)
    try:
        power_w = table[columns].to_numpy(dtype=float).T
        times_s = table["time_s"].to_numpy(dtype=float)
        dt = parse_step(attributes["dt_s"]) if "dt_s" in attributes else None
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: values that are no numbers ({error}): {again}") from None
    require(np.isfinite(power_w) & (power_w >= 0), path, "power_w holds what is no power", again)
    require(times_s.size > 1, path, "fewer than two rows", "a trace needs more")
    if dt is None:
        dt = Fraction(float(np.median(np.diff(times_s)))).limit_denominator(1000)
    expected_s = times_s[0] + np.arange(times_s.size) * float(dt)
    equidistant = dt > 0 and np.abs(expected_s - times_s).max() <= 0.1 * float(dt)  # nor NaN
    require(equidistant, path, "time_s is not equidistant", f"give a row each {float(dt):g} s")
    start_s = attributes.get("start_s", times_s[0])
    sound = isinstance(start_s, int | float) and abs(start_s - times_s[0]) <= 0.1 * float(dt)
    require(sound, path, f"start_s {start_s!r} is not where time_s begins", again)
    return [PowerTrace(float(start_s), dt, row) for row in power_w], attributes


def _read(path: Path) -> tuple[pd.DataFrame, dict]:
    if path.suffix == ".csv":
        with files.reading_csv(path, "write it anew"):
            names = pd.read_csv(path, nrows=0, skipinitialspace=True).columns
        columns = tuple(name for name in names if name.startswith("power_w")) or ("power_w",)
        beside = path.with_name(path.name + ".json")
        attributes = files.read_json(beside) if beside.exists() else {}
        return files.read_table(path, ("time_s", *columns)), attributes
    try:
        if path.suffix == ".parquet":
            table = pd.read_parquet(path)
            return table, dict(table.attrs)
        import xarray as xr

        zarr = {"engine": "zarr", "consolidated": False}
        with xr.open_dataset(path, **(zarr if path.suffix == ".zarr" else {})) as dataset:
            return dataset.to_dataframe().reset_index(), dict(dataset.attrs)
    except Exception as error:  # each library has errors of its own for a damaged file
        reason = " ".join(str(error).split())[:120]
        raise InputError(f"{path}: not readable as {path.suffix[1:]} ({reason})") from None
