"""The request table: when prompts arrive, and how many tokens they hold and get."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from sitetrace.files import InputError, read_table
from sitetrace.trace import MAX_SPAN_S

MAX_TOKENS = 10_000_000
REQUIRED = ("arrival_s", "input_tokens", "output_tokens")


def _check_span(path: Path, name: str, times: np.ndarray) -> None:
    """Refuse absurd durations before any memory is taken for them."""
    if times.max() - times.min() > MAX_SPAN_S:
        row = int(np.argmax(np.abs(times - np.median(times))))
        raise InputError(
            f"{path}: line {row + 2}, {name}: {times[row]:g} makes the table span "
            f"{(times.max() - times.min()) / 86400:.3g} days, more than {MAX_SPAN_S / 86400:g}: "
            "mend that time or split the table"
        )


def validate_requests(table: pd.DataFrame, source: Path | str) -> pd.DataFrame:
    """Check a request table and return it sorted by arrival, token counts as integers."""
    path = Path(source)
    _check_span(path, "arrival_s", table["arrival_s"].to_numpy())
    for name in ("input_tokens", "output_tokens"):
        values = table[name].to_numpy()
        bad = np.flatnonzero((values < 1) | (values > MAX_TOKENS) | (values != np.floor(values)))
        if bad.size:
            raise InputError(
                f"{path}: line {bad[0] + 2}, {name}: {values[bad[0]]:g} is no whole number of "
                f"tokens from 1 to {MAX_TOKENS}: mend or remove that request"
            )
    for name in {"ttft_s", "end_s"} & set(table.columns):
        start = 0.0 if name == "ttft_s" else table["arrival_s"].to_numpy()
        lasting = table[name].to_numpy() - start
        bad = np.flatnonzero((lasting < 0) | (lasting > MAX_SPAN_S))
        if bad.size:
            raise InputError(
                f"{path}: line {bad[0] + 2}, {name}: {table[name].iloc[bad[0]]:g} lies before the "
                "arrival or absurdly late: mend or remove that request"
            )
    if "session" in table:
        values = table["session"].to_numpy()
        bad = np.flatnonzero((values < 0) | (values > 2**53) | (values != np.floor(values)))
        if bad.size:
            raise InputError(
                f"{path}: line {bad[0] + 2}, session: {values[bad[0]]:g} is no whole number: "
                "number the sessions from 0"
            )
    table = table.sort_values("arrival_s", kind="stable", ignore_index=True)
    whole = {"input_tokens", "output_tokens", "session"} & set(table.columns)
    return table.astype(dict.fromkeys(whole, np.int64))


def check_stream(table: pd.DataFrame) -> None:
    """Refuse a table that nothing can be served from."""
    missing = [name for name in REQUIRED if name not in table]
    if missing:
        raise InputError(f"requests: column {missing[0]} is missing: give {','.join(REQUIRED)}")
    if table.empty:
        raise InputError("requests: there is none: give one or more")
    arrival_s, *tokens = (table[name].to_numpy() for name in REQUIRED)
    if not np.isfinite(arrival_s).all() or not all(each.min() >= 1 for each in tokens):
        raise InputError("requests: an arrival that is no number, or tokens below 1: mend its row")


def read_requests(path: Path | str) -> pd.DataFrame:
    """Read and check a request table.

    Columns: ``arrival_s,input_tokens,output_tokens[,ttft_s][,end_s][,session]``.

    Parameters
    ----------
    path : Path or str
        CSV file.

    Returns
    -------
    pandas.DataFrame
        Sorted by arrival.

    Raises
    ------
    InputError
        As `read_table` and `validate_requests`.
    """
    return validate_requests(read_table(path, REQUIRED, ("ttft_s", "end_s", "session")), path)
