"""The chapter on composing a trace: how well one composed trace does, as records."""

from __future__ import annotations

import numpy as np
import pandas as pd

from sitebook.old.judging.intervals import bootstrap_interval
from sitebook.old.ledger.records import record
from sitetrace.evaluate.metrics import energy_error_pct, scores

# the step of the scores that the paper gives, and its claim
STEP_S, PAPER_LIMIT_PCT = 0.25, 5.0
# medians over the 25 configurations of the paper's table fidelity_by_configuration
PAPER_COLUMN = {"acf_r2": "acf_r2_median", "ks": "ks_stat_median", "nrmse": "nrmse_median"}


def found(
    result: dict,
    pairs: list[tuple[np.ndarray, np.ndarray]],
    count_error: float,
    paper: pd.DataFrame,
    rng: np.random.Generator,
    **given: str,
) -> list[dict]:
    """Record how well a composed trace does."""
    each = pd.DataFrame([scores(*pair, STEP_S) for pair in pairs])
    span = {key: (each[key].min(), each[key].max()) for key in each}
    middle = pairs[each["energy_error_signed_pct"].argsort()[len(each) // 2]]
    interval = bootstrap_interval(*middle, STEP_S, energy_error_pct, rng)
    whole, busy = result["native"]["whole"], result["native"]["busy"]
    rows = [
        record("absolute energy error", whole["energy_error_pct"], "%", better="lower",
               paper=PAPER_LIMIT_PCT, interval=span["energy_error_pct"], **given),
        record("signed energy error, middle draw, block bootstrap over time",
               energy_error_pct(*middle), "%", interval=interval, **given),
    ]  # fmt: skip
    for key, name, better in (
        ("acf_r2", "ACF R², 0.25 s, whole recording", "higher"),
        ("ks", "KS, whole recording", "lower"),
        ("nrmse", "NRMSE, whole recording", "lower"),
    ):
        median = float(paper[PAPER_COLUMN[key]].median())
        rows.append(
            record(name, whole[key], "", better=better, paper=median, interval=span[key], **given)
        )
    rows.append(record("KS, busy seconds", busy["ks"], "", **given))
    name = "running requests, mean absolute error"
    return [*rows, record(name, count_error, "requests", **given)]
