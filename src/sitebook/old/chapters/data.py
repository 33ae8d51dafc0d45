"""The chapter on recordings: what they hold, as records."""

from __future__ import annotations

import pandas as pd

from sitebook.old.ledger.records import record

# the paper's sampling step
PAPER_STEP_S = 0.25


def found(table: pd.DataFrame, meter: list[tuple], dataset: str) -> list[dict]:
    """Record what recordings hold."""
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
