"""Recordings of other tools to run directories: power, vLLM's results, and one clock for both."""

import re
from pathlib import Path

import numpy as np
import pandas as pd

from sitetrace.core.files import InputError, read_json, read_table, require
from sitetrace.measured.meters import EPOCH_FROM, EPOCH_TO, read_meter
from sitetrace.measured.rundir import ENGINE_COLUMNS, check_power, write_run
from sitetrace.workload.table import validate_requests

QUARTER_HOUR_S, FIRST_OFFSET_S, LAST_OFFSET_S = 900, -12 * 3600, 14 * 3600
CLEAR_SCORE, CLEAR_MARGIN = 0.2, 0.1
COUNTERS = ("timestamp", "num_requests_running", "num_requests_waiting")
COUNTERS += ("prompt_tokens_total", "generation_tokens_total")


def ingest(
    power: Path | str,
    requests: Path | str,
    engine: Path | str | None = None,
    *,
    info: dict,
    utc_offset_s: float | None = None,
    out: Path | str,
) -> list[str]:
    """Turn recordings of power, vLLM's requests and its metrics into a run directory; tell how.

    `info` goes to run.json; without `utc_offset_s` (local less UTC) local times' is found.
    """
    log, name = read_meter(power), Path(power).name
    request_table, left_out = read_vllm_requests(requests)
    counters = None if engine is None else read_vllm_metrics(engine)
    notes = [f"{name}: power as {log.tool} wrote it", *log.notes, *left_out]
    check_power(Path(power), log.table)
    if log.local and utc_offset_s is None:
        times = np.r_[request_table["arrival_s"], request_table["end_s"]]
        order = np.argsort(times, kind="stable")
        at_work = np.cumsum(np.repeat([1.0, -1.0], len(request_table))[order])
        activity = [(times[order], at_work)]
        if counters is not None:
            activity.append(tuple(counters[["time_s", "running"]].to_numpy().T))
        utc_offset_s = find_utc_offset(
            log.table.groupby("time_s")["power_w"].sum(), activity, power
        )
        told = f"local wall time taken as UTC{utc_offset_s / 3600:+g} h"
        notes.append(f"{name}: {told}, where power and requests overlap best")
    sound = log.local or utc_offset_s is None
    require(sound, power, "no local wall time", "leave the UTC offset out")
    gpus = int(log.table["gpu"].nunique())
    table = log.table.drop(columns="gpu") if gpus == 1 else log.table
    table = table.assign(time_s=table["time_s"] - (utc_offset_s or 0.0))
    sources = {"power.csv": power, "requests.csv": requests, "engine.csv": engine}
    names = {kind: Path(file).name for kind, file in sources.items() if file}
    info = {"tensor_parallel": gpus, **info, "utc_offset_s": utc_offset_s, "ingested_from": names}
    try:
        run = write_run(out, info, request_table, table, counters)
    except InputError as error:
        message = str(error)
        for kind, file in sources.items():
            message = message.replace(str(Path(out) / kind), str(file))
        raise InputError(message) from None
    return [*notes, *run.notes]


