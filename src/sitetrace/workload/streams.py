"""Streams of requests, chunk by chunk and without end: Poisson, bursty, replayed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from sitetrace.workload.lengths import Lengths

MAX_RATE = 1000
HOUR_S, DAY_S = 3600.0, 86400.0
RESIDUAL_DRAWS = 512
Seed = np.random.SeedSequence
Carry = dict[str, Any]
Gaps = Callable[[int, np.random.Generator], np.ndarray]


class Requests(NamedTuple):
    """Requests of a chunk in order of arrival; tokens are input and output, shape (n, 2)."""

    arrival_s: np.ndarray
    tokens: np.ndarray
    session: np.ndarray | None = None


class Stream(ABC):
    """What every pattern offers: its requests, chunk after chunk."""

    @abstractmethod
    def chunk(
        self, index: int, begin_s: float, end_s: float, seed_sequence: Seed, carry: Carry | None
    ) -> tuple[Requests, Carry]:
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


@dataclass(frozen=True)
class Poisson(Stream):
    """Independent arrivals at a rate that is constant or swings with the hour of the day.

    Parameters
    ----------
    n_servers : int
        Servers of the pool.
    rate_per_server : float
        Mean requests a second a server.
    lengths : callable
        Draws tokens, see `sitetrace.workload.lengths.open_lengths`.
    swing : float
        Amplitude of the rate relative to its mean, 0 to 1.
    peak_hour : float
        Hour of the day with the greatest rate.
    start_hour : float
        Hour of the day of second 0.
    """

    n_servers: int
    rate_per_server: float
    lengths: Lengths
    swing: float = 0.0
    peak_hour: float = 0.0
    start_hour: float = 0.0

    def chunk(
        self, index: int, begin_s: float, end_s: float, seed_sequence: Seed, carry: Carry | None
    ) -> tuple[Requests, Carry]:
        """Return the requests of a chunk; nothing has to be carried."""
        rate_per_s = self.n_servers * self.rate_per_server
        return Requests(
            *self._draw(rate_per_s, begin_s, end_s, chunk_rng(seed_sequence, index))
        ), {}

    def server_chunk(
        self, begin_s: float, end_s: float, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return arrivals (s) and tokens of one server when each request goes to one at random."""
        # A Poisson stream split at random is as many independent ones: each server draws its own.
        return self._draw(self.rate_per_server, begin_s, end_s, rng)

    def _draw(
        self, rate_per_s: float, begin_s: float, end_s: float, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draw arrivals at the chunk's greatest rate, thin them, and give each its tokens."""
        first, last = self._phase(begin_s), self._phase(end_s)
        peaks = np.floor(last / (2 * np.pi)) * 2 * np.pi >= first
        most = 1 + self.swing * (1.0 if peaks else max(np.cos(first), np.cos(last)))
        # the partial sums of exponential gaps, over all of them, are sorted uniform numbers
        gaps = rng.standard_exponential(rng.poisson(rate_per_s * most * (end_s - begin_s)) + 1)
        arrival_s = _summed(gaps, begin_s, end_s)
        if self.swing:
            rate = 1 + self.swing * np.cos(self._phase(arrival_s))
            arrival_s = arrival_s[rng.random(arrival_s.size) * most < rate]
        return arrival_s, self.lengths(arrival_s.size, rng)

    def _phase(self, time_s: np.ndarray | float) -> np.ndarray | float:
        """Return the angle of the day; 0 is the peak."""
        return 2 * np.pi * (time_s / HOUR_S + self.start_hour - self.peak_hour) / 24


@dataclass(frozen=True)
class Bursty(Stream):
    """Arrivals of a pool with gamma-distributed gaps, which go on from chunk to chunk.

    Parameters
    ----------
    rate_per_s : float
        Mean requests a second of the pool.
    cv : float
        Coefficient of variation of the gaps.
    lengths : callable
        Draws tokens.
    """

    rate_per_s: float
    cv: float
    lengths: Lengths

    def chunk(
        self, index: int, begin_s: float, end_s: float, seed_sequence: Seed, carry: Carry | None
    ) -> tuple[Requests, Carry]:
        """Return the requests of a chunk; the time to the next one is carried."""
        rng = chunk_rng(seed_sequence, index)
        left = None if carry is None else carry["left"]
        times, left = renew((end_s - begin_s) * self.rate_per_s, left, gamma_gaps(self.cv), rng)
        arrival_s = within(begin_s + times / self.rate_per_s, begin_s, end_s)
        return Requests(arrival_s, self.lengths(arrival_s.size, rng)), {"left": left}


@dataclass(frozen=True)
class Replay(Stream):
    """A recorded table, again and again: after its last request one mean gap, then its first.

    Parameters
    ----------
    after_s : numpy.ndarray
        Arrivals after the first, seconds, sorted, shape (rows,).
    tokens : numpy.ndarray
        Input and output tokens, int64, shape (rows, 2).
    session : numpy.ndarray or None
        Sessions, int64, shape (rows,); each time round they are new ones.
    thin : float
        Share of requests kept, each on its own, anew each time round.
    speed : float
        Factor by which the recording runs faster.
    offset_s : float
        Where in the recording second 0 lies, seconds of the recording.
    """

    after_s: np.ndarray
    tokens: np.ndarray
    session: np.ndarray | None = None
    thin: float = 1.0
    speed: float = 1.0
    offset_s: float = 0.0

    @property
    def period_s(self) -> float:
        """Seconds of the recording from one time round to the next."""
        return float(self.after_s[-1] * self.after_s.size / (self.after_s.size - 1))

    def chunk(
        self, index: int, begin_s: float, end_s: float, seed_sequence: Seed, carry: Carry | None
    ) -> tuple[Requests, Carry]:
        """Return the requests of a chunk; nothing has to be carried."""
        number = np.arange(self._before(begin_s), self._before(end_s))
        if self.thin < 1:
            number = number[chunk_rng(seed_sequence, index).random(number.size) < self.thin]
        times_round, row = np.divmod(number, self.after_s.size)
        recorded_s = times_round * self.period_s + self.after_s[row]
        arrival_s = within((recorded_s - self.offset_s) / self.speed, begin_s, end_s)
        session = None
        if self.session is not None:
            session = self.session[row] + times_round * (int(self.session.max()) + 1)
        return Requests(arrival_s, self.tokens.take(row, axis=0), session), {}

    def _before(self, time_s: float) -> int:
        """Count the requests of all times round before a time, so that no seam loses one."""
        round_s = divmod(self.offset_s + time_s * self.speed, self.period_s)
        return int(round_s[0]) * self.after_s.size + int(np.searchsorted(self.after_s, round_s[1]))


def chunk_rng(seed: Seed, index: int) -> np.random.Generator:
    """Return the generator of a chunk, whatever chunks were drawn before."""
    return np.random.default_rng(Seed(seed.entropy, spawn_key=(*seed.spawn_key, index)))


def renew(
    length: float, left: float | None, gaps: Gaps, rng: np.random.Generator
) -> tuple[np.ndarray, float]:
    """Draw a stretch of a renewal process: its events, and from its end to the next one.

    Time is in mean gaps; `left` goes from its begin to the first event, None is the steady state.
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


def gamma_gaps(cv: float) -> Gaps:
    """Return what draws gamma gaps of mean 1 and a coefficient of variation."""
    shape = cv**-2.0
    return lambda count, rng: rng.standard_gamma(shape, count) / shape


def within(arrival_s: np.ndarray, begin_s: float, end_s: float) -> np.ndarray:
    """Keep rounding from moving an arrival out of its stretch of time."""
    return np.minimum(np.maximum(arrival_s, begin_s), np.nextafter(end_s, begin_s))


@njit(cache=True, nogil=True)
def _summed(gaps, begin_s, end_s):
    """Put gaps one after the other so that all of them fill a stretch of time."""
    total = 0.0
    for i in range(gaps.size):
        total += gaps[i]
    each = (end_s - begin_s) / total
    arrival_s = np.empty(gaps.size - 1)
    # as `within`
    last_s, now = np.nextafter(end_s, begin_s), 0.0
    for i in range(arrival_s.size):
        now += gaps[i]
        arrival_s[i] = min(begin_s + now * each, last_s)
    return arrival_s
