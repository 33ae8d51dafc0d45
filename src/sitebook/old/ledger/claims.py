"""The paper's numbers one by one: each a claim with a name, which results and the ledger refer to.

A claim is a cell of one of the tables in ``data/paper``; ``data/paper/claims.json`` says which
columns identify a row, which are claims, and what they mean.
"""

from __future__ import annotations

from functools import cache

import pandas as pd

from sitetrace.core.files import InputError, read_json, read_text_table
from sitetrace.core.registry import data_dir

FIELDS = ("kind", "what", "unit", "better", "section", "chapter", "source", "untested")


@cache
def claims() -> pd.DataFrame:
    """All numbers of the paper that we could establish, one row each."""
    entries = read_json(data_dir() / "paper" / "claims.json")["tables"]
    rows = [row for entry in entries for row in _claims_of(entry)]
    # object: None must stay None
    return (
        pd.DataFrame(rows, dtype=object)
        .set_index("claim")
        .astype({"value": float, "rounding": float})
    )


def _claims_of(entry: dict) -> list[dict]:
    """List the claims of a table; what its entry leaves out, the table says row by row."""
    table = read_text_table(data_dir() / "paper" / f"{entry['table']}.csv")
    for column, kept in entry.get("only", {}).items():
        table = table[table[column].isin(kept)]
    rows = []
    for cells in table.to_dict("records"):
        name = "/".join(cells[key] for key in entry["key"])
        for column, meaning in entry["columns"].items():
            told = {"kind": "result"} | entry | meaning
            if cells[column]:
                row = {"claim": f"{entry['table']}:{name}:{column}", "table": entry["table"]}
                row |= {"row": name, "column": column, "value": float(cells[column])}
                row["rounding"] = 0.0 if told["kind"] == "setting" else _rounding(cells[column])
                row |= {field: {**cells, **told}[field] for field in FIELDS}
                rows.append(row | {"better": row["better"] or None})
    return rows


def _rounding(printed: str) -> float:
    """Half a unit of the last printed digit; what has no decimals was counted."""
    return 0.5 * 10.0 ** -len(printed.partition(".")[2]) if "." in printed else 0.0


def claim(name: str) -> pd.Series:
    """Look a claim up."""
    known = claims()
    if name not in known.index:
        table = name.partition(":")[0]
        near = ", ".join(known.index[known["table"] == table][:3]) or "none of that table"
        raise InputError(f"claim {name!r}: not in data/paper/claims.json: there are {near}")
    return known.loc[name]
