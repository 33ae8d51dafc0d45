"""Recordings of other tools to a run directory: one clock, checked before it lands."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from sitetrace.clocks import Steps, find_utc_offset, format_utc_offset
from sitetrace.files import InputError
from sitetrace.meters import read_meter
from sitetrace.power import check_power
from sitetrace.rundir import write_run
from sitetrace.vllm import read_vllm_metrics, read_vllm_requests


def ingest(
    power: Path | str,
    requests: Path | str,
    engine: Path | str | None = None,
    *,
    info: dict,
    utc_offset_s: float | None = None,
    out: Path | str,
) -> list[str]:
    """Turn foreign recordings of one serving run into a run directory.

    Parameters
    ----------
    power : Path or str
        Power as `sitetrace.meters.read_meter` knows it.
    requests : Path or str
        JSON of vLLM's ``bench serve --save-result --save-detailed``.
    engine : Path or str, optional
        Samples of vLLM's metrics, see `sitetrace.vllm.read_vllm_metrics`.
    info : dict
        Content of ``run.json``: model, hardware and whatever else is known; tensor_parallel is
        all recorded GPUs where it is not named.
    utc_offset_s : float, optional
        Local wall time less UTC, seconds; found from the recordings when it is not given.
    out : Path or str
        Run directory to be made.

    Returns
    -------
    list of str
        What had to be done or left out, to be said aloud.

    Raises
    ------
    InputError
        If a recording cannot be read, the clocks cannot be brought together, or the result is no
        valid run; nothing is written then.
    """
    log = read_meter(power)
    request_table, notes = read_vllm_requests(requests)
    counters = None if engine is None else read_vllm_metrics(engine)
    notes = [f"{Path(power).name}: power as {log.tool} wrote it", *log.notes, *notes]
    check_power(Path(power), log.table)
    if log.local and utc_offset_s is None:
        utc_offset_s = find_utc_offset(log, _activity(request_table, counters), power)
        notes.append(
            f"{Path(power).name}: local wall time taken as UTC{format_utc_offset(utc_offset_s)}, "
            "where power and requests overlap best"
        )
    elif not log.local and utc_offset_s is not None:
        raise InputError(f"{power}: times are no local wall time: leave the UTC offset out")
    table = log.table.assign(time_s=log.table["time_s"] - (utc_offset_s or 0.0))
    info = {"tensor_parallel": int(table["gpu"].nunique()), **info}
    if table["gpu"].nunique() == 1:
        table = table.drop(columns="gpu")
    sources = {"power.csv": power, "requests.csv": requests, "engine.csv": engine}
    provenance = {
        "utc_offset_s": utc_offset_s,
        "ingested_from": {name: Path(file).name for name, file in sources.items() if file},
    }
    try:
        run = write_run(out, {**info, **provenance}, request_table, table, counters)
    except InputError as error:
        message = str(error)
        for name, file in sources.items():
            message = message.replace(str(Path(out) / name), str(file))
        raise InputError(message) from None
    return [*notes, *run.notes]


def _activity(requests: pd.DataFrame, engine: pd.DataFrame | None) -> list[Steps]:
    """Return requests at work as step functions (times, counts): by requests, by engine."""
    times = np.concatenate([requests["arrival_s"], requests["end_s"]])
    change = np.repeat([1.0, -1.0], len(requests))
    order = np.argsort(times, kind="stable")
    found = [(times[order], np.cumsum(change[order]))]
    if engine is not None:
        found.append((engine["time_s"].to_numpy(), engine["running"].to_numpy()))
    return found
