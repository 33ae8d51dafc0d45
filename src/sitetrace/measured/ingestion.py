"""Recordings of other tools to run directories: power, vLLM's results, and one clock for both."""

import re
from pathlib import Path

import numpy as np
import pandas as pd

from sitetrace.core import files
from sitetrace.core.files import InputError, read_json, read_table, refuse_row, require
from sitetrace.measured.rundir import ENGINE_COLUMNS, check_power, write_run
from sitetrace.workload.table import validate_requests

QUARTER_HOUR_S, FIRST_OFFSET_S, LAST_OFFSET_S = 900, -12 * 3600, 14 * 3600
CLEAR_SCORE, CLEAR_MARGIN, EPOCH_FROM, EPOCH_TO = 0.2, 0.1, 1e9, 1e11
COUNTERS = ("timestamp", "num_requests_running", "num_requests_waiting")
COUNTERS += ("prompt_tokens_total", "generation_tokens_total")
LOST = ("", "[N/A]", "N/A", "[NOT SUPPORTED]", "NOT SUPPORTED", "[UNKNOWN ERROR]", "NAN")
POWER_NAMES = {"nvidia-smi": ("power.draw.instant", "power.draw.average", "power.draw")}
POWER_NAMES |= {"DCGM": ("dcgm_fi_dev_power_usage", "power", "power_usage", "power_w")}
TIME_NAMES = ("timestamp", "time", "time_s")
GPU_NAMES = ("index", "gpu", "uuid", "gpu_uuid", "pci.bus_id", "entity")


def ingest(
    power: Path | str,
    requests: Path | str,
    engine: Path | str | None = None,
    *,
    info: dict,
    utc_offset_s: float | None = None,
    out: Path | str,
) -> list[str]:
    """Turn recordings into a run directory, `info` into run.json; an offset not given is found."""
    table, local, notes = read_meter(power)
    request_table, left_out = read_vllm_requests(requests)
    counters = engine and read_vllm_metrics(engine)
    notes += left_out
    check_power(Path(power), table)
    if local and utc_offset_s is None:
        times = np.r_[request_table["arrival_s"], request_table["end_s"]]
        order = np.argsort(times, kind="stable")
        activity = [(times[order], np.cumsum(np.repeat([1.0, -1.0], len(request_table))[order]))]
        activity += (
            [] if counters is None else [tuple(counters[["time_s", "running"]].to_numpy().T)]
        )
        samples_w = table.groupby("time_s")["power_w"].sum()
        utc_offset_s = find_utc_offset(samples_w, activity, power)
        told = f"local wall time taken as UTC{utc_offset_s / 3600:+g} h"
        notes.append(f"{Path(power).name}: {told}, where power and requests overlap best")
    require(local or utc_offset_s is None, power, "no local wall time", "leave the UTC offset out")
    gpus = int(table["gpu"].nunique())
    table = table.drop(columns="gpu") if gpus == 1 else table
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
    columns |= {"ttft_s": ttft_s, "end_s": sent_s + ttft_s + decode_s}  # sum of the gaps (itls)
    return validate_requests(pd.DataFrame(columns), path), notes


def _count(values: object) -> int:
    return len(values) if isinstance(values, list) else 0


def _number(value: object) -> float:
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


def read_meter(path: Path | str) -> tuple[pd.DataFrame, bool, list[str]]:
    """Read time_s (local as if UTC), gpu, power_w by row; whether times are local; and notes."""
    path = Path(path)
    tool, times, gpus, power = _columns(path)
    seconds, local = _seconds(path, times.str.strip().rename("time"))
    power = power.fillna("").astype(str).str.strip().rename("power")
    lost = power.str.upper().isin(LOST).to_numpy()  # samples that the tool could not take
    numbers = pd.to_numeric(power.str.replace(r"\s*W$", "", regex=True), errors="coerce")
    bad, why = ~np.isfinite(numbers) & ~lost, "is no number of watts: mend or remove that row"
    refuse_row(path, bad, why, power)
    require(not lost.all(), f"{path}: power", "no sample is a number", "this GPU reports no power")
    watts = np.where(lost, np.nan, numbers)
    samples = {"time_s": seconds, "gpu": pd.factorize(gpus)[0], "power_w": watts}
    table = pd.DataFrame(samples, index=power.index)
    own_step = table.groupby("gpu")["time_s"].diff()
    # a sweep ends where a GPU comes again, or where more than half a sampling step passes
    half_step = 0.5 * float(own_step.median()) if own_step.notna().any() else np.inf
    again = np.diff(table["gpu"], prepend=table["gpu"].iloc[0]) <= 0
    begins = again | (np.diff(seconds, prepend=seconds[0]) > half_step)
    table["time_s"] = table["time_s"].groupby(np.cumsum(begins)).transform("min").to_numpy()
    notes = [f"{path.name}: power as {tool} wrote it"]
    notes += [f"{path.name}: {lost.sum()} samples without power left out"] if lost.any() else []
    return table.dropna(subset="power_w"), local, notes


