"""Power of an idle board: it belongs to the board, not to the model that it serves."""

from dataclasses import dataclass

import numpy as np

from sitetrace.core.files import require

BAND_SHARE = 0.1  # samples count as idle up to this share of the way to the power under load
DECAY_S = 5.0  # time constant of what is left just after work, in the kind `states`
QUANTILES, LONGEST_HOLD_S = 33, 1.0


@dataclass(frozen=True)
class Idle:
    """Idle power, its narrow spread, and what is left of the load for some seconds."""

    mean_w: float  # before load (median)
    deviation_w: np.ndarray  # quantiles of the samples around it: the meter's quantum included
    active_w: float  # extra power just after work; decays with a time constant of `DECAY_S`
    band_w: float  # samples up to this power count as idle
    hold_s: float  # time after the last work from which the meter prints idle

    def power_w(self, quiet_for_s: np.ndarray, uniform: np.ndarray) -> np.ndarray:
        """Turn numbers from 0 to 1 into idle watts, given the seconds since the last work."""
        # a quantile is taken as it is, so that the meter's steps keep their exact values
        spread_w = self.deviation_w[(uniform * self.deviation_w.size).astype(np.int64)]
        return self.mean_w + spread_w + self.active_w * np.exp(-quiet_for_s / DECAY_S)

    def expected_w(self, quiet_for_s: np.ndarray) -> np.ndarray:
        """Mean idle watts, given the seconds since the last work (infinite before the first)."""
        left_w = self.active_w * np.exp(-quiet_for_s / DECAY_S)
        return self.mean_w + self.deviation_w.mean() + left_w


def check_idle(idle_w: float, most_w: float) -> None:
    """Refuse an idle power that is not below that of full load, watts."""
    mend = f"give 0 or more, and less than the {most_w:.0f} W of full load"
    require(0 <= idle_w < most_w, "idle_w", f"{idle_w:g} W", mend)


def fit_idle(power_w: np.ndarray, before_load: np.ndarray, quiet_for_s: np.ndarray) -> Idle:
    """Learn the idle power of a board from samples, some of them before the load."""
    # where hardly any sample lies before the load, the lowest hundredth of all stands for idle
    enough, loaded = before_load.sum() >= 8, power_w[~before_load]
    mean_w = float(np.median(power_w[before_load]) if enough else np.quantile(power_w, 0.01))
    # a recording that starts in the middle of the load may never be idle
    load_w = float(np.median(loaded)) if loaded.size else mean_w
    band_w = mean_w + BAND_SHARE * max(load_w - mean_w, 50.0)
    calm, after = (rows & (power_w <= band_w) for rows in (before_load, ~before_load))
    deviation_w = power_w[calm] - mean_w if calm.any() else np.zeros(1)
    decay, hold_s = np.exp(-quiet_for_s[after] / DECAY_S), LONGEST_HOLD_S
    active_w = (power_w[after] - mean_w) @ decay / (decay @ decay) if after.sum() >= 3 else 0.0
    # the shortest quiet time after which four of five samples read idle
    for tried_s in np.arange(0.25, LONGEST_HOLD_S, 0.25)[::-1]:
        quiet = ~before_load & (quiet_for_s >= tried_s) & (quiet_for_s < LONGEST_HOLD_S + 0.25)
        if quiet.sum() >= 3 and (power_w[quiet] <= band_w).mean() >= 0.8:
            hold_s = float(tried_s)
    quantile_w = np.quantile(deviation_w, np.linspace(0, 1, QUANTILES), method="nearest")
    return Idle(mean_w, quantile_w, max(float(active_w), 0.0), band_w, hold_s)
