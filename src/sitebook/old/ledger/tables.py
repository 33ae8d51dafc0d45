"""Tables for pages: the same look, no index, a dash where there is no number."""

from __future__ import annotations

import re
from html import escape
from typing import TYPE_CHECKING

import pandas as pd
from pandas.io.formats.style import Styler

if TYPE_CHECKING:
    from IPython.display import HTML

MANY = 12  # records, from which on a reader wants to choose
UNITS = {
    "pct": "%", "rps": "requests/s", "kva": "kVA", "mva": "MVA", "mw": "MW", "mwh": "MWh",
    "kw": "kW", "kwh": "kWh", "w": "W", "s": "s", "pu": "pu",
}  # fmt: skip
SHORT = {
    "ks": "KS", "acf": "ACF", "r2": "R²", "nrmse": "NRMSE", "bic": "BIC", "par": "PAR",
    "cov": "CoV", "cv": "CV", "ttft": "TTFT", "tpot": "TPOT", "gpu": "GPU", "it": "IT",
    "p50": "P50", "p90": "P90", "p95": "P95", "p99": "P99",
}  # fmt: skip


def heading(name: str) -> str:
    """Write a column's name for a reader: words, the glossary's abbreviations, the unit last."""
    units = list(re.finditer(rf"_({'|'.join(UNITS)})(?=$|_|,)", name))
    if units and "per_" not in name:
        unit = units[-1]
        name = f"{name[: unit.start()]}{name[unit.end() :]} [{UNITS[unit[1]]}]"
    return " ".join(SHORT.get(word, word) for word in name.replace("_", " ").split(" "))


def show(table: pd.DataFrame, digits: int = 2) -> Styler:
    """Lay a table out for a page."""
    renamed = table.rename(columns=lambda name: heading(str(name))).map(_breakable)
    style = renamed.style.hide(axis="index").format(precision=digits, na_rep="–")
    return style.set_table_attributes('class="dataframe"')


def _breakable(cell: object) -> object:
    """Let a name such as ``llama-3.1-70b_h100_cut`` break where a page is narrow."""
    if isinstance(cell, str) and "<" not in cell:
        return cell.replace("_", "_<wbr>")
    return cell


def record_cells(rows: list[dict]) -> pd.DataFrame:
    """Write records as text, cell by cell."""

    def number(value: float | None) -> str:
        return "–" if value is None else f"{value:.4g}"

    cells = [
        {
            "what": row["name"],
            "found": f"{number(row['value'])} {row['unit']}".strip(),
            "interval": " to ".join(map(number, row["interval"] or [None])),
            "data": f"{row['data']}: {row['dataset'].replace('_', ' ')}",
            "paper": number(row["paper"]),
            "verdict": row["verdict"] or "–",
        }
        for row in rows
    ]
    return pd.DataFrame(cells)


def show_records(rows: list[dict]) -> Styler | HTML:
    """Lay records out for a page; of many, those without a number of the paper are folded away."""
    from IPython.display import HTML

    if len(rows) <= MANY:
        return show(record_cells(rows))
    beside = [row for row in rows if row["paper"] is not None]
    others = [row for row in rows if row["paper"] is None]
    shown = show(record_cells(beside)).to_html() if beside else ""
    title = "Results beside which the paper has no number"
    return HTML(shown + folded(title, record_cells(others)) if others else shown)


def describe(values: object) -> Styler:
    """Lay the fields of a dataclass out, one row each."""
    from dataclasses import asdict

    rows = [{"field": name, "value": f"{value:.4g}"} for name, value in asdict(values).items()]
    return show(pd.DataFrame(rows))


def ledger_cells(lines: pd.DataFrame) -> pd.DataFrame:
    """Write lines of the ledger as text, cell by cell."""
    return pd.DataFrame([_ledger_line(line) for line in lines.to_dict("records")])


def _ledger_line(line: dict) -> dict:
    def number(value: float) -> str:
        return f"{value:.0f}" if float(value).is_integer() else f"{value:.5g}"

    answered = pd.notna(line["page"])
    ours = number(line["ours"]) if pd.notna(line["ours"]) else "–"
    if pd.notna(line["low"]):
        ours += f" ({number(line['low'])} to {number(line['high'])})"
    return {
        "what": line["what"],
        "of": line["row"].replace("_", " "),
        "paper": f"{number(line['value'])} {line['unit']}".strip(),
        "ours": ours,
        "data": f"{line['data']}: {line['dataset'].replace('_', ' ')}" if answered else "–",
        "verdict": line["verdict"] + (f" ({line['why']})" if line["why"] else ""),
        "page": line["page"] if answered else "",
    }


def folded(title: str, cells: pd.DataFrame) -> str:
    """Lay a long table out so that it unfolds on demand and scrolls within its own box."""
    label = escape(title, quote=True)
    if cells.empty:
        return f"<p>{label}: none.</p>"
    text = cells.map(lambda cell: "–" if pd.isna(cell) else escape(str(cell)))
    if "page" in text:
        text["page"] = text["page"].map(
            lambda page: page and f'<a href="{page}.html#answer">{page}</a>'
        )
    with pd.option_context("display.max_colwidth", None):
        headed = text.rename(columns=heading)
        table = headed.to_html(index=False, escape=False, border=0, classes="dataframe")
    return (
        f"<details><summary>{label} ({len(text)})</summary>"
        f'<div class="folded" role="region" aria-label="{label}" tabindex="0">{table}</div>'
        "</details>"
    )


def beside_cells(rows: list[dict]) -> pd.DataFrame:
    """Write records of several pages as text, cell by cell."""
    return record_cells(rows).assign(page=[row["page"] for row in rows])
