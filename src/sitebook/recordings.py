"""What recordings hold: gaps, idle, clocks, how power rises, what alternating alone scores."""

import numpy as np
import pandas as pd

from sitetrace.core.registry import device
from sitetrace.core.types import Run
from sitetrace.evaluate.metrics import acf_lags, acf_r2

GAP_STEPS = 1.5  # a distance of samples from which on it counts as a gap
RISEN = 0.8  # share of the way from idle to busy
LAGS_S = np.arange(-2.0, 2.01, 0.05)
SHUFFLES = 20


def overview(runs: list[Run]) -> pd.DataFrame:
    """Describe recordings, one row each."""
    rows = []
    for run in runs:
        times, power_w, served = run.samples["time_s"], run.samples["power_w"], run.configuration
        steps_s, before = np.diff(times), power_w[times < run.requests["arrival_s"].iloc[0]]
        span = run.busy_span()
        row = {"run": run.name, "configuration": served.name, "hardware": served.hardware}
        row |= {"requests": len(run.requests), "samples": len(times), "step_s": float(run.dt)}
        row |= {"gaps": int((steps_s > GAP_STEPS * float(run.dt)).sum())}
        row |= {"longest_gap_s": float(steps_s.max()), "idle_w": run.idle_before_load_w()}
        row |= {"idle_sd_w": float(before[before < before.median() * 1.1].std(ddof=0))}
        row |= {"busy_s": None if span is None else span[1] - span[0]}
        row |= {"busy_end_from": "simulated" if span is None else span[2]}
        row |= {"mean_w": float(power_w.mean()), "max_w": float(power_w.max())}
        row["nameplate_w"] = device(served.hardware)["tdp_w"] * served.tensor_parallel
        row |= {"risen_s": rise_time_s(run), "lag_s": clock_lag_s(run)}
        rows.append(row)
    return pd.DataFrame(rows)


def risen_share(run: Run) -> pd.Series | None:
    """Power as a share of the way from idle to its median while requests run, by time."""
    # the busy seconds of bursts are mostly idle, so that their own median would say nothing
    idle_w, times_s = run.idle_before_load_w(), run.samples["time_s"]
    if idle_w is None or run.engine is None:
        return None
    running = np.interp(times_s, run.engine["time_s"], run.engine["running"]) >= 1
    power_w = run.samples["power_w"]
    share = (power_w - idle_w) / (power_w[running].median() - idle_w)
    return share.set_axis(times_s - run.requests["arrival_s"].iloc[0])


def rise_time_s(run: Run) -> float | None:
    """Time from the first request until printed power has risen by four fifths."""
    share = risen_share(run)
    if share is None:
        return None
    return float(share.index[(share.index > 0) & (share >= RISEN)][0])


def clock_lag_s(run: Run) -> float | None:
    """Lag of printed power behind the engine's running count, by greatest correlation."""
    if run.engine is None:
        return None
    times, seen_s = run.samples["time_s"].to_numpy(), run.engine["time_s"]
    working = (run.engine["running"] > 0).to_numpy(dtype=float)
    rows = (times > run.requests["arrival_s"].iloc[0] - 10) & (times < seen_s.iloc[-1])
    power_w = run.samples["power_w"][rows]
    told = [np.interp(times[rows] - lag_s, seen_s, working) for lag_s in LAGS_S]
    return float(LAGS_S[np.argmax([np.corrcoef(power_w, each)[0, 1] for each in told])])


def alternation(power_w: np.ndarray, busy: np.ndarray, dt_s: float, seed: int) -> dict[str, float]:
    """Score a recording against itself with only idle and busy alternating, and without that."""
    rng, lags, scored = np.random.default_rng(seed), acf_lags(dt_s), []
    level_w = pd.Series(power_w).groupby(busy).transform("mean").to_numpy()
    for _ in range(SHUFFLES):
        mixed_w = power_w.copy()
        mixed_w[busy] = rng.permutation(power_w[busy])
        scored.append(acf_r2(power_w, mixed_w, lags))
    told = {"idle_share": float((~busy).mean()), "between": float(level_w.var() / power_w.var())}
    told |= {"two_levels": acf_r2(power_w, level_w, lags), "shuffled": float(np.median(scored))}
    told |= {"low": min(scored), "high": max(scored)}
    return told | {"no_idle": acf_r2(power_w, power_w[busy], lags)}
