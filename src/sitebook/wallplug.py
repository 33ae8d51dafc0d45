"""Whole servers at the plug: recordings at 1 Hz, their phases, and what is not their GPUs'.

No GPU watts were recorded beside the meter. Two levels bound them: a GPU that holds a model and
waits draws what idle boards read, and a GPU at saturation draws no more than its power limit.
"""

import json
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from sitetrace.core.files import (
    InputError,
    named,
    read_json,
    read_table,
    read_text_table,
    replacing,
    require,
)
from sitetrace.core.registry import data_dir, dataset_path
from sitetrace.measured.rundir import read_run

RECORDINGS, LEADERBOARD = "mlperf_node", "mlenergy_leaderboard"
IDLE_RUNS = ("llama-3.1-70b_h100_tp4_poisson_r4", "qwen3-8b_h100_tp1_poisson_r4")
DEFAULT_NODE = "h200x8_maxq"
INDEX, INDEX_COLUMNS = "runs.csv", ("file", "node", "gpu", "gpus", "model", "scenario", "repeat")
READINGS = ("power_w", "voltage_v", "current_a", "power_factor")
# of a recording: its quantiles at rest and at load, shares of the rise, bands and sizes of phases
LOW, HIGH, RISEN, FULL = 0.02, 0.95, 0.2, 0.9
IDLE_BAND, SETTLED_SHARE, READY_SAMPLES, SMOOTHED, EARLY = 1.03, 0.98, 10, 31, slice(5, 30)
LONGEST_STEP_S, QUARTER_S = 1.5, 900.0
BOARD_SPREAD_W, LEAST_SHARE, STEADY = 10.0, 0.95, 0.1  # of bounds and of settled loads
SOURCE = (
    "fitted by sitebook.wallplug to wall-plug power of 8-GPU servers (MLPerf inference v4.1 and "
    "v5.1) and bounds on their GPUs' watts; no GPU watts were recorded"
)
# the testbed's node: two power limits, GPUs at rest without and with a model, all besides the GPUs
TESTBED_LIMITS_W = {"capped at 250 W": 250.0, "capped at 400 W": 400.0}
TESTBED_GPUS, TESTBED_SHARE, TESTBED_IDLE_W, TESTBED_LOADED_W = 8, 0.97, 60.0, 95.0
TESTBED_BASE_W, TESTBED_SLOPE, REACTIVE_VAR = 1500.0, 0.15, 700.0
KEPT_W, LOST_SHARE = 3.0, 0.003


def open_nodes(
    dataset: str, seed: int
) -> tuple[dict[str, pd.DataFrame], pd.DataFrame, pd.DataFrame]:
    """Open the recordings at the plug, an overview of them, and bounds on the GPUs behind them."""
    named("dataset", dataset, ("measured", "testbed"))
    if dataset == "measured":
        return *_opened(dataset_path(RECORDINGS)), bounds()
    with tempfile.TemporaryDirectory() as folder:
        limits = simulate_node(Path(folder), np.random.default_rng(seed))
        return *_opened(Path(folder)), limits


def _opened(folder: Path) -> tuple[dict[str, pd.DataFrame], pd.DataFrame]:
    recordings = list_recordings(folder)
    pairs = zip(recordings["name"], recordings["path"], strict=True)
    tables = {name: read_wall_plug(path) for name, path in pairs}
    described = pd.DataFrame([describe(table) for table in tables.values()])
    return tables, pd.concat([recordings.drop(columns="path"), described], axis=1)


def read_wall_plug(path: Path | str) -> pd.DataFrame:
    """Read a recording of a wall-plug meter; a lost sample, printed as -1 W, is no number."""
    table = read_table(path, ("time_s", *READINGS))
    rises = (table["time_s"].diff().dropna() > 0).all()
    require(rises, f"{path}: time_s", "does not rise from row to row", "fetch the file anew")
    table.loc[table["power_w"] < 0, list(READINGS)] = np.nan
    return table


