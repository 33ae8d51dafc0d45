"""Exercises on energy errors: nameplate, a constant mean, and two ways to sum up."""

from __future__ import annotations

import numpy as np

from sitebook.old.coursework.exercise import Exercise, busy_power, power
from sitetrace.core.registry import device
from sitetrace.evaluate.metrics import energy_error_pct

FITTED, JUDGED = "bursty", ("poisson_low", "poisson", "effects")


def _nameplate(seed: int) -> tuple[float, dict[str, float]]:
    watts, nameplate_w = power("poisson_low", seed), device("testbed")["tdp_w"]
    busy_w = busy_power("poisson_low", seed)
    return 100 * (nameplate_w / watts.mean() - 1), {
        "divide by the measured energy, not by the estimate": 100
        * (1 - watts.mean() / nameplate_w),
        "that is the estimate over the measurement: by how much is it off?": 100
        * nameplate_w
        / watts.mean(),
        "that is the busy seconds alone; take the whole recording": 100
        * (nameplate_w / busy_w.mean() - 1),
    }


def _signed_pct(fitted_w: np.ndarray, seed: int) -> np.ndarray:
    """Signed errors of a constant at the mean of the fitted samples, for each judged run."""
    judged = [power(name, seed) for name in JUDGED]
    return np.array(
        [energy_error_pct(watts, np.full(watts.size, fitted_w.mean())) for watts in judged]
    )


def _constant_mean(seed: int) -> tuple[float, dict[str, float]]:
    signed = _signed_pct(power(FITTED, seed), seed)
    fitted_on_busy = _signed_pct(busy_power(FITTED, seed), seed)
    return np.abs(signed).mean(), {
        "that is the mean of signed errors: take absolute values first": abs(signed.mean()),
        "that is the median of the absolute errors: take their mean": np.median(np.abs(signed)),
        "that is fitted on busy seconds: take the mean of the whole recording": np.abs(
            fitted_on_busy
        ).mean(),
    }


def _pooled(seed: int) -> tuple[float, dict[str, float]]:
    fitted_w = power(FITTED, seed).mean()
    pooled = np.concatenate([power(name, seed) for name in JUDGED])
    signed = _signed_pct(power(FITTED, seed), seed)
    return abs(energy_error_pct(pooled, np.full(pooled.size, fitted_w))), {
        "that is the mean of absolute errors: pool the samples first": np.abs(signed).mean(),
        "that is the mean of signed errors: runs that draw more count for more": abs(signed.mean()),
    }


EXERCISES = {
    "energy-errors-1": Exercise(_nameplate, 0.5, "%"),
    "energy-errors-2": Exercise(_constant_mean, 0.05, "%"),
    "energy-errors-3": Exercise(_pooled, 0.1, "%"),
}
