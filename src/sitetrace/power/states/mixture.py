"""States as a Gaussian mixture of power, and the power drawn within them."""

from dataclasses import dataclass

import numba
import numpy as np
import pandas as pd

from sitetrace.core.files import named

KINDS = ("gaussian", "ar1", "ar1_deviation", "empirical")  # how power is drawn within a state
MIN_VARIANCE, QUANTILES = 1e-12, 33
# a state of less autocorrelation draws independently; one is learnt from runs of five samples up
PHI_THRESHOLD, PHI_MAX, MIN_STRETCH = 0.3, 0.99, 5


@dataclass(frozen=True)
class Mixture:
    """Gaussian mixture of power, states in order of their mean (0 is the lowest)."""

    # mean and spread of each state in watts, and its share of the samples, all of shape (K,)
    mean_w: np.ndarray
    sigma_w: np.ndarray
    weight: np.ndarray

    @property
    def n_states(self) -> int:
        """Number of states K."""
        return self.mean_w.size

    def label(self, power_w: np.ndarray) -> np.ndarray:
        """State with the greatest posterior probability of each sample, integers from 0."""
        # ln w_k + ln N(p; mean_k, sigma_k^2), without what all states share
        distance = (np.asarray(power_w)[:, None] - self.mean_w) / self.sigma_w
        return np.argmax(np.log(self.weight) - np.log(self.sigma_w) - distance**2 / 2, axis=1)


@dataclass(frozen=True)
class Emissions:
    """How power is drawn within each state."""

    kind: str  # one of `KINDS`
    phi: np.ndarray  # lag-one autocorrelation within each state, shape (K,), for the two AR(1)
    quantile_w: np.ndarray  # of the power of each state, shape (K, 33), for ``empirical``

    def power_of(self, states, mixture: Mixture, noise, last=np.nan) -> tuple[np.ndarray, float]:
        """Turn random numbers into the watts of states, and what the next bin goes on from."""
        # Noise is standard normal, for ``empirical`` from 0 to 1; a state of -1 is none. `last` is
        # the power of the bin before, for ``ar1_deviation`` its deviation; NaN if there was none.
        if self.kind != "empirical":
            given = (states, mixture.mean_w, mixture.sigma_w, self.memory(), noise, last)
            return _autoregressive(*given, self.kind != "ar1")
        # each state's distribution inverted, linear between its quantiles
        place = noise * (self.quantile_w.shape[1] - 1)
        low = place.astype(int)
        below, above = self.quantile_w[states, low], self.quantile_w[states, low + 1]
        return below + (place - low) * (above - below), last

    def memory(self) -> np.ndarray:
        """Autocorrelation of each state as it is drawn: none below the threshold."""
        return self.phi * ((self.phi >= PHI_THRESHOLD) & self.kind.startswith("ar1"))

    def mean_w(self, mixture: Mixture) -> np.ndarray:
        """Mean power of each state, watts."""
        if self.kind != "empirical":
            return mixture.mean_w
        return (self.quantile_w[:, 1:] + self.quantile_w[:, :-1]).mean(axis=1) / 2


def fit_mixture(power_w: np.ndarray, n_states: int, seed: int) -> Mixture:
    """Fit the power states of a configuration on all its samples, watts."""
    model = _gaussian_mixture(power_w, n_states, seed)
    order = np.argsort(model.means_[:, 0])
    variance = np.maximum(model.covariances_[order, 0, 0], MIN_VARIANCE)
    return Mixture(model.means_[order, 0], np.sqrt(variance), model.weights_[order])


def bic_curve(power_w: np.ndarray, candidates: tuple[int, ...], seed: int) -> pd.DataFrame:
    """Bayesian information criterion (``bic``, smaller is better) by ``n_states``."""
    samples = np.asarray(power_w, dtype=float)[:, None]
    rows = [(k, _gaussian_mixture(power_w, k, seed).bic(samples)) for k in candidates]
    return pd.DataFrame(rows, columns=["n_states", "bic"])


def published_mixture(table: pd.DataFrame, config: str) -> Mixture:
    """Take the paper's fitted mixture of a configuration from its table ``mixtures``."""
    named("mixture of the paper", config, [*table["config"].unique()])
    rows = table[table["config"] == config].sort_values("state")
    return Mixture(*(rows[name].to_numpy() for name in ("mean_w", "sigma_w", "weight")))


def fit_emissions(kind: str, stretches: list[tuple], mixture: Mixture) -> Emissions:
    """Learn the power within states from unbroken stretches of labels and watts."""
    # as the paper: phi_k = sum r_t r_(t+1) / sum r_t^2, r = p - mean_k, over runs of five and more
    upper, lower = np.zeros((2, mixture.n_states))
    pools = [[] for _ in range(mixture.n_states)]
    for labels, power_w in stretches:
        cuts = np.flatnonzero(np.diff(labels)) + 1
        for part, watts in zip(np.split(labels, cuts), np.split(power_w, cuts), strict=True):
            k = part[0]
            pools[k].append(watts)
            if part.size >= MIN_STRETCH:
                residual = watts - mixture.mean_w[k]
                upper[k] += residual[:-1] @ residual[1:]
                lower[k] += residual @ residual
    phi = np.divide(upper, lower, out=np.zeros_like(upper), where=lower > 0).clip(0, PHI_MAX)
    # a state that no sample was given to stands at its mean
    filled = (pool or [[mean_w]] for pool, mean_w in zip(pools, mixture.mean_w, strict=True))
    grid = np.linspace(0, 1, QUANTILES)
    return Emissions(kind, phi, np.array([np.quantile(np.concatenate(p), grid) for p in filled]))


def _gaussian_mixture(power_w: np.ndarray, n_states: int, seed: int):
    from sklearn.mixture import GaussianMixture

    # as the paper's repository (powertrace-sim, ``gmm_bigru_v1``)
    options = {"n_init": 10, "max_iter": 300, "reg_covar": 1e-6, "random_state": seed}
    return GaussianMixture(n_states, **options).fit(np.asarray(power_w, dtype=float)[:, None])


@numba.njit(cache=True, nogil=True)
def _autoregressive(states, mean_w, sigma_w, phi, noise, last, own):
    # The paper's AR(1) of power drags the level of the old state along after a change of state; one
    # of the deviation (`own`, in the state's own spread) does not, however often states change.
    power_w, fresh = np.zeros(noise.size), np.sqrt(1 - phi**2)
    for i in range(noise.size):
        k = states[i]
        if k >= 0 and own:
            last = noise[i] if np.isnan(last) else noise[i] * fresh[k] + phi[k] * last
            power_w[i] = mean_w[k] + sigma_w[k] * last
        elif k >= 0:
            before_w = mean_w[k] if np.isnan(last) else last
            last = mean_w[k] + phi[k] * (before_w - mean_w[k]) + sigma_w[k] * fresh[k] * noise[i]
            power_w[i] = last
    return power_w, last
