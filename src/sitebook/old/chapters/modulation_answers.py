"""What the page on power modulation answers: summaries, verdicts over the rules, records."""

from __future__ import annotations

import numpy as np
import pandas as pd

from sitebook.old.ledger.records import record
from sitetrace.studies import setpoint

FEW = 1.0
ANSWERED = {
    "holds_s": ("time until the median TTFT exceeds 10 s", "s"),
    "ttft_p95_ratio": ("TTFT P95 over usual", ""),
    "tpot_ratio": ("time per token over usual", ""),
    "rebound_pct": ("rebound after the release", "% of usual power"),
}
SUMMED = ("mean_over_pct", "ttft_p50_s", "ttft_p95_s", "ttft_p95_ratio", "tpot_ratio", "holds_s",
          "queue", "batch", "rebound_pct", "returned_pct")  # fmt: skip


def cost_of(table: pd.DataFrame, shed_pct: float) -> pd.DataFrame:
    """Read off what shedding a given share costs, on a straight line between places."""
    found = []
    for (rate, name), part in table.groupby(["rate", "lever"], sort=False):
        lines = []
        for _, line in part.groupby("label", sort=False):
            told = {"most": max(line["shed_pct"].max(), 0.0)}
            for column in ("ttft_p50_ratio", "ttft_p95_ratio", "tpot_ratio"):
                rising = np.maximum.accumulate([0.0, *line["shed_pct"]])
                cost = np.array([1.0, *line[column]])
                reach = shed_pct <= rising[-1]
                told[column] = np.interp(shed_pct, rising, cost) if reach else np.nan
            lines.append(told)
        ends = pd.DataFrame(lines).agg(["min", "max"])
        told = {"requests_per_s": rate, "lever": name}
        for column in ends:
            told |= {f"{column}_low": ends[column]["min"], f"{column}_high": ends[column]["max"]}
        found.append(told)
    return pd.DataFrame(found)


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Put `calls` in one row a lever, share and arm."""
    found = []
    for (name, asked, arm), part in table.groupby(["lever", "asked_pct", "arm"], sort=False):
        by_label = part.groupby("label", sort=False)["shed_pct"].mean()
        ends = (by_label.min(), by_label.max())
        if len(by_label) == 1:
            ends = setpoint.interval(part["shed_pct"])
        told = {"lever": name, "asked_pct": asked, "arm": arm, "shed_pct": by_label.mean()}
        told |= {"low": ends[0], "high": ends[1]}
        told["missed_pct"] = 100 * (part["missed_kwh"] / part["asked_kwh"]).median()
        for column in SUMMED:
            told[column] = part[column].median()
        found.append(told)
    return pd.DataFrame(found)


def verdicts(table: pd.DataFrame) -> pd.DataFrame:
    """Say which lever delivers which share, and for which it keeps the first token below 10 s."""
    found = []
    for (name, asked), part in table[table["arm"] == "followed"].groupby(
        ["lever", "asked_pct"], sort=False
    ):
        groups = [each for _, each in part.groupby("label")]
        down = [each["mean_over_pct"].median() <= FEW for each in groups]
        lasted = [each["lasted"].mean() > 0.5 for each in groups]
        told = {"lever": name, "asked_pct": asked}
        found.append(told | {"delivers": _agreed(down), "holds": _agreed(lasted)})
    return pd.DataFrame(found)


def _agreed(answers: list[bool]) -> str:
    if all(answers):
        return "yes"
    return "depends on the clock rule" if any(answers) else "no"


def by_rule(table: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Put the variants of the clock in one row, with the range over them."""
    keys = [name for name in ("signal", "lever", "latency_s") if name in table]

    def told(part: pd.Series) -> str:
        ends = [f"{end:.3g}" for end in (part.min(), part.max())]
        if part.isna().all():
            return "–"
        return ends[0] if ends[0] == ends[1] else " to ".join(ends)

    found = table.groupby(keys, sort=False)[columns].agg(told).reset_index()
    return found.assign(
        rests_on=np.where(found["lever"] == "clock", "assumed rule", "fitted model")
    )


def found(
    costs: pd.DataFrame, stepped: pd.DataFrame, called: pd.DataFrame, tracked: pd.DataFrame,
    dataset: str, model: str,
) -> list[dict]:  # fmt: skip
    """Record what a row can shed, how fast, for how long, and how well it follows."""
    given = {"data": dataset, "dataset": model}
    rows = []

    def add(name: str, values: np.ndarray, unit: str, ends: tuple | None = None) -> None:
        values = np.asarray(values, dtype=float)
        if np.isnan(values).any():
            rows.append(record(name, None, unit, **given))
            return
        middle = float(np.median(values))
        if values.size == 1 and ends is None:
            rows.append(record(name, middle, unit, **given))
            return
        low, high = ends or (values.min(), values.max())
        interval = (min(float(low), middle), max(float(high), middle))
        rows.append(record(name, middle, unit, interval=interval, **given))

    for row in costs.itertuples():
        at = f"{row.lever}, {row.requests_per_s:g} requests/s a server"
        add(f"most shed at the places tried, {at}", np.unique([row.most_low, row.most_high]), "%")
    for (lever, late), part in stepped.groupby(["lever", "latency_s"], sort=False):
        ends = (part["low_s"].min(), part["high_s"].max())
        name = f"time to 90% of the shed watts, {lever}, command acts {late:g} s late"
        add(name, part["reached_s"], "s", ends)
    for row in summary(called).query("arm == 'followed'").itertuples():
        at = f"{row.lever}, {row.asked_pct:g}% asked"
        add(f"shed on request by {at}", [row.shed_pct], "%", (row.low, row.high))
        part = called[(called["lever"] == row.lever) & (called["arm"] == "followed")]
        part = part[part["asked_pct"] == row.asked_pct]
        for column, (name, unit) in ANSWERED.items():
            middles = part.groupby("label")[column].median().round(3)
            ends = setpoint.interval(part[column], np.median) if len(middles) == 1 else None
            add(f"{name}, {at}", middles, unit, ends)
    for (signal, lever), part in tracked.groupby(["signal", "lever"], sort=False):
        ends = (part["low"].min(), part["high"].max())
        add(f"tracking error, {signal}, {lever}", part["nrmse_pct"], "%", ends)
    return rows


def conclusion(costs: pd.DataFrame, stepped: pd.DataFrame, judged: pd.DataFrame) -> str:
    """Say which lever sheds how much, how fast, and for how long."""
    lines = []
    for lever in costs["lever"].unique():
        most = costs.loc[costs["lever"] == lever, "most_low"]
        fast = stepped.loc[stepped["lever"] == lever, "reached_s"].iloc[0]
        part = judged[judged["lever"] == lever]
        answers = [
            f"-{row.asked_pct:.0f}%: delivered {row.delivers}, first token in time {row.holds}"
            for row in part.itertuples()
        ]
        speed = (
            "no step" if np.isnan(fast) else f"90% of a step within {5 * np.ceil(fast / 5):.0f} s"
        )
        tens = 10 * np.round(most.max() / 10)
        sheds = f"sheds about {tens:.0f}% at most, {speed}" if tens else "sheds next to nothing"
        lines.append("; ".join([f"{lever}: {sheds}", *answers]))
    return "\n".join(lines)
