"""States as a Gaussian mixture of power, and the power drawn within them."""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
import pandas as pd

CANDIDATES = tuple(range(8, 17))
MIN_VARIANCE = 1e-12
KINDS = ("gaussian", "ar1", "ar1_deviation", "empirical")
PHI_THRESHOLD = 0.3
PHI_MAX = 0.99
MIN_STRETCH = 5
QUANTILES = 33


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


@dataclass(frozen=True)
class Emissions:
    """How power is drawn within each state.

    Parameters
    ----------
    kind : str
        One of `KINDS`.
    phi : numpy.ndarray
        Lag-one autocorrelation within each state, shape (K,); used by the two AR(1) only.
    quantile_w : numpy.ndarray
        Quantiles of the power of each state, watts, shape (K, 33); used by ``empirical`` only.
    """

    kind: str
    phi: np.ndarray
    quantile_w: np.ndarray

    def sample(self, states: np.ndarray, mixture: Mixture, rng: np.random.Generator) -> np.ndarray:
        """Draw power for a sequence of states.

        Parameters
        ----------
        states : numpy.ndarray
            State of each bin, integers, shape (n,).
        mixture : Mixture
            The states.
        rng : numpy.random.Generator
            Source of randomness.

        Returns
        -------
        numpy.ndarray
            Power, watts, shape (n,).
        """
        draw = rng.random if self.kind == "empirical" else rng.standard_normal
        return self.power_of(states, mixture, draw(states.size))[0]

    def power_of(
        self, states: np.ndarray, mixture: Mixture, noise: np.ndarray, last: float = np.nan
    ) -> tuple[np.ndarray, float]:
        """Turn random numbers into the power of a sequence of states that may go on.

        Parameters
        ----------
        states : numpy.ndarray
            State of each bin, integers, shape (n,); where it is -1, power means nothing.
        mixture : Mixture
            The states.
        noise : numpy.ndarray
            Standard normal numbers; for ``empirical`` numbers from 0 to 1; shape (n,).
        last : float
            What is carried over from the bin before; NaN if there was none.

        Returns
        -------
        power_w : numpy.ndarray
            Power, watts, shape (n,).
        last : float
            What the next bin needs: the deviation for ``ar1_deviation``, else the power.
        """
        if states.size == 0:
            return np.empty(0), last
        if self.kind == "empirical":
            power_w = _draw_quantiles(states, self.quantile_w, noise)
            return power_w, power_w[-1]
        memory = self.kind != "gaussian"
        phi = np.where(memory & (self.phi >= PHI_THRESHOLD), self.phi, 0.0)
        law = autoregressive if self.kind == "ar1" else own_deviation
        return law(states, mixture.mean_w, mixture.sigma_w, phi, noise, last)


def _draw_quantiles(states: np.ndarray, quantile_w: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Invert each state's empirical distribution, linear between its quantiles."""
    place = u * (quantile_w.shape[1] - 1)
    low = place.astype(int)
    below, above = quantile_w[states, low], quantile_w[states, low + 1]
    return below + (place - low) * (above - below)


def fit_emissions(
    kind: str, stretches: list[tuple[np.ndarray, np.ndarray]], mixture: Mixture
) -> Emissions:
    """Learn the power within states from labelled samples."""
    upper, lower = np.zeros(mixture.n_states), np.zeros(mixture.n_states)
    pools: list[list[np.ndarray]] = [[] for _ in range(mixture.n_states)]
    for labels, power_w in stretches:
        cuts = np.flatnonzero(np.diff(labels)) + 1
        for part, watts in zip(np.split(labels, cuts), np.split(power_w, cuts), strict=True):
            k = part[0]
            pools[k].append(watts)
            if part.size >= MIN_STRETCH:
                residual = watts - mixture.mean_w[k]
                upper[k] += residual[:-1] @ residual[1:]
                lower[k] += residual @ residual
    phi = np.clip(np.divide(upper, lower, out=np.zeros_like(upper), where=lower > 0), 0, PHI_MAX)
    grid = np.linspace(0, 1, QUANTILES)
    # a state that no sample was given to stands at its mean
    filled = [pool or [mean] for pool, mean in zip(pools, mixture.mean_w[:, None], strict=True)]
    quantile_w = np.array([np.quantile(np.concatenate(pool), grid) for pool in filled])
    return Emissions(kind, phi, quantile_w)


@numba.njit(cache=True, nogil=True)
def autoregressive(states, mean_w, sigma_w, phi, noise, last_w):
    """AR(1) around the state's mean; the deviation carries over a change of state."""
    power_w, scale_w = np.zeros(noise.size), sigma_w * np.sqrt(1 - phi**2)
    for i in range(noise.size):
        k = states[i]
        if k < 0:
            continue
        if np.isnan(last_w):
            last_w = mean_w[k]
        last_w = mean_w[k] + phi[k] * (last_w - mean_w[k]) + scale_w[k] * noise[i]
        power_w[i] = last_w
    return power_w, last_w


@numba.njit(cache=True, nogil=True)
def own_deviation(states, mean_w, sigma_w, phi, noise, last):
    """AR(1) of the standardised deviation: normal in every bin, whatever the states do."""
    power_w, fresh = np.zeros(noise.size), np.sqrt(1 - phi**2)
    for i in range(noise.size):
        k = states[i]
        if k < 0:
            continue
        last = noise[i] if np.isnan(last) else noise[i] * fresh[k] + phi[k] * last
        power_w[i] = mean_w[k] + sigma_w[k] * last
    return power_w, last
