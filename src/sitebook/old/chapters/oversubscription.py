"""The chapter on oversubscription: the paper's rule on equal terms, the risk, a cap, a battery."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from sitebook.old.ledger.claims import claim
from sitebook.old.ledger.records import record
from sitebook.old.sites.row_days import Days
from sitetrace.core.registry import read_paper_table
from sitetrace.planning.series import mean_w, par
from sitetrace.studies.battery import EFFICIENCY, racks_held
from sitetrace.studies.capacity import (
    capacity,
    constant_capacity,
    most_racks,
    peak_spread,
    risk_curve,
)
from sitetrace.workload.clients import read_rates

TERMS = ("as published", "IT power for all", "with PUE for all")
METHODS = ("nameplate", "mean", "generated")
RISKS = (0.01, 0.05)
DAY_S = 86400.0


def paper_terms() -> dict[str, float]:
    """Give the numbers that the paper's study fixes."""
    names = {
        "limit_kw": "row_limit",
        "rack_kw": "rack_tdp",
        "pue": "pue",
        "overhead_w": "overhead",
        "draws": "subset_draws",
        "seed": "oversubscription_seed",
    }
    return {name: float(claim(f"settings:{key}:value")["value"]) for name, key in names.items()}


def daily_loads(rates: Path | str, days: int, cv: float, seed: int) -> list[float]:
    """Give days their loads, those nearest the mean first."""
    if rates:
        table = read_rates(rates)
        totals = table.groupby(table["window_start_s"] // DAY_S)["rate_rps"].sum()
        picked = np.linspace(0, len(totals) - 1, days).round().astype(int)
        loads = (totals / totals.mean()).iloc[picked]
    else:
        sigma = np.sqrt(np.log1p(cv**2))
        loads = np.random.default_rng(seed).lognormal(-0.5 * sigma**2, sigma, days)
    return sorted(map(float, loads), key=lambda load: abs(load - 1.0))


def load_of(days: Days) -> pd.DataFrame:
    """Compare the first day's load with that of the paper's site."""
    total_w = days.racks_w.sum(axis=0)
    paper = read_paper_table("hierarchy").set_index("level")
    rows = [
        ("mean of a rack [kW]", mean_w(days.racks_w) / 1e3, paper.loc["rack", "mean_kw"]),
        ("peak to average, all racks, 1 s", par(total_w), paper.loc["site", "par_1s"]),
    ]
    return pd.DataFrame(rows, columns=["quantity", "first day", "the paper's site"])


def methods(days: Days, limit_kw: float, rack_kw: float, available: int) -> pd.DataFrame:
    """Count racks by each method, on the paper's terms and on equal ones."""
    terms, limit_w = paper_terms(), 1e3 * limit_kw
    pue, racks_w = terms["pue"], days.racks_w[:available]
    rack_w, draws, seed = mean_w(racks_w), int(terms["draws"]), int(terms["seed"])
    generated = {
        factor: capacity(factor * racks_w, limit_w, draws, np.random.default_rng(seed))
        for factor in (1.0, pue)
    }
    rows = []
    for name, nameplate_w, mean_factor, factor in (
        (TERMS[0], 1e3 * rack_kw, pue, 1.0),
        (TERMS[1], days.nameplate_w, 1.0, 1.0),
        (TERMS[2], pue * days.nameplate_w, pue, pue),
    ):
        counts = (
            constant_capacity(nameplate_w, limit_w),
            constant_capacity(mean_factor * rack_w, limit_w),
            generated[factor],
        )
        rows += [
            {"terms": name, "method": method} | count
            for method, count in zip(METHODS, counts, strict=True)
        ]
    return pd.DataFrame(rows)


def beside_paper(table: pd.DataFrame) -> pd.DataFrame:
    """Put the paper's counts above ours."""
    names = {"tdp": "nameplate", "mean": "mean", "ours": "generated"}
    names |= {"splitwise_b": "Splitwise's table, B", "splitwise_b_prime": "Splitwise's table, B′"}
    paper = read_paper_table("oversubscription")
    paper = paper.assign(source="the paper", terms=TERMS[0], method=paper["method"].map(names))
    return pd.concat([paper, table], ignore_index=True)[
        ["source", "terms", "method", "racks", "peak_p50_kw", "peak_p95_kw"]
    ]


def risks(days: Days, limit_kw: float) -> pd.DataFrame:
    """Give the risk at every number of racks."""
    return risk_curve(days.peaks, 1e3 * limit_kw)


def spread(days: Days) -> pd.DataFrame:
    """Give the spread of the peak at 1 s."""
    table = peak_spread(days.peaks).query("step_s == 1").reset_index(drop=True)
    racks, most = table["racks"], table["racks"].max()
    left = np.sqrt(racks * (1.0 - racks / most))
    # one constant: the spread of a rack when the row peaks
    scale = (table["within_kw"] * left).sum() / (left**2).sum()
    return table.assign(expected_kw=scale * left)


def crossing(curve: pd.DataFrame) -> pd.DataFrame:
    """Show the risk curve where it rises: from the last sure number to the first hopeless one."""
    wide = curve.pivot(index="racks", columns="step_s", values="probability")
    rising = wide.index[(wide[1] > 0) & (wide[900] < 1)]
    first, last = (rising[0] - 1, rising[-1] + 1) if len(rising) else (wide.index[-1],) * 2
    table = curve[(curve["step_s"] == 1) & curve["racks"].between(first, last)]
    others = wide.loc[table["racks"], [60, 900]].to_numpy()
    shown = table.drop(columns="step_s").assign(at_1_min=others[:, 0], at_15_min=others[:, 1])
    return shown.reset_index(drop=True)


def caps(days: Days) -> pd.DataFrame:
    """Say what a cap cuts, and what battery would spare it, at each number above the limit."""
    table = days.caps.drop(columns=["day", "draw"]).groupby("racks").median()
    strongest = days.needs[days.needs["rate_w"] == days.needs["rate_w"].max()]
    table["battery_kwh"] = strongest.groupby("racks")["needed_kwh"].median()
    return table[table["greatest_kw"] > 0].reset_index()


def held(days: Days, stores_kwh: list[float]) -> pd.DataFrame:
    """Count racks that batteries carry."""
    return racks_held(days.needs, stores_kwh)


def found(
    counts: pd.DataFrame,
    days: Days,
    curve: pd.DataFrame,
    carried: pd.DataFrame,
    source: str,
    dataset: str,
    *,
    answers: bool,
) -> list[dict]:
    """Make the records of one configuration."""
    told = {"data": source, "dataset": dataset}
    rows = []
    for row in counts.to_dict("records"):
        if row["terms"] == TERMS[0] and row["method"] == METHODS[2]:
            rows += _answers(days, told, answers)
            continue
        name = f"racks in a row, {row['method']}, {row['terms']}"
        rows.append(record(name, row["racks"], "racks", **told))
    for risk in RISKS:
        for step_s, racks in most_racks(curve, risk).items():
            name = f"racks with at most {100 * risk:g}% of days above the limit, {step_s:g} s means"
            rows.append(record(name, int(racks), "racks", **told))
    for rate_w, part in carried.groupby("rate_w"):
        last = part.iloc[-1]
        name = f"racks with a battery of {last['store_kwh']:g} kWh and {rate_w / 1e3:g} kW"
        rows.append(record(name, int(last["racks"]), "racks", **told))
    return rows


def _answers(days: Days, told: dict, answers: bool) -> list[dict]:
    """Answer the paper's row of generated racks; the interval is the range over days."""
    rows = []
    for column, what, unit in (
        ("racks", "racks in a row, generated, as published", "racks"),
        ("peak_p50_kw", "median peak of that many racks", "kW"),
        ("peak_p95_kw", "95th percentile of the peak of that many racks", "kW"),
    ):
        values = days.capacity[column]
        name = f"oversubscription:ours:{column}" if answers else None
        ends = (float(values.min()), float(values.max()))
        middle = float(values.median())
        rows.append(record(what, middle, unit, interval=ends, claim=name, **told))
    return rows


def conclusion(counts: pd.DataFrame, spread_kw: pd.DataFrame, carried: pd.DataFrame) -> str:
    """Say what the page found."""
    racks = counts.set_index(["terms", "method"])["racks"]
    gain = {term: racks[term, METHODS[2]] / racks[term, METHODS[0]] for term in TERMS[:2]}
    last = spread_kw.iloc[-1]
    without = carried.loc[carried["store_kwh"] == 0, "racks"].min()
    most = carried["racks"].max()
    return "\n".join(
        [
            f"racks by trace over racks by nameplate: {gain[TERMS[0]]:.1f} as published, "
            f"{gain[TERMS[1]]:.1f} with the boards' own nameplate",
            f"spread of the peak of all {last['racks']:.0f} racks: {last['within_kw']:.1f} kW over "
            f"subsets, {'more' if last['between_kw'] > 0 else 'no more'} over days",
            f"no exceedance, 95% of days and subsets: {without} racks without a battery, "
            f"{most} with the greatest (round trip {100 * EFFICIENCY:.0f}%)",
        ]
    )
