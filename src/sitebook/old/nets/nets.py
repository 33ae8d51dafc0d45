"""What training the nets gave: tables made once, by ``make nets``, and kept with the project."""

from __future__ import annotations

import pandas as pd

from sitetrace.core.files import InputError
from sitetrace.core.registry import data_dir


def read_net_table(name: str) -> pd.DataFrame:
    """Read a table of results that took the training of nets."""
    path = data_dir() / "nets" / f"{name}.csv"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in path.parent.glob("*.csv"))) or "none"
        raise InputError(f"{name}: no such table of nets: there are {known}: make nets makes them")
    return pd.read_csv(path, dtype={"epochs": str})
