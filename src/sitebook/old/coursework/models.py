"""Exercises on models: medians, ranks, and the mean of many draws."""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd

from sitebook.old.coursework.exercise import Exercise, recording, shipped
from sitetrace.evaluate.judge import aligned, baselines, evaluate
from sitetrace.evaluate.metrics import ks_distance, nrmse
from sitetrace.power.fitting import as_metered

RUNS, DRAWS = ("poisson_low", "bursty", "effects"), 20
SCORES = {
    "energy_error_pct": "native",
    "ks": "native",
    "nrmse": "1s",
    "acf_r2": "native",
}


@cache
def scored(seed: int) -> pd.DataFrame:
    """Score one draw of each model and the baselines on three runs of the testbed."""
    fitting, rows = recording("poisson", seed), []
    for name in RUNS:
        run = recording(name, seed)
        traces = {
            kind: as_metered(shipped(model), run, 1, np.random.default_rng(seed))[0]
            for kind, model in (("states", "testbed"), ("timeline", "testbed_timeline"))
        }
        like = traces["states"]
        clock = (like.start_s, like.dt, like.power_w.size)
        traces |= baselines(fitting, shipped("testbed").server, run.requests, *clock)
        for model, trace in traces.items():
            result = evaluate(run, trace)
            found = {score: result[clock]["whole"][score] for score, clock in SCORES.items()}
            rows.append({"run": name, "model": model} | found)
    return pd.DataFrame(rows)


def _least_ks(seed: int) -> tuple[float, dict[str, float]]:
    table = scored(seed)
    medians, means = (table.groupby("model")["ks"].agg(how) for how in ("median", "mean"))
    return medians.min(), {
        "that is the best single run: take the median over the runs first": table["ks"].min(),
        "that is a mean over the runs: take the median": means.min(),
        "that is the greatest: less is better": medians.max(),
    }


def _mean_rank(seed: int) -> tuple[float, dict[str, float]]:
    table = scored(seed)
    signed = table.assign(acf_r2=-table["acf_r2"]).set_index("model")
    scores = list(SCORES)
    ranks = signed.groupby("run")[scores].rank()
    careless = table.set_index("model").groupby("run")[scores].rank()
    mixed = signed[scores].rank()
    return ranks.loc["timeline"].to_numpy().mean(), {
        "more is better for ACF R²: rank it the other way round": careless.loc["timeline"]
        .to_numpy()
        .mean(),
        "that ranks all runs together: rank within each": mixed.loc["timeline"].to_numpy().mean(),
        "that is the rank of states: take the timeline": ranks.loc["states"].to_numpy().mean(),
    }


def _mean_of_draws(seed: int) -> tuple[float, dict[str, float]]:
    run = recording("poisson_low", seed)
    traces = as_metered(shipped("testbed"), run, DRAWS, np.random.default_rng(seed))
    pairs = [aligned(run, trace) for trace in traces]
    measured_w, drawn_w = pairs[0][0], np.array([generated_w for _, generated_w in pairs])

    def ratio(score: object) -> float:
        return score(measured_w, drawn_w.mean(axis=0)) / np.mean(
            [score(measured_w, each_w) for each_w in drawn_w]
        )

    right = ratio(nrmse)
    return right, {
        "that is the inverse: the mean of the draws goes on top": 1 / right,
        "that is the ratio of KS: take NRMSE": ratio(ks_distance),
        "that is a ratio of squares: NRMSE is a root": right**2,
        "that holds where the recording is like one more draw: compute it": np.sqrt(
            (1 + 1 / DRAWS) / 2
        ),
        "one over the root of the draws is for noise alone: the recording has its own": DRAWS**-0.5,
    }


EXERCISES = {
    "models-1": Exercise(_least_ks, 0.002, ""),
    "models-2": Exercise(_mean_rank, 0.02, ""),
    "models-3": Exercise(_mean_of_draws, 0.01, ""),
}
