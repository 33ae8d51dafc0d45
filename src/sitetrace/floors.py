"""How near two measurements are to each other: intervals and floors that no model beats."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from sitetrace.metrics import acf_lags, acf_r2, acf_r2_white, correlation, ks_distance, nrmse

HALF_BLOCK_S = 5.0
BOOTSTRAP_BLOCK_S = 10.0
BOOTSTRAP_DRAWS = 400


def bootstrap_interval(
    measured_w: np.ndarray,
    generated_w: np.ndarray,
    dt_s: float,
    score: Callable[[np.ndarray, np.ndarray], float],
    rng: np.random.Generator,
) -> tuple[float, float]:
    """95 % interval of a score from one pair of series, by a moving-block bootstrap over time."""
    n = len(measured_w)
    block = min(max(int(BOOTSTRAP_BLOCK_S / dt_s + 0.5), 1), n)
    starts = rng.integers(0, n - block + 1, size=(BOOTSTRAP_DRAWS, -(-n // block)))
    rows = (starts[:, :, None] + np.arange(block)).reshape(BOOTSTRAP_DRAWS, -1)[:, :n]
    draws = [score(measured_w[row], generated_w[row]) for row in rows]
    low, high = np.percentile(draws, [2.5, 97.5])
    return float(low), float(high)


def noise_floor(
    measured_w: np.ndarray, dt_s: float, activity: pd.DataFrame | None
) -> dict[str, float]:
    """Scores that nothing can be expected to beat on these seconds.

    Parameters
    ----------
    measured_w : numpy.ndarray
        Measured power, watts, shape (n,).
    dt_s : float
        Step, seconds.
    activity : pandas.DataFrame or None
        What the engine did in the same bins, n rows, any columns; None leaves the regression out.

    Returns
    -------
    dict
        ``ks_halves``: KS between the even and the odd blocks of 5 s; ``acf_r2_halves``: ACF R²
        between the first and the second half; ``acf_r2_white``: what no memory scores; and with
        `activity` ``nrmse_regression``, ``correlation_regression``, ``acf_r2_regression``: boosted
        trees fitted to power on the very samples they are judged on. NaN where the recording is
        too short for two halves.
    """
    n = len(measured_w)
    even = (np.arange(n) // max(int(HALF_BLOCK_S / dt_s + 0.5), 1)) % 2 == 0
    halves = n >= 4 and not even.all()
    lags = acf_lags(dt_s)
    floor = {
        "ks_halves": ks_distance(measured_w[even], measured_w[~even]) if halves else np.nan,
        "acf_r2_halves": acf_r2(measured_w[: n // 2], measured_w[n // 2 :], lags)
        if halves
        else np.nan,
        "acf_r2_white": acf_r2_white(measured_w, lags) if n >= 2 else np.nan,
    }
    if activity is None:
        return floor
    predicted_w = _regression(measured_w, activity)
    return floor | {
        "nrmse_regression": nrmse(measured_w, predicted_w),
        "correlation_regression": correlation(measured_w, predicted_w),
        "acf_r2_regression": acf_r2(measured_w, predicted_w, lags),
    }


def _regression(power_w: np.ndarray, activity: pd.DataFrame) -> np.ndarray:
    """Power that boosted trees tell from the activity of the same bin and of the one before."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    now = activity.to_numpy(dtype=float)
    features = np.hstack([now, np.vstack([now[:1], now[:-1]])])
    features[np.isinf(features)] = np.nan
    trees = HistGradientBoostingRegressor(max_leaf_nodes=15, early_stopping=False, random_state=0)
    return trees.fit(features, power_w).predict(features)