def list_recordings(folder: Path) -> pd.DataFrame:
    """List the recordings of a folder by name."""
    index = read_text_table(folder / INDEX)
    for name in INDEX_COLUMNS:
        require(name in index, f"{folder / INDEX}", f"no column {name}", "fetch the folder anew")
    table = index[list(INDEX_COLUMNS)].astype({"gpus": int})
    table["path"] = [folder / Path(name).name for name in table.pop("file")]
    for path in table["path"]:
        require(path.is_file(), f"{path}", f"named in {INDEX} but not there", "fetch them anew")
    table.insert(0, "name", [path.stem for path in table["path"]])
    return table.sort_values("name", ignore_index=True)


def phases(table: pd.DataFrame) -> dict[str, tuple[float, float]]:
    """Find begin and end of the phases of a recording in its power alone."""
    power_w = table["power_w"].interpolate(limit_direction="both").to_numpy()
    low_w, high_w = np.quantile(power_w, [LOW, HIGH])
    rise = int(np.argmin(power_w < low_w + RISEN * (high_w - low_w)))
    if not high_w > IDLE_BAND * low_w or rise <= READY_SAMPLES:
        raise InputError("recording: no rise from rest to load: give one that begins before load")
    first, last = _longest(power_w > (low_w + high_w) / 2)
    before = pd.Series(power_w[:rise]).rolling(5, center=True, min_periods=1).median()
    level = pd.Series(power_w[first : last + 1]).rolling(SMOOTHED, center=True, min_periods=1)
    steady = np.flatnonzero(level.median() >= SETTLED_SHARE * np.median(power_w[first : last + 1]))
    steady = steady[SMOOTHED:-SMOOTHED] if steady.size > 2 * SMOOTHED else steady
    rows = {
        "idle": _longest((before <= IDLE_BAND * before.quantile(0.05)).to_numpy()),
        "ready": (rise - READY_SAMPLES, rise - 1),
        "load": (first, last),
        "settled": (first + steady[0], first + steady[-1]),
    }
    time_s = table["time_s"].to_numpy()
    return {name: (float(time_s[a]), float(time_s[b])) for name, (a, b) in rows.items()}


