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

FIELDS = ("table", "section", "chapter", "source", "untested")


@cache
def claims() -> pd.DataFrame:
    """All numbers of the paper that we could establish, one row each.

    Returns
    -------
    pandas.DataFrame
        Indexed by ``claim``, as ``table:row:column`` (the parts of a row's name joined by ``/``);
        columns ``table``, ``row``, ``column``, ``what``, ``value``, ``unit``, ``better`` (lower,
        higher or None), ``section`` (which part of the paper's method), ``chapter`` (slug of
        the chapter that answers it), ``source``, ``untested`` (why there may be no result).
    """
    rows = []
    for entry in read_json(data_dir() / "paper" / "claims.json")["tables"]:
        table = read_paper_table(entry["table"])
        common = {name: entry[name] for name in FIELDS}
        names = table[entry["key"]].astype(str).agg("/".join, axis=1)
        for column, meaning in entry["columns"].items():
            for name, value in zip(names, table[column], strict=True):
                if pd.notna(value):
                    claim = f"{entry['table']}:{name}:{column}"
                    own = {"claim": claim, "row": name, "column": column, "value": float(value)}
                    rows.append(common | own | meaning)
    # object: None must stay None
    return pd.DataFrame(rows, dtype=object).set_index("claim").astype({"value": float})


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
