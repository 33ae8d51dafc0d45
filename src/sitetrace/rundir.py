"""Reading and writing run directories, the unit of measured data."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

from sitetrace.files import InputError, digest_of, read_json, read_table, replacing
from sitetrace.power import (
    MAX_GPUS,
    read_power,
    read_power_1s,
    sampling_step,
)
from sitetrace.requests import read_requests
from sitetrace.trace import Configuration, Run

RUN_FILES = ("power.csv", "power_1s.csv", "requests.csv", "engine.csv", "run.json")
ENGINE_COLUMNS = ("time_s", "running", "waiting", "prompt_tokens", "generation_tokens")


def _read_engine(path: Path | str) -> pd.DataFrame:
    """Read the engine's counters, in time order."""
    table = read_table(path, ENGINE_COLUMNS, ("steps",))
    step = np.diff(table["time_s"].to_numpy())
    if (step <= 0).any():
        row = int(np.argmax(step <= 0)) + 1
        raise InputError(f"{path}: line {row + 2}, time_s: not after the row before: sort by time")
    negative = (table.drop(columns="time_s") < 0).any(axis=1).to_numpy()
    if negative.any():
        row = int(np.argmax(negative))
        raise InputError(f"{path}: line {row + 2}: a count is below zero: mend that row")
    return table


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
    published, notes = None, []
    if (path / "power_1s.csv").exists() and not (path / "power.csv").exists():
        samples, published = read_power_1s(path / "power_1s.csv", info)
    else:
        samples, notes = read_power(path / "power.csv", configuration.tensor_parallel)
    requests = engine = None
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


def check_overlap(source: Path | str, requests: pd.DataFrame, samples: pd.DataFrame) -> None:
    """Refuse requests that lie outside the power recording."""
    arrivals, times = requests["arrival_s"], samples["time_s"]
    if not arrivals.between(times.iloc[0], times.iloc[-1]).any():
        raise InputError(
            f"{source}: arrival_s: all requests ({arrivals.iloc[0]:.0f} to "
            f"{arrivals.iloc[-1]:.0f}) lie outside the power samples ({times.iloc[0]:.0f} to "
            f"{times.iloc[-1]:.0f}): bring both to one clock (see ingest --utc-offset)"
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
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}): name another place") from (
            error
        )
    with replacing(path) as folder:
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
