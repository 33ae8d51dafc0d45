"""Why the paper's mixtures lie above its training means: the idle ends of the runs left out.

At every fixed point of the EM algorithm the mean of a mixture, ``sum w mu``, is the mean of the
samples it was fitted to. A mixture whose mean is higher than the training mean was fitted on other
samples. Were these the same runs without a share s of samples at the idle power ``mu_0``, then
``mean = (1 - s) sum w mu + s mu_0``: the gap gives s, and s must give the published standard
deviation, which the gap does not know.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from sitebook.old.rereading.models import published_means
from sitetrace.core.registry import read_paper_table
from sitetrace.core.types import Run
from sitetrace.power.states.mixture import fit_mixture

# the paper's runs: as many requests as make about ten minutes at their rate
RUN_S = 600.0


def implied_share(mixture_w: float, training_w: float, idle_w: float) -> float:
    """Share of idle samples that lowers the mean of a mixture to another."""
    return (mixture_w - training_w) / (mixture_w - idle_w)


def published_ends() -> pd.DataFrame:
    """Idle share that would explain each published mixture, and the spread that it predicts."""
    states, known = read_paper_table("mixtures"), read_paper_table("configurations")
    deviation = known.set_index("config")["power_std_w"]
    rows = []
    for config, means in published_means().iterrows():
        part = states[states["config"] == config].sort_values("state")
        weight = part["weight"].to_numpy() / part["weight"].sum()
        square = float(weight @ (part["mean_w"] ** 2 + part["sigma_w"] ** 2))
        mixture_w, training_w = means["mixture_w"], means["normalisation_w"]
        idle_w = float(part["mean_w"].iloc[0])
        share = implied_share(mixture_w, training_w, idle_w)
        restored = (1 - share) * square + share * idle_w**2 - training_w**2
        rows.append(
            {"config": config, "main": bool(means["main"])}
            | {"gap_pct": 100 * (mixture_w / training_w - 1), "share_pct": 100 * share}
            | {"idle_s": share * RUN_S, "lowest_pct": 100 * weight[0]}
            | {"sd_w": deviation[config], "mixture_sd_w": np.sqrt(square - mixture_w**2)}
            | {"restored_sd_w": np.sqrt(restored)}
        )
    return pd.DataFrame(rows)


def spread_errors(ends: pd.DataFrame) -> pd.DataFrame:
    """How far two explanations miss the published standard deviations."""
    columns = {"mixture as published": "mixture_sd_w", "idle ends put back": "restored_sd_w"}
    rows = []
    for name, column in columns.items():
        error_pct = 100 * (ends[column] / ends["sd_w"] - 1).abs()
        rows.append((name, error_pct.median(), error_pct.max()))
    return pd.DataFrame(rows, columns=["explanation", "median_pct", "greatest_pct"])


def own_ends(run: Run, n_states: int, seed: int) -> dict[str, float]:
    """Fit mixtures to a recording with and without its idle ends."""
    power_w = run.samples["power_w"].to_numpy()
    begin, end, _ = run.busy_span()
    busy = run.samples["time_s"].between(begin, end).to_numpy()
    mean_w = power_w.mean()
    whole, trimmed = (
        float(mixture.weight @ mixture.mean_w)
        for mixture in (fit_mixture(part, n_states, seed) for part in (power_w, power_w[busy]))
    )
    idle_w = run.idle_before_load_w() or float(power_w[~busy].mean())
    return {
        "whole_gap_pct": 100 * (whole / mean_w - 1),
        "busy_gap_pct": 100 * (trimmed / mean_w - 1),
        "share_pct": 100 * float(1 - busy.mean()),
        "implied_pct": 100 * implied_share(trimmed, mean_w, idle_w),
    }
