"""Power of whole servers at the plug: recordings at 1 Hz, their phases and what they show."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from sitetrace.core.files import InputError, read_table, read_text_table

INDEX = "runs.csv"
INDEX_COLUMNS = ("file", "node", "gpu", "gpus", "model", "scenario", "repeat")
READINGS = ("power_w", "voltage_v", "current_a", "power_factor")
LOW, HIGH = 0.02, 0.95
RISEN, FULL = 0.2, 0.9
IDLE_BAND, SETTLED_SHARE = 1.03, 0.98
READY_SAMPLES, SMOOTHED = 10, 31
LONGEST_STEP_S = 1.5
QUARTER_S = 900.0
EARLY = slice(5, 30)


def read_wall_plug(path: Path | str) -> pd.DataFrame:
    """Read a recording of a wall-plug meter."""
    table = read_table(path, ("time_s", *READINGS))
    if not (table["time_s"].diff().dropna() > 0).all():
        raise InputError(f"{path}: time_s does not rise from row to row: fetch the file anew")
    table.loc[table["power_w"] < 0, list(READINGS)] = np.nan
    return table


def list_recordings(folder: Path | str) -> pd.DataFrame:
    """List the recordings of a folder."""
    folder = Path(folder)
    index = read_text_table(folder / INDEX)
    missing = [name for name in INDEX_COLUMNS if name not in index]
    if missing:
        raise InputError(f"{folder / INDEX}: no column {missing[0]}: fetch the folder anew")
    table = index[list(INDEX_COLUMNS)].astype({"gpus": int})
    table["path"] = [folder / Path(name).name for name in table.pop("file")]
    for path in table["path"]:
        if not path.is_file():
            raise InputError(f"{path}: named in {INDEX} but not there: fetch the folder anew")
    table.insert(0, "name", [path.stem for path in table["path"]])
    return table.sort_values("name", ignore_index=True)


def phases(table: pd.DataFrame) -> dict[str, tuple[float, float]]:
    """Find the phases of a recording in its power alone."""
    power_w = table["power_w"].interpolate(limit_direction="both").to_numpy()
    low_w, high_w = np.quantile(power_w, [LOW, HIGH])
    calm = power_w < low_w + RISEN * (high_w - low_w)
    rise = int(np.argmin(calm))
    if not high_w > IDLE_BAND * low_w or rise <= READY_SAMPLES:
        raise InputError("recording: no rise from rest to load: give one that begins before load")
    first, last = _longest(power_w > (low_w + high_w) / 2)
    before = pd.Series(power_w[:rise]).rolling(5, center=True, min_periods=1).median()
    idle = _longest((before <= IDLE_BAND * before.quantile(0.05)).to_numpy())
    level = pd.Series(power_w[first : last + 1]).rolling(SMOOTHED, center=True, min_periods=1)
    steady = np.flatnonzero(level.median() >= SETTLED_SHARE * np.median(power_w[first : last + 1]))
    steady = steady[SMOOTHED:-SMOOTHED] if steady.size > 2 * SMOOTHED else steady
    rows = {
        "idle": idle,
        "ready": (rise - READY_SAMPLES, rise - 1),
        "load": (first, last),
        "settled": (first + steady[0], first + steady[-1]),
    }
    time_s = table["time_s"].to_numpy()
    return {name: (float(time_s[a]), float(time_s[b])) for name, (a, b) in rows.items()}


def _longest(mask: np.ndarray) -> tuple[int, int]:
    """First and last index of the longest stretch of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(int), [0]])))
    begins, ends = edges[::2], edges[1::2]
    best = int(np.argmax(ends - begins))
    return int(begins[best]), int(ends[best]) - 1


def within(table: pd.DataFrame, span: tuple[float, float]) -> pd.DataFrame:
    """Take the samples of a phase."""
    return table[table["time_s"].between(*span)]


def steps(table: pd.DataFrame) -> np.ndarray:
    """Differences between samples that follow each other by one second, none of them lost."""
    change_w = table["power_w"].diff().to_numpy()
    near = (table["time_s"].diff() < LONGEST_STEP_S).to_numpy()
    return change_w[near & np.isfinite(change_w)]


def describe(table: pd.DataFrame) -> dict[str, float]:
    """Describe a recording."""
    spans = phases(table)
    parts = {name: within(table, span) for name, span in spans.items()}
    settled, load = parts["settled"], parts["load"]
    median_w = settled["power_w"].median()
    ready_w = parts["ready"]["power_w"].median()
    low_w, high_w = settled["power_w"].quantile([0.05, 0.95])
    told = {
        "samples": len(table),
        "lost": int(table["power_w"].isna().sum()),
        "idle_w": parts["idle"]["power_w"].median(),
        "ready_w": ready_w,
        "median_w": median_w,
        "low_w": low_w,
        "high_w": high_w,
        "early_w": load["power_w"].iloc[EARLY].median(),
        "max_w": table["power_w"].max(),
        "power_factor_idle": parts["idle"]["power_factor"].median(),
        "power_factor_load": settled["power_factor"].median(),
    }
    for name, part in (("step", settled), ("any", table)):
        change = steps(part) / median_w
        told |= {f"{name}_up": change.max(), f"{name}_down": -change.min()}
    mean_w = load["power_w"].mean()
    quarter = load["power_w"].groupby((load["time_s"] - spans["load"][0]) // QUARTER_S)
    whole = quarter.mean()[quarter.size() >= 0.99 * QUARTER_S]
    told["par_1s"] = load["power_w"].max() / mean_w
    told["par_15min"] = whole.max() / whole.mean() if len(whole) > 1 else np.nan
    return told | {"rise_s": _rise_s(table, spans["load"], ready_w, median_w)}


def _rise_s(table: pd.DataFrame, load: tuple[float, float], ready_w: float, full_w: float) -> float:
    """Time of the rise that begins the load."""
    share = (table["power_w"] - ready_w) / (full_w - ready_w)
    rest = table["time_s"][(table["time_s"] <= load[0]) & (share <= RISEN)]
    full = table["time_s"][(table["time_s"] >= load[0]) & (share >= FULL)]
    return float(full.iloc[0] - rest.iloc[-1])


def read_all(recordings: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Read the listed recordings."""
    pairs = zip(recordings["name"], recordings["path"], strict=True)
    return {name: read_wall_plug(path) for name, path in pairs}


def overview(recordings: pd.DataFrame, tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Describe recordings, one row each."""
    rows = [describe(tables[name]) for name in recordings["name"]]
    return pd.concat([recordings.drop(columns="path"), pd.DataFrame(rows)], axis=1)


def repeats(table: pd.DataFrame) -> pd.DataFrame:
    """Compare the repeats of each load."""
    rows = []
    for (node, model, scenario), part in table.groupby(["node", "model", "scenario"]):
        if len(part) > 1:
            row = {"node": node, "model": model, "scenario": scenario, "repeats": len(part)}
            row["median_w"] = part["median_w"].mean()
            for name in ("median_w", "ready_w", "idle_w"):
                ends = part[name].max() - part[name].min()
                row[f"{name[:-2]}_spread"] = ends / part[name].mean()
            rows.append(row)
    return pd.DataFrame(rows)
