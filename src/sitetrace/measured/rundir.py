"""Run directories: power, requests, counters and run.json, read, checked and written."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from sitetrace.core import files
from sitetrace.core.files import InputError, read_json, read_table, refuse_row, require
from sitetrace.core.types import MAX_SPAN_S, Configuration, Run, sampling_step
from sitetrace.workload.table import read_requests

MAX_GAP_S, MAX_GPUS, KILOWATT_SUSPICION_W, MAX_POWER_W = 60.0, 1024, 20.0, 1e6
Table = pd.DataFrame
RUN_FILES = ("power.csv", "power_1s.csv", "requests.csv", "engine.csv", "run.json")
ENGINE_COLUMNS = ("time_s", "running", "waiting", "prompt_tokens", "generation_tokens")


def read_run(path: Path | str) -> Run:
    """Read and check a run directory.

    Parameters
    ----------
    path : Path or str
        ``run.json``, ``power.csv`` or ``power_1s.csv``, perhaps ``requests.csv``, ``engine.csv``.

    Returns
    -------
    Run
        The recording.

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
    power, power_1s, requests_file, engine_file, about = (path / name for name in RUN_FILES)
    info = read_json(about)
    for name in ("model", "hardware"):
        text = isinstance(info.get(name), str) and info[name]
        require(text, about, f"field {name} is missing or no text", f"name the {name}")
    gpus = info.get("tensor_parallel")
    whole, what = type(gpus) is int and 1 <= gpus <= MAX_GPUS, f"{gpus!r} is no number of GPUs"
    require(whole, about, f"field tensor_parallel: {what}", "give 1 or more")
    requests, engine, published, notes = None, None, None, []
    if power_1s.exists() and not power.exists():
        samples, published = _read_power_1s(power_1s, info)
    else:
        samples, notes = read_power(power, gpus)
    if requests_file.exists():
        requests = read_requests(requests_file)
        check_overlap(requests_file, requests, samples)
    if engine_file.exists():
        engine = read_table(engine_file, ENGINE_COLUMNS, ("steps",))
        _check_order(engine_file, engine["time_s"])
        negative = (engine.drop(columns="time_s") < 0).any(axis=1)
        refuse_row(engine_file, negative, "a count is below zero: mend that row")
    dt = sampling_step(samples["time_s"].to_numpy())
    digest = files.digest_of([path / name for name in RUN_FILES if (path / name).exists()])
    configuration = Configuration(info["model"], info["hardware"], gpus)
    found = requests, samples, dt, engine, info, digest, published, tuple(notes)
    return Run(path.resolve().name, configuration, *found)


def write_run(
    path: Path | str, info: dict, requests: Table, power: Table, engine: Table | None = None
) -> Run:
    """Write a new run directory, whole or not at all: it lands only when it can be read again."""
    path = files.check_place(path, folder=True, parents=True)
    tables = {"requests.csv": requests, "power.csv": power, "engine.csv": engine}
    with files.replacing(path, parents=True) as folder:
        folder.mkdir()
        (folder / "run.json").write_text(json.dumps(info, indent=1) + "\n", encoding="utf-8")
        for name, table in tables.items():
            if table is not None:
                table.to_csv(folder / name, index=False)
        try:
            return read_run(folder)
        except InputError as error:
            raise InputError(str(error).replace(str(folder), str(path))) from None


def check_overlap(source: Path | str, requests: pd.DataFrame, samples: pd.DataFrame) -> None:
    """Refuse requests that lie outside the power recording."""
    first_s, last_s = samples["time_s"].iloc[[0, -1]]
    what = f"all requests lie outside the power samples ({first_s:.0f} to {last_s:.0f})"
    within = requests["arrival_s"].between(first_s, last_s).any()
    require(within, f"{source}: arrival_s", what, "bring both to one clock (ingest --utc-offset)")


def read_power(path: Path | str, tensor_parallel: int | None = None) -> tuple[pd.DataFrame, list]:
    """Sum samples of the busiest GPUs to the server's power; with notes on what is left out."""
    path, notes = Path(path), []
    table = read_table(path, ("time_s", "power_w"), ("gpu",))
    table = table if "gpu" in table else table.assign(gpu=0.0)
    check_power(path, table)
    wide = table.pivot(index="time_s", columns="gpu", values="power_w")
    recorded, used = wide.shape[1], tensor_parallel or wide.shape[1]
    what = f"{recorded} GPUs recorded but tensor_parallel is {used}"
    require(recorded >= used, path, what, "record all GPUs of the engine or mend run.json")
    if recorded > used:
        wide = wide[wide.mean().nlargest(used).index.sort_values()]
        notes.append(f"{path.name}: {recorded} GPUs recorded, the {used} busiest taken")
    whole = wide.dropna()
    lost, mend = len(wide) - len(whole), "give all GPUs of a sample the same time_s"
    require(lost <= len(whole), path, "most instants lack a GPU", mend)
    notes += [f"{path.name}: {lost} instants lack a GPU and are left out"] if lost else []
    samples = whole.sum(axis=1).rename("power_w").reset_index()
    _check_gaps(path, samples["time_s"].to_numpy())
    return samples, notes


def _read_power_1s(path: Path, info: dict) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    table = read_table(path, ("second", "measured_w"), ("predicted_w",))
    start_s = info.get("power_1s_start_epoch_s")
    told = isinstance(start_s, int | float) and np.isfinite(start_s)
    require(told, path, "power_1s_start_epoch_s is not in run.json", "give the epoch of second 0")
    times_s = table["second"] + 1.0 + start_s  # the mean of second k is complete at k + 1
    samples = pd.DataFrame({"time_s": times_s, "power_w": table["measured_w"]})
    check_power(path, samples.assign(gpu=0.0))
    _check_gaps(path, times_s.to_numpy())
    return samples, table[["predicted_w"]] if "predicted_w" in table else None


def check_power(path: Path, table: pd.DataFrame) -> None:
    """Refuse times out of order and powers that no server draws."""
    times_s, gpus, power_w = table["time_s"], table["gpu"], table["power_w"]
    bad = ~power_w.between(0, MAX_POWER_W)
    refuse_row(path, bad, "is below zero or more than any server draws: give watts", power_w)
    what = f"the greatest is {power_w.max():g}, that looks like kilowatts"
    require(power_w.max() >= KILOWATT_SUSPICION_W, f"{path}: power_w", what, "multiply by 1000")
    bad = (gpus < 0) | (gpus >= MAX_GPUS) | (gpus != np.floor(gpus))
    refuse_row(path, bad, f"is no GPU number below {MAX_GPUS}: number the GPUs", gpus)
    odd_s = (times_s - times_s.median()).abs()
    odd = (odd_s == odd_s.max()) & (times_s.max() - times_s.min() > MAX_SPAN_S)
    why = f"makes the recording span more than {MAX_SPAN_S / 86400:g} days: mend or split it"
    refuse_row(path, odd, why, times_s)
    for _, rows in table.groupby("gpu"):
        _check_order(path, rows["time_s"])


def _check_order(path: Path, times_s: pd.Series) -> None:
    why = "does not come after the time before it: sort by time and remove duplicates"
    refuse_row(path, times_s.diff() <= 0, why, times_s)


def _check_gaps(path: Path, times_s: np.ndarray) -> None:
    require(times_s.size >= 2, path, "fewer than two samples", "a recording needs many")
    gap_s = np.diff(times_s)
    what = f"time_s: no sample for {gap_s.max():.0f} s after {times_s[gap_s.argmax()]:.3f}"
    require(gap_s.max() <= MAX_GAP_S, path, what, "make the parts before and after runs")
