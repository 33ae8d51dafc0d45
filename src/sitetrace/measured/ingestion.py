"""Recordings of other tools to run directories: power, vLLM's results, and one clock for both."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd

from sitetrace.core.files import InputError, read_json, read_table
from sitetrace.measured.meters import EPOCH_FROM, EPOCH_TO, MeterLog, read_meter
from sitetrace.measured.rundir import check_power, write_run
from sitetrace.workload.table import validate_requests

QUARTER_HOUR_S = 900
FIRST_OFFSET_S, LAST_OFFSET_S = -12 * 3600, 14 * 3600
CLEAR_SCORE, CLEAR_MARGIN = 0.2, 0.1
# times in epoch s, and how many requests are at work from each on
Steps = tuple[np.ndarray, np.ndarray]
ENGINE_NAMES = {
    "timestamp": "time_s",
    "num_requests_running": "running",
    "num_requests_waiting": "waiting",
    "prompt_tokens_total": "prompt_tokens",
    "generation_tokens_total": "generation_tokens",
    "iteration_tokens_total_count": "steps",
}


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
        Power as `sitetrace.measured.meters.read_meter` knows it.
    requests : Path or str
        JSON of vLLM's ``bench serve --save-result --save-detailed``.
    engine : Path or str, optional
        Samples of vLLM's metrics, see `sitetrace.measured.ingestion.read_vllm_metrics`.
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
    gpus = int(table["gpu"].nunique())
    if gpus == 1:
        table = table.drop(columns="gpu")
    sources = {"power.csv": power, "requests.csv": requests, "engine.csv": engine}
    provenance = {
        "utc_offset_s": utc_offset_s,
        "ingested_from": {name: Path(file).name for name, file in sources.items() if file},
    }
    info = {"tensor_parallel": gpus, **info, **provenance}
    try:
        run = write_run(out, info, request_table, table, counters)
    except InputError as error:
        message = str(error)
        for name, file in sources.items():
            message = message.replace(str(Path(out) / name), str(file))
        raise InputError(message) from None
    return [*notes, *run.notes]


def read_vllm_requests(path: Path | str) -> tuple[pd.DataFrame, list[str]]:
    """Read the detailed result of vLLM's serving benchmark; notes tell what was left out."""
    content = read_json(path)
    sent = next((name for name in ("request_timestamps", "start_times") if name in content), None)
    if sent is None:
        raise InputError(
            f"{path}: neither request_timestamps nor start_times: arrivals are not known and are "
            "not invented: save them with the client"
        )
    names = (sent, "input_lens", "output_lens", "ttfts")
    for name in (*names, "itls"):
        if not isinstance(content.get(name), list):
            raise InputError(f"{path}: {name} is missing or no array: save with --save-detailed")
        count = len(content[sent])
        if len(content[name]) != count:
            raise InputError(
                f"{path}: {name} has {len(content[name])} entries but {sent} has {count}: "
                "save the result again with --save-detailed"
            )
    errors = content.get("errors") or [""] * count
    if not isinstance(errors, list) or len(errors) != count:
        raise InputError(f"{path}: errors: not one entry a request: save the result again")
    good = [i for i in range(count) if not errors[i] and content["output_lens"][i] != 0]
    if not good:
        raise InputError(f"{path}: no request succeeded: run the benchmark again")
    columns = {name: _request_numbers(path, content, name, good) for name in names}
    # a request ends at its sending time + TTFT + the sum of its inter-token latencies
    decode_s = np.array([_sum_itls(path, i, content["itls"][i]) for i in good])
    sent_s, ttft_s = columns[sent], columns["ttfts"]
    if ((sent_s < EPOCH_FROM) | (sent_s > EPOCH_TO)).any():
        raise InputError(
            f"{path}: {sent}: {sent_s[0]:g} is no epoch second (vLLM's own client counts from "
            "the machine's start): add time.time() - time.perf_counter() of that machine"
        )
    table = pd.DataFrame(
        {
            "arrival_s": sent_s,
            "input_tokens": columns["input_lens"],
            "output_tokens": columns["output_lens"],
            "ttft_s": ttft_s,
            "end_s": sent_s + ttft_s + decode_s,
        }
    )
    notes = []
    if len(good) < count:
        notes.append(f"{Path(path).name}: {count - len(good)} failed requests left out")
    if (np.diff(sent_s) < 0).any():
        notes.append(f"{Path(path).name}: requests sorted by arrival")
    return validate_requests(table, path), notes


