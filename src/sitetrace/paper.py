"""Tables of parameters and scores that the paper's repository publishes."""

from __future__ import annotations

import pandas as pd

from sitetrace.datasets import data_dir
from sitetrace.files import InputError


def read_paper_table(name: str) -> pd.DataFrame:
    """Read a table of parameters and scores that the paper's repository publishes."""
    path = data_dir() / "paper" / f"{name}.csv"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in path.parent.glob("*.csv")))
        raise InputError(f"{name}: no such table of the paper: there are {known}")
    return pd.read_csv(path)
