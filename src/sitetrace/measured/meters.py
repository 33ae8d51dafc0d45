"""Power recordings of other tools: nvidia-smi, DCGM and Zeus to one table of samples."""

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from sitetrace.core.files import read_text_table, reading_csv, refuse_row, require

LOST = ("", "[N/A]", "N/A", "[NOT SUPPORTED]", "NOT SUPPORTED", "[UNKNOWN ERROR]", "NAN")
POWER_NAMES = {
    "nvidia-smi": ("power.draw.instant", "power.draw.average", "power.draw"),
    "DCGM": ("dcgm_fi_dev_power_usage", "power", "power_usage", "power_w"),
}
TIME_NAMES = ("timestamp", "time", "time_s")
GPU_NAMES = ("index", "gpu", "uuid", "gpu_uuid", "pci.bus_id", "entity")
EPOCH_FROM, EPOCH_TO = 1e9, 1e11


class MeterLog(NamedTuple):
    """Power samples as a foreign tool wrote them, and what had to be left out."""

    table: pd.DataFrame  # time_s, gpu, power_w; the index is the row in the file below the header
    local: bool  # times are local wall time (read as if it were UTC) and need a UTC offset
    tool: str
    notes: tuple[str, ...]


def read_meter(path: Path | str) -> MeterLog:
    """Read a power recording of nvidia-smi, DCGM or Zeus; the header tells which it is."""
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
    table["time_s"] = _sweep_times(table)
    notes = (f"{path.name}: {lost.sum()} samples without power left out",) if lost.any() else ()
    return MeterLog(table.dropna(subset="power_w"), local, tool, notes)


def _columns(path: Path) -> tuple[str, pd.Series, pd.Series, pd.Series]:
    """Tool, times, GPUs and powers as texts, one below another; the header tells which they are."""
    # nvidia-smi --query-gpu=timestamp,index,power.draw --format=csv: units in the header, in the
    # cells or nowhere; dcgmi dmon -e 155 | ts %.s; CSV with DCGM_FI_DEV_POWER_USAGE; Zeus' CSV
    with reading_csv(path, "check it"), path.open(encoding="utf-8", errors="replace") as file:
        dmon = "#Entity" in file.readline()
    table = _dmon_table(path) if dmon else read_text_table(path)
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


def _sweep_times(table: pd.DataFrame) -> np.ndarray:
    times, gpus = table["time_s"].to_numpy(), table["gpu"].to_numpy()
    own_step = table.groupby("gpu")["time_s"].diff()
    # a sweep ends where a GPU comes again, or where more than half a sampling step passes
    half_step = 0.5 * float(own_step.median()) if own_step.notna().any() else np.inf
    begins = (np.diff(gpus, prepend=gpus[0]) <= 0) | (np.diff(times, prepend=times[0]) > half_step)
    return table["time_s"].groupby(np.cumsum(begins)).transform("min").to_numpy()
