"""What a fitted surface leaves over: noise, and the power just after work."""

from __future__ import annotations

import numpy as np

from sitetrace.meter import Meter
from sitetrace.observed import failures, rounded
from sitetrace.readings import Residual, left_warmth, since_work_s
from sitetrace.timeline_fit import Scales, Seen, power_of, shares
from sitetrace.trace import Run

# extra power just after work by experience: watts a GPU, seconds, and how sure that is
AFTER_W, AFTER_S, AFTER_SPREAD, AFTER_NOISE_W = 5.0, 0.25, 0.5, 1.0
# what a warm board idles above a cold one by experience, watts a GPU
WARM_IDLE_W, WARM_IDLE_SD_W = 7.0, 2.0
LONGEST_AFTER_S = 60.0
PHI_MAX = 0.95


def fit_residual(
    seen: list[Seen], meter: Meter, scales: Scales, law: np.ndarray, idle_sd_w: float
) -> Residual:
    """Take the noise by regime, and how long it lasts while decoding."""
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


def judged_power(
    seen: list[Seen], meter: Meter, scales: Scales, law: np.ndarray, converged: bool
) -> dict:
    """Say how far the readings are from the mean of what the surface makes the meter print."""
    left, power_w = [], np.concatenate([each.power_w for each in seen])
    for each in seen:
        own = each.law(law, seen[0].idle_w)
        expected_w = power_of(shares(each, meter, scales), own, each.idle_w).mean(axis=1)
        left.append(expected_w - each.power_w)
    left = np.concatenate(left) / power_w.mean()
    numbers = rounded({"mean_error": np.abs(left).mean(), "energy_error": left.mean()})
    found = {"power": numbers | {"points": left.size}}
    stopped = [] if converged else ["the search of the surface stopped before it converged"]
    return {"misfit": found, "converged": converged, "failed": failures(found) + stopped}


def fit_afterglow(
    runs: list[Run], seen: list[Seen], band_w: float, meter: Meter, gpus: int
) -> tuple[float, float, float, bool]:
    """Learn the extra power just after work, how fast it goes, and what a warm board keeps."""
    from scipy.optimize import least_squares

    parts = [_after_work(run, each, band_w, meter) for run, each in zip(runs, seen, strict=True)]
    since_s, warm, extra_w = np.concatenate(parts, axis=1)

    def errors(point: np.ndarray) -> np.ndarray:
        after_w, log_s, warm_w = point
        left = after_w * np.exp(-since_s / np.exp(log_s)) + warm_w * warm - extra_w
        prior = [(after_w / gpus - AFTER_W) / AFTER_W, (log_s - np.log(AFTER_S)) / AFTER_SPREAD]
        prior.append((warm_w / gpus - WARM_IDLE_W) / WARM_IDLE_SD_W)
        return np.concatenate([left / AFTER_NOISE_W, prior])

    start = [AFTER_W * gpus, np.log(AFTER_S), WARM_IDLE_W * gpus]
    limits = ([0.0, -2.5, 0.0], [60.0 * gpus, 3.0, 30.0 * gpus])
    found = least_squares(errors, start, bounds=limits)
    after_w, log_s, warm_w = found.x
    return float(after_w), float(np.exp(log_s)), float(warm_w), bool(found.success)


def _after_work(run: Run, seen: Seen, band_w: float, meter: Meter) -> np.ndarray:
    """Time since work, warmth and power above idle of the readings that saw none, shape (3, n)."""
    times_s = run.samples["time_s"].to_numpy() - float(run.requests["arrival_s"].iloc[0])
    power_w = run.samples["power_w"].to_numpy()
    since_s = since_work_s(seen.timeline, times_s - meter.lag_s)
    clear_s = since_s - meter.update_s - meter.window_s
    starts = seen.timeline.segments["start_s"].to_numpy()
    ended = np.searchsorted(seen.timeline.segments["end_s"], times_s - meter.lag_s, side="right")
    quiet = np.searchsorted(starts, times_s - meter.lag_s, side="right") == ended
    rows = quiet & (clear_s >= 0) & (clear_s < LONGEST_AFTER_S) & (power_w <= band_w)
    warm = left_warmth(seen.timeline, times_s)
    return np.array([since_s[rows], warm[rows], power_w[rows] - seen.idle_w])
