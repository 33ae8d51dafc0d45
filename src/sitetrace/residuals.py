"""What a fitted surface leaves over: noise, and the power just after work."""

from __future__ import annotations

import numpy as np
import pandas as pd

from sitetrace.idle import Idle
from sitetrace.meter import Meter
from sitetrace.readings import Residual
from sitetrace.timeline_fit import Scales, Seen, power_of, shares

# extra power just after work by experience: watts a GPU, seconds, and how sure that is
AFTER_W, AFTER_S, AFTER_NOISE_W = 8.0, 0.5, 2.0
PHI_MAX = 0.95


def fit_residual(
    seen: list[Seen], meter: Meter, scales: Scales, law: np.ndarray, idle_sd_w: float
) -> Residual:
    """Take the noise by regime, and how long it lasts while decoding.

    Parameters
    ----------
    seen : list of Seen
        Readings.
    meter : Meter
        The fitted meter.
    scales : Scales
        Of prefill and of the batch.
    law : numpy.ndarray
        As `fit_reading` gives it.
    idle_sd_w : float
        Standard deviation of idle readings, watts.

    Returns
    -------
    Residual
        The autocorrelation is that of successive readings that saw decoding alone.
    """
    before, after = [], []
    for each in seen:
        share = shares(each, meter, scales)
        own = each.law(law, seen[0].idle_w)
        left = (each.power_w - power_of(share, own, each.idle_w).mean(axis=1)) / each.gpus
        calm = (share[0].min(axis=1) > 0.98) & (share[3].max(axis=1) < 0.05)
        pairs = calm[1:] & calm[:-1] & (np.diff(each.times_s) < 1.5 * meter.dt_s)
        before.append(left[:-1][pairs])
        after.append(left[1:][pairs])
    before, after = np.concatenate(before), np.concatenate(after)
    limit = 4 * np.exp(law[4])
    kept = (np.abs(before) < limit) & (np.abs(after) < limit)
    phi = 0.0
    if kept.sum() >= 20:
        phi = float(np.clip(np.corrcoef(before[kept], after[kept])[0, 1], 0.0, PHI_MAX))
    return Residual(idle_sd_w, float(np.exp(law[4])), phi)


def fit_afterglow(frame: pd.DataFrame, idle: Idle, meter: Meter, gpus: int) -> tuple[float, float]:
    """Learn the extra power just after work and how fast it goes.

    Parameters
    ----------
    frame : pandas.DataFrame
        Prepared samples (``quiet_for_s``, ``power_w``, ``before_load``).
    idle : Idle
        The board's idle power.
    meter : Meter
        A reading counts from when its window holds no work.
    gpus : int
        GPUs of the server.

    Returns
    -------
    active_w, decay_s : float
        Watts, seconds; the fewer the readings, the nearer to 8 W a GPU and 0.5 s.
    """
    from scipy.optimize import least_squares

    clear_s = frame["quiet_for_s"].to_numpy() - meter.lag_s - meter.update_s - meter.window_s
    power_w = frame["power_w"].to_numpy()
    rows = (clear_s >= 0) & (clear_s < 30) & ~frame["before_load"].to_numpy()
    rows &= power_w <= idle.band_w
    quiet = frame["quiet_for_s"].to_numpy()[rows] - meter.lag_s
    extra_w = power_w[rows] - idle.mean_w

    def errors(point: np.ndarray) -> np.ndarray:
        after_w, log_s = point
        left = (after_w * np.exp(-quiet / np.exp(log_s)) - extra_w) / AFTER_NOISE_W
        prior = [(after_w / gpus - AFTER_W) / AFTER_W, log_s - np.log(AFTER_S)]
        return np.concatenate([left, prior])

    found = least_squares(
        errors, [AFTER_W * gpus, np.log(AFTER_S)], bounds=([0.0, -2.0], [60.0 * gpus, 3.0])
    ).x
    return float(found[0]), float(np.exp(found[1]))
