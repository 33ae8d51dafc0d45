"""Power within a state: Gaussian, thresholded AR(1), or drawn from the state's own samples.

The paper's AR(1) (``ar1``) pulls the power of the bin before towards the mean of the present state:
after a change of state it drags the level of the old state along. ``ar1_deviation`` carries over
only the deviation from the own state, in standard deviations; it keeps each state's mean and spread
however often states change.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sitetrace.states import Mixture
from sitetrace.walking import autoregressive, own_deviation

KINDS = ("gaussian", "ar1", "ar1_deviation", "empirical")
PHI_THRESHOLD = 0.3
PHI_MAX = 0.99
MIN_STRETCH = 5
QUANTILES = 33


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
