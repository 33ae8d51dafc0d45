"""What all request streams share: what a chunk is, its randomness, and gaps that go on.

All that is random in chunk i comes from a generator of its own, and what passes from one chunk to
the next (`carry`) is a few numbers that JSON can hold: a run that was killed goes on with the same
bytes, and memory does not grow with hours.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import numpy as np

RESIDUAL_DRAWS = 512


class Requests(NamedTuple):
    """Requests of a chunk in order of arrival."""

    arrival_s: np.ndarray
    tokens: np.ndarray
    session: np.ndarray | None = None


class Stream(ABC):
    """What every pattern offers."""

    @abstractmethod
    def chunk(
        self,
        index: int,
        begin_s: float,
        end_s: float,
        seed_sequence: np.random.SeedSequence,
        carry: dict[str, Any] | None,
    ) -> tuple[Requests, dict[str, Any]]:
        """Return the requests with ``begin_s <= arrival_s < end_s``."""


def chunk_rng(seed_sequence: np.random.SeedSequence, index: int) -> np.random.Generator:
    """Return the generator of a chunk, whatever chunks were drawn before."""
    key = (*seed_sequence.spawn_key, index)
    return np.random.default_rng(np.random.SeedSequence(seed_sequence.entropy, spawn_key=key))


def renew(
    length: float, left: float | None, gaps: Any, rng: np.random.Generator
) -> tuple[np.ndarray, float]:
    """Draw a stretch of a renewal process with gaps of mean 1."""
    if left is None:  # a long gap is met more often than a short one, anywhere in it
        met = gaps(RESIDUAL_DRAWS, rng).cumsum()
        at = rng.random() * met[-1]
        left = float(met[np.searchsorted(met, at)] - at)
    times = [np.array([left])]
    while times[-1][-1] < length:
        togo = length - times[-1][-1]
        drawn = gaps(int(togo + 4 * np.sqrt(togo)) + 16, rng)
        times.append(times[-1][-1] + np.cumsum(drawn))
    events = np.concatenate(times)
    count = int(np.searchsorted(events, length))
    return events[:count], float(events[count] - length)


def gamma_gaps(cv: float) -> Any:
    """Return what draws gamma gaps of mean 1."""
    shape = cv**-2.0
    return lambda count, rng: rng.standard_gamma(shape, count) / shape