def _columns(path: Path) -> tuple[str, pd.Series, pd.Series, pd.Series]:
    """Tool, times, GPUs and powers as texts, one below another; the header tells which they are."""
    # nvidia-smi (units in the header, the cells or nowhere); dcgmi dmon -e 155 | ts %.s; CSVs
    with files.reading_csv(path, "check it"), path.open(encoding="utf-8", errors="replace") as file:
        dmon = "#Entity" in file.readline()
    table = _dmon_table(path) if dmon else files.read_text_table(path)
    table.columns = [re.sub(r"\s*\[.*\]$", "", name.strip().lower()) for name in table]
    first, *others = table.columns
    if first in TIME_NAMES and others and all(map(str.isdecimal, others)):  # Zeus: a column a GPU
        rows = np.repeat(np.arange(len(table)), len(others))
        power = pd.Series(table[others].to_numpy().ravel(), index=table.index[rows])
        return "Zeus", table.iloc[rows, 0], pd.Series(np.tile(others, len(table))), power
    powers = [(tool, name) for tool, names in POWER_NAMES.items() for name in names]
    tool, power = next((pair for pair in powers if pair[1] in table), ("", ""))
    what = "no power column of nvidia-smi (power.draw), DCGM (DCGM_FI_DEV_POWER_USAGE) or Zeus "
    require(tool, f"{path}: line 1", what + "(Time,0,1,...)", "record power with one of them")
    time = next((name for name in TIME_NAMES if name in table), None)
    require(time, path, "column timestamp is missing", "record it together with power")
    gpu = next((name for name in GPU_NAMES if name in table), None)
    gpus = pd.Series("0", index=table.index) if gpu is None else table[gpu].str.strip()
    return tool, table[time], gpus, table[power]


def _dmon_table(path: Path) -> pd.DataFrame:
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    before, header = lines[0].split("#Entity", 1)
    fields, where, mend = header.split(), f"{path}: line 1", "record with dcgmi dmon -e 155"
    require(before.strip(), where, "dcgmi dmon prints no times", mend)
    require("POWER" in fields, where, "no POWER column", mend)
    rows = {}
    for number, line in enumerate(lines):
        if found := re.match(r"\s*(\S.*?)\s+GPU[ -](\d+)\s+(.*)$", line):
            time, gpu, values = found.groups()
            cells, where = values.split(), f"{path}: line {number + 1}"
            what = f"{len(cells)} values under {len(fields)} column names"
            require(len(cells) == len(fields), where, what, "remove that line")
            rows[number - 1] = (time, gpu, cells[fields.index("POWER")])
    require(rows, path, "no line of a GPU below the header", "record power again")
    return pd.DataFrame.from_dict(rows, orient="index", columns=["timestamp", "gpu", "power"])


def _seconds(path: Path, texts: pd.Series) -> tuple[np.ndarray, bool]:
    numbers = pd.to_numeric(texts, errors="coerce")
    if numbers.notna().any():
        seconds, local = numbers.to_numpy(dtype=float), False
        bad, why = ~((seconds > EPOCH_FROM) & (seconds < EPOCH_TO)), "is no epoch time in seconds"
    else:
        local = not texts.str.contains(r"(?:Z|UTC|[+-]\d\d:?\d\d)$").any()
        texts = texts.str.replace("/", "-")
        stamps = pd.to_datetime(texts, errors="coerce", format="ISO8601", utc=True)
        seconds = stamps.to_numpy(dtype="datetime64[ns]").astype(np.int64) / 1e9
        bad, why = stamps.isna(), "is no time such as 2026/07/18 15:57:43.179"
    refuse_row(path, bad, f"{why}: mend or remove that row", texts)
    return seconds, local
