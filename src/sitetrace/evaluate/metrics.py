"""Scores of a generated trace, and how good they can be: noise floors."""

import numpy as np
import pandas as pd

SCORES = ("energy_error_pct", "energy_error_signed_pct", "ks", "acf_r2", "nrmse", "correlation",
          "p95_error_pct", "p99_error_pct", "n_samples")  # fmt: skip
# Below 1 s the lags of arXiv:2603.18383 (1 to 50 at 0.25 s), from 1 s on those of the paper's later
# repository (1 to 60 at 1 s); other steps keep the seconds.
NATIVE_LAGS_S, ONE_SECOND_LAGS_S = 12.5, 60.0
CONSTANT, FLAT, SAME_ACF, HALF_BLOCK_S = 1e-9, 1e-12, 1e-10, 5.0


def scores(measured_w: np.ndarray, generated_w: np.ndarray, dt_s: float) -> dict[str, float]:
    """All scores of a generated trace on the seconds of a measured one.

    Parameters
    ----------
    measured_w, generated_w, dt_s : numpy.ndarray, numpy.ndarray, float
        Aligned power, watts, shape (n,), and its step, seconds, for the lags of ``acf_r2``.

    Returns
    -------
    dict
        Its keys are `SCORES`; NaN where one has no meaning, and everywhere below two samples.
    """
    if len(measured_w) < 2:
        return dict.fromkeys(SCORES, np.nan) | {"n_samples": len(measured_w)}
    signed, both = energy_error_pct(measured_w, generated_w), (measured_w, generated_w)
    placed = ks_distance(*both), acf_r2(*both, acf_lags(dt_s)), nrmse(*both), correlation(*both)
    tails = (percentile_error_pct(*both, percent) for percent in (95.0, 99.0))
    values = abs(signed), signed, *placed, *tails, len(measured_w)
    return dict(zip(SCORES, values, strict=True))


def energy_error_pct(measured: np.ndarray, generated: np.ndarray) -> float:
    """Signed energy error of aligned power, percent of the measured; NaN where that is 0."""
    total = float(np.sum(measured))
    return 100.0 * (float(np.sum(generated)) - total) / total if total else np.nan


def ks_distance(measured: np.ndarray, generated: np.ndarray) -> float:
    """Two-sample Kolmogorov-Smirnov distance, 0 to 1."""
    from scipy.stats import ks_2samp

    return float(ks_2samp(measured, generated, method="asymp").statistic)


def acf(series: np.ndarray, lags: int) -> np.ndarray:
    """Autocorrelation ``sum(c_t c_(t+k)) / sum(c_t^2)`` at lags 1 to `lags`; 0 for a constant."""
    if lags < 1 or _is_constant(series):
        return np.zeros(max(lags, 0))
    centred = series - np.mean(series)
    # twice the length and more, so that the end does not meet the beginning
    spectrum = np.fft.rfft(centred, 1 << (2 * centred.size).bit_length())
    covariance = np.fft.irfft(spectrum * spectrum.conj())[: lags + 1]
    return covariance[1:] / covariance[0]


def acf_lags(dt_s: float) -> int:
    """Lags over which autocorrelations are compared at a step."""
    span_s = NATIVE_LAGS_S if dt_s < 1.0 else ONE_SECOND_LAGS_S
    return max(int(span_s / dt_s + 0.5), 1)


def acf_r2(measured: np.ndarray, generated: np.ndarray, lags: int) -> float:
    """``1 - sum (r_k - s_k)^2 / sum (r_k - mean r)^2`` over lags (arXiv:2603.18383)."""
    lags = min(lags, len(measured) - 1, len(generated) - 1)
    return _r2_of_acfs(acf(measured, lags), acf(generated, lags))


def acf_r2_white(measured: np.ndarray, lags: int) -> float:
    """ACF R² of a series without any memory (at most 0): the floor below which a model misleads."""
    measured_acf = acf(measured, min(lags, len(measured) - 1))
    return _r2_of_acfs(measured_acf, np.zeros_like(measured_acf))


