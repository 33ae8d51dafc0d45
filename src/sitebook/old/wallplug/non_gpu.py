"""What a server draws besides its GPUs, from wall-plug power and bounds on the GPUs' watts.

No GPU watts were recorded beside the meter. Two levels bound them: a GPU that holds a model and
waits draws what idle boards read, and a GPU at saturation draws no more than its power limit.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

from sitebook.old.wallplug.wallplug import list_recordings, overview, read_all
from sitetrace.core.files import read_json, read_table, read_text_table, replacing
from sitetrace.core.registry import data_dir, dataset_path
from sitetrace.measured.rundir import read_run

RECORDINGS, LEADERBOARD = "mlperf_node", "mlenergy_leaderboard"
IDLE_RUNS = ("llama-3.1-70b_h100_tp4_poisson_r4", "qwen3-8b_h100_tp1_poisson_r4")
DEFAULT_NODE = "h200x8_maxq"
BOARD_SPREAD_W = 10.0
LEAST_SHARE = 0.95
STEADY = 0.1
DIGITS = 6
SOURCE = (
    "fitted by sitebook.old.wallplug.non_gpu to wall-plug power of 8-GPU servers (MLPerf inference "
    "v4.1 and v5.1) and bounds on their GPUs' watts; no GPU watts were recorded"
)


def h100_idle_w() -> tuple[float, float]:
    """Idle power of an H100 that holds a model, bounds."""
    runs = [read_run(dataset_path(name)) for name in IDLE_RUNS]
    idle_w = [run.idle_before_load_w() / run.configuration.tensor_parallel for run in runs]
    return min(idle_w) - BOARD_SPREAD_W, max(idle_w) + BOARD_SPREAD_W


def published_w(model: str, gpu: str) -> float:
    """Power of a saturated GPU as the ML.ENERGY leaderboard gives it."""
    path = dataset_path(LEADERBOARD) / "mlenergy_leaderboard_llm.csv"
    power = read_table(path, ("avg_power_watts", "num_gpus"))
    named = read_text_table(path)
    rows = named["model_id"].str.contains(model, regex=False) & (named["gpu_model"] == gpu)
    return float((power["avg_power_watts"] / power["num_gpus"])[rows].median())


def bounds() -> pd.DataFrame:
    """Bounds on the watts of a GPU at rest and under load, by node and model."""
    idle_w = h100_idle_w()
    rows = []
    for node, told in read_json(data_dir() / "gpu_limits.json")["nodes"].items():
        low_w = told["idle_least_w"] or idle_w[0]
        high_w = told["idle_greatest_w"] or idle_w[1]
        for model, limit_w in told["limit_w"].items():
            name = told["published"].get(model)
            least_w = published_w(name, "B200") if name else LEAST_SHARE * limit_w
            row = {"node": node, "model": model, "idle_low_w": low_w, "idle_high_w": high_w}
            rows.append(row | {"load_low_w": least_w, "load_high_w": float(limit_w)})
    return pd.DataFrame(rows)


def levels(table: pd.DataFrame, limits: pd.DataFrame) -> pd.DataFrame:
    """Wall power beside the bounds of GPU power, level by level."""
    known = table.merge(limits, on=["node", "model"])
    steady = known[(known["high_w"] - known["low_w"]) < STEADY * known["median_w"]]
    rows = []
    for name, part, wall, side in (
        ("ready", known, "ready_w", "idle"),
        ("load", steady, "median_w", "load"),
    ):
        ends = [f"{side}_low_w", f"{side}_high_w"]
        for (node, low_w, high_w), group in part.groupby(["node", *ends], sort=False):
            gpus = group["gpus"].iloc[0]
            row = {"node": node, "level": name, "gpus": gpus, "recordings": len(group)}
            row |= {"wall_w": group[wall].median()}
            rows.append(row | {"gpu_low_w": gpus * low_w, "gpu_high_w": gpus * high_w})
    return pd.DataFrame(rows).sort_values(["node", "gpu_high_w"], ignore_index=True)


def line(part: pd.DataFrame, share: np.ndarray | float) -> tuple[float, float]:
    """Fit power besides the GPUs as a line in the watts of the GPUs."""
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
    """Fit each node."""
    return {node: fit_non_gpu(part) for node, part in found.groupby("node")}


def fit_nodes() -> dict:
    """Fit all nodes of the recordings at the plug."""
    recordings = list_recordings(dataset_path(RECORDINGS))
    fits = fit_each(levels(overview(recordings, read_all(recordings)), bounds()))
    return _rounded({"source": SOURCE, "node": DEFAULT_NODE} | fits[DEFAULT_NODE] | {"nodes": fits})


def _rounded(value: object) -> object:
    """Six significant digits throughout."""
    if isinstance(value, dict):
        return {name: _rounded(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_rounded(each) for each in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def write_nodes(path: Path | str | None = None) -> dict:
    """Write the fit that `sitetrace.core.registry` reads."""
    fitted = fit_nodes()
    with replacing(path or data_dir() / "nodes.json") as temporary:
        temporary.write_text(json.dumps(fitted, indent=1) + "\n", encoding="utf-8")
    return fitted
