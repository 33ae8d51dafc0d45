"""Power over time for planners: means, peaks, ramps, load duration; the levels of a site."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta, timezone
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sitetrace.core.files import named, require

if TYPE_CHECKING:  # the command names the formats and loads nothing heavy
    import xarray as xr

POWER_FACTOR = 0.9  # of the paper's transformer: its rating is the peak over this
BLOCK_VALUES = 4_000_000


def resample(power_w: np.ndarray, dt_s: float, step_s: float) -> np.ndarray:
    """Mean power over longer steps, which keeps the energy; of shape (n,) or (n, units)."""
    exact = Fraction(step_s).limit_denominator(1000) / Fraction(dt_s).limit_denominator(1000)
    whole = exact.denominator == 1 <= exact and len(power_w) and len(power_w) % int(exact) == 0
    what = f"{len(power_w)} samples of {dt_s:g} s are no whole number of steps of {step_s:g} s"
    require(whole, "series", what, "cut it or take another step")
    if exact == 1:
        return np.asarray(power_w)
    # float32 sums over long steps would lose energy
    bins = np.reshape(power_w, (-1, int(exact), *np.shape(power_w)[1:]))
    return bins.mean(axis=1, dtype=np.float64)


def peak_w(power_w: np.ndarray) -> float:
    """Greatest power: of means over 15 minutes it is lower than of means over 1 s."""
    return float(np.max(power_w))


def mean_w(power_w: np.ndarray) -> float:
    """Mean power."""
    return float(np.mean(power_w, dtype=np.float64))


def par(power_w: np.ndarray) -> float:
    """Peak-to-average ratio, at least 1; NaN where nothing is drawn."""
    mean = mean_w(power_w)
    return peak_w(power_w) / mean if mean else math.nan


def load_factor(power_w: np.ndarray) -> float:
    """Share of the peak that is drawn on average: the reciprocal of `par`."""
    return 1.0 / par(power_w)


def coincidence_factor(total_peak_w: float, part_peaks_w: np.ndarray) -> float:
    """Peak of a whole over the sum of its parts' own peaks; NaN where nothing is drawn."""
    apart_w = float(np.sum(part_peaks_w, dtype=np.float64))
    return float(total_peak_w) / apart_w if apart_w else math.nan


def ramps(power_w: np.ndarray, dt_s: float, step_s: float) -> np.ndarray:
    """Differences of successive means over `step_s`, as of `resample`; rises are positive."""
    return np.diff(resample(power_w, dt_s, step_s))


def ramp_summary(ramps_w: np.ndarray) -> dict[str, float]:
    """Greatest and usual ramps; a fall counts as a rise of 0 and a rise as a fall of 0."""
    ramps_w = ramps_w if len(ramps_w) else np.zeros(1)
    rises, falls, sizes = np.maximum(ramps_w, 0.0), np.maximum(-ramps_w, 0.0), np.abs(ramps_w)
    # down is negative, and 0.0 rather than -0.0
    summary = {"up": float(rises.max()), "down": 0.0 - float(falls.max())}
    parts = {"p50": (ramps_w, 50), "abs_p95": (sizes, 95), "abs_p99": (sizes, 99)}
    parts |= {"up_p95": (rises, 95), "down_p95": (falls, 95)}
    return summary | {name: float(np.percentile(*part)) for name, part in parts.items()}


def load_duration(power_w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Shares of the time, ascending to 1, and the watts that are reached or exceeded in them."""
    return np.arange(1, len(power_w) + 1) / len(power_w), np.sort(power_w)[::-1]


def step_of(site: "xr.Dataset") -> float:
    """Find the step of a site's power, seconds."""
    gaps = np.diff(site["time"].values.astype("datetime64[ns]").astype(np.int64))
    even = gaps.size and gaps[0] > 0 and (gaps == gaps[0]).all()
    require(even, "time", "fewer than two values, or not equidistant", "simulate a longer time")
    return int(gaps[0]) / 1e9


def power_at(site: "xr.Dataset", level: str) -> np.ndarray:
    """Read the watts of all units of a level, shape (time, units); (time,) for the whole site."""
    (power_w,) = blocks(site, level, site.sizes["time"] * step_of(site))
    return power_w[:, 0] if level in ("facility", "site", "gpu") else power_w


def blocks(site: "xr.Dataset", level: str, whole_s: float = 0.0) -> Iterator[np.ndarray]:
    """Read the watts of a level piece by piece; each but the last is whole steps of `whole_s`."""
    units = np.flatnonzero(site["level"].values == level)
    named("level of this site", level, dict.fromkeys(site["level"].values))
    power = site["power_w"].isel(unit=units)
    least = max(round(whole_s / step_of(site)), 1)
    length = max(BLOCK_VALUES // units.size // least, 1) * least
    for begin in range(0, power.sizes["time"], length):
        yield power.isel(time=slice(begin, begin + length)).values


@dataclass(frozen=True)
class Intervals:
    """Energy of one unit, interval by interval."""

    unit: str
    step_s: int
    begin: pd.DatetimeIndex  # local, at the scenario's fixed offset from UTC
    power_w: np.ndarray  # mean of each interval, float64
    left_out_s: float  # seconds at the end that fill no interval
    provenance: dict  # attributes of the dataset

    @property
    def energy_milliwh(self) -> np.ndarray:
        """Energy of each interval in whole milliwatt-hours, so rounded that no sum drifts."""
        exact = np.cumsum(self.power_w) * self.step_s / 3.6
        return np.diff(np.rint(exact).astype(np.int64), prepend=0)

    @property
    def notes(self) -> list[str]:
        """What a reader of the export should know of its times."""
        first, lines = self.begin[0], []
        if self.left_out_s:
            lines.append(f"the last {self.left_out_s:g} s fill no interval and are left out")
        if (first.timestamp() + first.utcoffset().total_seconds()) % self.step_s:
            lines.append(f"intervals begin at {first.isoformat()}, off the clock's grid")
        return lines


def intervals(site: "xr.Dataset", unit: str = "facility", step_s: int = 900) -> Intervals:
    """Take a unit's mean power over whole intervals from the first sample on."""
    named("unit of this site", unit, site["unit"].values.tolist())
    gap_ns, times = round(step_of(site) * 1e9), site["time"].values.astype("datetime64[ns]")
    each, odd = divmod(step_s * 1_000_000_000, gap_ns)
    mend = f"give {math.lcm(gap_ns, 1_000_000_000) / 1e9:g} or a multiple, or keep another step_s"
    what, fits = f"no multiple of the dataset's {gap_ns / 1e9:g} s", each and not odd
    require(fits, f"--step {step_s}", what, mend)
    used = times.size // each * each
    require(used, f"--step {step_s}", "the dataset is shorter than one interval", "take less")
    power_w = site["power_w"].sel(unit=unit).values[:used].astype(float)
    means = resample(power_w, gap_ns / 1e9, step_s)
    what = "holds values that are no power"
    require(np.isfinite(means), f"unit {unit}", what, "simulate the site anew")
    zone = timezone(timedelta(hours=float(site.attrs.get("utc_offset_h", 0.0))))
    begin = pd.DatetimeIndex(times[:used:each], tz="UTC").tz_convert(zone)
    left_out_s = (times.size - used) * gap_ns / 1e9
    return Intervals(unit, step_s, begin, means, left_out_s, dict(site.attrs))
