"""Labelled bins: what transitions learn from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Labelled:
    """States and activity of successive bins.

    Parameters
    ----------
    table : pandas.DataFrame
        Activity of the bins (several runs one below the other), n rows.
    previous, state : numpy.ndarray
        State before and in each bin, integers from 0 (idle), shape (n,).
    use : numpy.ndarray
        Bins to learn from, booleans, shape (n,).
    n_states : int
        Number of states with idle.
    pieces : tuple of tuple of int
        Unbroken stretches that a fit may see: number of the recording, first row, row after the
        last.
    """

    table: pd.DataFrame
    previous: np.ndarray
    state: np.ndarray
    use: np.ndarray
    n_states: int
    pieces: tuple[tuple[int, int, int], ...]


def window_features(
    table: Mapping[str, ArrayLike], columns: tuple[str, ...], width: int
) -> np.ndarray:
    """Activity of each bin and of the bins before it, side by side.

    Parameters
    ----------
    table : pandas.DataFrame or dict of str to numpy.ndarray
        Activity of successive bins.
    columns : tuple of str
        Columns to take; prompt tokens are also given as logarithm, since their power saturates.
    width : int
        Number of bins.

    Returns
    -------
    numpy.ndarray
        Shape (bins, features).
    """
    now = bin_features(table, columns).T
    bins = np.arange(len(now))
    return np.column_stack([now[np.maximum(bins - lag, 0)] for lag in range(width)])


def bin_features(table: Mapping[str, ArrayLike], columns: tuple[str, ...]) -> np.ndarray:
    """Activity of each bin: the columns asked for, and the logarithm of prompt tokens.

    Parameters
    ----------
    table : pandas.DataFrame or dict of str to numpy.ndarray
        Activity of successive bins.
    columns : tuple of str
        As `window_features`.

    Returns
    -------
    numpy.ndarray
        Shape (features, bins).
    """
    now = [np.asarray(table[name], dtype=float) for name in columns]
    if "prefill_tokens" in columns:
        now.append(np.log1p(now[columns.index("prefill_tokens")]))
    return np.array(now)
