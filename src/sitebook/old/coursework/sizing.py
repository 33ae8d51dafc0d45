"""Exercises on sizing: a transformer, an interval over seeds, and twice the requests."""

from __future__ import annotations

import numpy as np
from scipy.stats import norm, t

from sitebook.old.coursework.exercise import Exercise
from sitebook.old.coursework.sites import site_day
from sitebook.old.sites.setups import PUE
from sitetrace.planning.series import POWER_FACTOR, mean_w, peak_w, power_at, resample

RATE, DAYS, SURE = 0.25, 5, 0.975


def _power_w(rate: float, seed: int, level: str = "facility") -> np.ndarray:
    return power_at(site_day(1, 4, rate, seed, "site", 1.0), level)


def _quarter_peak_w(rate: float, seed: int, level: str = "facility") -> float:
    return peak_w(resample(_power_w(rate, seed, level), 1.0, 900.0))


def _transformer(seed: int) -> tuple[float, dict[str, float]]:
    power_w, peak_kw = _power_w(RATE, seed), _quarter_peak_w(RATE, seed) / 1e3
    return peak_kw / POWER_FACTOR, {
        "that is from the peak of a second: average over 15 minutes": peak_w(power_w)
        / POWER_FACTOR
        / 1e3,
        "that is from the mean: the peak decides": mean_w(power_w) / POWER_FACTOR / 1e3,
        "that is the peak in kW: a transformer carries volts times amperes": peak_kw,
        "a power factor is watts per volt-ampere: divide by it": peak_kw * POWER_FACTOR,
        "that is without cooling: take the facility": peak_kw / POWER_FACTOR / PUE,
    }


def _over_days(seed: int) -> tuple[float, dict[str, float]]:
    peaks_w = np.array([_quarter_peak_w(RATE, seed + day) for day in range(DAYS)])
    spread_w, root, wide = peaks_w.std(ddof=1), np.sqrt(DAYS), t.ppf(SURE, DAYS - 1)
    return wide * spread_w / root, {
        "that is the normal's quantile: a spread from five days asks for Student's": norm.ppf(SURE)
        * spread_w
        / root,
        "that is the spread of single days: the mean of five is known better": spread_w,
        "that is for single days: divide the spread by the root of their number": wide * spread_w,
        "that is the whole width of the interval: half of it is asked": 2 * wide * spread_w / root,
        "that divides by the number of days: a spread about their own mean takes one less": wide
        * peaks_w.std()
        / root,
    }


def _twice(seed: int) -> tuple[float, dict[str, float]]:
    def ratio(level: str) -> float:
        return _quarter_peak_w(2 * RATE, seed, level) / _quarter_peak_w(RATE, seed, level)

    seconds = [peak_w(_power_w(rate, seed)) for rate in (2 * RATE, RATE)]
    right = ratio("facility")
    return right, {
        "twice the requests are not twice the power": 2.0,
        "that is the inverse: the busier day goes on top": 1 / right,
        "that is the GPUs alone: take the facility": ratio("gpu"),
        "that is the peak of a second: average over 15 minutes": seconds[0] / seconds[1],
    }


EXERCISES = {
    "sizing-1": Exercise(_transformer, 0.005, "kVA"),
    "sizing-2": Exercise(_over_days, 0.1, "W"),
    "sizing-3": Exercise(_twice, 0.01, ""),
}
