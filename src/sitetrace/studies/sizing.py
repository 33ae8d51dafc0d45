"""What size a connection needs: peaks, ratios, ramps, transformer, energy; by method and seed.

METHOD: the tables `facility`, `sizing` and `interconnection` of arXiv:2603.18383; a connection is
sized by means over 15 minutes, its transformer by their peak at the paper's power factor.
"""

import numpy as np
import pandas as pd

from sitetrace.planning.series import (
    POWER_FACTOR,
    load_factor,
    mean_w,
    par,
    peak_w,
    ramp_summary,
    ramps,
    resample,
)

QUARTER_S = 900.0
RAMP_STEPS_S = (1.0, 60.0, 300.0, 900.0)
CONFIDENCE = 0.95
SAME = 1e-9


def facility_numbers(power_w: np.ndarray, dt_s: float, steps_s: list[float]) -> pd.DataFrame:
    """Peak, mean, ratios, ramps and percentiles at several resolutions."""
    rows = []
    for step_s in steps_s:
        means_w = resample(power_w, dt_s, step_s)
        ramp = ramp_summary(ramps(means_w, step_s, step_s))
        row = {"step_s": step_s, "peak_kw": peak_w(means_w) / 1e3, "mean_kw": mean_w(means_w) / 1e3}
        row |= {"par": par(means_w), "load_factor": load_factor(means_w)}
        for name in ("p50", "abs_p95", "abs_p99", "up", "down"):
            row[f"ramp_{name}_kw"] = ramp[name] / 1e3
        for percent in (95, 99):
            row[f"load_p{percent}_kw"] = float(np.percentile(means_w, percent)) / 1e3
        rows.append(row)
    return pd.DataFrame(rows).set_index("step_s")


def sizing_numbers(power_w: np.ndarray, dt_s: float) -> dict[str, float]:
    """Size a connection from 15-minute values, and list the ramps at four resolutions."""
    # MW, MVA, MWh a year; `ramp` MW an hour, the other ramps MW in their time
    quarter_w = resample(power_w, dt_s, QUARTER_S)
    ramp = ramp_summary(ramps(quarter_w, QUARTER_S, QUARTER_S))
    greatest_w = max(ramp["up"], -ramp["down"])
    numbers = {
        "peak": peak_w(quarter_w) / 1e6,
        "mean": mean_w(quarter_w) / 1e6,
        "par": par(quarter_w),
        "load_factor": load_factor(quarter_w),
        "ramp": greatest_w * 3600.0 / QUARTER_S / 1e6,
        "transformer": peak_w(quarter_w) / POWER_FACTOR / 1e6,
        "peak_p95": float(np.percentile(quarter_w, 95)) / 1e6,
        "ramp_up_p95": ramp["up_p95"] / 1e6,
        "ramp_down_p95": ramp["down_p95"] / 1e6,
        "ramp_up_max": ramp["up"] / 1e6,
        "energy_year": mean_w(quarter_w) * 8760.0 / 1e6,
    }
    for step_s in RAMP_STEPS_S:
        at_step = ramp_summary(ramps(power_w, dt_s, step_s))
        numbers[f"up_{step_s:g}s"] = at_step["up"] / 1e6
        numbers[f"down_{step_s:g}s"] = at_step["down"] / 1e6
    return numbers


def over_seeds(runs: pd.DataFrame) -> pd.DataFrame:
    """Mean over whole simulations with 95% of Student's t for it, and their range."""
    rows = []
    long = runs.melt(["method", "seed"], var_name="quantity").dropna(subset="value")
    for (method, quantity), part in long.groupby(["method", "quantity"], sort=False):
        values = part["value"].to_numpy(dtype=float)
        low, high = _interval(values)
        row = {"method": method, "quantity": quantity, "value": values.mean()}
        row |= {"low": low, "high": high, "least": values.min(), "greatest": values.max()}
        rows.append(row | {"seeds": values.size})
    return pd.DataFrame(rows).set_index(["method", "quantity"])


def _interval(values: np.ndarray) -> tuple[float, float]:
    """Student's interval of a mean; the mean itself where seeds do not matter, NaN for one."""
    from scipy.stats import t

    mean = float(values.mean())
    if values.size < 2:
        return np.nan, np.nan
    if float(np.ptp(values)) <= SAME * abs(mean):
        return mean, mean
    scale = float(values.std(ddof=1)) / np.sqrt(values.size)
    low, high = t.interval(CONFIDENCE, values.size - 1, loc=mean, scale=scale)
    return float(low), float(high)
