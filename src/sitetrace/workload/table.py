"""Request tables: reading, checking, writing; traces of Azure become such tables."""

from pathlib import Path

import numpy as np
import pandas as pd

from sitetrace.core.files import InputError, read_table, reading_csv, refuse_row, replacing, require
from sitetrace.core.types import MAX_SPAN_S

MAX_TOKENS, PIECE_ROWS = 10_000_000, 1_000_000
TOKENS = ("input_tokens", "output_tokens")
REQUIRED, OPTIONAL = ("arrival_s", *TOKENS), ("ttft_s", "end_s", "session")
AZURE = ["TIMESTAMP", "ContextTokens", "GeneratedTokens"]


def read_requests(path: Path | str) -> pd.DataFrame:
    """Read and check a request table.

    Parameters
    ----------
    path : Path or str
        CSV file: ``arrival_s,input_tokens,output_tokens[,ttft_s][,end_s][,session]``.

    Returns
    -------
    pandas.DataFrame
        Sorted by arrival.
    """
    return validate_requests(read_table(path, REQUIRED, OPTIONAL), path)


def write_requests(path: Path | str, table: pd.DataFrame) -> None:
    """Write a request table as CSV, whole or not at all."""
    with replacing(path) as temporary:
        table.to_csv(temporary, index=False)


def validate_requests(table: pd.DataFrame, source: Path | str) -> pd.DataFrame:
    """Check a table and return it sorted by arrival, equal arrivals in their order."""
    path, arrival_s = Path(source), table["arrival_s"]
    span_s = arrival_s.max() - arrival_s.min()
    if span_s > MAX_SPAN_S:  # refused before any memory is taken for it
        odd_s = (arrival_s - arrival_s.median()).abs()
        why = f"makes the table span {span_s / 86400:.3g} days: mend it or split the table"
        refuse_row(path, odd_s == odd_s.max(), why, arrival_s)
    limits = dict.fromkeys(TOKENS, (1, MAX_TOKENS)) | {"session": (0, 2**53)}
    whole = {name: limits[name] for name in limits if name in table}
    for name, (least, most) in whole.items():
        values = table[name]
        bad = (values < least) | (values > most) | (values != np.floor(values))
        refuse_row(path, bad, f"is no whole number from {least} to {most}: mend that row", values)
    for name in table.columns.intersection(["ttft_s", "end_s"]):
        lasting_s = table[name] - (0.0 if name == "ttft_s" else arrival_s)
        bad = (lasting_s < 0) | (lasting_s > MAX_SPAN_S)
        refuse_row(path, bad, "is before the arrival or absurdly late: mend that row", table[name])
    table = table.sort_values("arrival_s", kind="stable", ignore_index=True)
    return table.astype(dict.fromkeys(whole, np.int64))


def check_stream(table: pd.DataFrame) -> None:
    """Refuse a table that nothing can be served from."""
    there = {*REQUIRED} <= {*table}
    require(there, "requests", "a column is missing", f"give {','.join(REQUIRED)}")
    require(len(table), "requests", "there is none", "give one or more")
    sound = np.isfinite(table["arrival_s"]).all() and table[[*TOKENS]].to_numpy().min() >= 1
    require(sound, "requests", "an arrival is no number, or tokens are below 1", "mend its row")


def read_azure(path: Path | str, day: str | None = None) -> tuple[pd.DataFrame, list[str]]:
    """Read a trace of Azure, or a day (``YYYY-MM-DD``), second 0 its first request; with notes."""
    path, pieces = Path(path), []
    options = {"dtype": str, "keep_default_na": False, "chunksize": PIECE_ROWS}
    with reading_csv(path, "fetch it again"), pd.read_csv(path, **options) as reader:
        for piece in reader:
            ours = {*AZURE} <= {*piece}
            require(ours, path, f"no columns {','.join(AZURE)}", "give one of Azure's traces")
            wanted = slice(None) if day is None else piece["TIMESTAMP"].str.startswith(day)
            pieces.append(piece.loc[wanted, AZURE])
    rows = pd.concat(pieces)
    times = pd.to_datetime(rows["TIMESTAMP"], format="ISO8601", utc=True, errors="coerce")
    tokens = rows[AZURE[1:]].apply(pd.to_numeric, errors="coerce")
    bad = rows.index[times.isna() | tokens.isna().any(axis=1)]
    if bad.size:
        text = ",".join(rows.loc[bad[0]])[:60]
        raise InputError(f"{path}: line {bad[0] + 2}: no time and two numbers in {text!r}: mend it")
    empty = (tokens < 1).any(axis=1)
    what = "no request with tokens" + (f" on {day}" if day else "")
    require(not empty.all(), path, what, "give another file, or another day as YYYY-MM-DD")
    times, first = times[~empty], times[~empty].min()
    table = tokens[~empty].set_axis(TOKENS, axis=1)
    table.insert(0, "arrival_s", (times - first).dt.total_seconds().to_numpy())
    hour = (first - first.normalize()) / pd.Timedelta(hours=1)
    notes = [f"{path.name}: second 0 is {first.isoformat()}, hour {hour:.4f} of the day"]
    if empty.any():
        notes.append(f"{path.name}: {int(empty.sum())} requests without tokens are left out")
    return validate_requests(table, path), notes