def _longest(mask: np.ndarray) -> tuple[int, int]:
    """First and last index of the longest stretch of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(int), [0]])))
    best = int(np.argmax(edges[1::2] - edges[::2]))
    return int(edges[2 * best]), int(edges[2 * best + 1]) - 1


def within(table: pd.DataFrame, span: tuple[float, float]) -> pd.DataFrame:
    """Take the samples of a phase."""
    return table[table["time_s"].between(*span)]


def steps(table: pd.DataFrame) -> np.ndarray:
    """Differences between samples that follow each other by one second, none of them lost."""
    change_w = table["power_w"].diff().to_numpy()
    near = (table["time_s"].diff() < LONGEST_STEP_S).to_numpy()
    return change_w[near & np.isfinite(change_w)]


def describe(table: pd.DataFrame) -> dict[str, float]:
    """Describe a recording: its levels, its greatest steps, its rise, its power factor."""
    spans = phases(table)
    parts = {name: within(table, span) for name, span in spans.items()}
    settled, load = parts["settled"], parts["load"]
    median_w = settled["power_w"].median()
    low_w, high_w = settled["power_w"].quantile([0.05, 0.95])
    told = {"samples": len(table), "lost": int(table["power_w"].isna().sum())}
    told |= {f"{name}_w": parts[name]["power_w"].median() for name in ("idle", "ready")}
    told |= {"median_w": median_w, "low_w": low_w, "high_w": high_w}
    told |= {"early_w": load["power_w"].iloc[EARLY].median(), "max_w": table["power_w"].max()}
    for name, part in (("idle", parts["idle"]), ("load", settled)):
        told[f"power_factor_{name}"] = part["power_factor"].median()
    for name, part in (("step", settled), ("any", table)):
        change = steps(part) / median_w
        told |= {f"{name}_up": change.max(), f"{name}_down": -change.min()}
    mean_w = load["power_w"].mean()
    quarter = load["power_w"].groupby((load["time_s"] - spans["load"][0]) // QUARTER_S)
    whole = quarter.mean()[quarter.size() >= 0.99 * QUARTER_S]
    told["par_1s"] = load["power_w"].max() / mean_w
    told["par_15min"] = whole.max() / whole.mean() if len(whole) > 1 else np.nan
    share = (table["power_w"] - told["ready_w"]) / (median_w - told["ready_w"])
    begin_s = spans["load"][0]
    rest_s = table["time_s"][(table["time_s"] <= begin_s) & (share <= RISEN)].iloc[-1]
    full_s = table["time_s"][(table["time_s"] >= begin_s) & (share >= FULL)].iloc[0]
    return told | {"rise_s": float(full_s - rest_s)}


def repeats(table: pd.DataFrame) -> pd.DataFrame:
    """Spread between the repeats of each load, as a share of their mean."""
    by = table.groupby(["node", "model", "scenario"])[["median_w", "ready_w", "idle_w"]]
    spread = ((by.max() - by.min()) / by.mean())[by.size() > 1]
    return spread.rename(columns=lambda name: f"{name.removesuffix('_w')}_spread")


def bounds() -> pd.DataFrame:
    """Bounds on the watts of a GPU at rest and under load, by node and model."""
    runs = [read_run(dataset_path(name)) for name in IDLE_RUNS]
    idle_w = [run.idle_before_load_w() / run.configuration.tensor_parallel for run in runs]
    rows = []
    for node, told in read_json(data_dir() / "gpu_limits.json")["nodes"].items():
        low_w = told["idle_least_w"] or min(idle_w) - BOARD_SPREAD_W
        high_w = told["idle_greatest_w"] or max(idle_w) + BOARD_SPREAD_W
        for model, limit_w in told["limit_w"].items():
            name = told["published"].get(model)
            least_w = published_w(name, "B200") if name else LEAST_SHARE * limit_w
            row = {"node": node, "model": model, "idle_low_w": low_w, "idle_high_w": high_w}
            rows.append(row | {"load_low_w": least_w, "load_high_w": float(limit_w)})
    return pd.DataFrame(rows)


def published_w(model: str, gpu: str) -> float:
    """Power of a saturated GPU as the ML.ENERGY leaderboard gives it."""
    path = dataset_path(LEADERBOARD) / "mlenergy_leaderboard_llm.csv"
    power, names = read_table(path, ("avg_power_watts", "num_gpus")), read_text_table(path)
    rows = names["model_id"].str.contains(model, regex=False) & (names["gpu_model"] == gpu)
    return float((power["avg_power_watts"] / power["num_gpus"])[rows].median())


def levels(table: pd.DataFrame, limits: pd.DataFrame) -> pd.DataFrame:
    """Wall power beside the bounds of GPU power, level by level."""
    known = table.merge(limits, on=["node", "model"])
    steady = known[(known["high_w"] - known["low_w"]) < STEADY * known["median_w"]]
    rows = []
    told = (("ready", known, "ready_w", "idle"), ("load", steady, "median_w", "load"))
    for name, part, wall, side in told:
        ends = [f"{side}_low_w", f"{side}_high_w"]
        for (node, low_w, high_w), group in part.groupby(["node", *ends], sort=False):
            gpus = group["gpus"].iloc[0]
            row = {"node": node, "level": name, "gpus": gpus, "recordings": len(group)}
            row |= {"wall_w": group[wall].median()}
            rows.append(row | {"gpu_low_w": gpus * low_w, "gpu_high_w": gpus * high_w})
    return pd.DataFrame(rows).sort_values(["node", "gpu_high_w"], ignore_index=True)


def line(part: pd.DataFrame, share: np.ndarray | float) -> tuple[float, float]:
    """Fit power besides the GPUs as a line in their watts, so far up within their bounds."""
    gpu_w = part["gpu_low_w"] + share * (part["gpu_high_w"] - part["gpu_low_w"])
    slope, base = np.polyfit(gpu_w, part["wall_w"] - gpu_w, 1)
    return float(base), float(slope)


def fit_non_gpu(part: pd.DataFrame) -> dict:
    """Fit one node, with the band that the bounds leave."""
    gpus = int(part["gpus"].iloc[0])

    def told(share: np.ndarray | float) -> dict:
        base_w, slope = line(part, share)
        return {"base_w_per_gpu": base_w / gpus, "per_gpu_w": slope}

    rest = (part["level"] == "ready").to_numpy(dtype=float)
    return told(0.5) | {
        "low": told(1.0),
        "high": told(0.0),
        "per_gpu_w_band": [line(part, 1.0 - rest)[1], line(part, rest)[1]],
        "gpus": gpus,
        "gpu_w": [part["gpu_low_w"].min() / gpus, part["gpu_high_w"].max() / gpus],
        "recordings": int(part["recordings"].max()),
    }


def fit_each(found: pd.DataFrame) -> dict[str, dict]:
    """Fit each node of `levels`."""
    return {node: fit_non_gpu(part) for node, part in found.groupby("node")}


def at_gpu_power(fitted: dict, gpus: int, gpu_w: float) -> dict[str, float]:
    """Power besides the GPUs of a server whose GPUs draw so many watts together, and its band."""
    ends = {"low": fitted["low"], "fitted": fitted, "high": fitted["high"]}
    return {k: gpus * end["base_w_per_gpu"] + end["per_gpu_w"] * gpu_w for k, end in ends.items()}


def write_nodes(path: Path | str | None = None) -> dict:
    """Write the fits of all nodes, which `sitetrace.core.registry` reads."""
    _, table, limits = open_nodes("measured", 0)
    fits = fit_each(levels(table, limits))
    told = {"source": SOURCE, "node": DEFAULT_NODE} | fits[DEFAULT_NODE] | {"nodes": fits}
    fitted = json.loads(json.dumps(told), parse_float=lambda text: float(f"{float(text):.6g}"))
    with replacing(path or data_dir() / "nodes.json") as temporary:
        temporary.write_text(json.dumps(fitted, indent=1) + "\n", encoding="utf-8")
    return fitted


def simulate_node(folder: Path, rng: np.random.Generator) -> pd.DataFrame:
    """Write recordings of a node whose power besides the GPUs is known, and bounds on its GPUs."""
    index, limits = [], []
    known = {"idle_low_w": TESTBED_LOADED_W - 10, "idle_high_w": TESTBED_LOADED_W + 10}
    for model, limit_w in TESTBED_LIMITS_W.items():
        load = {"load_low_w": LEAST_SHARE * limit_w, "load_high_w": limit_w}
        limits.append({"node": "testbed", "model": model} | known | load)
        for repeat in ("first", "second"):
            file = f"{model.replace(' ', '_')}_{repeat}.csv"
            _recorded(limit_w, rng).to_csv(folder / file, index=False)
            row = (file, "testbed", "testbed", TESTBED_GPUS, model, "Offline", repeat)
            index.append(dict(zip(INDEX_COLUMNS, row, strict=True)))
    pd.DataFrame(index).to_csv(folder / INDEX, index=False)
    return pd.DataFrame(limits)


def _recorded(limit_w: float, rng: np.random.Generator) -> pd.DataFrame:
    """Record one load of the testbed's node at 1 Hz; a sample is lost now and then."""
    # idle, eight GPUs that load one by one, ready, load, ready
    loaded = np.repeat(np.arange(TESTBED_GPUS + 1), [90, *[8] * TESTBED_GPUS])
    resting_w = TESTBED_GPUS * TESTBED_IDLE_W + loaded * (TESTBED_LOADED_W - TESTBED_IDLE_W)
    ready_w = np.full(20, TESTBED_GPUS * TESTBED_LOADED_W)
    busy_w = np.full(2100, TESTBED_GPUS * TESTBED_SHARE * limit_w) + rng.normal(0, 6, 2100)
    gpu_w = np.concatenate([resting_w, ready_w, busy_w, ready_w])
    power_w = gpu_w + TESTBED_BASE_W + TESTBED_SLOPE * gpu_w + rng.normal(0, KEPT_W, gpu_w.size)
    table = pd.DataFrame({"time_s": 1.0 * np.arange(gpu_w.size), "power_w": power_w.round(1)})
    table["voltage_v"] = 230.0
    table["power_factor"] = power_w / np.hypot(power_w, REACTIVE_VAR)
    table["current_a"] = table["power_w"] / table["voltage_v"] / table["power_factor"]
    table.loc[rng.random(len(table)) < LOST_SHARE, list(table)[1:]] = -1.0
    return table
