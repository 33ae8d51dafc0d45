"""What a site leaves on disk: its power as one xarray dataset, and checkpoints of a run."""

import json
import os
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import pandas as pd
import xarray as xr

from sitetrace.core.files import InputError, check_place, replacing, require

ENDINGS = (".zarr", ".parquet", ".nc")
MOST_VALUES = 200_000_000  # of a file that is no Zarr: it is made of arrays in memory
UNITS_AT_ONCE = 4096
TOLD = {
    "level": {"long_name": "facility, site, gpu, row, rack or server"},
    "row": {"long_name": "row of the unit, -1 where it has none"},
    "rack": {"long_name": "rack within its row, -1 where it has none"},
    "servers": {"long_name": "servers inside"},
    "nameplate_w": {"units": "W", "long_name": "power with all GPUs at thermal design power"},
}


def read_site(path: Path | str, group: str | None = None) -> xr.Dataset:
    """Open a site's power; values are read when they are used.

    Parameters
    ----------
    path : Path or str
        What `sitetrace.simulate_site` wrote: ``.zarr``, ``.nc`` or ``.parquet``.
    group : str, optional
        For Zarr: group of another step, such as ``0.25s``.

    Returns
    -------
    xarray.Dataset
        ``power_w(time, unit)``, watts, with ``level``, ``row``, ``rack``, ``servers`` and
        ``nameplate_w`` along ``unit``.

    Examples
    --------
    >>> import tempfile
    >>> import xarray as xr
    >>> import sitetrace
    >>> power_w = ("time", "unit"), [[1300.0], [1400.0]]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     xr.Dataset({"power_w": power_w}, {"unit": ["site"]}).to_netcdf(f"{folder}/site.nc")
    ...     sitetrace.read_site(f"{folder}/site.nc")["power_w"].sel(unit="site").max().item()
    1400.0
    """
    path, dataset = Path(path), xr.Dataset()
    there = path.suffix in ENDINGS and path.exists() and (path.suffix == ".zarr" or not group)
    require(there, path, f"no such file or group, or none of {' '.join(ENDINGS)}", "check the path")
    try:
        if path.suffix == ".zarr":
            dataset = xr.open_zarr(path, group=group, chunks=None, consolidated=False)
        elif path.suffix == ".nc":
            dataset = xr.open_dataset(path)
            for name, value in dataset.attrs.items():  # NetCDF gives numbers as those of numpy
                dataset.attrs[name] = value.item() if isinstance(value, np.generic) else value
        else:
            dataset = _of_table(pd.read_parquet(path))
        if dataset["power_w"].dims != ("time", "unit"):
            raise ValueError("power_w has other dimensions than time and unit")
    except (OSError, ValueError, KeyError, TypeError) as error:
        dataset.close()
        reason = " ".join(str(error).split())[:120]
        raise InputError(f"{path}: no site ({reason}): make it with sitetrace site") from None
    return dataset


def _of_table(table: pd.DataFrame) -> xr.Dataset:
    units = pd.DataFrame.from_dict(json.loads(table.attrs.pop("units")), orient="index")
    along = {name: ("unit", units.loc[table.columns, name].to_numpy()) for name in units}
    coords = {"time": table.index.to_numpy(), "unit": table.columns.to_numpy(dtype="U20"), **along}
    power = (("time", "unit"), table.to_numpy(), {"units": "W"})
    return xr.Dataset({"power_w": power}, coords, table.attrs)


def check_out(out: Path | str, n_values: int, n_groups: int) -> Path:
    """Refuse a place or form that cannot hold a site."""
    out = check_place(out, ENDINGS)
    fits = out.suffix == ".zarr" or (n_groups == 1 and n_values <= MOST_VALUES)
    require(fits, out, f"holds one step and {MOST_VALUES:,} values", "keep less, or use .zarr")
    return out


