"""Formulas on printed numbers: what they give, and what the rounding of the print leaves open."""

from __future__ import annotations

from sitebook.old.ledger.records import record


def counted(name: str, value: float, unit: str, tables: str, answers: str | None = None) -> dict:
    """Record a number that was counted or computed without rounding to be reckoned with."""
    return record(name, float(value), unit, data="paper", dataset=tables, claim=answers)