def read_vllm_requests(path: Path | str) -> tuple[pd.DataFrame, list[str]]:
    """Read the detailed result of vLLM's serving benchmark; notes tell what was left out."""
    content, file = read_json(path), Path(path).name
    sent = next((name for name in ("request_timestamps", "start_times") if name in content), None)
    what = "neither request_timestamps nor start_times"
    require(sent, path, what, "arrivals are not known and not invented: save them with the client")
    names = [sent, "input_lens", "output_lens", "ttfts", "itls"]
    content["errors"] = content.get("errors") or [""] * _count(content[sent])
    for name in (*names, "errors"):
        counts = [_count(content.get(each)) for each in (name, sent)]
        what = f"{name} has {counts[0]} entries, {sent} {counts[1]}"
        require(0 < counts[0] == counts[1], path, what, "save it again with --save-detailed")
    rows = list(zip(*(content[name] for name in (*names, "errors")), strict=True))
    good = {i: row[:-1] for i, row in enumerate(rows) if not row[-1] and row[2] != 0}
    require(good, path, "no request succeeded", "run the benchmark again")
    numbers = {i: map(_number, row) for i, row in good.items()}
    table = pd.DataFrame.from_dict(numbers, "index", columns=names)
    for name in names:
        bad = table.index[~table[name].between(1 if name.endswith("lens") else 0, 1e15)]
        where = f"{path}: {name}[{min(bad, default=0)}]"
        require(bad.empty, where, "no sensible number of each", "mend or remove that request")
    sent_s, inputs, outputs, ttft_s, decode_s = table.to_numpy().T
    what = f"{sent_s[0]:g} is no epoch second (vLLM's own client counts from the machine's start)"
    mend = "add time.time() - time.perf_counter() of that machine"
    require((sent_s >= EPOCH_FROM) & (sent_s <= EPOCH_TO), f"{path}: {sent}", what, mend)
    failed = len(rows) - len(good)
    notes = [f"{file}: {failed} failed requests left out"] if failed else []
    notes += [f"{file}: requests sorted by arrival"] if (np.diff(sent_s) < 0).any() else []
    columns = {"arrival_s": sent_s, "input_tokens": inputs, "output_tokens": outputs}
    # a request ends at its sending time + TTFT + the sum of its inter-token latencies
    columns |= {"ttft_s": ttft_s, "end_s": sent_s + ttft_s + decode_s}
    return validate_requests(pd.DataFrame(columns), path), notes


def _count(values: object) -> int:
    return len(values) if isinstance(values, list) else 0


def _number(value: object) -> float:
    """Take a number, or the sum of a list of them; NaN where one is none or is below zero."""
    if isinstance(value, list):
        return float(np.sum([_number(each) for each in value]))
    return float(value) if type(value) in (int, float) and 0 <= value < 1e15 else np.nan


def read_vllm_metrics(path: Path | str) -> pd.DataFrame:
    """Read samples of vLLM's Prometheus metrics (CSV, epoch s) into the columns of `engine.csv`."""
    table = read_table(path, COUNTERS, ("iteration_tokens_total_count",))
    return table.set_axis([*ENGINE_COLUMNS, "steps"][: table.shape[1]], axis=1)


def find_utc_offset(power_w: pd.Series, activity: list[tuple], path: Path | str) -> float:
    """Find the offset (local less UTC, s) at which power rises with work (times, requests)."""
    offsets = np.arange(FIRST_OFFSET_S, LAST_OFFSET_S + 1, QUARTER_HOUR_S)
    for times, counts in activity:
        scores = [_overlap(power_w, times + offset, counts) for offset in offsets]
        second, best = np.sort(scores)[-2:]
        if best >= CLEAR_SCORE and best - second >= CLEAR_MARGIN:
            return float(offsets[np.argmax(scores)])
    what = "times are local and no single UTC offset brings power and requests together"
    raise InputError(f"{path}: {what}: give it, such as --utc-offset -07:00")


def _overlap(power_w: pd.Series, times: np.ndarray, counts: np.ndarray) -> float:
    """Score an offset: share of the requests' work that was recorded, times its correlation."""
    instants = power_w.index.to_numpy()
    work = counts[:-1] @ np.diff(times)
    covered = counts[:-1] @ np.diff(np.clip(times, instants[0], instants[-1]))
    place = np.searchsorted(times, instants, side="right") - 1
    at_work = np.where(place >= 0, counts[place], 0.0)
    if covered <= 0 or np.ptp(at_work) == 0 or np.ptp(power_w.to_numpy()) == 0:
        return 0.0
    return covered / work * max(float(np.corrcoef(at_work, power_w)[0, 1]), 0.0)


def parse_utc_offset(text: str) -> float:
    """Read a UTC offset such as ``-7``, ``-07:00``, ``+5:30`` or ``Z``."""
    plain = {"Z": "0", "UTC": "0"}.get(text.strip().upper(), text.strip())
    found = re.fullmatch(r"([+-]?)(\d{1,2})(?::?([0-5]\d))?", plain)
    sign, hours, minutes = found.groups() if found else ("+", 99, 0)
    seconds = (-1.0 if sign == "-" else 1.0) * (int(hours) * 3600 + int(minutes or 0) * 60)
    known = FIRST_OFFSET_S <= seconds <= LAST_OFFSET_S
    require(known, "--utc-offset", f"{text!r} is no UTC offset", "give one such as -07:00")
    return seconds
