"""What each chapter found: its results as records, beside the paper's numbers."""

from __future__ import annotations

import numpy as np
import pandas as pd

from sitetrace.floors import bootstrap_interval
from sitetrace.metrics import energy_error_pct, scores
from sitetrace.records import record

# medians over the 25 configurations of the paper's table fidelity_by_configuration, and its claim
PAPER_STEP_S, PAPER_LIMIT_PCT = 0.25, 5.0
PAPER_COLUMN = {"acf_r2": "acf_r2_median", "ks": "ks_stat_median", "nrmse": "nrmse_median"}
# our run of the paper's own kind of configuration, and the paper's name for that kind
SAME_KIND = {"llama-3.1-70b_h100_tp4_poisson_r4": "llama-3-70b_H100_tp4"}


def of_data(table: pd.DataFrame, meter: list[tuple], dataset: str) -> list[dict]:
    """Record what recordings hold.

    Parameters
    ----------
    table : pandas.DataFrame
        Result of `sitetrace.recordings.overview`.
    meter : list of tuple
        Run, GPU type, rise time and lag of each recording that begins at rest.
    dataset : str
        ``measured`` or ``testbed``.

    Returns
    -------
    list of dict
        Records.
    """
    step_s = float(table["step_s"].median())
    rows = [
        record("usual distance of power samples", step_s, "s", data=dataset, paper=PAPER_STEP_S,
               dataset="median over recordings", same_kind=True),
        record("longest gap between samples", float(table["longest_gap_s"].max()), "s",
               data=dataset, dataset="all recordings"),
    ]  # fmt: skip
    for run, hardware, rise_s, _ in meter:
        name = f"time to 80% of busy power ({hardware})"
        rows.append(record(name, rise_s, "s", data=dataset, dataset=run))
    for row in table.dropna(subset="idle_w").itertuples():
        rows.append(
            record("idle power before load", row.idle_w, "W", data=dataset, dataset=row.run)
        )
    return rows


def of_composing(
    result: dict,
    pairs: list[tuple[np.ndarray, np.ndarray]],
    count_error: float,
    paper: pd.DataFrame,
    rng: np.random.Generator,
    **given: str,
) -> list[dict]:
    """Record how well a composed trace does.

    Parameters
    ----------
    result : dict
        Result of `sitetrace.evaluate` over the draws.
    pairs : list of tuple of numpy.ndarray
        Recorded and generated power of each draw at 0.25 s, watts.
    count_error : float
        Mean absolute error of the simulated running count.
    paper : pandas.DataFrame
        The paper's table ``fidelity_by_configuration``.
    rng : numpy.random.Generator
        Source of randomness of the bootstrap.
    **given : str
        ``data`` and ``dataset`` of every record.

    Returns
    -------
    list of dict
        Records; intervals are ranges over the draws, that of the signed error a bootstrap.
    """
    each = pd.DataFrame([scores(*pair, PAPER_STEP_S) for pair in pairs])
    span = {key: (each[key].min(), each[key].max()) for key in each}
    middle = pairs[each["energy_error_signed_pct"].argsort()[len(each) // 2]]
    interval = bootstrap_interval(*middle, PAPER_STEP_S, energy_error_pct, rng)
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


def of_energy_errors(table: pd.DataFrame, paper: pd.DataFrame, dataset: str) -> list[dict]:
    """Record energy errors by run and by method.

    Parameters
    ----------
    table : pandas.DataFrame
        Results of `sitetrace.comparison.compare`, split below split.
    paper : pandas.DataFrame
        The paper's table ``fidelity_by_configuration``.
    dataset : str
        ``measured`` or ``testbed``.

    Returns
    -------
    list of dict
        Records; the interval of a run is the range over the draws.
    """
    ours, published = table[table["method"] == "states"], paper["delta_energy_pct_median"]
    given = {"data": dataset, "dataset": f"{len(ours)} judged parts"}
    below, published_below = ((column < PAPER_LIMIT_PCT).mean() for column in (
        ours["energy_error_pct"], published))  # fmt: skip
    rows = [
        record("share of judged parts with an energy error below 5%", float(below), "",
               paper=float(published_below), better="higher", **given),
        record("median absolute energy error over judged parts",
               float(ours["energy_error_pct"].median()), "%", paper=float(published.median()),
               better="lower", **given),
    ]  # fmt: skip
    by_name = paper.set_index("config")["delta_energy_pct_median"]
    for row in ours.itertuples():
        kind = SAME_KIND.get(row.judged)
        rows.append(
            record("absolute energy error", row.energy_error_pct, "%", data=dataset,
                   dataset=f"{row.fitted} → {row.judged}", interval=(row.low_pct, row.high_pct),
                   paper=float(by_name[kind]) if kind else None, better="lower",
                   same_kind=kind is not None)
        )  # fmt: skip
    for method, part in table[table["method"] != "states"].groupby("method", sort=False):
        name = f"median absolute energy error, {method}"
        rows.append(record(name, float(part["energy_error_pct"].median()), "%", **given))
    return rows
