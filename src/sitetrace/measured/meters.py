"""Power recordings of other tools: nvidia-smi, DCGM and Zeus to one table of samples."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from sitetrace.core.files import InputError, read_text_table, refuse_row

LOST = ("", "[N/A]", "N/A", "[NOT SUPPORTED]", "NOT SUPPORTED", "[UNKNOWN ERROR]", "NAN")
POWER_NAMES = {
    "nvidia-smi": ("power.draw.instant", "power.draw.average", "power.draw"),
    "DCGM": ("dcgm_fi_dev_power_usage", "power", "power_usage", "power_w"),
}
TIME_NAMES = ("timestamp", "time", "time_s")
GPU_NAMES = ("index", "gpu", "uuid", "gpu_uuid", "pci.bus_id", "entity")
EPOCH_FROM, EPOCH_TO = 1e9, 1e11
Columns = tuple[str, pd.Series, pd.Series, pd.Series]


@dataclass(frozen=True)
class MeterLog:
    """Power samples as a foreign tool wrote them, and what had to be left out."""

    table: pd.DataFrame  # time_s, gpu, power_w; the index is the row in the file below the header
    local: bool  # times are local wall time (read as if it were UTC) and need a UTC offset
    tool: str
    notes: tuple[str, ...]


def read_meter(path: Path | str) -> MeterLog:
    """Read a power recording of nvidia-smi, DCGM or Zeus; the header tells which it is.

    The rows of one sweep over several GPUs are brought to its first time.
    """
    path = Path(path)
    table, columns = _known_format(path)
    tool, times, gpus, power = columns(path, table)
    seconds, local = _seconds(path, times)
    watts, lost = _watts(path, power)
    long = pd.DataFrame({"time_s": seconds, "gpu": pd.factorize(gpus)[0], "power_w": watts})
    long = long.set_index(power.index)
    long["time_s"] = _sweep_times(long)
    notes = (f"{path.name}: {lost} samples without power left out",) if lost else ()
    return MeterLog(long[long["power_w"].notna()], local, tool, notes)


def _known_format(path: Path) -> tuple[pd.DataFrame, Callable[[Path, pd.DataFrame], Columns]]:
    """Look at the header; return the table as text and the function that knows its columns."""
    # nvidia-smi --query-gpu=timestamp,index,power.draw --format=csv: units in the header, in the
    # cells or nowhere; dcgmi dmon -e 155 | ts %.s; CSV with DCGM_FI_DEV_POWER_USAGE; Zeus' CSV
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            head = file.readline()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}): check the path") from None
    if "#Entity" in head:
        return _dmon_table(path), _named
    table = read_text_table(path)
    table.columns = [str(name).strip().lower() for name in table.columns]
    names = [re.sub(r"\s*\[.*\]$", "", name) for name in table.columns]
    if any(set(powers) & set(names) for powers in POWER_NAMES.values()):
        table.columns = names
        return table, _named
    if names and names[0] in TIME_NAMES and len(names) > 1 and all(map(str.isdecimal, names[1:])):
        return table, _zeus
    raise InputError(
        f"{path}: line 1: no power column of nvidia-smi (power.draw), DCGM "
        "(DCGM_FI_DEV_POWER_USAGE) or Zeus (Time,0,1,...): record power with one of them"
    )


def _dmon_table(path: Path) -> pd.DataFrame:
    """Turn dcgmi's text table with a time before each line into named columns."""
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    before, header = lines[0].split("#Entity", 1)
    if not before.strip():
        raise InputError(
            f"{path}: line 1: dcgmi dmon prints no times: record with "
            "'dcgmi dmon -e 155 -d 250 | ts %.s' so that each line begins with one"
        )
    fields = header.split()
    if "POWER" not in fields:
        raise InputError(f"{path}: line 1: no POWER column: record field 155 (dcgmi dmon -e 155)")
    rows, index = [], []
    for number, line in enumerate(lines):
        found = re.match(r"\s*(\S.*?)\s+GPU[ -](\d+)\s+(.*)$", line)
        if found:
            time, gpu, values = found.groups()
            cells = values.split()
            if len(cells) != len(fields):
                raise InputError(
                    f"{path}: line {number + 1}: {len(cells)} values under {len(fields)} column "
                    "names: remove that line"
                )
            rows.append((time, gpu, cells[fields.index("POWER")]))
            index.append(number - 1)
    if not rows:
        raise InputError(f"{path}: no line of a GPU below the header: record power again")
    return pd.DataFrame(rows, columns=["timestamp", "gpu", "power"], index=index)


