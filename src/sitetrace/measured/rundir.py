"""Run directories: power, requests, counters and run.json, read, checked and written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

from sitetrace.core.files import (
    InputError,
    check_place,
    digest_of,
    read_json,
    read_table,
    refuse_row,
    replacing,
    require,
)
from sitetrace.core.types import MAX_SPAN_S, Configuration, Run, sampling_step
from sitetrace.workload.table import read_requests

MAX_GAP_S = 60.0
KILOWATT_SUSPICION_W = 20.0
MAX_POWER_W = 1e6
MAX_GPUS = 1024
RUN_FILES = ("power.csv", "power_1s.csv", "requests.csv", "engine.csv", "run.json")
ENGINE_COLUMNS = ("time_s", "running", "waiting", "prompt_tokens", "generation_tokens")
MORE_ENGINE_COLUMNS = ("steps",)


def read_run(path: Path | str) -> Run:
    """Read and check a run directory.

    Parameters
    ----------
    path : Path or str
        Directory with ``run.json``, ``power.csv`` or ``power_1s.csv``, and perhaps
        ``requests.csv`` and ``engine.csv``.

    Returns
    -------
    Run
        The recording.

    Raises
    ------
    InputError
        If a file is missing or bad, or requests and power do not overlap.

    Examples
    --------
    >>> import tempfile
    >>> import sitetrace
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     written = sitetrace.testbed.write_dataset(f"{folder}/testbed", seed=1)
    ...     run = sitetrace.read_run(written[0])
    >>> run.configuration.name
    'testbed-8b testbed tp1'
    """
    path = Path(path)
    require(path.is_dir(), path, "no such run directory", "check the path")
    info = read_json(path / "run.json")
    configuration = _configuration(path / "run.json", info)
    files = [path / name for name in RUN_FILES if (path / name).exists()]
    requests, engine, published, notes = None, None, None, []
    if path / "power_1s.csv" in files and path / "power.csv" not in files:
        samples, published = _read_power_1s(path / "power_1s.csv", info)
    else:
        samples, notes = read_power(path / "power.csv", configuration.tensor_parallel)
    if path / "requests.csv" in files:
        requests = read_requests(path / "requests.csv")
        check_overlap(path / "requests.csv", requests, samples)
    if path / "engine.csv" in files:
        engine = read_table(path / "engine.csv", ENGINE_COLUMNS, MORE_ENGINE_COLUMNS)
        _check_order(path / "engine.csv", engine["time_s"])
        negative = (engine.drop(columns="time_s") < 0).any(axis=1)
        refuse_row(path / "engine.csv", negative, "a count is below zero: mend that row")
    return Run(
        name=path.resolve().name,
        configuration=configuration,
        requests=requests,
        samples=samples,
        dt=sampling_step(samples["time_s"].to_numpy()),
        engine=engine,
        info=info,
        digest=digest_of(files),
        published=published,
        notes=tuple(notes),
    )


def write_run(
    path: Path | str,
    info: dict,
    requests: pd.DataFrame,
    power: pd.DataFrame,
    engine: pd.DataFrame | None = None,
) -> Run:
    """Write a run directory, whole or not at all: it lands only when it can be read again.

    Parameters
    ----------
    path : Path or str
        Directory to be made.
    info : dict
        Content of ``run.json``; model, hardware and tensor_parallel are required.
    requests, power : pandas.DataFrame
        Tables as in the run directory's files.
    engine : pandas.DataFrame, optional
        Counters of the engine.

    Returns
    -------
    Run
        The run as `read_run` reads it.
    """
    path = check_place(path, folder=True, parents=True)
    tables = {"requests.csv": requests, "power.csv": power, "engine.csv": engine}
    with replacing(path, parents=True) as folder:
        folder.mkdir()
        (folder / "run.json").write_text(json.dumps(info, indent=1) + "\n", encoding="utf-8")
        for name, table in tables.items():
            if table is not None:
                table.to_csv(folder / name, index=False)
        try:
            return read_run(folder)
        except InputError as error:
            raise InputError(str(error).replace(str(folder), str(path))) from None


def _configuration(path: Path, info: dict) -> Configuration:
    """Take model, GPU and tensor parallelism from run.json."""
    for name in ("model", "hardware"):
        named = isinstance(info.get(name), str) and info[name]
        require(named, path, f"field {name} is missing or no text", f"name the {name}")
    parallel = info.get("tensor_parallel")
    whole = type(parallel) is int and 1 <= parallel <= MAX_GPUS
    what = f"field tensor_parallel: {parallel!r} is no whole number of GPUs"
    require(whole, path, what, "give 1 or more")
    return Configuration(info["model"], info["hardware"], parallel)


def check_overlap(source: Path | str, requests: pd.DataFrame, samples: pd.DataFrame) -> None:
    """Refuse requests that lie outside the power recording."""
    asked_s, times_s = requests["arrival_s"].iloc[[0, -1]], samples["time_s"].iloc[[0, -1]]
    within = requests["arrival_s"].between(*times_s).any()
    spans = ["{:.0f} to {:.0f}".format(*span) for span in (asked_s, times_s)]
    what = f"all requests ({spans[0]}) lie outside the power samples ({spans[1]})"
    mend = "bring both to one clock (see ingest --utc-offset)"
    require(within, f"{source}: arrival_s", what, mend)


def read_power(path: Path | str, tensor_parallel: int | None = None) -> tuple[pd.DataFrame, list]:
    """Read power samples; several GPUs are summed to the server's power; notes on what is left out.

    Of more GPUs than the engine uses the busiest are taken.
    """
    path, notes = Path(path), []
    table = read_table(path, ("time_s", "power_w"), ("gpu",))
    if "gpu" not in table:
        table["gpu"] = 0.0
    check_power(path, table)
    wide = table.pivot(index="time_s", columns="gpu", values="power_w")
    recorded = wide.shape[1]
    used = tensor_parallel or recorded
    what = f"{recorded} GPUs recorded but tensor_parallel is {used}"
    require(recorded >= used, path, what, "record all GPUs of the engine or mend run.json")
    if recorded > used:
        wide = wide[wide.mean().nlargest(used).index.sort_values()]
        notes.append(f"{path.name}: {recorded} GPUs recorded, the {used} busiest taken")
    whole = wide.dropna()
    lacking = len(wide) - len(whole)
    mend = "give all GPUs of a sample the same time_s"
    require(lacking <= 0.5 * len(wide), path, "most instants lack a GPU", mend)
    if lacking:
        notes.append(f"{path.name}: {lacking} instants lack a GPU and are left out")
    samples = whole.sum(axis=1).rename("power_w").reset_index()
    _check_gaps(path, samples["time_s"].to_numpy())
    return samples, notes


def _read_power_1s(path: Path, info: dict) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """Read published one-second means, and what others predicted for the same seconds, if any."""
    table = read_table(path, ("second", "measured_w"), ("predicted_w",))
    start_s = info.get("power_1s_start_epoch_s")
    told = isinstance(start_s, (int, float)) and np.isfinite(start_s)
    what = "power_1s_start_epoch_s is missing"
    require(told, path.parent / "run.json", what, "give the epoch of second 0")
    times_s = table["second"] + 1.0 + start_s  # the mean of second k is complete at k + 1
    samples = pd.DataFrame({"time_s": times_s, "power_w": table["measured_w"]})
    check_power(path, samples.assign(gpu=0.0))
    _check_gaps(path, times_s.to_numpy())
    return samples, table[["predicted_w"]] if "predicted_w" in table else None


def check_power(path: Path, table: pd.DataFrame) -> None:
    """Refuse times out of order and powers that no server draws.

    The index of the table (``time_s``, ``gpu``, ``power_w``) is the row below the header.
    """
    times_s, gpus, power_w = table["time_s"], table["gpu"], table["power_w"]
    refuse_row(path, power_w < 0, "is below zero: mend or remove that sample", power_w)
    refuse_row(path, power_w > MAX_POWER_W, "is more than any server draws: give watts", power_w)
    what = f"the greatest is {power_w.max():g}, which looks like kilowatts"
    watts = power_w.max() >= KILOWATT_SUSPICION_W
    require(watts, f"{path}: power_w", what, "multiply by 1000")
    bad = (gpus < 0) | (gpus >= MAX_GPUS) | (gpus != np.floor(gpus))
    why = f"is no GPU number from 0 to {MAX_GPUS - 1}: number the GPUs"
    refuse_row(path, bad, why, gpus)
    odd_s = (times_s - times_s.median()).abs()
    odd = (odd_s == odd_s.max()) & (times_s.max() - times_s.min() > MAX_SPAN_S)
    why = f"makes the recording span more than {MAX_SPAN_S / 86400:g} days"
    refuse_row(path, odd, f"{why}: mend that time or split the recording", times_s)
    for _, rows in table.groupby("gpu"):
        _check_order(path, rows["time_s"])


def _check_order(path: Path, times_s: pd.Series) -> None:
    why = "does not come after the time before it: sort by time and remove duplicates"
    refuse_row(path, times_s.diff() <= 0, why, times_s)


def _check_gaps(path: Path, times_s: np.ndarray) -> None:
    """Refuse recordings that are too short or have a hole of more than a minute."""
    require(times_s.size >= 2, path, "fewer than two samples", "a recording needs many")
    gap_s = np.diff(times_s)
    what = f"no sample for {gap_s.max():.0f} s after {times_s[gap_s.argmax()]:.3f}"
    mend = "cut the recording there and use the parts as runs of their own"
    require(gap_s.max() <= MAX_GAP_S, f"{path}: time_s", what, mend)
