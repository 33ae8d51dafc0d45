"""Prompt and answer lengths, many at a time: a law with few numbers, or rows of a table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from sitetrace.files import InputError
from sitetrace.requests import MAX_TOKENS, read_requests
from sitetrace.workload import (
    INPUT_LIMIT,
    INPUT_MEDIAN,
    INPUT_SIGMA,
    OUTPUT_LIMIT,
    OUTPUT_MEDIAN,
    OUTPUT_SIGMA,
)

Lengths = Callable[[int, np.random.Generator], np.ndarray]


@dataclass(frozen=True)
class LogNormalLengths:
    """Log-normal token counts, cut at limits; the defaults are near shared chats.

    Parameters
    ----------
    input_median, output_median : float
        Tokens.
    input_sigma, output_sigma : float
        Standard deviations of the natural logarithm.
    correlation : float
        Of the two logarithms.
    input_limit, output_limit : int
        Greatest counts.

    Raises
    ------
    InputError
        If a field is out of its range.
    """

    input_median: float = INPUT_MEDIAN
    input_sigma: float = INPUT_SIGMA
    output_median: float = OUTPUT_MEDIAN
    output_sigma: float = OUTPUT_SIGMA
    correlation: float = 0.0
    input_limit: int = INPUT_LIMIT
    output_limit: int = OUTPUT_LIMIT

    def __post_init__(self) -> None:
        """Refuse what no request has."""
        for field in fields(self):
            value = getattr(self, field.name)
            low, high = 1.0, float(MAX_TOKENS)
            if field.name.endswith("sigma"):
                low, high = 0.0, 10.0
            elif field.name == "correlation":
                low, high = -1.0, 1.0
            if not low <= value <= high:
                raise InputError(
                    f"lengths: {field.name} = {value!r} is out of range: give {low:g} to {high:g}"
                )

    def __call__(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Draw token counts.

        Parameters
        ----------
        count : int
            Number of requests.
        rng : numpy.random.Generator
            Source of randomness.

        Returns
        -------
        numpy.ndarray
            Input and output tokens, int64, shape (count, 2).
        """
        drawn = rng.standard_normal((count, 2), dtype=np.float32)
        if self.correlation:
            drawn[:, 1] *= np.float32(np.sqrt(1 - self.correlation**2))
            drawn[:, 1] += np.float32(self.correlation) * drawn[:, 0]
        drawn *= np.array([self.input_sigma, self.output_sigma], dtype=np.float32)
        np.exp(drawn, out=drawn)
        drawn *= np.array([self.input_median, self.output_median], dtype=np.float32)
        limits = np.array([self.input_limit, self.output_limit], dtype=np.float32)
        return np.clip(drawn, np.float32(1), limits, out=drawn).astype(np.int64)


@dataclass(frozen=True)
class RowLengths:
    """Token counts of rows drawn from a table with replacement: their correlation stays.

    Parameters
    ----------
    tokens : numpy.ndarray
        Input and output tokens, int64, shape (rows, 2).
    """

    tokens: np.ndarray

    def __call__(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Draw token counts.

        Parameters
        ----------
        count : int
            Number of requests.
        rng : numpy.random.Generator
            Source of randomness.

        Returns
        -------
        numpy.ndarray
            Input and output tokens, int64, shape (count, 2).
        """
        rows = rng.integers(0, len(self.tokens), count, dtype=np.int32)
        return self.tokens.take(rows, axis=0)


def open_lengths(given: object, folder: Path | str) -> Lengths:
    """Return what draws token counts for a stream.

    Parameters
    ----------
    given : None, str, Path, dict or object
        Nothing: the default law; a file: request table whose rows are drawn; a mapping, or an
        object with these attributes: fields of `LogNormalLengths`.
    folder : Path or str
        Where relative names lead from.

    Returns
    -------
    callable
        ``(count, rng)`` to input and output tokens, int64, shape (count, 2).

    Raises
    ------
    InputError
        If the file or a field is bad.
    """
    if given is None:
        return LogNormalLengths()
    if isinstance(given, str | Path):
        table = read_requests(Path(folder) / given)
        return RowLengths(table[["input_tokens", "output_tokens"]].to_numpy())
    named = given if isinstance(given, dict) else vars(given)
    known = {field.name for field in fields(LogNormalLengths)}
    unknown = sorted(set(named) - known)
    if unknown:
        raise InputError(f"lengths: unknown field {unknown[0]!r}: known are {', '.join(known)}")
    return LogNormalLengths(**{name: named[name] for name in named if named[name] is not None})
