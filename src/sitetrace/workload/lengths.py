"""Token lengths of prompts and answers: log-normal, or rows of a table."""

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
from pydantic import Field

from sitetrace.core.settings import Number, Part
from sitetrace.workload.table import MAX_TOKENS, TOKENS, read_requests

QUANTILES = 2**16
# draws input and output tokens of so many requests, int64, shape (n, 2)
Lengths = Callable[[int, np.random.Generator], np.ndarray]
Tokens = Annotated[Number, Field(ge=1, le=MAX_TOKENS)]
Sigma = Annotated[Number, Field(ge=0, le=10, description="spread of its logarithm")]


class LogNormalLengths(Part):
    """Log-normal token lengths, as `sitetrace.workload.fit_traffic` finds them."""

    input_median: Tokens = Field(180.0, description="median prompt, tokens")
    input_sigma: Sigma = 1.1
    input_limit: Tokens = Field(4000.0, description="longest prompt, tokens")
    output_median: Tokens = Field(130.0, description="median answer, tokens")
    output_sigma: Sigma = 0.9
    output_limit: Tokens = Field(1000.0, description="longest answer, tokens")
    correlation: Number = Field(0.0, ge=-1, le=1, description="of the two logarithms")

    def __call__(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Draw token counts, shape (count, 2)."""
        if self.correlation:
            prompt, answer = rng.standard_normal((2, count), dtype=np.float32)
            answer = self.correlation * prompt + np.sqrt(1 - self.correlation**2) * answer
            return np.stack(self._at(prompt, answer), axis=1)
        chances = rng.integers(0, QUANTILES, (2, count), dtype=np.uint16)
        tokens = np.empty((count, 2), dtype=np.int64)
        for side, quantiles in enumerate(self._quantiles):  # no chance is clipped, but it is quick
            tokens[:, side] = quantiles.take(chances[side], mode="clip")
        return tokens

    @cached_property
    def _quantiles(self) -> list[np.ndarray]:
        """Token counts at as many equally likely quantiles as 16 bits tell apart."""
        from scipy.special import ndtri

        z = ndtri((np.arange(QUANTILES) + 0.5) / QUANTILES)
        # short numbers stay in the nearest memory
        return [table.astype(np.min_scalar_type(table[-1])) for table in self._at(z, z)]

    def _at(self, prompt: np.ndarray, answer: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Turn standard normal numbers into input and output tokens."""
        prompt = self.input_median * np.exp(self.input_sigma * prompt)
        answer = self.output_median * np.exp(self.output_sigma * answer)
        prompt, answer = np.clip(prompt, 1, self.input_limit), np.clip(answer, 1, self.output_limit)
        return prompt.astype(np.int64), answer.astype(np.int64)


def open_lengths(
    given: LogNormalLengths | pd.DataFrame | str | None, folder: Path | str = "."
) -> Lengths:
    """Return what draws token counts: a law, rows of a request table or its file, else chats'."""
    if isinstance(given, str):
        given = read_requests(Path(folder) / given)
    if not isinstance(given, pd.DataFrame):
        return given or LogNormalLengths()
    rows = given[[*TOKENS]].to_numpy()
    # whole rows, with replacement: the correlation of their two counts stays
    return lambda count, rng: rows.take(rng.integers(0, len(rows), count, dtype=np.int32), axis=0)
