"""Set-points that move, and how well a row follows them."""

from __future__ import annotations

import numpy as np
import pandas as pd

from sitebook.old.chapters.modulation import streams_of
from sitetrace.studies import setpoint
from sitetrace.studies.setpoint import Row

REGULATED = (0.15, 0.10)
PERIODS_S = (30.0, 300.0)


def signals(ticks: int, tick_s: float, period_s: float, rng: np.random.Generator) -> dict:
    """Make two signals between -1 and 1 for the row to follow."""
    time_s = tick_s * np.arange(ticks)
    periods = np.geomspace(*PERIODS_S, 8)
    phases = rng.uniform(0, 2 * np.pi, (8, 1))
    fast = np.sin(2 * np.pi * time_s / periods[:, None] + phases).sum(axis=0)
    slow = np.sin(2 * np.pi * time_s / period_s)
    return {"slow sinusoid": slow, "regulation-like": fast / np.abs(fast).max()}


def regulation(
    row: Row, levers: list, seconds: float, period_s: float, count: int, seed: int
) -> tuple[pd.DataFrame, dict]:
    """Let the row follow moving set-points."""
    streams = streams_of(row, seconds, count, seed)
    runs = [setpoint.run(row, stream) for stream in streams]
    ticks, quiet = len(runs[0].power_w), int(60 / row.tick_s)
    base_w, (middle, swing) = np.mean([r.power_w[30:].mean() for r in runs]), REGULATED
    made = signals(ticks - quiet, row.tick_s, period_s, np.random.default_rng([seed, 2]))
    table, courses = [], {}
    for signal, values in made.items():
        setpoint_w = np.full(ticks, np.nan)
        setpoint_w[quiet:] = base_w * (1 - middle + swing * values)
        free = np.mean([setpoint.tracking_pct(each, setpoint_w) for each in runs])
        for lever, curve in levers:
            plan, gain = setpoint.plan_of(setpoint_w, base_w, curve), setpoint.gain_of(row, lever)
            arms = [setpoint.run(row, stream, lever, plan, curve, gain) for stream in streams]
            errors = np.array([setpoint.tracking_pct(arm, setpoint_w) for arm in arms])
            low, high = setpoint.interval(errors)
            told = {"signal": signal, "lever": lever.name, "label": lever.label}
            told |= {"nrmse_pct": errors.mean(), "low": low, "high": high, "usual_pct": free}
            table.append(told)
            courses[signal, lever.label] = (setpoint_w, arms[0].power_w)
    return pd.DataFrame(table), courses
