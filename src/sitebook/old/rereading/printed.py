"""Formulas on printed numbers: what they give, and what the rounding of the print leaves open."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

from sitebook.old.ledger.claims import claim, claims
from sitebook.old.ledger.records import record


def counted(name: str, value: float, unit: str, tables: str, answers: str | None = None) -> dict:
    """Record a number that was counted or computed without rounding to be reckoned with."""
    return record(name, float(value), unit, data="paper", dataset=tables, claim=answers)


def derived(
    name: str,
    function: Callable[..., float],
    inputs: list[str],
    unit: str = "",
    answers: str | None = None,
) -> dict:
    """Record what a formula gives on printed numbers, with the interval that rounding leaves."""
    cells = claims().loc[inputs]
    value, slack = cells["value"].to_numpy(), cells["rounding"].to_numpy()
    ends = [function(*corner) for corner in product(*zip(value - slack, value + slack))]
    more = 0.0
    if answers:
        unit, more = claim(answers)["unit"], claim(answers)["rounding"]
    tables = " + ".join(sorted(set(cells["table"])))
    interval = (min(ends) - more, max(ends) + more)
    return record(
        name,
        function(*value),
        unit,
        data="paper",
        dataset=tables,
        interval=interval,
        claim=answers,
    )
