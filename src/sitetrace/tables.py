"""Tables for pages: the same look, no index, a dash where there is no number."""

from __future__ import annotations

import pandas as pd
from pandas.io.formats.style import Styler


def show(table: pd.DataFrame, digits: int = 2) -> Styler:
    """Lay a table out for a page.

    Parameters
    ----------
    table : pandas.DataFrame
        What is to be shown.
    digits : int
        Decimals of its floats.

    Returns
    -------
    pandas.io.formats.style.Styler
        Without index; column names with spaces, so that narrow pages can break them.
    """
    renamed = table.rename(columns=lambda name: str(name).replace("_", " "))
    style = renamed.style.hide(axis="index").format(precision=digits, na_rep="–")
    return style.set_table_attributes('class="dataframe"')


def record_cells(rows: list[dict]) -> pd.DataFrame:
    """Write records as text, cell by cell.

    Parameters
    ----------
    rows : list of dict
        Made by `sitetrace.records.record`.

    Returns
    -------
    pandas.DataFrame
        One row a number: value, interval, source, the paper's value, verdict.
    """

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


def show_records(rows: list[dict]) -> Styler:
    """Lay records out for a page.

    Parameters
    ----------
    rows : list of dict
        Made by `sitetrace.records.record`.

    Returns
    -------
    pandas.io.formats.style.Styler
        The cells of `record_cells`.
    """
    return show(record_cells(rows))


def describe(values: object) -> Styler:
    """Lay the fields of a dataclass out, one row each.

    Parameters
    ----------
    values : object
        A dataclass of numbers, such as a `Server`.

    Returns
    -------
    pandas.io.formats.style.Styler
        Field and value.
    """
    from dataclasses import asdict

    rows = [{"field": name, "value": f"{value:.4g}"} for name, value in asdict(values).items()]
    return show(pd.DataFrame(rows))
