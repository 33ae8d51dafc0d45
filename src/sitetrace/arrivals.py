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
    """Requests of a chunk in order of arrival.

    Parameters
    ----------
    arrival_s : numpy.ndarray
        Seconds, float64, shape (n,).
    tokens : numpy.ndarray
        Input and output tokens, int64, shape (n, 2).
    session : numpy.ndarray or None
        Number of the session, int64, shape (n,); None where the stream knows none.
    """

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
        """Return the requests with ``begin_s <= arrival_s < end_s``.

        Parameters
        ----------
        index : int
            Number of the chunk.
        begin_s, end_s : float
            Its ends, seconds of the simulation; it begins where the one before ended.
        seed_sequence : numpy.random.SeedSequence
            Seed of the stream, the same for all chunks.
        carry : dict or None
            What the chunk before returned; None for the first.

        Returns
        -------
        tuple of Requests and dict
            The requests, and what the next chunk is to be given.
        """


def chunk_rng(seed_sequence: np.random.SeedSequence, index: int) -> np.random.Generator:
    """Return the generator of a chunk, whatever chunks were drawn before.

    Parameters
    ----------
    seed_sequence : numpy.random.SeedSequence
        Seed of the stream.
    index : int
        Number of the chunk.

    Returns
    -------
    numpy.random.Generator
        A generator of its own.
    """
    key = (*seed_sequence.spawn_key, index)
    return np.random.default_rng(np.random.SeedSequence(seed_sequence.entropy, spawn_key=key))


def renew(
    length: float, left: float | None, gaps: Any, rng: np.random.Generator
) -> tuple[np.ndarray, float]:
    """Draw a stretch of a renewal process with gaps of mean 1.

    Parameters
    ----------
    length : float
        Of the stretch, in mean gaps.
    left : float or None
        From its begin to the first event; None begins the process in its steady state.
    gaps : callable
        ``(count, rng)`` to gaps of mean 1.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    tuple of numpy.ndarray and float
        Times of the events in [0, length), and from its end to the first event after it.
    """
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
    """Return what draws gamma gaps of mean 1.

    Parameters
    ----------
    cv : float
        Their coefficient of variation.

    Returns
    -------
    callable
        ``(count, rng)`` to gaps.
    """
    shape = cv**-2.0
    return lambda count, rng: rng.standard_gamma(shape, count) / shape
