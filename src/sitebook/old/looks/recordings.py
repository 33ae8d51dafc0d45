"""What recordings hold: gaps, idle power, clocks and the meter's memory, run by run."""

from __future__ import annotations

import numpy as np
import pandas as pd

from sitetrace.core.types import Run

GAP_STEPS = 1.5
RISEN = 0.8
LAGS_S = np.arange(-2.0, 2.01, 0.05)


def overview(runs: list[Run]) -> pd.DataFrame:
    """Describe recordings, one row each."""
    rows = []
    for run in runs:
        times, power_w = run.samples["time_s"], run.samples["power_w"]
        steps = np.diff(times)
        before = power_w[times < run.requests["arrival_s"].iloc[0]]
        span = run.busy_span()
        rows.append(
            {
                "run": run.name,
                "configuration": run.configuration.name,
                "requests": len(run.requests),
                "samples": len(times),
                "step_s": float(run.dt),
                "gaps": int((steps > GAP_STEPS * float(run.dt)).sum()),
                "longest_gap_s": float(steps.max()),
                "idle_w": run.idle_before_load_w(),
                "idle_sd_w": float(before[before < before.median() * 1.1].std(ddof=0)),
                "busy_s": None if span is None else span[1] - span[0],
                "busy_end_from": "simulated" if span is None else span[2],
                "mean_w": float(power_w.mean()),
                "peak_w": float(power_w.max()),
            }
        )
    return pd.DataFrame(rows)


def clock_lag_s(run: Run) -> float | None:
    """Lag of printed power behind the engine's running count, by greatest correlation."""
    if run.engine is None:
        return None
    times = run.samples["time_s"].to_numpy()
    working = (run.engine["running"] > 0).to_numpy(dtype=float)
    first = run.requests["arrival_s"].iloc[0]
    rows = (times > first - 10) & (times < run.engine["time_s"].iloc[-1])
    found = [
        np.corrcoef(
            run.samples["power_w"][rows],
            np.interp(times[rows] - lag, run.engine["time_s"], working),
        )[0, 1]
        for lag in LAGS_S
    ]
    return float(LAGS_S[int(np.argmax(found))])


def rise_time_s(run: Run) -> float | None:
    """Time from the first request until printed power has risen by four fifths."""
    idle_w, span = run.idle_before_load_w(), run.busy_span()
    if idle_w is None or span is None:
        return None
    times, power_w = run.samples["time_s"], run.samples["power_w"]
    level_w = idle_w + RISEN * (power_w[times.between(*span[:2])].median() - idle_w)
    risen = (times > span[0]) & (power_w >= level_w)
    return float(times[risen].iloc[0] - span[0])
