"""A recording's states held against known ones: published, or the truth of the testbed."""

from __future__ import annotations

import numpy as np
import pandas as pd

from sitetrace.core.registry import read_paper_table
from sitetrace.core.types import Run
from sitetrace.power.idle import Idle
from sitetrace.power.states.labels import usable
from sitetrace.power.states.mixture import Mixture, published_mixture
from sitetrace.serving.activity import activity_table
from sitetrace.serving.engine import simulate
from sitetrace.testbed import Testbed, true_states

INSIDE, APART = "idle inside", "idle apart"


def reference(twin: str, run: Run) -> Mixture:
    """Take the mixture that a recording's states are held against."""
    if twin:
        return published_mixture(read_paper_table("mixtures"), twin)
    truth = Testbed()
    timeline = simulate(run.requests, truth.server)
    table = activity_table(timeline, run.samples["time_s"].to_numpy(), float(run.dt))
    share = np.bincount(true_states(table), minlength=truth.mean_w.size) / len(table)
    return Mixture(truth.mean_w, np.asarray(truth.sigma_w), share)


def above(mixture: Mixture, power_w: float) -> Mixture:
    """Keep the states above a power, their weights made to sum to one again."""
    keep = mixture.mean_w > power_w
    weight = mixture.weight[keep]
    return Mixture(mixture.mean_w[keep], mixture.sigma_w[keep], weight / weight.sum())


def distance(power_w: np.ndarray, mixture: Mixture) -> float:
    """Kolmogorov-Smirnov distance of samples to a mixture."""
    from scipy.stats import kstest, norm

    def cdf(values_w: np.ndarray) -> np.ndarray:
        each = norm.cdf(np.asarray(values_w)[..., None], mixture.mean_w, mixture.sigma_w)
        return each @ mixture.weight

    return float(kstest(power_w, cdf, method="asymp").statistic)


def distances(frame: pd.DataFrame, idle: Idle, known: Mixture) -> dict[str, float]:
    """Kolmogorov-Smirnov distance of a recording to a mixture, with and without idle."""
    power_w = frame["power_w"].to_numpy()
    working = power_w[usable(frame, idle)[1]]
    return {
        INSIDE: distance(power_w, known),
        APART: distance(working, above(known, idle.band_w)),
    }


def side_by_side(fitted: Mixture, known: Mixture) -> pd.DataFrame:
    """List two mixtures of equally many states, rank by rank."""
    columns = {"state": np.arange(fitted.n_states)}
    for name, mixture in (("fitted", fitted), ("known", known)):
        columns |= {f"{name}_mean_w": mixture.mean_w, f"{name}_sigma_w": mixture.sigma_w}
        columns |= {f"{name}_weight": mixture.weight}
    return pd.DataFrame(columns | {"difference_w": fitted.mean_w - known.mean_w})
