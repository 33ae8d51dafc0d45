"""Reading and writing single files: what is bad gets one line, what is written is whole."""

import hashlib
import json
import os
import tempfile
import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

ZARR_MARKS = {".zgroup", "zarr.json"}  # one of them lies in each Zarr folder


class InputError(ValueError):
    """Bad input: one line that names the file, row or field, and the mend."""


def require(ok: object, where: object, what: str, mend: str) -> None:
    """Raise ``where: what: mend`` unless it is so (an array or column: of all its elements)."""
    if not (np.all(ok) if isinstance(ok, np.ndarray | pd.Series) else ok):
        raise InputError(f"{where}: {what}: {mend}")


def named(kind: str, name: object, known: Collection[Any]) -> Any:
    """Look up a name in a mapping, or return it if it stands in a list; else say what there is."""
    if name not in known:
        there = ", ".join(map(str, known)) or "none"
        raise InputError(f"{str(name)[:40]}: no such {kind}: there are {there}")
    return known[name] if isinstance(known, Mapping) else name


@contextmanager
def replacing(path: Path | str, parents: bool = False) -> Iterator[Path]:
    """Write to a temporary name beside `path` (a file or a folder), renamed when all went well."""
    path = Path(path)
    beside = {"prefix": f".{path.name}.", "dir": path.parent, "ignore_cleanup_errors": True}
    try:
        if parents:
            path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(**beside) as folder:
            temporary = Path(folder) / path.name
            yield temporary
            if temporary.is_dir() and path.is_dir():
                os.rename(path, Path(folder) / "old")
            os.replace(temporary, path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}): name another") from error


def check_place(
    path: Path | str, endings: Collection[str] = (), folder: bool = False, parents: bool = False
) -> Path:
    """Refuse a place in which something lies already: a folder may be empty, a Zarr is replaced."""
    path = Path(path)
    known = not endings or path.suffix in endings
    require(known, path, f"unknown ending {path.suffix!r}", f"use one of {' '.join(endings)}")
    require(parents or path.parent.is_dir(), path, f"no folder {path.parent}", "make it first")
    zarr = path.suffix == ".zarr"
    free = not os.path.exists(path) or os.path.isfile(path) and not (folder or zarr)
    if os.path.isdir(path) and (folder or zarr):
        held = {each.name for each in path.iterdir()}
        free = not held or zarr and held & ZARR_MARKS
    require(free, path, "a folder or file is there already, in the way", "name another")
    return path


@contextmanager
def reading_csv(path: Path | str, mend: str) -> Iterator[None]:
    """Say in one line why a CSV file cannot be read."""
    try:
        yield
    except FileNotFoundError:
        raise InputError(f"{path}: no such file: check the path") from None
    except IsADirectoryError:
        raise InputError(f"{path}: a folder: name the file in it") from None
    except pd.errors.EmptyDataError:
        raise InputError(f"{path}: the file is empty: {mend}") from None
    except (OSError, EOFError, UnicodeError, Warning, pd.errors.ParserError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: not a readable CSV file ({reason}): {mend}") from None


def read_text_table(path: Path | str) -> pd.DataFrame:
    """Read a CSV file as text, every cell as it stands there."""
    options = {"dtype": str, "keep_default_na": False, "skipinitialspace": True}
    with reading_csv(path, "name all columns in the first line"), warnings.catch_warnings():
        # rows longer than the header would lose their ends with a mere warning
        warnings.simplefilter("error", pd.errors.ParserWarning)
        table = pd.read_csv(path, index_col=False, **options)
    require(len(table), path, "no rows below the header", "the file needs at least one")
    return table


def read_table(
    path: Path | str, required: tuple, optional: tuple = (), texts: tuple = ()
) -> pd.DataFrame:
    """Read columns of a CSV file, refusing whatever is not a finite number, but in texts."""
    table = read_text_table(path)
    names = [*required, *(name for name in optional if name in table)]
    for name in (*names, *texts):
        once = name in table and f"{name}.1" not in table  # as pandas calls a second one
        mend = f"the first line must name {','.join((*required, *texts))}, each once"
        require(once, path, f"column {name} is missing or stands there twice", mend)
    numbers = table[names].apply(pd.to_numeric, errors="coerce").astype(float)
    for name in names:
        why = "is not a finite number: mend or remove that row"
        refuse_row(path, ~np.isfinite(numbers[name]), why, table[name])
    return numbers.join(table[[*texts]])


def refuse_row(path: Path | str, bad: object, why: str, values: pd.Series | None = None) -> None:
    """Name the line of the first bad row, and its value; the index is the row below the header."""
    for row in np.flatnonzero(bad):
        if values is None:
            raise InputError(f"{path}: line {row + 2}: {why}")
        value = values.iloc[row]
        shown = f"{value:.12g}" if pd.api.types.is_numeric_dtype(values) else repr(str(value)[:40])
        raise InputError(f"{path}: line {values.index[row] + 2}, {values.name}: {shown} {why}")


def read_json(path: Path | str) -> dict:
    """Read a JSON object."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file: check the path") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}): name a file") from None
    except (ValueError, RecursionError) as error:  # also no UTF-8, or absurd numbers
        raise InputError(f"{path}: no complete JSON ({error}): write it anew") from None
    require(isinstance(content, dict), path, "holds no JSON object", "write it anew")
    return content


def digest_of(paths: list[Path]) -> str:
    """SHA-256 over the names and contents of files, the same wherever they lie."""
    total = hashlib.sha256()
    for path in paths:
        total.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()
