"""The chapter on energy errors: by run and by method, as records."""

from __future__ import annotations

import pandas as pd

from sitetrace.records import record

# the paper's claim, and our run of its own kind of configuration with its name for that kind
PAPER_LIMIT_PCT = 5.0
SAME_KIND = {"llama-3.1-70b_h100_tp4_poisson_r4": "llama-3-70b_H100_tp4"}


def found(table: pd.DataFrame, paper: pd.DataFrame, dataset: str) -> list[dict]:
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