def _request_numbers(path: Path | str, content: dict, name: str, good: list[int]) -> np.ndarray:
    """Take one number of each good request, naming the one that is none."""
    least = 0 if name == "ttfts" else 1
    for i in good:
        value = content[name][i]
        if type(value) not in (int, float) or not least <= value < 1e15:
            raise InputError(
                f"{path}: {name}[{i}]: {str(value)[:40]!r} is no sensible number: mend or remove "
                "that request"
            )
    return np.array([float(content[name][i]) for i in good])


def _sum_itls(path: Path | str, i: int, itls: object) -> float:
    """Sum one request's inter-token latencies."""
    try:
        values = np.asarray(itls, dtype=float)
    except (TypeError, ValueError, OverflowError):
        values = np.array(np.nan)
    if values.ndim != 1 or not np.isfinite(values).all() or (values < 0).any():
        raise InputError(f"{path}: itls[{i}]: no list of seconds: mend or remove that request")
    return float(values.sum())


def read_vllm_metrics(path: Path | str) -> pd.DataFrame:
    """Read samples of vLLM's Prometheus metrics (CSV, epoch s) into the columns of `engine.csv`."""
    names = list(ENGINE_NAMES)
    return read_table(path, tuple(names[:5]), tuple(names[5:])).rename(columns=ENGINE_NAMES)


def find_utc_offset(log: MeterLog, activity: list[Steps], path: Path | str) -> float:
    """Find the whole quarter-hour offset (local less UTC, s) at which power rises with requests.

    Of several step functions the first that decides is taken.
    """
    power_w = log.table.groupby("time_s")["power_w"].sum()
    offsets = np.arange(FIRST_OFFSET_S, LAST_OFFSET_S + 1, QUARTER_HOUR_S)
    for times, counts in activity:
        scores = np.array([_overlap(power_w, times + offset, counts) for offset in offsets])
        second, best = np.sort(scores)[-2:]
        if best >= CLEAR_SCORE and best - second >= CLEAR_MARGIN:
            return float(offsets[int(np.argmax(scores))])
    raise InputError(
        f"{path}: times are local and no single UTC offset brings power and requests together: "
        "give it, such as --utc-offset -07:00"
    )


def _overlap(power_w: pd.Series, times: np.ndarray, counts: np.ndarray) -> float:
    """Score an offset: share of the requests' work that was recorded, times its correlation."""
    instants = power_w.index.to_numpy()
    first, last = instants[0], instants[-1]
    if times[-1] < first or times[0] > last:
        return 0.0
    work = counts[:-1] * np.diff(times)
    inside = np.clip(times[1:], first, last) - np.clip(times[:-1], first, last)
    covered = float((counts[:-1] * inside).sum() / work.sum()) if work.sum() > 0 else 0.0
    place = np.searchsorted(times, instants, side="right") - 1
    at_work = np.where(place >= 0, counts[place], 0.0)
    if np.ptp(at_work) == 0 or np.ptp(power_w.to_numpy()) == 0:
        return 0.0
    return covered * max(float(np.corrcoef(at_work, power_w)[0, 1]), 0.0)


def _activity(requests: pd.DataFrame, engine: pd.DataFrame | None) -> list[Steps]:
    """Return requests at work as step functions: by the requests, and by the engine if recorded."""
    times = np.concatenate([requests["arrival_s"], requests["end_s"]])
    change = np.repeat([1.0, -1.0], len(requests))
    order = np.argsort(times, kind="stable")
    found = [(times[order], np.cumsum(change[order]))]
    if engine is not None:
        found.append((engine["time_s"].to_numpy(), engine["running"].to_numpy()))
    return found


def parse_utc_offset(text: str) -> float:
    """Read a UTC offset such as ``-7``, ``-07:00``, ``+5:30`` or ``Z``."""
    if text.strip().upper() in ("Z", "UTC"):
        return 0.0
    found = re.fullmatch(r"\s*([+-]?)(\d{1,2})(?::?([0-5]\d))?\s*", text)
    if found:
        sign, hours, minutes = found.groups()
        seconds = (-1.0 if sign == "-" else 1.0) * (int(hours) * 3600 + int(minutes or 0) * 60)
        if FIRST_OFFSET_S <= seconds <= LAST_OFFSET_S:
            return seconds
    raise InputError(f"--utc-offset: {text!r} is no UTC offset: give one such as -07:00")


def format_utc_offset(offset_s: float) -> str:
    """Write a UTC offset as ``-07:00``."""
    minutes = round(abs(offset_s) / 60)
    return f"{'-' if offset_s < 0 else '+'}{minutes // 60:02d}:{minutes % 60:02d}"
