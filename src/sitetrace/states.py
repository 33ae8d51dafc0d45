"""Power states: a Gaussian mixture over power samples, ordered by mean power."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

CANDIDATES = tuple(range(8, 17))
MIN_VARIANCE = 1e-12


@dataclass(frozen=True)
class Mixture:
    """Gaussian mixture of power, states in order of their mean (0 is the lowest).

    Parameters
    ----------
    mean_w, sigma_w, weight : numpy.ndarray
        Mean and standard deviation in watts and weight of each state, shape (K,).
    """

    mean_w: np.ndarray
    sigma_w: np.ndarray
    weight: np.ndarray

    @property
    def n_states(self) -> int:
        """Number of states K."""
        return self.mean_w.size

    def label(self, power_w: np.ndarray) -> np.ndarray:
        """State with the greatest posterior probability for each sample.

        Parameters
        ----------
        power_w : numpy.ndarray
            Power, watts, shape (n,).

        Returns
        -------
        numpy.ndarray
            ``argmax_k [ln w_k + ln N(p; mean_k, sigma_k^2)]``, integers, shape (n,).
        """
        distance = (np.asarray(power_w)[:, None] - self.mean_w) / self.sigma_w
        return np.argmax(np.log(self.weight) - np.log(self.sigma_w) - distance**2 / 2, axis=1)


def _gaussian_mixture(power_w: np.ndarray, n_states: int, seed: int):  # noqa: ANN202
    """Fit as the paper's repository does: full covariance, 10 initialisations."""
    from sklearn.mixture import GaussianMixture

    model = GaussianMixture(
        n_states, n_init=10, max_iter=300, reg_covar=1e-6, random_state=seed, covariance_type="full"
    )
    return model.fit(np.asarray(power_w, dtype=float)[:, None])


def fit_mixture(power_w: np.ndarray, n_states: int, seed: int) -> Mixture:
    """Fit the power states of a configuration."""
    model = _gaussian_mixture(power_w, n_states, seed)
    order = np.argsort(model.means_[:, 0])
    variance = np.maximum(model.covariances_[order, 0, 0], MIN_VARIANCE)
    return Mixture(model.means_[order, 0], np.sqrt(variance), model.weights_[order])


def bic_curve(power_w: np.ndarray, candidates: tuple[int, ...], seed: int) -> pd.DataFrame:
    """Bayesian information criterion against the number of states."""
    samples = np.asarray(power_w, dtype=float)[:, None]
    rows = [(k, _gaussian_mixture(power_w, k, seed).bic(samples)) for k in candidates]
    return pd.DataFrame(rows, columns=["n_states", "bic"])


def least_bic(bic: pd.DataFrame) -> int:
    """Find the number of states that BIC would take."""
    return int(bic.set_index("n_states")["bic"].idxmin())


def published_mixture(table: pd.DataFrame, config: str) -> Mixture:
    """Take one of the paper's published mixtures."""
    rows = table[table["config"] == config].sort_values("state")
    if rows.empty:
        raise KeyError(f"no mixture of {config}: the table holds {sorted(set(table['config']))}")
    mean_w, sigma_w, weight = (rows[name].to_numpy() for name in ("mean_w", "sigma_w", "weight"))
    return Mixture(mean_w, sigma_w, weight)
