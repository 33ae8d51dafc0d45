"""Shared types and the run directory: power samples, requests, engine counters, configuration."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd

MAX_SPAN_S = 31 * 86400.0
MAX_GAP_S = 60.0
MAX_TOKENS = 10_000_000
KILOWATT_SUSPICION_W = 20.0
MAX_POWER_W = 1e6
RUN_FILES = ("power.csv", "power_1s.csv", "requests.csv", "engine.csv", "run.json")
ENGINE_COLUMNS = ("time_s", "running", "waiting", "prompt_tokens", "generation_tokens")


class InputError(ValueError):
    """Bad input: one line that names the file, row or field, and the mend."""


@dataclass(frozen=True)
class Configuration:
    """What a power model belongs to: a model on a GPU type at a tensor parallelism."""

    model: str
    hardware: str
    tensor_parallel: int

    @property
    def name(self) -> str:
        """Short name, such as ``Qwen/Qwen3-8B A100 tp1``."""
        return f"{self.model} {self.hardware} tp{self.tensor_parallel}"


@dataclass(frozen=True)
class PowerTrace:
    """Mean power of equidistant bins on an exact clock.

    Sample ``i`` covers ``[start_s + i*dt, start_s + (i+1)*dt)``.

    Parameters
    ----------
    start_s : float
        Begin of the first bin, seconds (the clock of the requests).
    dt : fractions.Fraction
        Step in seconds; exact, so that long traces do not drift.
    power_w : numpy.ndarray
        Mean power of each bin, watts, shape (n,).
    """

    start_s: float
    dt: Fraction
    power_w: np.ndarray

    @property
    def dt_s(self) -> float:
        """Step in seconds."""
        return float(self.dt)

    @property
    def time_s(self) -> np.ndarray:
        """Begin of each bin, seconds, shape (n,)."""
        ticks = np.arange(self.power_w.size, dtype=np.int64) * self.dt.numerator
        return self.start_s + ticks / self.dt.denominator

    @property
    def energy_j(self) -> float:
        """Energy of the whole trace, joules."""
        return float(self.power_w.sum() * self.dt_s)

    def resample(self, dt: Fraction) -> PowerTrace:
        """Return the trace at a coarser step, by mean, so that energy is kept.

        Parameters
        ----------
        dt : fractions.Fraction
            New step, a whole multiple of the present one that divides the trace's length.

        Returns
        -------
        PowerTrace
            The same energy in fewer bins.

        Raises
        ------
        InputError
            If the step is no multiple, or the trace is not a whole number of new bins long.
        """
        ratio = dt / self.dt
        if ratio.denominator != 1 or ratio < 1 or self.power_w.size % int(ratio):
            raise InputError(
                f"a trace of {self.power_w.size} bins of {self.dt_s:g} s has no whole bins of "
                f"{float(dt):g} s: take a multiple of the step that divides the length"
            )
        return PowerTrace(self.start_s, dt, self.power_w.reshape(-1, int(ratio)).mean(axis=1))


@dataclass(frozen=True)
class Run:
    """One measured (or simulated) recording of a server.

    Parameters
    ----------
    name : str
        Name of the run directory.
    configuration : Configuration
        Model, GPU type, tensor parallelism.
    requests : pandas.DataFrame or None
        ``arrival_s``, ``input_tokens``, ``output_tokens``[, ``ttft_s``][, ``end_s``], sorted.
    samples : pandas.DataFrame
        ``time_s``, ``power_w`` of the server; a sample describes ``[time_s - dt, time_s)``.
    dt : fractions.Fraction
        Usual distance of samples in seconds.
    engine : pandas.DataFrame or None
        Counters of the serving engine.
    info : dict
        All of ``run.json``.
    digest : str
        SHA-256 over the run's files.
    published : pandas.DataFrame or None
        Predictions of others for the same seconds, one column each.
    notes : tuple of str
        What reading had to do (sorting, leaving GPUs out), to be said aloud.
    """

    name: str
    configuration: Configuration
    requests: pd.DataFrame | None
    samples: pd.DataFrame
    dt: Fraction
    engine: pd.DataFrame | None
    info: dict
    digest: str
    published: pd.DataFrame | None = None
    notes: tuple[str, ...] = field(default=())

    def busy_span(self) -> tuple[float, float, str] | None:
        """First arrival, last token and where the latter comes from, or None if unknown.

        Returns
        -------
        tuple of (float, float, str) or None
            Begin and end of the busy seconds (epoch s) and ``"end_s"`` or ``"engine"``.
        """
        if self.requests is None:
            return None
        first = float(self.requests["arrival_s"].iloc[0])
        if "end_s" in self.requests:
            return first, float(self.requests["end_s"].max()), "end_s"
        if self.engine is not None and (self.engine["running"] > 0).any():
            running = self.engine.loc[self.engine["running"] > 0, "time_s"]
            return first, float(running.iloc[-1]), "engine"
        return None

    def idle_before_load_w(self) -> float | None:
        """Median power of the samples that end before the first arrival, watts.

        Returns
        -------
        float or None
            None when fewer than eight samples lie before the load.
        """
        if self.requests is None:
            return None
        before = self.samples["time_s"] < self.requests["arrival_s"].iloc[0]
        return float(self.samples.loc[before, "power_w"].median()) if before.sum() >= 8 else None


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Write to a temporary name beside `path`, renamed only when all went well.

    Parameters
    ----------
    path : Path or str
        The file (or, for zarr, folder) to be written.

    Yields
    ------
    Path
        Temporary path with the same ending.

    Raises
    ------
    InputError
        If the place cannot be written.
    """
    path = Path(path)
    try:
        folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}): name another place") from (
            error
        )
    temporary = folder / path.name
    try:
        yield temporary
        if temporary.is_dir() and path.is_dir():
            os.rename(path, folder / "old")
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}): name another place") from (
            error
        )
    finally:
        _remove_folder(folder)


