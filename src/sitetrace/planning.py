"""What a planner asks of a power series: peak, mean, their ratios, ramps, load duration.

Arrays have time as their first axis; sample i is the mean power over its step. All resampling is
by mean, so that energy is kept.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from sitetrace.files import InputError

HOURS_PER_YEAR = 8760.0
POWER_FACTOR = 0.9  # of the paper's transformer: its rating is the peak over this


def resample(power_w: np.ndarray, dt_s: float, step_s: float) -> np.ndarray:
    """Mean power over longer steps.

    Parameters
    ----------
    power_w : numpy.ndarray
        Mean power of each step, watts, shape (n,) or (n, units).
    dt_s : float
        Step, seconds.
    step_s : float
        Step wanted, seconds: a whole multiple of `dt_s`.

    Returns
    -------
    numpy.ndarray
        Shape (n * dt_s / step_s,) or (..., units).

    Raises
    ------
    InputError
        If `step_s` is no multiple of `dt_s`, or the series is no whole number of such steps.
    """
    exact = Fraction(step_s).limit_denominator(1000) / Fraction(dt_s).limit_denominator(1000)
    if exact.denominator != 1 or exact < 1:
        raise InputError(f"step {step_s:g} s: no whole multiple of the series' {dt_s:g} s")
    width = int(exact)
    bins, rest = divmod(len(power_w), width)
    if rest or not bins:
        raise InputError(
            f"{len(power_w)} samples of {dt_s:g} s: no whole number of steps of {step_s:g} s: cut "
            "the series or take a finer step"
        )
    if width == 1:
        return np.asarray(power_w)
    # float32 sums over long steps would lose energy
    blocks = np.reshape(power_w, (bins, width, *np.shape(power_w)[1:]))
    return blocks.mean(axis=1, dtype=np.float64)


def peak_w(power_w: np.ndarray) -> float:
    """Greatest power."""
    return float(np.max(power_w))


def mean_w(power_w: np.ndarray) -> float:
    """Mean power."""
    return float(np.mean(power_w, dtype=np.float64))


def par(power_w: np.ndarray) -> float:
    """Peak-to-average ratio.

    Parameters
    ----------
    power_w : numpy.ndarray
        Mean power of each step, watts, shape (n,).

    Returns
    -------
    float
        Peak over mean, at least 1; NaN where nothing is drawn.
    """
    mean = mean_w(power_w)
    return peak_w(power_w) / mean if mean else math.nan


def load_factor(power_w: np.ndarray) -> float:
    """Share of the peak that is drawn on average: the reciprocal of `par`.

    Parameters
    ----------
    power_w : numpy.ndarray
        Mean power of each step, watts, shape (n,).

    Returns
    -------
    float
        Mean over peak, 0 to 1; NaN where nothing is drawn.
    """
    peak = peak_w(power_w)
    return mean_w(power_w) / peak if peak else math.nan


def cov(power_w: np.ndarray) -> float:
    """Coefficient of variation: standard deviation over mean."""
    mean = mean_w(power_w)
    return float(np.std(power_w, dtype=np.float64)) / mean if mean else math.nan


def coincidence_factor(total_peak_w: float, part_peaks_w: np.ndarray) -> float:
    """Peak of a whole over the sum of its parts' own peaks, which they reach at other times.

    Parameters
    ----------
    total_peak_w : float
        Peak of the sum of all parts.
    part_peaks_w : numpy.ndarray
        Peak of each part, at the same step.

    Returns
    -------
    float
        Above 0 and at most 1: 1 if all parts peak together.
    """
    return float(total_peak_w / np.sum(part_peaks_w, dtype=np.float64))


def diversity_factor(total_peak_w: float, part_peaks_w: np.ndarray) -> float:
    """Diversity factor of the textbooks: the reciprocal of `coincidence_factor`.

    Parameters
    ----------
    total_peak_w : float
        Peak of the sum of all parts.
    part_peaks_w : numpy.ndarray
        Peak of each part, at the same step.

    Returns
    -------
    float
        Sum of the parts' peaks over the peak of their sum, at least 1.
    """
    return 1.0 / coincidence_factor(total_peak_w, part_peaks_w)


def paper_diversity(total_peak_w: float, part_peaks_w: np.ndarray) -> float:
    """Diversity factor as arXiv:2603.18383 has it: never above `coincidence_factor`."""
    return float(total_peak_w / (len(part_peaks_w) * np.max(part_peaks_w)))


def ramps(power_w: np.ndarray, dt_s: float, step_s: float) -> np.ndarray:
    """Differences of successive means.

    Parameters
    ----------
    power_w : numpy.ndarray
        Mean power of each step, watts, shape (n,).
    dt_s : float
        Step, seconds.
    step_s : float
        Over how long the means are, seconds: a whole multiple of `dt_s`.

    Returns
    -------
    numpy.ndarray
        Watts per `step_s`, one fewer than there are means; rises are positive.
    """
    return np.diff(resample(power_w, dt_s, step_s))


def ramp_summary(ramps_w: np.ndarray) -> dict[str, float]:
    """Greatest and usual ramps."""
    if not len(ramps_w):
        ramps_w = np.zeros(1)
    size = np.abs(ramps_w)
    rises, falls = np.maximum(ramps_w, 0.0), np.maximum(-ramps_w, 0.0)
    return {
        "up": float(rises.max()),
        "down": 0.0 - float(falls.max()),
        "p50": float(np.percentile(ramps_w, 50)),
        "abs_p95": float(np.percentile(size, 95)),
        "abs_p99": float(np.percentile(size, 99)),
        "up_p95": float(np.percentile(rises, 95)),
        "down_p95": float(np.percentile(falls, 95)),
    }


def load_duration(power_w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Load duration curve: during which share of the time a power is reached or exceeded.

    Parameters
    ----------
    power_w : numpy.ndarray
        Mean power of each step, watts, shape (n,).

    Returns
    -------
    share : numpy.ndarray
        Share of the time, ascending to 1, shape (n,).
    sorted_w : numpy.ndarray
        Power, watts, descending; reached or exceeded during `share`.
    """
    return np.arange(1, len(power_w) + 1) / len(power_w), np.sort(power_w)[::-1]


def transformer_va(peak: float, power_factor: float = POWER_FACTOR) -> float:
    """Apparent power that a transformer must carry."""
    return peak / power_factor


def energy_per_year_wh(power_w: np.ndarray) -> float:
    """Energy of a year of such days."""
    return mean_w(power_w) * HOURS_PER_YEAR
