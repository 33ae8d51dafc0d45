"""Measured and generated power on one clock: which bins both have, and what they hold there."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pandas as pd

from sitetrace.core.files import InputError
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
    begin_s, power_w, width_s = _bins(clock, window, dt, draws[0])
    rows = covered(draws[0], begin_s + width_s / 2) & np.isfinite(power_w)
    begin_s, power_w = begin_s[rows], power_w[rows]
    reading = _picked if clock == "native" and _same_step(draws[0], width_s) else _mean_power
    generated_w = [reading(draw, begin_s, width_s) for draw in draws]
    return rows, power_w, generated_w, begin_s + width_s / 2, width_s


def samples_of(measured: Run | pd.DataFrame) -> tuple[pd.DataFrame, Fraction, Run | None]:
    """Take samples, their step, and the run they come from, if any."""
    if isinstance(measured, Run):
        return measured.samples, measured.dt, measured
    if len(measured) < 2 or not np.isfinite(measured[["time_s", "power_w"]].to_numpy()).all():
        raise InputError(
            "measured: time_s, power_w need two or more finite rows: mend or remove the others"
        )
    return measured, sampling_step(measured["time_s"].to_numpy()), None


def covered(trace: PowerTrace, middle_s: np.ndarray) -> np.ndarray:
    """Tell which bins have their middle within a trace."""
    stop_s = trace.start_s + float(trace.power_w.size * trace.dt)
    return (middle_s >= trace.start_s) & (middle_s < stop_s)


def _same_step(trace: PowerTrace, width_s: float) -> bool:
    return abs(trace.dt_s - width_s) <= SAME_STEP * width_s


def _bins(
    clock: str, window: pd.DataFrame, dt: Fraction, trace: PowerTrace
) -> tuple[np.ndarray, np.ndarray, float]:
    """Begin and measured mean power of the bins of a clock, and their length."""
    time_s, dt_s = window["time_s"].to_numpy(), float(dt)
    begin_s = time_s[0] - dt_s
    if clock == "1s":
        count = int(time_s[-1] - begin_s + CLOCK_NOISE_S)
        begins_s = begin_s + np.arange(count)
        return begins_s, _measured_mean(window, dt_s, begins_s, 1.0), 1.0
    if trace.dt_s > dt_s and not _same_step(trace, dt_s):
        edges_s = trace.time_s
        whole = edges_s >= begin_s - CLOCK_NOISE_S
        whole &= edges_s + trace.dt_s <= time_s[-1] + CLOCK_NOISE_S
        begins_s = edges_s[whole]
        return begins_s, _measured_mean(window, dt_s, begins_s, trace.dt_s), trace.dt_s
    return time_s - dt_s, window["power_w"].to_numpy(), dt_s


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
    filled_end_s = np.interp(filled, place, end_s)
    spent_j = np.interp(filled, place, power_w) * np.diff(filled_end_s, prepend=0.0)
    knots_s = np.concatenate([[0.0], filled_end_s])
    energy_j = np.concatenate([[0.0], np.cumsum(spent_j)])
    first, last = begin_s - origin_s, begin_s - origin_s + width_s
    spent_j = np.interp(last, knots_s, energy_j) - np.interp(first, knots_s, energy_j)
    hole_begin_s, hole_end_s = end_s[:-1][long], end_s[1:][long] - dt_s
    opened = np.searchsorted(hole_begin_s, last - CLOCK_NOISE_S)
    closed = np.searchsorted(hole_end_s, first + CLOCK_NOISE_S, side="right")
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
    energy_j = np.concatenate([[0.0], np.cumsum(trace.power_w * trace.dt_s)])
    first = np.maximum(begin_s - trace.start_s, 0.0)
    last = np.minimum(begin_s - trace.start_s + width_s, edges_s[-1])
    spent_j = np.interp(last, edges_s, energy_j) - np.interp(first, edges_s, energy_j)
    return np.round(spent_j / (last - first), WATT_DECIMALS)
