"""What every page begins with and lays out the same way: style, tables, numbers for its prose."""

import re
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sitetrace.core.files import named
from sitetrace.core.style import use_style

if TYPE_CHECKING:
    from IPython.display import HTML
    from pandas.io.formats.style import Styler

DATA = ("measured", "testbed", "paper")
TESTBED = "testbed/"
UNITS = {
    "pct": "%", "rps": "requests/s", "kva": "kVA", "mva": "MVA", "mw": "MW", "mwh": "MWh",
    "kw": "kW", "kwh": "kWh", "w": "W", "s": "s", "pu": "pu",
}  # fmt: skip
SHORT = {
    "ks": "KS", "acf": "ACF", "r2": "R²", "nrmse": "NRMSE", "bic": "BIC", "par": "PAR",
    "cov": "CoV", "cv": "CV", "ttft": "TTFT", "tpot": "TPOT", "gpu": "GPU", "it": "IT",
    "p50": "P50", "p90": "P90", "p95": "P95", "p99": "P99", "crps": "CRPS",
}  # fmt: skip


@dataclass
class Page:
    """The page that is being executed: one notebook runs in one process."""

    chapter: str = ""
    dataset: str = "testbed"


NOW = Page()


def begin(chapter: str, dataset: str) -> None:
    """Set the book's style, and remember whose answers those of this page are."""
    named("dataset", dataset, DATA)
    use_style()
    NOW.chapter, NOW.dataset = chapter, dataset


def glue(**numbers: object) -> None:
    """Hand numbers to the prose of the page: {glue:text}`name:.1f` prints one there."""
    from myst_nb import glue as keep

    for name, value in numbers.items():
        keep(name, value.item() if isinstance(value, np.generic) else value, display=False)


def name(run: str) -> str:
    """Name a run for people."""
    return run.removeprefix(TESTBED).replace("_", " ")


def heading(column: str) -> str:
    """Write a column's name for a reader: words, the glossary's abbreviations, the unit last."""
    units = list(re.finditer(rf"_({'|'.join(UNITS)})(?=$|_|,)", column))
    if units and "per_" not in column:
        unit = units[-1]
        column = f"{column[: unit.start()]}{column[unit.end() :]} [{UNITS[unit[1]]}]"
    return re.sub(r"\w+", lambda word: SHORT.get(word[0], word[0]), column.replace("_", " "))


def table(frame: pd.DataFrame, digits: int = 2) -> "Styler":
    """Lay a table out: columns and index named for readers, a dash where there is no number."""
    if any(frame.index.names) or not isinstance(frame.index, pd.RangeIndex):
        frame = frame.reset_index()
    if frame.columns.nlevels > 1:
        frame = frame.set_axis([", ".join(filter(None, column)) for column in frame], axis=1)
    shown = frame.rename(columns=lambda column: heading(str(column))).map(_breakable)
    style = shown.style.hide(axis="index").format(precision=digits, na_rep="–")
    return style.set_table_attributes('class="dataframe"')


def _breakable(cell: object) -> object:
    # a name such as llama-3.1-70b_h100_cut breaks where a page is narrow
    told = isinstance(cell, str) and "<" not in cell
    return cell.replace("_", "_<wbr>") if told else cell


def folded(title: str, frame: pd.DataFrame) -> "HTML":
    """Lay a long table out so that it unfolds on demand and scrolls within its own box."""
    from IPython.display import HTML

    label = escape(title, quote=True)
    with pd.option_context("display.max_colwidth", None):
        headed = frame.rename(columns=heading)
        told = headed.to_html(index=False, escape=False, border=0, classes="dataframe", na_rep="–")
    return HTML(
        f"<details><summary>{label} ({len(frame)})</summary>"
        f'<div class="folded" role="region" aria-label="{label}" tabindex="0">{told}</div>'
        "</details>"
    )
