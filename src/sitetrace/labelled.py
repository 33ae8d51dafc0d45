"""Labelled bins: what transitions learn from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Labelled:
    """States and activity of successive bins."""

    table: pd.DataFrame
    previous: np.ndarray
    state: np.ndarray
    use: np.ndarray
    n_states: int
    pieces: tuple[tuple[int, int, int], ...]


def window_features(
    table: Mapping[str, ArrayLike], columns: tuple[str, ...], width: int
) -> np.ndarray:
    """Activity of each bin and of the bins before it, side by side."""
    now = bin_features(table, columns).T
    bins = np.arange(len(now))
    return np.column_stack([now[np.maximum(bins - lag, 0)] for lag in range(width)])


def bin_features(table: Mapping[str, ArrayLike], columns: tuple[str, ...]) -> np.ndarray:
    """Activity of each bin: the columns asked for, and the logarithm of prompt tokens."""
    now = [np.asarray(table[name], dtype=float) for name in columns]
    if "prefill_tokens" in columns:
        now.append(np.log1p(now[columns.index("prefill_tokens")]))
    return np.array(now)
