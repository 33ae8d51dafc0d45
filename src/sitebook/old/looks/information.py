"""What activity tells of the power state: conditional shares and mutual information."""

from __future__ import annotations

import numpy as np
import pandas as pd

from sitetrace.serving.activity import PAPER_COLUMNS

SETS = {"A": PAPER_COLUMNS[:1], "dA": PAPER_COLUMNS[1:], "F2": PAPER_COLUMNS}
BINS = 20
SHUFFLES = 40


def given_active(frame: pd.DataFrame, state: np.ndarray) -> tuple[pd.DataFrame, pd.Series]:
    """Distribution of the state at each number of active requests."""
    active = frame["active"].astype(int)
    share = pd.crosstab(state, active, normalize="columns")
    share = share.reindex(columns=range(active.min(), active.max() + 1))
    return share, active.value_counts().reindex(share.columns, fill_value=0)


def information(frame: pd.DataFrame, state: np.ndarray, seed: int) -> pd.DataFrame:
    """Share of the state's entropy that activity explains, I(x; z)/H(z), plug-in estimate."""
    # Chance makes tables of few samples uneven, so the estimate is too high. Two references say by
    # how much: labels in random order, and labels shifted in time, which keep the memory of both.
    rows = []
    for name, columns in SETS.items():
        rng = np.random.default_rng(seed)
        cells = _cells(frame, columns)
        moved = [rng.permutation(state) for _ in range(SHUFFLES)]
        shifts = rng.integers(len(state) // 10, len(state) - len(state) // 10, SHUFFLES)
        shuffled = np.mean([_share(cells, each) for each in moved])
        shifted = np.mean([_share(cells, np.roll(state, by)) for by in shifts])
        found = _share(cells, state)
        rows.append(
            {"features": name, "plug_in": found, "shuffled": shuffled, "shifted": shifted}
            | {"above_chance": found - shuffled}
        )
    return pd.DataFrame(rows)


def _cells(frame: pd.DataFrame, columns: tuple[str, ...]) -> np.ndarray:
    """Tell in which cell, of 20 equal bins a feature as in the paper's study, each sample falls."""
    binned = [pd.cut(frame[name], BINS, labels=False).to_numpy() for name in columns]
    return np.ravel_multi_index(binned, (BINS,) * len(binned))


def _share(cells: np.ndarray, state: np.ndarray) -> float:
    from scipy.stats import entropy
    from sklearn.metrics import mutual_info_score

    return mutual_info_score(cells, state) / entropy(np.bincount(state))