def _remove_folder(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)


def read_text_table(path: Path | str) -> pd.DataFrame:
    """Read a CSV file as text, every cell as it stands there.

    Parameters
    ----------
    path : Path or str
        The CSV file; its first line names the columns.

    Returns
    -------
    pandas.DataFrame
        Columns of strings, rows in file order.

    Raises
    ------
    InputError
        If the file is missing, empty, no CSV, or has no row.
    """
    path = Path(path)
    try:
        with warnings.catch_warnings():
            # Rows longer than the header would otherwise lose their ends with a mere warning.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            table = pd.read_csv(
                path, dtype=str, keep_default_na=False, skipinitialspace=True, index_col=False
            )
    except FileNotFoundError:
        raise InputError(f"{path}: no such file: check the path") from None
    except pd.errors.EmptyDataError:
        raise InputError(f"{path}: the file is empty: export it again") from None
    except pd.errors.ParserWarning:
        raise InputError(
            f"{path}: rows have more fields than the header names: name all columns"
        ) from None
    except (OSError, UnicodeDecodeError, pd.errors.ParserError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: not a readable CSV file ({reason}): export it again") from None
    if table.empty:
        raise InputError(f"{path}: no rows below the header: the file needs at least one")
    return table


def read_table(
    path: Path | str, required: tuple[str, ...], optional: tuple[str, ...] = ()
) -> pd.DataFrame:
    """Read the numeric columns of a CSV file, refusing whatever is not a finite number.

    Parameters
    ----------
    path : Path or str
        The CSV file.
    required, optional : tuple of str
        Columns that must and may be there; others are left out.

    Returns
    -------
    pandas.DataFrame
        Float columns, rows in file order.

    Raises
    ------
    InputError
        If the file is missing, empty, lacks a column or holds something else than numbers.
    """
    path = Path(path)
    table = read_text_table(path)
    missing = [name for name in required if name not in table.columns]
    if missing:
        raise InputError(
            f"{path}: column {missing[0]} is missing: the first line must name {','.join(required)}"
        )
    names = [*required, *(name for name in optional if name in table.columns)]
    # pandas calls the second column of one name "name.1".
    twice = [name for name in names if f"{name}.1" in table.columns]
    if twice:
        raise InputError(f"{path}: column {twice[0]} stands there twice: rename one of them")
    return pd.DataFrame({name: _numbers(path, table[name]) for name in names})


def _numbers(path: Path, texts: pd.Series) -> np.ndarray:
    """Turn a text column into finite floats, naming the line that is none."""
    values = pd.to_numeric(texts, errors="coerce").to_numpy(dtype=float)
    bad = np.flatnonzero(~np.isfinite(values))
    if bad.size:
        row = int(bad[0])
        raise InputError(
            f"{path}: line {row + 2}, {texts.name}: {str(texts.iloc[row])[:40]!r} is not a finite "
            "number: mend or remove that row"
        )
    return values


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
    """Check a request table and return it sorted by arrival, token counts as integers.

    Parameters
    ----------
    table : pandas.DataFrame
        At least ``arrival_s`` (s), ``input_tokens``, ``output_tokens``.
    source : Path or str
        Name to be used in messages.

    Returns
    -------
    pandas.DataFrame
        A sorted copy with a fresh index; equal arrivals keep their order.

    Raises
    ------
    InputError
        If tokens are not whole and positive, or times absurd.
    """
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
    table = table.sort_values("arrival_s", kind="stable", ignore_index=True)
    return table.astype({"input_tokens": np.int64, "output_tokens": np.int64})


def read_requests(path: Path | str) -> pd.DataFrame:
    """Read and check a request table (``arrival_s,input_tokens,output_tokens[,ttft_s][,end_s]``).

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
    required = ("arrival_s", "input_tokens", "output_tokens")
    return validate_requests(read_table(path, required, ("ttft_s", "end_s")), path)


def read_json(path: Path | str) -> dict:
    """Read a JSON object.

    Parameters
    ----------
    path : Path or str
        The file.

    Returns
    -------
    dict
        Its content.

    Raises
    ------
    InputError
        If the file is missing, cut, or not an object.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file: check the path") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}): check the path") from None
    except (ValueError, RecursionError) as error:  # no UTF-8, no JSON, or absurd numbers
        raise InputError(f"{path}: no complete JSON ({error}): write it anew") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds no JSON object: write it anew")
    return content


def digest_of(paths: list[Path]) -> str:
    """SHA-256 over the names and contents of files.

    Parameters
    ----------
    paths : list of Path
        Files, in a fixed order.

    Returns
    -------
    str
        64 hexadecimal digits, the same wherever the files lie.
    """
    total = hashlib.sha256()
    for path in paths:
        total.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()
