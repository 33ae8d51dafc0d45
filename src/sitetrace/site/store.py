"""What a site leaves on disk: its power as one xarray dataset, and checkpoints of a run."""

from __future__ import annotations

import json
import os
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import pandas as pd
import xarray as xr

from sitetrace.core.files import InputError, check_place, replacing

ENDINGS = (".zarr", ".parquet", ".nc")
# a file that is no Zarr is made of arrays in memory
MOST_VALUES = 200_000_000
UNITS_AT_ONCE = 4096


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

    Raises
    ------
    InputError
        If it is no site, or has no such group.

    Examples
    --------
    >>> import tempfile
    >>> import sitetrace
    >>> from sitetrace.site.scenario import check_scenario
    >>> content = {"hours": 0.1, "traffic": {"pattern": "poisson", "rate_per_server": 0.5}}
    >>> content["topology"] = {"rows": 1, "racks_per_row": 1, "servers_per_rack": 2}
    >>> content["fleet"] = [{"name": "all", "model": "testbed_timeline"}]
    >>> scenario = check_scenario(content | {"chunk_s": 360})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     written = sitetrace.simulate_site(scenario, f"{folder}/site.zarr")
    ...     site = sitetrace.read_site(f"{folder}/site.zarr").load()
    >>> site["power_w"].sel(unit="facility").size
    360
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: no such file: check the path")
    if path.suffix not in ENDINGS:
        raise InputError(f"{path}: no site: give one that ends in {' '.join(ENDINGS)}")
    if group is not None and path.suffix != ".zarr":
        raise InputError(f"{path}: group {group}: only .zarr has groups: leave it out")
    try:
        if path.suffix == ".zarr":
            dataset = xr.open_zarr(path, group=group, chunks=None, consolidated=False)
        elif path.suffix == ".nc":
            dataset = xr.open_dataset(path)
            # NetCDF gives numbers back as those of numpy
            for name, value in dataset.attrs.items():
                dataset.attrs[name] = value.item() if hasattr(value, "item") else value
        else:
            dataset = _of_parquet(path)
        if dataset["power_w"].dims != ("time", "unit"):
            raise InputError(f"{path}: power_w has other dimensions than time and unit")
    except InputError:
        raise
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())[:120]
        which = "" if group is None else f" with a group {group}"
        raise InputError(
            f"{path}: no site{which} ({reason}): make it with sitetrace site"
        ) from None
    return dataset


def _of_parquet(path: Path) -> xr.Dataset:
    """Read Parquet as `finish` writes it."""
    table = pd.read_parquet(path)
    attributes = dict(table.attrs)
    rows = json.loads(attributes.pop("units"))
    units = pd.DataFrame.from_dict(rows, orient="index").loc[table.columns]
    along = {name: ("unit", units[name].to_numpy()) for name in units}
    coords = {"time": table.index.to_numpy(), "unit": table.columns.to_numpy(dtype="U20"), **along}
    power = (("time", "unit"), table.to_numpy(), {"units": "W"})
    return xr.Dataset({"power_w": power}, coords, attributes)


def check_out(out: Path | str, n_values: int, n_groups: int) -> Path:
    """Refuse a place or form that cannot hold a site."""
    out = check_place(out, ENDINGS)
    if out.suffix != ".zarr" and n_groups > 1:
        raise InputError(f"{out}: {out.suffix} holds one step: leave one entry in keep, or .zarr")
    if out.suffix != ".zarr" and n_values > MOST_VALUES:
        raise InputError(
            f"{out}: {n_values:,} values are too many for {out.suffix}: use .zarr, or keep less"
        )
    return out


