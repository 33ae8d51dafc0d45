"""Power of an idle board: it belongs to the board, not to the model that it serves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sitetrace.core.files import InputError

# samples count as idle up to this share of the way from idle to the power under load
BAND_SHARE = 0.1
# time constant with which the extra power just after work goes away in the kind `states`
DECAY_S = 5.0
QUANTILES = 33
LONGEST_HOLD_S = 1.0


@dataclass(frozen=True)
class Idle:
    """Idle power, its narrow spread, and what is left of the load for some seconds.

    Parameters
    ----------
    mean_w : float
        Idle power before load (median), watts.
    deviation_w : numpy.ndarray
        Quantiles of the samples around `mean_w`, watts: the meter's quantum included.
    active_w : float
        Extra power just after work, watts; decays with a time constant of 5 s.
    band_w : float
        Samples up to this power count as idle, watts.
    hold_s : float
        Time after the last work from which the meter prints idle, seconds.
    """

    mean_w: float
    deviation_w: np.ndarray
    active_w: float
    band_w: float
    hold_s: float

    def power_w(self, quiet_for_s: np.ndarray, uniform: np.ndarray) -> np.ndarray:
        """Turn numbers from 0 to 1 into idle watts, given the seconds since the last work."""
        # a quantile is taken as it is, so that the meter's steps keep their exact values
        place = (uniform * self.deviation_w.size).astype(np.int64)
        return self._around(self.deviation_w[place], quiet_for_s)

    def expected_w(self, quiet_for_s: np.ndarray) -> np.ndarray:
        """Mean idle watts, given the seconds since the last work (infinite before the first)."""
        return self._around(self.deviation_w.mean(), quiet_for_s)

    def _around(self, spread_w: np.ndarray | float, quiet_for_s: np.ndarray) -> np.ndarray:
        return self.mean_w + spread_w + self.active_w * np.exp(-quiet_for_s / DECAY_S)


def check_idle(idle_w: float, most_w: float) -> None:
    """Refuse an idle power that is not below that of full load, watts."""
    if not 0 <= idle_w < most_w:
        raise InputError(
            f"idle_w: {idle_w:g} W: give 0 or more, and less than the {most_w:.0f} W of full load"
        )


def fit_idle(power_w: np.ndarray, before_load: np.ndarray, quiet_for_s: np.ndarray) -> Idle:
    """Learn the idle power of a board from samples, some of them before the load."""
    # where hardly any sample lies before the load, the lowest hundredth of all stands for idle
    lowest = float(np.quantile(power_w, 0.01))
    mean_w = float(np.median(power_w[before_load])) if before_load.sum() >= 8 else lowest
    loaded = power_w[~before_load]
    # a recording that starts in the middle of the load may never be idle
    load_w = float(np.median(loaded)) if loaded.size else mean_w
    band_w = mean_w + BAND_SHARE * max(load_w - mean_w, 50.0)
    calm = before_load & (power_w <= band_w)
    deviation = power_w[calm] - mean_w if calm.any() else np.zeros(1)
    hold_s = _hold_s(power_w, ~before_load, quiet_for_s, band_w)
    after = ~before_load & (power_w <= band_w)
    decay = np.exp(-quiet_for_s[after] / DECAY_S)
    extra = power_w[after] - mean_w
    active_w = float(extra @ decay / (decay @ decay)) if after.sum() >= 3 else 0.0
    return Idle(
        mean_w=mean_w,
        deviation_w=np.quantile(deviation, np.linspace(0, 1, QUANTILES), method="nearest"),
        active_w=max(active_w, 0.0),
        band_w=band_w,
        hold_s=hold_s,
    )


def _hold_s(
    power_w: np.ndarray, loaded: np.ndarray, quiet_for_s: np.ndarray, band_w: float
) -> float:
    """Shortest quiet time after which four of five samples read idle (at most 1 s)."""
    for hold_s in np.arange(0.25, LONGEST_HOLD_S, 0.25):
        quiet = loaded & (quiet_for_s >= hold_s) & (quiet_for_s < LONGEST_HOLD_S + 0.25)
        if quiet.sum() >= 3 and (power_w[quiet] <= band_w).mean() >= 0.8:
            return float(hold_s)
    return LONGEST_HOLD_S
