"""Measured and generated power on one clock: which bins both have, and what they hold there."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pandas as pd

from sitetrace.core.files import require
from sitetrace.core.types import PowerTrace, Run, sampling_step

SAME_STEP = 0.05  # steps that differ by no more than this share count as one
LONGEST_GAP_STEPS = 4.5  # means of samples missing in shorter gaps are interpolated
CLOCK_NOISE_S = 1e-6
ROUNDING = 1e-3
WATT_DECIMALS = 6


def aligned(measured: Run | pd.DataFrame, trace: PowerTrace) -> tuple[np.ndarray, np.ndarray]:
    """Take recorded and generated power of the same bins, at the native step."""
    samples, dt, _ = samples_of(measured)
    _, power_w, generated_w, _, _ = pair("native", samples, dt, [trace])
    return power_w, generated_w[0]


def pair(
    clock: str, window: pd.DataFrame, dt: Fraction, draws: list[PowerTrace]
) -> tuple[np.ndarray, np.ndarray, list[np.ndarray], np.ndarray, float]:
    """Put samples and draws into the bins of a clock.

    Which bins are kept; measured and generated means there; the bins' middles and length (s).
    """
    time_s, power_w = window["time_s"].to_numpy(), window["power_w"].to_numpy()
    trace, width_s = draws[0], float(dt)
    begin_s, reading = time_s - width_s, _mean_power
    same_step = abs(trace.dt_s - width_s) <= SAME_STEP * width_s
    if clock == "1s":
        count = int(time_s[-1] - begin_s[0] + CLOCK_NOISE_S)
        begin_s, width_s = begin_s[0] + np.arange(count), 1.0
        power_w = _measured_mean(window, float(dt), begin_s, width_s)
    elif same_step:
        reading = _picked
    elif trace.dt_s > width_s:
        first_s, last_s = begin_s[0] - CLOCK_NOISE_S, time_s[-1] + CLOCK_NOISE_S
        begin_s, width_s = trace.time_s, trace.dt_s
        begin_s = begin_s[(begin_s >= first_s) & (begin_s + width_s <= last_s)]
        power_w = _measured_mean(window, float(dt), begin_s, width_s)
    rows = covered(trace, begin_s + width_s / 2) & np.isfinite(power_w)
    begin_s = begin_s[rows]
    generated_w = [reading(draw, begin_s, width_s) for draw in draws]
    return rows, power_w[rows], generated_w, begin_s + width_s / 2, width_s


def samples_of(measured: Run | pd.DataFrame) -> tuple[pd.DataFrame, Fraction, Run | None]:
    """Take samples, their step, and the run they come from, if any."""
    if isinstance(measured, Run):
        return measured.samples, measured.dt, measured
    sound = len(measured) >= 2 and np.isfinite(measured[["time_s", "power_w"]]).all(axis=None)
    what = "time_s, power_w need two or more finite rows"
    require(sound, "measured", what, "mend or remove the others")
    return measured, sampling_step(measured["time_s"].to_numpy()), None


def covered(trace: PowerTrace, middle_s: np.ndarray) -> np.ndarray:
    """Tell which bins have their middle within a trace."""
    return (middle_s >= trace.start_s) & (middle_s < end_of(trace))


def end_of(trace: PowerTrace) -> float:
    """Second at which the last bin of a trace ends."""
    return trace.start_s + float(trace.power_w.size * trace.dt)


def _measured_mean(
    window: pd.DataFrame, dt_s: float, begin_s: np.ndarray, width_s: float
) -> np.ndarray:
    """Mean measured power of bins; NaN where a bin touches a gap too long to interpolate."""
    time_s, power_w = window["time_s"].to_numpy(), window["power_w"].to_numpy()
    origin_s = time_s[0] - dt_s
    end_s = time_s - origin_s
    steps = np.diff(end_s) / dt_s
    long = steps > LONGEST_GAP_STEPS
    parts = np.where(long, 1, np.maximum(np.rint(steps), 1)).astype(int)
    place = np.concatenate([[0], np.cumsum(parts)])
    filled = np.arange(place[-1] + 1)
    filled_w, filled_end_s = np.interp(filled, place, power_w), np.interp(filled, place, end_s)
    first_s, last_s = begin_s - origin_s, begin_s - origin_s + width_s
    spent_j = _spent_j(np.concatenate([[0.0], filled_end_s]), filled_w, first_s, last_s)
    hole_begin_s, hole_end_s = end_s[:-1][long], end_s[1:][long] - dt_s
    opened = np.searchsorted(hole_begin_s, last_s - CLOCK_NOISE_S)
    closed = np.searchsorted(hole_end_s, first_s + CLOCK_NOISE_S, side="right")
    # Plateaus of one power must stay one value, or KS tells them apart by their last bits.
    return np.where(opened > closed, np.nan, np.round(spent_j / width_s, WATT_DECIMALS))


def _picked(trace: PowerTrace, begin_s: np.ndarray, width_s: float) -> np.ndarray:
    """Power of the bin nearest to ``[begin_s, begin_s + width_s)``."""
    # Clocks half a step apart must not jump between two bins by rounding.
    offset = (begin_s - trace.start_s) / trace.dt_s + ROUNDING
    nearest = np.floor(offset + 0.5 * width_s / trace.dt_s).astype(int)
    return trace.power_w[np.clip(nearest, 0, trace.power_w.size - 1)]


def _mean_power(trace: PowerTrace, begin_s: np.ndarray, width_s: float) -> np.ndarray:
    """Mean power over ``[begin_s, begin_s + width_s)``, as far as the trace goes."""
    edges_s = np.arange(trace.power_w.size + 1) * trace.dt_s
    first_s = np.maximum(begin_s - trace.start_s, 0.0)
    last_s = np.minimum(begin_s - trace.start_s + width_s, edges_s[-1])
    spent_j = _spent_j(edges_s, trace.power_w, first_s, last_s)
    return np.round(spent_j / (last_s - first_s), WATT_DECIMALS)


def _spent_j(
    edges_s: np.ndarray, power_w: np.ndarray, first_s: np.ndarray, last_s: np.ndarray
) -> np.ndarray:
    """Energy between two times each, of a power that is constant between edges."""
    energy_j = np.concatenate([[0.0], np.cumsum(power_w * np.diff(edges_s))])
    return np.interp(last_s, edges_s, energy_j) - np.interp(first_s, edges_s, energy_j)