def _r2_of_acfs(measured: np.ndarray, generated: np.ndarray) -> float:
    missed = float(((measured - generated) ** 2).sum())
    shape = float(((measured - measured.mean()) ** 2).sum()) if measured.size else 0.0
    return 1.0 - missed / shape if shape > FLAT else float(missed <= SAME_ACF)


def nrmse(measured: np.ndarray, generated: np.ndarray) -> float:
    """Root mean square error over the measured range (arXiv:2603.18383); NaN if that is 0."""
    if _is_constant(measured):
        return np.nan
    return float(np.sqrt(np.mean((generated - measured) ** 2)) / np.ptp(measured))


def correlation(measured: np.ndarray, generated: np.ndarray) -> float:
    """Pearson's correlation of two aligned series; NaN where one is constant."""
    if _is_constant(measured) or _is_constant(generated):
        return np.nan
    return float(np.corrcoef(measured, generated)[0, 1])


def crps(measured: np.ndarray, draws: np.ndarray) -> float:
    """Continuous ranked probability score of draws, shape (draws, n), in units of the data."""
    # mean |x - y| less half the mean |x - x'|, which by order statistics needs no pairs
    count = len(draws)
    weight = (2.0 * np.arange(1, count + 1) - count - 1.0)[:, None] / max(count * (count - 1), 1)
    apart = (weight * np.sort(draws, axis=0)).sum(axis=0)
    return float((np.abs(draws - measured).mean(axis=0) - apart).mean())


def coverage(measured: np.ndarray, draws: np.ndarray, share: float) -> float:
    """Share of the measured values inside the central band that holds `share` of the draws."""
    if len(draws) < 2:
        return np.nan
    low, high = np.quantile(draws, [(1 - share) / 2, (1 + share) / 2], axis=0, method="weibull")
    return float(((measured >= low) & (measured <= high)).mean())


def percentile_error_pct(measured: np.ndarray, generated: np.ndarray, percent: float) -> float:
    """Absolute error of a percentile (linear interpolation), percent of the measured one."""
    wanted, got = (float(np.percentile(series, percent)) for series in (measured, generated))
    return 100.0 * abs(got - wanted) / wanted if wanted else np.nan


def _is_constant(series: np.ndarray) -> bool:
    return bool(np.ptp(series) <= CONSTANT * np.abs(series).max())


def noise_floor(measured_w: np.ndarray, dt_s: float, activity: pd.DataFrame | None) -> dict:
    """Scores that nothing can be expected to beat: of halves, no memory, and the activity known."""
    n, lags = len(measured_w), acf_lags(dt_s)
    even = (np.arange(n) // max(int(HALF_BLOCK_S / dt_s + 0.5), 1)) % 2 == 0
    floor = dict.fromkeys(("ks_halves", "acf_r2_halves", "acf_r2_white"), np.nan)
    if n >= 4 and not even.all():
        # even and odd blocks of 5 s, first and second half
        floor["ks_halves"] = ks_distance(measured_w[even], measured_w[~even])
        floor["acf_r2_halves"] = acf_r2(measured_w[: n // 2], measured_w[n // 2 :], lags)
    if n >= 2:
        floor["acf_r2_white"] = acf_r2_white(measured_w, lags)
    if activity is not None:
        # boosted trees fitted to power on the very samples they are judged on
        from sklearn.ensemble import HistGradientBoostingRegressor as Trees

        now = activity.to_numpy(dtype=float)  # and in the bin before
        features = np.hstack([now, np.vstack([now[:1], now[:-1]])])
        features[np.isinf(features)] = np.nan
        trees = Trees(max_leaf_nodes=15, early_stopping=False, random_state=0)
        told_w = trees.fit(features, measured_w).predict(features)
        floor["nrmse_regression"] = nrmse(measured_w, told_w)
        floor["correlation_regression"] = correlation(measured_w, told_w)
        floor["acf_r2_regression"] = acf_r2(measured_w, told_w, lags)
    return floor
