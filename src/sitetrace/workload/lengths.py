"""Token lengths of prompts and answers: log-normal, or rows of a table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path

import numpy as np
from numba import njit

from sitetrace.core.files import InputError
from sitetrace.workload.table import MAX_TOKENS, read_requests

QUANTILES = 2**16
# draws input and output tokens of so many requests, int64, shape (n, 2)
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
    input_limit, output_limit : float
        Greatest counts.

    Raises
    ------
    InputError
        If a field is out of its range.
    """

    input_median: float = 180
    output_median: float = 130
    input_sigma: float = 1.1
    output_sigma: float = 0.9
    correlation: float = 0.0
    input_limit: float = 4000
    output_limit: float = 1000

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
        """Draw token counts."""
        tokens = np.empty((count, 2), dtype=np.int64)
        if self.correlation:
            prompt, answer = rng.standard_normal((2, count), dtype=np.float32)
            answer = self.correlation * prompt + np.sqrt(1 - self.correlation**2) * answer
            tokens[:, 0], tokens[:, 1] = self._at(prompt, answer)
        else:
            chances = rng.integers(0, QUANTILES, (2, count), dtype=np.uint16)
            _look_up(*self._quantiles, chances, tokens)
        return tokens

    @cached_property
    def _quantiles(self) -> tuple[np.ndarray, np.ndarray]:
        """Token counts at as many equally likely quantiles as 16 bits tell apart."""
        from scipy.special import ndtri

        z = ndtri((np.arange(QUANTILES) + 0.5) / QUANTILES)
        # short numbers stay in the nearest memory
        return tuple(table.astype(np.min_scalar_type(table[-1])) for table in self._at(z, z))

    def _at(self, prompt: np.ndarray, answer: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Turn standard normal numbers into input and output tokens."""
        prompt = self.input_median * np.exp(self.input_sigma * prompt)
        answer = self.output_median * np.exp(self.output_sigma * answer)
        return (
            np.clip(prompt, 1, self.input_limit).astype(np.int64),
            np.clip(answer, 1, self.output_limit).astype(np.int64),
        )


@dataclass(frozen=True)
class RowLengths:
    """Token counts of rows drawn from a table with replacement: their correlation stays."""

    tokens: np.ndarray

    def __call__(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Draw token counts."""
        rows = rng.integers(0, len(self.tokens), count, dtype=np.int32)
        return self.tokens.take(rows, axis=0)


def open_lengths(given: object, folder: Path | str) -> Lengths:
    """Return what draws token counts for a stream.

    Given nothing it is the default law; a file: rows of that request table; else fields of the law.
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
    return LogNormalLengths(**{name: value for name, value in named.items() if value is not None})


@njit(cache=True, nogil=True)
def _look_up(prompts, answers, chances, tokens):
    """Take the quantiles that chance has named."""
    for i in range(len(tokens)):
        tokens[i, 0] = prompts[chances[0, i]]
        tokens[i, 1] = answers[chances[1, i]]
