"""The paper's numbers one by one: each a claim with a name, which results and the ledger refer to.

A claim is a cell of one of the tables in ``data/paper``; ``data/paper/claims.json`` says which
columns identify a row, which are claims, and what they mean.
"""

from __future__ import annotations

from functools import cache

import pandas as pd

from sitetrace.datasets import data_dir
from sitetrace.files import InputError, read_json
from sitetrace.paper import read_paper_table

FIELDS = ("kind", "what", "unit", "better", "section", "chapter", "source", "untested")


@cache
def claims() -> pd.DataFrame:
    """All numbers of the paper that we could establish, one row each.

    Returns
    -------
    pandas.DataFrame
        Indexed by ``claim``, as ``table:row:column`` (the parts of a row's name joined by ``/``);
        columns ``table``, ``row``, ``column``, ``value``, ``kind`` (result or setting), ``what``,
        ``unit``, ``better`` (lower, higher or None), ``section`` (which part of the paper's
        method), ``chapter`` (slug of the chapter that answers it), ``source``, ``untested`` (why
        there may be no result).
    """
    entries = read_json(data_dir() / "paper" / "claims.json")["tables"]
    rows = [row for entry in entries for row in _claims_of(entry)]
    # object: None must stay None
    return pd.DataFrame(rows, dtype=object).set_index("claim").astype({"value": float})


def _claims_of(entry: dict) -> list[dict]:
    """List the claims of a table; what its entry leaves out, the table says row by row."""
    table = read_paper_table(entry["table"]).fillna({"unit": ""})
    names = [_name(parts) for parts in table[entry["key"]].itertuples(index=False)]
    rows = []
    for column, meaning in entry["columns"].items():
        told = {"kind": "result"} | entry | meaning
        for name, cells in zip(names, table.to_dict("records"), strict=True):
            if pd.notna(cells[column]):
                row = {"claim": f"{entry['table']}:{name}:{column}", "table": entry["table"]}
                row |= {"row": name, "column": column, "value": float(cells[column])}
                rows.append(row | {field: {**cells, **told}[field] for field in FIELDS})
    return rows


def _name(parts: tuple) -> str:
    """Name of a row: numbers short (900, not 900.0), parts joined by a stroke."""
    return "/".join(part if isinstance(part, str) else f"{part:g}" for part in parts)


def claim(name: str) -> pd.Series:
    """Look a claim up.

    Parameters
    ----------
    name : str
        ``table:row:column``.

    Returns
    -------
    pandas.Series
        Its row of `claims`.

    Raises
    ------
    InputError
        If there is none of that name.
    """
    known = claims()
    if name not in known.index:
        table = name.partition(":")[0]
        near = ", ".join(known.index[known["table"] == table][:3]) or "none of that table"
        raise InputError(f"claim {name!r}: not in data/paper/claims.json: there are {near}")
    return known.loc[name]
