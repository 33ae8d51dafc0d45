"""Exercises on wall-plug power: a loaded model, the steepest line, a law for a constant."""

from __future__ import annotations

from functools import cache

import pandas as pd

from sitebook.old.coursework.exercise import Exercise, power
from sitebook.old.ledger.claims import claim
from sitebook.wallplug import levels, line, open_nodes
from sitetrace.core.registry import default_non_gpu
from sitetrace.planning.series import par

GPUS = 8


@cache
def _levels(seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    _, table, limits = open_nodes("testbed", seed)
    return table, levels(table, limits)


def _loaded_w(seed: int) -> tuple[float, dict[str, float]]:
    table, _ = _levels(seed)
    idle_w, ready_w, full_w = table.loc[0, ["idle_w", "ready_w", "median_w"]]
    return ready_w - idle_w, {
        "that is with the models loaded: subtract what was drawn before": ready_w,
        "that is before the models are loaded: take it from what is drawn after": idle_w,
        "that is what the load adds: no request has come yet": full_w - ready_w,
        "that is a GPU: the whole server is asked": (ready_w - idle_w) / GPUS,
    }


def _steepest(seed: int) -> tuple[float, dict[str, float]]:
    _, found = _levels(seed)
    at_rest = (found["level"] == "ready").to_numpy(dtype=float)
    middle, least, right = (line(found, share)[1] for share in (0.5, 1 - at_rest, at_rest))
    return right, {
        "that is all watts at the plug: take those of the GPUs off first": 1 + right,
        "that is the least slope: a line is steepest where the GPUs' own range is least": least,
        "that has the GPUs on one side, or in the middle, in all levels: cross the bounds": middle,
    }


def _law_for_constant(seed: int) -> tuple[float, dict[str, float]]:
    gpus_w = GPUS * power("poisson", seed)
    base_w, per_gpu_w = default_non_gpu(GPUS)
    constant_w = claim("settings:overhead:value")["value"]
    right = par(gpus_w + base_w + per_gpu_w * gpus_w)
    return right, {
        "that is the PAR with the constant": par(gpus_w + constant_w),
        "that is the PAR of the GPUs alone": par(gpus_w),
        "that is the PAR of the rest alone: add the GPUs": par(base_w + per_gpu_w * gpus_w),
        "that is the load factor: peak over mean is asked": 1 / right,
    }


EXERCISES = {
    "wall-plug-1": Exercise(_loaded_w, 3.0, "W"),
    "wall-plug-2": Exercise(_steepest, 0.003, ""),
    "wall-plug-3": Exercise(_law_for_constant, 0.005, ""),
}
