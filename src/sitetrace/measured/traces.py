"""Generated traces in files: CSV, Parquet, NetCDF or Zarr by the file's ending."""

from __future__ import annotations

import json
import os
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd

from sitetrace.core.files import InputError, check_place, read_json, read_table, replacing
from sitetrace.core.types import PowerTrace, parse_step

ENDINGS = (".csv", ".parquet", ".nc", ".zarr")


def write_trace(path: Path | str, traces: list[PowerTrace], provenance: dict) -> None:
    """Write draws of one trace with units and provenance, whole or not at all.

    Parameters
    ----------
    path : Path or str
        File ending in ``.csv``, ``.parquet``, ``.nc`` or ``.zarr``; a CSV gets its attributes in
        ``<name>.csv.json`` beside it.
    traces : list of PowerTrace
        Independent draws on one clock; columns ``power_w`` or ``power_w_0, power_w_1, ...``.
    provenance : dict
        What the trace came from: flat, JSON-able.

    Raises
    ------
    InputError
        If the ending is unknown or the place cannot be written.
    """
    import xarray as xr

    path = check_place(path, ENDINGS)
    step = f"{traces[0].dt.numerator}/{traces[0].dt.denominator}"
    attributes = {"units": "W", "dt_s": step, "start_s": traces[0].start_s, **provenance}
    names = ["power_w"] if len(traces) == 1 else [f"power_w_{i}" for i in range(len(traces))]
    columns = {
        name: ("time_s", trace.power_w, {"units": "W"})
        for name, trace in zip(names, traces, strict=True)
    }
    time = ("time_s", traces[0].time_s, {"units": "s", "long_name": "begin of bin"})
    dataset = xr.Dataset(columns, {"time_s": time}, attributes)
    with replacing(path) as temporary:
        if path.suffix == ".nc":
            dataset.to_netcdf(temporary)
        elif path.suffix == ".zarr":
            dataset.to_zarr(temporary, consolidated=False)
        elif path.suffix == ".parquet":
            table = dataset.to_dataframe().reset_index()
            table.attrs = attributes
            table.to_parquet(temporary, index=False)
        else:
            table = dataset.to_dataframe().reset_index()
            table["time_s"] = table["time_s"].map("{:.6f}".format)
            table.to_csv(temporary, index=False, float_format="%.3f")
            with replacing(_provenance_path(path)) as beside:
                beside.write_text(json.dumps(attributes, indent=1) + "\n", encoding="utf-8")


def read_trace(path: Path | str) -> tuple[list[PowerTrace], dict]:
    """Read a generated trace in any of the formats of `write_trace`.

    Parameters
    ----------
    path : Path or str
        The file.

    Returns
    -------
    traces : list of PowerTrace
        One or more draws.
    provenance : dict
        Attributes, empty where a CSV has no file beside it.

    Raises
    ------
    InputError
        If the file is none, or its times are not equidistant.
    """
    path = Path(path)
    if path.suffix not in ENDINGS:
        raise InputError(f"{path}: unknown ending {path.suffix!r}: use one of {' '.join(ENDINGS)}")
    if not os.path.exists(path):
        raise InputError(f"{path}: no such file: check the path")
    table, attributes = _read_csv(path) if path.suffix == ".csv" else _read_binary(path)
    columns = [name for name in table if name.startswith("power_w")]
    # zarr keeps columns in the order of their names, where power_w_10 comes before power_w_2
    columns.sort(key=lambda name: (len(name), name))
    if not columns or "time_s" not in table:
        raise InputError(f"{path}: needs the columns time_s and power_w: write it with generate")
    try:
        powers = table[columns].to_numpy(dtype=float).T
        times = table["time_s"].to_numpy(dtype=float)
    except (TypeError, ValueError):
        raise InputError(f"{path}: time_s or power_w are no numbers: write it anew") from None
    if not np.isfinite(powers).all() or (powers < 0).any():
        raise InputError(f"{path}: power_w holds values that are no power: write it anew")
    dt = _step(path, times, attributes)
    start_s = attributes.get("start_s", times[0])  # as stated, where that is the begin of the times
    if not isinstance(start_s, int | float) or not abs(start_s - times[0]) <= 0.1 * float(dt):
        raise InputError(f"{path}: start_s {start_s!r} is not where time_s begins: write it anew")
    return [PowerTrace(float(start_s), dt, row) for row in powers], attributes


def _provenance_path(path: Path) -> Path:
    """CSV has no attributes, so they lie beside it."""
    return path.with_name(path.name + ".json")


def _read_csv(path: Path) -> tuple[pd.DataFrame, dict]:
    """Read a trace as text; its attributes lie beside it."""
    beside = _provenance_path(path)
    try:
        with path.open(encoding="utf-8") as file:
            header = file.readline().strip().split(",")
    except (OSError, UnicodeDecodeError):
        raise InputError(f"{path}: not a text file: write it with generate") from None
    columns = tuple(name for name in header if name.startswith("power_w")) or ("power_w",)
    return read_table(path, ("time_s", *columns)), read_json(beside) if beside.exists() else {}


def _read_binary(path: Path) -> tuple[pd.DataFrame, dict]:
    """Read a trace that holds its attributes itself."""
    import xarray as xr

    try:
        if path.suffix == ".parquet":
            table = pd.read_parquet(path)
            return table, dict(table.attrs)
        options = {"engine": "netcdf4"}
        if path.suffix == ".zarr":
            options = {"engine": "zarr", "consolidated": False}
        with xr.open_dataset(path, **options) as dataset:
            return dataset.to_dataframe().reset_index(), dict(dataset.attrs)
    except Exception as error:  # each library has errors of its own for a damaged file
        reason = " ".join(str(error).split())[:120]
        raise InputError(f"{path}: not readable as {path.suffix[1:]} ({reason})") from None


def _step(path: Path, times: np.ndarray, attributes: dict) -> Fraction:
    """Exact step: as stated, else from the times, which must then be equidistant."""
    if times.size < 2:
        raise InputError(f"{path}: fewer than two rows: a trace needs more")
    try:
        dt = parse_step(attributes["dt_s"]) if "dt_s" in attributes else None
    except ValueError as error:
        raise InputError(f"{path}: {error}: write it anew") from None
    if not np.isfinite(times).all():
        raise InputError(f"{path}: time_s holds values that are no times: write it anew")
    if dt is None:
        dt = Fraction(float(np.median(np.diff(times)))).limit_denominator(1000)
    expected = times[0] + np.arange(times.size) * float(dt)
    if dt <= 0 or np.abs(expected - times).max() > 0.1 * float(dt):
        raise InputError(
            f"{path}: time_s is not equidistant: a trace has one row for each {float(dt):g} s"
        )
    return dt
