"""Azure's public traces of LLM requests, of 2023 (an hour) and of 2024 (a week), as request tables.

Files of Azure/AzurePublicDataset (CC-BY) with ``TIMESTAMP,ContextTokens,GeneratedTokens``; those of
2024 hold tens of millions of rows, so that they are read piece by piece.
"""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from sitetrace.files import InputError
from sitetrace.requests import validate_requests

COLUMNS = ["TIMESTAMP", "ContextTokens", "GeneratedTokens"]
PIECE_ROWS = 1_000_000


def read_azure(path: Path | str, day: str | None = None) -> tuple[pd.DataFrame, list[str]]:
    """Read a trace, or one day of it.

    Parameters
    ----------
    path : Path or str
        CSV file, which may be compressed.
    day : str, optional
        ``YYYY-MM-DD`` on the file's own clock; by default all of it.

    Returns
    -------
    tuple of pandas.DataFrame and list of str
        Request table, seconds after its first request as the paper counts them; and what was left
        out or is to be known, to be said aloud.

    Raises
    ------
    InputError
        If the file is missing or no such trace, or has no request on that day.
    """
    path = Path(path)
    if day is not None and not re.fullmatch(r"\d{4}-\d{2}-\d{2}", day):
        raise InputError(f"day {day!r}: give it as YYYY-MM-DD")
    pieces = []
    try:
        with pd.read_csv(path, dtype=str, keep_default_na=False, chunksize=PIECE_ROWS) as reader:
            for piece in reader:
                missing = [name for name in COLUMNS if name not in piece.columns]
                if missing:
                    raise InputError(f"{path}: no column {missing[0]}: not one of Azure's traces")
                wanted = slice(None) if day is None else piece["TIMESTAMP"].str.startswith(day)
                pieces.append(piece.loc[wanted, COLUMNS])
    except FileNotFoundError:
        raise InputError(f"{path}: no such file: check the path") from None
    except pd.errors.EmptyDataError:
        raise InputError(f"{path}: the file is empty: fetch it again") from None
    except (OSError, EOFError, UnicodeDecodeError, pd.errors.ParserError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: not a readable CSV file ({reason}): fetch it again") from None
    rows = pd.concat(pieces)
    if rows.empty:
        raise InputError(f"{path}: no request{'' if day is None else f' on {day}'}: give another")
    return _as_requests(path, rows)


def _as_requests(path: Path, rows: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Turn texts into times and numbers; the index is the row of the file."""
    times = pd.to_datetime(rows["TIMESTAMP"], format="ISO8601", utc=True, errors="coerce")
    tokens = rows[COLUMNS[1:]].apply(pd.to_numeric, errors="coerce")
    bad = times.isna() | tokens.isna().any(axis=1)
    if bad.any():
        at = rows.index[bad][0]
        raise InputError(
            f"{path}: line {at + 2}: no time and two numbers in {','.join(rows.loc[at])[:60]!r}: "
            "mend or remove it"
        )
    empty = (tokens < 1).any(axis=1)
    times, tokens = times[~empty], tokens[~empty]
    if times.empty:
        raise InputError(f"{path}: no request has tokens: give another file")
    first = times.min()
    table = pd.DataFrame(
        {
            "arrival_s": (times - first).dt.total_seconds().to_numpy(),
            "input_tokens": tokens[COLUMNS[1]].to_numpy(),
            "output_tokens": tokens[COLUMNS[2]].to_numpy(),
        }
    )
    hour = (first - first.normalize()) / pd.Timedelta(hours=1)
    notes = [f"{path.name}: second 0 is {first.isoformat()}, hour {hour:.4f} of the day"]
    if empty.any():
        notes.append(f"{path.name}: {int(empty.sum())} requests without tokens are left out")
    return validate_requests(table, path), notes
