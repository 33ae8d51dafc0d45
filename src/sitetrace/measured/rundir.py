"""Run directories: power, requests, counters and run.json, read, checked and written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

from sitetrace.core.files import InputError, digest_of, read_json, read_table, refuse_row, replacing
from sitetrace.core.types import MAX_SPAN_S, Configuration, Run, sampling_step
from sitetrace.workload.table import read_requests

MAX_GAP_S = 60.0
KILOWATT_SUSPICION_W = 20.0
MAX_POWER_W = 1e6
MAX_GPUS = 1024
RUN_FILES = ("power.csv", "power_1s.csv", "requests.csv", "engine.csv", "run.json")
ENGINE_COLUMNS = ("time_s", "running", "waiting", "prompt_tokens", "generation_tokens")


def read_run(path: Path | str) -> Run:
    """Read and check a run directory.

    Parameters
    ----------
    path : Path or str
        Directory with ``run.json``, ``power.csv`` or ``power_1s.csv``, ``requests.csv`` and
        perhaps ``engine.csv``.

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
    if not path.is_dir():
        raise InputError(f"{path}: no such run directory: check the path")
    info = read_json(path / "run.json")
    configuration = _configuration(path / "run.json", info)
    requests, engine, published, notes = None, None, None, []
    if (path / "power_1s.csv").exists() and not (path / "power.csv").exists():
        samples, published = _read_power_1s(path / "power_1s.csv", info)
    else:
        samples, notes = read_power(path / "power.csv", configuration.tensor_parallel)
    if (path / "requests.csv").exists():
        requests = read_requests(path / "requests.csv")
        check_overlap(path / "requests.csv", requests, samples)
    if (path / "engine.csv").exists():
        engine = _read_engine(path / "engine.csv")
    return Run(
        name=path.resolve().name,
        configuration=configuration,
        requests=requests,
        samples=samples,
        dt=sampling_step(samples["time_s"].to_numpy()),
        engine=engine,
        info=info,
        digest=digest_of([path / name for name in RUN_FILES if (path / name).exists()]),
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

    Raises
    ------
    InputError
        If the directory holds something else already or cannot be written, or `read_run` refuses
        what was written.
    """
    path = Path(path)
    if path.exists() and any(path.iterdir() if path.is_dir() else [path]):
        raise InputError(f"{path}: is there already: name a new directory")
    with replacing(path, parents=True) as folder:
        folder.mkdir()
        (folder / "run.json").write_text(json.dumps(info, indent=1) + "\n", encoding="utf-8")
        requests.to_csv(folder / "requests.csv", index=False)
        power.to_csv(folder / "power.csv", index=False)
        if engine is not None:
            engine.to_csv(folder / "engine.csv", index=False)
        try:
            return read_run(folder)
        except InputError as error:
            raise InputError(str(error).replace(str(folder), str(path))) from None


def _configuration(path: Path, info: dict) -> Configuration:
    """Take model, GPU and tensor parallelism from run.json."""
    for name in ("model", "hardware"):
        if not isinstance(info.get(name), str) or not info[name]:
            raise InputError(f"{path}: field {name} is missing or no text: name the {name}")
    parallel = info.get("tensor_parallel")
    if type(parallel) is not int or not 1 <= parallel <= MAX_GPUS:
        raise InputError(
            f"{path}: field tensor_parallel: {parallel!r} is no whole number of GPUs: "
            "give 1 or more"
        )
    return Configuration(info["model"], info["hardware"], parallel)


def check_overlap(source: Path | str, requests: pd.DataFrame, samples: pd.DataFrame) -> None:
    """Refuse requests that lie outside the power recording."""
    arrivals, times = requests["arrival_s"], samples["time_s"]
    if not arrivals.between(times.iloc[0], times.iloc[-1]).any():
        raise InputError(
            f"{source}: arrival_s: all requests ({arrivals.iloc[0]:.0f} to "
            f"{arrivals.iloc[-1]:.0f}) lie outside the power samples ({times.iloc[0]:.0f} to "
            f"{times.iloc[-1]:.0f}): bring both to one clock (see ingest --utc-offset)"
        )


def read_power(path: Path | str, tensor_parallel: int | None = None) -> tuple[pd.DataFrame, list]:
    """Read power samples; several GPUs are summed to the server's power; notes on what is left out.

    Of more GPUs than the engine uses the busiest are taken.
    """
    path = Path(path)
    table = read_table(path, ("time_s", "power_w"), ("gpu",))
    if "gpu" not in table:
        table["gpu"] = 0.0
    check_power(path, table)
    wide = table.pivot(index="time_s", columns="gpu", values="power_w")
    notes = []
    if tensor_parallel is not None and wide.shape[1] > tensor_parallel:
        kept = wide.mean().nlargest(tensor_parallel).index.sort_values()
        notes.append(
            f"{path.name}: {wide.shape[1]} GPUs recorded, the {tensor_parallel} busiest taken"
        )
        wide = wide[kept]
    if tensor_parallel is not None and wide.shape[1] < tensor_parallel:
        raise InputError(
            f"{path}: {wide.shape[1]} GPUs recorded but tensor_parallel is {tensor_parallel}: "
            "record all GPUs of the engine or mend run.json"
        )
    whole = wide.dropna()
    if len(whole) < 0.5 * len(wide):
        raise InputError(
            f"{path}: most instants lack a GPU: give all GPUs of a sample the same time_s"
        )
    if len(whole) < len(wide):
        notes.append(f"{path.name}: {len(wide) - len(whole)} instants lack a GPU and are left out")
    samples = whole.sum(axis=1).rename("power_w").reset_index()
    _check_gaps(path, samples["time_s"].to_numpy())
    return samples, notes


def _read_power_1s(path: Path, info: dict) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """Read published one-second means, and what others predicted for the same seconds, if any."""
    table = read_table(path, ("second", "measured_w"), ("predicted_w",))
    start_s = info.get("power_1s_start_epoch_s")
    if not isinstance(start_s, (int, float)) or not np.isfinite(start_s):
        raise InputError(
            f"{path.parent / 'run.json'}: power_1s_start_epoch_s is missing: give the epoch of "
            "second 0"
        )
    times = table["second"].to_numpy() + 1.0 + start_s  # the mean of second k is complete at k + 1
    named = table.rename(columns={"measured_w": "power_w"}).assign(gpu=0.0, time_s=times)
    check_power(path, named)
    _check_gaps(path, times)
    samples = pd.DataFrame({"time_s": times, "power_w": table["measured_w"]})
    return samples, table[["predicted_w"]] if "predicted_w" in table else None


def check_power(path: Path, table: pd.DataFrame) -> None:
    """Refuse times out of order and powers that no server draws.

    The index of the table (``time_s``, ``gpu``, ``power_w``) is the row below the header.
    """
    times, gpus, power_w = table["time_s"], table["gpu"], table["power_w"]
    refuse_row(path, power_w < 0, "is below zero: mend or remove that sample", power_w)
    refuse_row(path, power_w > MAX_POWER_W, "is more than any server draws: give watts", power_w)
    if power_w.max() < KILOWATT_SUSPICION_W:
        raise InputError(
            f"{path}: power_w: the greatest is {power_w.max():g}, which looks like kilowatts: "
            "multiply by 1000"
        )
    bad = (gpus < 0) | (gpus >= MAX_GPUS) | (gpus != np.floor(gpus))
    why = f"is no GPU number from 0 to {MAX_GPUS - 1}: number the GPUs"
    refuse_row(path, bad, why, gpus)
    if times.max() - times.min() > MAX_SPAN_S:
        odd_s = (times - times.median()).abs()
        why = f"makes the recording span more than {MAX_SPAN_S / 86400:g} days"
        why += ": mend that time or split the recording"
        refuse_row(path, odd_s == odd_s.max(), why, times)
    for gpu, rows in table.groupby("gpu"):
        step = np.diff(rows["time_s"].to_numpy())
        if (step <= 0).any():
            row = int(np.argmax(step <= 0)) + 1
            raise InputError(
                f"{path}: line {rows.index[row] + 2}, time_s: "
                f"{rows['time_s'].iloc[row]:.3f} does not come after the sample "
                f"before it (GPU {gpu:g}): sort by time and remove duplicates"
            )


def _check_gaps(path: Path, times: np.ndarray) -> None:
    """Refuse recordings that are too short or have a hole of more than a minute."""
    if times.size < 2:
        raise InputError(f"{path}: fewer than two samples: a recording needs many")
    gap = np.diff(times)
    if gap.max() > MAX_GAP_S:
        at = times[int(np.argmax(gap))]
        raise InputError(
            f"{path}: time_s: no sample for {gap.max():.0f} s after {at:.3f}: cut the recording "
            "there and use the parts as runs of their own"
        )


def _read_engine(path: Path | str) -> pd.DataFrame:
    """Read the engine's counters, in time order."""
    table = read_table(path, ENGINE_COLUMNS, ("steps",))
    step = np.diff(table["time_s"].to_numpy())
    if (step <= 0).any():
        row = int(np.argmax(step <= 0)) + 1
        raise InputError(f"{path}: line {row + 2}, time_s: not after the row before: sort by time")
    negative = (table.drop(columns="time_s") < 0).any(axis=1)
    refuse_row(path, negative, "a count is below zero: mend that row")
    return table
