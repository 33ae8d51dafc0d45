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
    """Fit the power states of a configuration.

    Parameters
    ----------
    power_w : numpy.ndarray
        All power samples of the fitting runs, watts, shape (n,).
    n_states : int
        Number of states K.
    seed : int
        Seed of the initialisations.

    Returns
    -------
    Mixture
        States in order of their mean.

    Notes
    -----
    Settings as in the paper's repository (grantwilkins/powertrace-sim, ``gmm_bigru_v1``):
    k-means initialisation, 10 initialisations, at most 300 iterations, ``reg_covar`` 1e-6.
    """
    model = _gaussian_mixture(power_w, n_states, seed)
    order = np.argsort(model.means_[:, 0])
    variance = np.maximum(model.covariances_[order, 0, 0], MIN_VARIANCE)
    return Mixture(model.means_[order, 0], np.sqrt(variance), model.weights_[order])


def bic_curve(power_w: np.ndarray, candidates: tuple[int, ...], seed: int) -> pd.DataFrame:
    """Bayesian information criterion against the number of states.

    Parameters
    ----------
    power_w : numpy.ndarray
        Power samples, watts, shape (n,).
    candidates : tuple of int
        Numbers of states to try.
    seed : int
        Seed of the initialisations.

    Returns
    -------
    pandas.DataFrame
        Columns ``n_states`` and ``bic`` (3K - 1 parameters; smaller is better).
    """
    samples = np.asarray(power_w, dtype=float)[:, None]
    rows = [(k, _gaussian_mixture(power_w, k, seed).bic(samples)) for k in candidates]
    return pd.DataFrame(rows, columns=["n_states", "bic"])


def least_bic(bic: pd.DataFrame) -> int:
    """Find the number of states that BIC would take.

    Parameters
    ----------
    bic : pandas.DataFrame
        From `sitetrace.states.bic_curve`.

    Returns
    -------
    int
        K of the least BIC.
    """
    return int(bic.set_index("n_states")["bic"].idxmin())


def published_mixture(table: pd.DataFrame, config: str) -> Mixture:
    """Take one of the paper's published mixtures.

    Parameters
    ----------
    table : pandas.DataFrame
        Columns ``config``, ``state``, ``mean_w``, ``sigma_w``, ``weight``: the paper's fitted
        mixtures (see `sitetrace.paper.read_paper_table`).
    config : str
        Name of a configuration, such as ``llama-3-70b_H100_tp4``.

    Returns
    -------
    Mixture
        The published states.

    Raises
    ------
    KeyError
        If the configuration is not in the table.
    """
    rows = table[table["config"] == config].sort_values("state")
    if rows.empty:
        raise KeyError(f"no mixture of {config}: the table holds {sorted(set(table['config']))}")
    mean_w, sigma_w, weight = (rows[name].to_numpy() for name in ("mean_w", "sigma_w", "weight"))
    return Mixture(mean_w, sigma_w, weight)