def _named(path: Path, table: pd.DataFrame) -> Columns:
    """Columns by name: nvidia-smi's CSV, DCGM's CSV or text table."""
    tool, powers = next(item for item in POWER_NAMES.items() if set(item[1]) & set(table.columns))
    power = next(name for name in powers if name in table)
    time = next((name for name in TIME_NAMES if name in table), None)
    if time is None:
        raise InputError(f"{path}: column timestamp is missing: record it together with power")
    gpu = next((name for name in GPU_NAMES if name in table), None)
    gpus = pd.Series("0", index=table.index) if gpu is None else table[gpu].str.strip()
    return tool, table[time], gpus, table[power]


def _zeus(path: Path, table: pd.DataFrame) -> Columns:
    """Columns of Zeus' power CSV, one a GPU, laid one below another in the order of time."""
    gpus = table.columns[1:]
    rows = np.repeat(np.arange(len(table)), len(gpus))
    power = pd.Series(table[gpus].to_numpy().ravel(), index=table.index[rows])
    return "Zeus", table.iloc[rows, 0], pd.Series(np.tile(gpus, len(table))), power


def _seconds(path: Path, texts: pd.Series) -> tuple[np.ndarray, bool]:
    """Turn texts into seconds: epoch numbers, times with a zone, or local wall time."""
    texts = texts.str.strip()
    numbers = pd.to_numeric(texts, errors="coerce")
    if numbers.notna().any():
        seconds, local = numbers.to_numpy(dtype=float), False
        bad = ~((seconds > EPOCH_FROM) & (seconds < EPOCH_TO))
        why = "is no epoch time in seconds"
    else:
        local = not texts.str.contains(r"(?:Z|UTC|[+-]\d\d:?\d\d)$").any()
        stamps = pd.to_datetime(
            texts.str.replace("/", "-"), errors="coerce", format="ISO8601", utc=True
        )
        nanoseconds = stamps.to_numpy(dtype="datetime64[ns]").astype(np.int64)
        seconds, bad = nanoseconds / 1e9, stamps.isna().to_numpy()
        why = "is no time such as 2026/07/18 15:57:43.179"
    refuse_row(path, bad, f"{why}: mend or remove that row", texts.rename("time"))
    return seconds, local


def _watts(path: Path, texts: pd.Series) -> tuple[np.ndarray, int]:
    """Turn texts such as ``82.04 W`` into watts; samples the tool could not take become NaN."""
    texts = texts.fillna("").astype(str).str.strip()
    lost = texts.str.upper().isin(LOST).to_numpy()
    numbers = texts.str.replace(r"\s*W$", "", regex=True)
    watts = pd.to_numeric(numbers, errors="coerce").to_numpy(dtype=float)
    bad = ~np.isfinite(watts) & ~lost
    why = "is no number of watts: mend or remove that row"
    refuse_row(path, bad, why, texts.rename("power"))
    if lost.all():
        raise InputError(f"{path}: power: no sample holds a number: this GPU reports no power")
    return np.where(lost, np.nan, watts), int(lost.sum())


def _sweep_times(table: pd.DataFrame) -> np.ndarray:
    """Give all rows of one sweep over the GPUs the smallest time among them."""
    times, gpus = table["time_s"].to_numpy(), table["gpu"].to_numpy()
    own_step = table.groupby("gpu")["time_s"].diff()
    # a sweep ends where a GPU comes again, or where more than half a sampling step passes
    half_step = 0.5 * float(own_step.median()) if own_step.notna().any() else np.inf
    begins = (np.diff(gpus, prepend=gpus[0]) <= 0) | (np.diff(times, prepend=times[0]) > half_step)
    sweep = np.cumsum(begins)
    return table["time_s"].groupby(sweep).transform("min").to_numpy()
