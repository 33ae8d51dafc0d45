"""What the paper's AR(1) does when states change: the level of the old state is dragged along.

With ``p_i = mu_k + phi_k (p_(i-1) - mu_k) + noise`` the power before, not its deviation from its
own state, is carried over. Where states are drawn anew in every bin with the weights w, the mean
power is no longer ``sum w mu`` but ``sum w (1 - phi) mu / sum w (1 - phi)``: states that remember
well count less. The published coefficients are greatest in low states.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from sitetrace.core.registry import read_paper_table
from sitetrace.evaluate.metrics import acf, energy_error_pct
from sitetrace.power.states.mixture import PHI_THRESHOLD, Emissions, Mixture, published_mixture

KINDS = ("gaussian", "ar1", "ar1_deviation")


def mean_power_w(mixture: Mixture, phi: np.ndarray, stay: float) -> float:
    """Mean power of the paper's AR(1) when states change at random."""
    share = mixture.weight / mixture.weight.sum()
    carried = phi[:, None] * (stay * np.eye(share.size) + (1 - stay) * share[:, None])
    given = share * mixture.mean_w * (1 - phi)
    return float(np.linalg.solve(np.eye(share.size) - carried, given).sum())


def published_emissions(config: str) -> tuple[Mixture, Emissions]:
    """Mixture of a published configuration and its AR(1) coefficients."""
    table = read_paper_table("mixtures")
    rows = table[table["config"] == config].sort_values("state")
    mixture = published_mixture(table, config)
    return mixture, Emissions("ar1", rows["phi"].to_numpy(), np.empty((0, 0)))


def published_shifts(stays: tuple[float, ...]) -> pd.DataFrame:
    """Energy shift by the paper's AR(1) for each configuration with published scores."""
    drawn = read_paper_table("fidelity_by_configuration").set_index("config")
    ar1 = read_paper_table("fidelity_ar1").set_index("config")
    rows = []
    for config in ar1.index:
        mixture, emissions = published_emissions(config)
        phi = np.where(emissions.phi >= PHI_THRESHOLD, emissions.phi, 0.0)
        plain_w = mean_power_w(mixture, 0 * phi, 0.0)
        rise = ar1["delta_energy_pct"][config] - drawn["delta_energy_pct_median"][config]
        fall = drawn["acf_r2_median"][config] - ar1["acf_r2"][config]
        for stay in stays:
            shift = 100 * (mean_power_w(mixture, phi, stay) / plain_w - 1)
            rows.append((config, stay, shift, rise, fall))
    return pd.DataFrame(rows, columns=["config", "stay", "shift_pct", "rise_pct", "fall"])


def rank_agreement(shifts: pd.DataFrame) -> pd.DataFrame:
    """Rank correlation of the computed shift with the published rise of the energy error."""
    from scipy.stats import spearmanr

    rows = []
    for stay, part in shifts.groupby("stay"):
        found = spearmanr(part["shift_pct"].abs(), part["rise_pct"])
        ends = part["shift_pct"].quantile([0, 0.5, 1]).tolist()
        rows.append((stay, found.statistic, found.pvalue, *ends))
    names = ["stay", "rank_correlation", "p_value", "least_pct", "median_pct", "greatest_pct"]
    return pd.DataFrame(rows, columns=names)


def draw_states(mixture: Mixture, stay: float, n_bins: int, rng: np.random.Generator) -> np.ndarray:
    """Draw states that are kept with one probability and else drawn by the weights."""
    share = mixture.weight / mixture.weight.sum()
    anew = rng.choice(share.size, size=n_bins, p=share)
    keep = rng.random(n_bins) < stay
    keep[:1] = False
    return anew[np.maximum.accumulate(np.where(keep, 0, np.arange(n_bins)))]


def simulate(
    config: str, stays: tuple[float, ...], n_bins: int, lags: int, rng: np.random.Generator
) -> pd.DataFrame:
    """Draw power of a published mixture, states kept or not, with each kind of emissions."""
    mixture, emissions = published_emissions(config)
    rows = []
    for stay in stays:
        states = draw_states(mixture, stay, n_bins, rng)
        seed = int(rng.integers(2**31))
        drawn = {
            kind: Emissions(kind, emissions.phi, emissions.quantile_w).power_of(
                states, mixture, np.random.default_rng(seed).standard_normal(n_bins)
            )[0]
            for kind in KINDS
        }
        rows += [
            {"stay": stay, "emissions": kind, "mean_w": float(power_w.mean())}
            | {"shift_pct": energy_error_pct(drawn["gaussian"], power_w)}
            | {"sd_w": float(power_w.std()), "acf": acf(power_w, lags)}
            for kind, power_w in drawn.items()
        ]
    return pd.DataFrame(rows)
