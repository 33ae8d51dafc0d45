"""Power over time for planners: means, peaks, ramps, load duration; the levels of a site."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta, timezone
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sitetrace.core.files import InputError

if TYPE_CHECKING:
    import xarray as xr

HOURS_PER_YEAR = 8760.0
POWER_FACTOR = 0.9  # of the paper's transformer: its rating is the peak over this
BLOCK_VALUES = 4_000_000


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
    """Greatest power: of means over 15 minutes it is lower than of means over 1 s."""
    return float(np.max(power_w))


def mean_w(power_w: np.ndarray) -> float:
    """Mean power."""
    return float(np.mean(power_w, dtype=np.float64))


def par(power_w: np.ndarray) -> float:
    """Peak-to-average ratio.

    Parameters
    ----------
    power_w : numpy.ndarray
        Watts at equal steps.

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
        Watts at equal steps.

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
    """Diversity factor of the textbooks: the reciprocal of `coincidence_factor`."""
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
    """Greatest and usual ramps; a fall counts as a rise of 0 and a rise as a fall of 0."""
    if not len(ramps_w):
        ramps_w = np.zeros(1)
    size = np.abs(ramps_w)
    rises, falls = np.maximum(ramps_w, 0.0), np.maximum(-ramps_w, 0.0)
    return {
        "up": float(rises.max()),
        "down": 0.0 - float(falls.max()),  # negative, and 0.0 rather than -0.0
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
        Watts at equal steps, shape (n,).

    Returns
    -------
    share : numpy.ndarray
        Share of the time, ascending to 1, shape (n,).
    sorted_w : numpy.ndarray
        Watts, descending; reached or exceeded during `share`.
    """
    return np.arange(1, len(power_w) + 1) / len(power_w), np.sort(power_w)[::-1]


def transformer_va(peak: float, power_factor: float = POWER_FACTOR) -> float:
    """Apparent power, volt-amperes, that a transformer must carry at a peak in watts."""
    return peak / power_factor


def energy_per_year_wh(power_w: np.ndarray) -> float:
    """Energy of a year of such days."""
    return mean_w(power_w) * HOURS_PER_YEAR


def step_of(site: xr.Dataset) -> float:
    """Find the step of a site's power, seconds, from its first two bins."""
    first, second = site["time"].values[:2]
    return float((second - first) / np.timedelta64(1, "ns")) / 1e9


def power_at(site: xr.Dataset, level: str) -> np.ndarray:
    """Read the watts of all units of a level, shape (time, units); (time,) for the whole site."""
    power_w = site["power_w"].isel(unit=_units_of(site, level)).values
    return power_w[:, 0] if level in ("facility", "site", "gpu") else power_w


def blocks(site: xr.Dataset, level: str, whole_s: float = 0.0) -> Iterator[np.ndarray]:
    """Read the watts of a level piece by piece, for sites that do not fit into memory.

    Each piece but perhaps the last is a whole number of `whole_s` long; 0: of any length.
    """
    units = _units_of(site, level)
    power = site["power_w"].isel(unit=units)
    least = max(round(whole_s / step_of(site)), 1)
    length = max(BLOCK_VALUES // units.size // least, 1) * least
    for begin in range(0, power.sizes["time"], length):
        yield power.isel(time=slice(begin, begin + length)).values


def _units_of(site: xr.Dataset, level: str) -> np.ndarray:
    units = np.flatnonzero(site["level"].values == level)
    if not units.size:
        held = ", ".join(dict.fromkeys(site["level"].values))
        raise InputError(f"the site holds no power of level {level}: it was kept for {held} alone")
    return units


def peaks_of(site: xr.Dataset, level: str) -> np.ndarray:
    """Find the peak of each unit of a level."""
    return np.max([block.max(axis=0) for block in blocks(site, level)], axis=0)


@dataclass(frozen=True)
class Intervals:
    """Energy of one unit, interval by interval.

    Parameters
    ----------
    unit : str
        Name of the unit, such as ``facility``.
    step_s : int
        Length of an interval.
    begin : pandas.DatetimeIndex
        Beginning of each interval in local time, at the scenario's fixed offset from UTC.
    power_w : numpy.ndarray
        Mean power of each interval, float64.
    left_out_s : float
        Seconds at the end that fill no interval.
    provenance : dict
        Attributes of the dataset: scenario, models, seed, source of the data.
    """

    unit: str
    step_s: int
    begin: pd.DatetimeIndex
    power_w: np.ndarray
    left_out_s: float
    provenance: dict

    @property
    def energy_milliwh(self) -> np.ndarray:
        """Energy of each interval in whole milliwatt-hours, so rounded that no sum drifts."""
        exact = np.cumsum(self.power_w) * self.step_s / 3.6
        return np.diff(np.rint(exact).astype(np.int64), prepend=0)

    @property
    def notes(self) -> list[str]:
        """What a reader of the export should know of its times."""
        lines = []
        if self.left_out_s:
            lines.append(f"the last {self.left_out_s:g} s fill no interval and are left out")
        if self.begin[0].timestamp() % self.step_s:
            lines.append(f"intervals begin at {self.begin[0].isoformat()}, off the clock's grid")
        return lines


def intervals(site: xr.Dataset, unit: str = "facility", step_s: int = 900) -> Intervals:
    """Take a unit's mean power over equal intervals, which keeps its energy.

    Parameters
    ----------
    site : xarray.Dataset
        Result of `sitetrace.simulate_site`, or any dataset with ``power_w(time, unit)``.
    unit : str
        Name of the unit.
    step_s : int
        Length of an interval; a multiple of the dataset's step.

    Returns
    -------
    Intervals
        Whole intervals from the first sample on; a part of one at the end is left out and told.

    Raises
    ------
    InputError
        If the dataset has no such unit, its times are not equidistant, the step does not divide or
        there is no whole interval.
    """
    names = [str(name) for name in site["unit"].values]
    if unit not in names:
        few = ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
        raise InputError(f"unit {unit!r} is not kept in this dataset: choose one of {few}")
    times = site["time"].values.astype("datetime64[ns]").astype(np.int64)
    gaps = np.diff(times)
    if not gaps.size or gaps[0] <= 0 or (gaps != gaps[0]).any():
        raise InputError(
            "time: fewer than two or not equidistant values: simulate a longer time, or keep finer "
            "steps"
        )
    gap_ns = int(gaps[0])
    each, odd = divmod(step_s * 1_000_000_000, gap_ns)
    if odd or not each:
        whole_s = math.lcm(gap_ns, 1_000_000_000) / 1e9
        raise InputError(
            f"--step {step_s}: no multiple of the dataset's {gap_ns / 1e9:g} s: give {whole_s:g} "
            "or a multiple, or simulate with another step_s in keep"
        )
    whole = times.size // each
    if not whole:
        raise InputError(f"--step {step_s}: the dataset is shorter than one interval: take less")
    power_w = site["power_w"].sel(unit=unit).values[: whole * each]
    means = power_w.reshape(whole, each).mean(axis=1, dtype=np.float64)
    if not np.isfinite(means).all():
        raise InputError(f"unit {unit!r}: holds values that are no power: simulate the site anew")
    zone = timezone(timedelta(hours=float(site.attrs.get("utc_offset_h", 0.0))))
    utc = pd.to_datetime(times[: whole * each : each], unit="ns", utc=True)
    left_out_s = (times.size - whole * each) * gap_ns / 1e9
    return Intervals(unit, step_s, utc.tz_convert(zone), means, left_out_s, dict(site.attrs))