def coordinates(units: pd.DataFrame, n_bins: int, step_s: float, start: str) -> xr.Dataset:
    """Make the coordinates of a dataset from the units of `sitetrace.site.plant.unit_table`."""
    told = {
        "level": {"long_name": "facility, site, gpu, row, rack or server"},
        "row": {"long_name": "row of the unit, -1 where it has none"},
        "rack": {"long_name": "rack within its row, -1 where it has none"},
        "servers": {"long_name": "servers inside"},
        "nameplate_w": {"units": "W", "long_name": "power with all GPUs at thermal design power"},
    }
    along = {
        name: ("unit", units[name].to_numpy(dtype="U8" if name == "level" else None), told[name])
        for name in units
    }
    clock = {"units": f"microseconds since {start}", "standard_name": "time"}
    clock |= {"long_name": "begin of bin", "calendar": "proleptic_gregorian"}
    step = round(step_s * 1e6)
    time = ("time", np.arange(n_bins, dtype=np.int64) * step, clock)
    return xr.Dataset(coords={"time": time, "unit": units.index.to_numpy(dtype="U20"), **along})


def create(folder: Path, group: str | None, empty: xr.Dataset, chunk: int) -> None:
    """Make the arrays of a Zarr folder or a group in it, still without power.

    One file holds `chunk` bins, a stretch of time, so that stretches are written independently.
    """
    import zarr
    from numcodecs import Blosc

    empty.to_zarr(folder, group=group, mode="a", zarr_format=2, consolidated=False)
    shape = (empty.sizes["time"], empty.sizes["unit"])
    power = zarr.open_group(folder, path=group, mode="r+").create_array(
        "power_w",
        shape=shape,
        chunks=(min(chunk, shape[0]), min(shape[1], UNITS_AT_ONCE)),
        dtype="f8",
        compressors=Blosc(cname="lz4", clevel=1, shuffle=Blosc.SHUFFLE),
    )
    power.attrs["_ARRAY_DIMENSIONS"] = ["time", "unit"]
    power.attrs["units"], power.attrs["long_name"] = "W", "mean power of the bin"
    power.attrs["coordinates"] = "level row rack servers nameplate_w"


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
            else:
                table = dataset["power_w"].transpose("time", "unit").to_pandas()
                # Parquet has columns and no coordinates
                units = dataset["unit"].to_dataframe().drop(columns="unit")
                table.attrs = {**dataset.attrs, "units": units.to_json(orient="index")}
                table.to_parquet(temporary)


def write_checkpoint(path: Path, done: int, states: list[dict], streams: list) -> None:
    """Write how many stretches are done, the servers' states, and where pools' streams stand."""
    told = json.dumps({"done": done, "streams": streams}, default=np.ndarray.tolist)
    packed = {"told": np.array(told)}
    # servers of one kind have arrays of the same names, so that few long arrays hold them all
    kinds: dict[tuple, list[int]] = {}
    for i, state in enumerate(states):
        form = tuple((name, value.shape[1:], value.dtype.str) for name, value in state.items())
        kinds.setdefault(form, []).append(i)
    for kind, (form, members) in enumerate(kinds.items()):
        packed[f"{kind} members"] = np.array(members)
        for name, *_ in form:
            parts = [states[i][name] for i in members]
            packed[f"{kind} {name}"] = np.concatenate(parts)
            packed[f"{kind} {name} lengths"] = np.array([len(part) for part in parts])
    fresh = path.with_name(f"new-{path.name}")
    np.savez(fresh, **packed)
    os.replace(fresh, path)


def read_checkpoint(path: Path) -> tuple[int, list[dict], list]:
    """Read what `write_checkpoint` wrote."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as packed:
            told = json.loads(str(packed["told"]))
            states: dict[int, dict] = {}
            for kind in [name.split()[0] for name in packed if name.endswith(" members")]:
                members = packed[f"{kind} members"].tolist()
                for name in packed:
                    if not (name.startswith(f"{kind} ") and f"{name} lengths" in packed):
                        continue
                    edges = np.cumsum(packed[f"{name} lengths"])[:-1]
                    for i, part in zip(members, np.split(packed[name], edges), strict=True):
                        states.setdefault(i, {})[name.removeprefix(f"{kind} ")] = part
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise InputError(f"{path}: damaged ({error}): remove its folder and start anew") from error
    return told["done"], [states[i] for i in sorted(states)], told["streams"]
