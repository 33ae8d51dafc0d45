"""Is power within a state Gaussian, and independent from bin to bin? Tests and their nulls.

A state's samples are those that the mixture labels with it. Labels cut: even samples drawn from
the mixture itself are not Gaussian after labelling. Each test therefore stands beside its own
null, computed on such samples.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from sitetrace.power.states.mixture import MIN_STRETCH, Mixture, fit_emissions

# D'Agostino's test asks for 20 samples
LEAST, LEVEL = 20, 0.05
POOL = 40_000
REPEATS = 199


def labelled_draws(mixture: Mixture, n_samples: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Draw from the mixture and sort what was drawn by label."""
    share = mixture.weight / mixture.weight.sum()
    states = rng.choice(share.size, size=n_samples, p=share)
    power_w = rng.normal(mixture.mean_w[states], mixture.sigma_w[states])
    labels = mixture.label(power_w)
    return [power_w[labels == k] for k in range(share.size)]


def state_tests(
    power_w: np.ndarray, states: np.ndarray, mixture: Mixture, rng: np.random.Generator
) -> pd.DataFrame:
    """Test each state for normality, beside what labelling alone does to Gaussian samples."""
    from scipy import stats

    pool = labelled_draws(mixture, POOL, rng)
    rows = []
    for k in range(mixture.n_states):
        watts = power_w[states == k]
        if watts.size < LEAST or pool[k].size < LEAST:
            continue
        null_w = rng.choice(pool[k], size=(REPEATS, watts.size))
        tested, null = stats.shapiro(watts), stats.shapiro(null_w, axis=1)
        fit = stats.goodness_of_fit(
            stats.norm, watts, statistic="ad", n_mc_samples=REPEATS, rng=rng
        )
        rows.append(
            {"state": k, "mean_w": mixture.mean_w[k], "n": watts.size}
            | {"shapiro": tested.pvalue, "dagostino": stats.normaltest(watts).pvalue}
            | {"anderson": fit.pvalue, "skew": stats.skew(watts)}
            | {"kurtosis": stats.kurtosis(watts)}
            | {"null_kurtosis": np.median(stats.kurtosis(null_w, axis=1))}
            | {"null_rejected": np.mean(null.pvalue < LEVEL)}
            | {"against_null": (1 + (null.statistic <= tested.statistic).sum()) / (1 + REPEATS)}
        )
    return pd.DataFrame(rows)


def _shuffled(
    stretches: list[tuple[np.ndarray, np.ndarray]], rng: np.random.Generator
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Exchange samples of the same state at random, so that labels stay and order goes."""
    states = np.concatenate([labels for labels, _ in stretches])
    power_w = np.concatenate([watts for _, watts in stretches])
    for k in np.unique(states):
        rows = np.flatnonzero(states == k)
        power_w[rows] = power_w[rng.permutation(rows)]
    cuts = np.cumsum([labels.size for labels, _ in stretches])[:-1]
    return list(zip(np.split(states, cuts), np.split(power_w, cuts), strict=True))


def memory_by_state(
    stretches: list[tuple[np.ndarray, np.ndarray]], mixture: Mixture, rng: np.random.Generator
) -> pd.DataFrame:
    """Lag-one coefficient of each state, beside that of shuffled samples."""
    shuffled = [
        fit_emissions("ar1", _shuffled(stretches, rng), mixture).phi for _ in range(REPEATS)
    ]
    runs = _runs(stretches, mixture)
    return pd.DataFrame(
        {
            "state": range(mixture.n_states),
            "mean_w": mixture.mean_w,
            "n": [sum(r.size for k, r in runs if k == state) for state in range(mixture.n_states)],
            "phi": fit_emissions("ar1", stretches, mixture).phi,
            "chance": np.quantile(shuffled, 0.95, axis=0),
        }
    )


def _runs(
    stretches: list[tuple[np.ndarray, np.ndarray]], mixture: Mixture
) -> list[tuple[int, np.ndarray]]:
    """State and standardised residual of each unbroken run of at least five samples."""
    found = []
    for labels, power_w in stretches:
        cuts = np.flatnonzero(np.diff(labels)) + 1
        for part, watts in zip(np.split(labels, cuts), np.split(power_w, cuts), strict=True):
            k = int(part[0])
            if part.size >= MIN_STRETCH:
                found.append((k, (watts - mixture.mean_w[k]) / mixture.sigma_w[k]))
    return found


def residual_acf(
    stretches: list[tuple[np.ndarray, np.ndarray]],
    mixture: Mixture,
    lags: int,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Autocorrelation of standardised residuals within unbroken runs of one state."""
    if not _runs(stretches, mixture):
        return pd.DataFrame(columns=["lag", "acf", "low", "high"], dtype=float)

    def correlations(parts: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
        residuals = [residual for _, residual in _runs(parts, mixture)]
        square = np.mean(np.concatenate(residuals) ** 2)
        pairs = [
            np.concatenate([r[:-lag] * r[lag:] for r in residuals if r.size > lag] or [[np.nan]])
            for lag in range(1, lags + 1)
        ]
        return np.array([each.mean() for each in pairs]) / square

    shuffled = [correlations(_shuffled(stretches, rng)) for _ in range(REPEATS)]
    low, high = np.quantile(shuffled, [0.025, 0.975], axis=0)
    table = {"lag": np.arange(1, lags + 1), "acf": correlations(stretches), "low": low}
    return pd.DataFrame(table | {"high": high}).dropna()
