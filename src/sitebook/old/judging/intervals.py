"""How sure a score is: a moving-block bootstrap over the seconds of one recording."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

BOOTSTRAP_BLOCK_S = 10.0
BOOTSTRAP_DRAWS = 400


def bootstrap_interval(
    measured_w: np.ndarray,
    generated_w: np.ndarray,
    dt_s: float,
    score: Callable[[np.ndarray, np.ndarray], float],
    rng: np.random.Generator,
) -> tuple[float, float]:
    """95 % interval of a score from one pair of series, by a moving-block bootstrap over time."""
    # How far the score would move on other seconds of the same run; it knows nothing of other runs.
    # The joints break autocorrelation at lags near the block length, and a range that rests on few
    # samples (NRMSE over idle ends) makes the interval wide.
    n = len(measured_w)
    block = min(max(int(BOOTSTRAP_BLOCK_S / dt_s + 0.5), 1), n)
    starts = rng.integers(0, n - block + 1, size=(BOOTSTRAP_DRAWS, -(-n // block)))
    rows = (starts[:, :, None] + np.arange(block)).reshape(BOOTSTRAP_DRAWS, -1)[:, :n]
    draws = [score(measured_w[row], generated_w[row]) for row in rows]
    low, high = np.percentile(draws, [2.5, 97.5])
    return float(low), float(high)