def coordinates(units: pd.DataFrame, n_bins: int, step_s: float, start: str) -> xr.Dataset:
    """Make the coordinates of a dataset from the units of `sitetrace.site.plant.unit_table`."""
    clock = {"units": f"microseconds since {start}", "standard_name": "time"}
    clock |= {"long_name": "begin of bin", "calendar": "proleptic_gregorian"}
    time = ("time", np.arange(n_bins, dtype=np.int64) * round(step_s * 1e6), clock)
    values = {name: units[name].to_numpy("U8" if name == "level" else None) for name in TOLD}
    along = {name: ("unit", values[name], TOLD[name]) for name in TOLD}
    return xr.Dataset(coords={"time": time, "unit": units.index.to_numpy(dtype="U20"), **along})


def create(folder: Path, group: str | None, empty: xr.Dataset, chunk: int) -> None:
    """Make the arrays of a Zarr folder or group, still without power; a file holds `chunk` bins."""
    import zarr
    from numcodecs import Blosc

    empty.to_zarr(folder, group=group, mode="a", zarr_format=2, consolidated=False)
    about = {"_ARRAY_DIMENSIONS": ["time", "unit"], "units": "W"}
    about |= {"long_name": "mean power of the bin", "coordinates": " ".join(TOLD)}
    bins, units = empty.sizes["time"], empty.sizes["unit"]
    layout = {"shape": (bins, units), "chunks": (min(chunk, bins), min(units, UNITS_AT_ONCE))}
    packing = Blosc(cname="lz4", clevel=1, shuffle=Blosc.SHUFFLE)
    root = zarr.open_group(folder, path=group, mode="r+")
    root.create_array("power_w", **layout, dtype="f8", compressors=packing, attributes=about)


def finish(store: Path, groups: list[str | None], attributes: dict, out: Path) -> None:
    """Give a folder whose power is complete its last attributes, its form and its name."""
    import zarr

    for group in groups:
        zarr.open_group(store, path=group, mode="r+").attrs.update(attributes)
    zarr.consolidate_metadata(store, zarr_format=2)
    with replacing(out) as temporary:
        if out.suffix == ".zarr":
            store.rename(temporary)
            return
        with xr.open_zarr(store) as dataset:
            if out.suffix == ".nc":
                dataset.to_netcdf(temporary)
                return
            table = dataset["power_w"].to_pandas()
            # Parquet has no coordinates
            units = dataset["unit"].to_dataframe().drop(columns="unit").to_json(orient="index")
            table.attrs = {**dataset.attrs, "units": units}
            table.to_parquet(temporary)


def write_checkpoint(path: Path, done: int, states: list[dict], streams: list) -> None:
    """Write how many stretches are done, the servers' states, and where pools' streams stand."""
    told = {"done": done, "streams": streams, "servers": len(states)}
    packed = {"told": np.array(json.dumps(told, default=np.ndarray.tolist))}
    # arrays of one form stand end to end: few long ones instead of some a server
    forms: dict[tuple, list[int]] = {}
    for i, state in enumerate(states):
        for name, value in state.items():
            forms.setdefault((name, value.shape[1:], value.dtype.str), []).append(i)
    for number, ((name, *_), members) in enumerate(forms.items()):
        parts = [states[i][name] for i in members]
        packed[f"{number} {name}"] = np.concatenate(parts)
        packed[f"of {number}"] = np.array([members, [len(part) for part in parts]])
    fresh = path.with_name(f"new-{path.name}")
    np.savez(fresh, **packed)
    os.replace(fresh, path)


def read_checkpoint(path: Path) -> tuple[int, list[dict], list]:
    """Read what `write_checkpoint` wrote."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as packed:
            told = json.loads(str(packed["told"]))
            states: list[dict] = [{} for _ in range(told["servers"])]
            for key in packed:
                number, _, name = key.partition(" ")
                if number.isdigit():
                    members, lengths = packed[f"of {number}"]
                    parts = np.split(packed[key], np.cumsum(lengths)[:-1])
                    for i, part in zip(members.tolist(), parts, strict=True):
                        states[i][name] = part
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise InputError(f"{path}: damaged ({error}): remove its folder and start anew") from error
    return told["done"], states, told["streams"]
