"""Streams of requests and their token lengths: Poisson, bursty, replayed; in chunks, or whole.

A chunk holds the requests with ``begin_s <= arrival_s < end_s``, in order; it has a number and is
told what the one before returned to be carried (None for the first). The same seeds give the same.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.random import Generator, SeedSequence
from pydantic import Field
from scipy.special import gamma, ndtri

from sitetrace.core.files import require
from sitetrace.core.settings import Number, Part
from sitetrace.core.types import MAX_SPAN_S
from sitetrace.workload.table import MAX_TOKENS, TOKENS, read_requests

HOUR_S, DAY_S, LEAST_DWELL_S = 3600.0, 86400.0, 0.1
MAX_RATE, MAX_REQUESTS, RESIDUAL_DRAWS, QUANTILES = 1000, 50_000_000, 512, 2**16
Carry = dict[str, Any] | None
Drawn = tuple["Requests", Carry]
Table, Like = pd.DataFrame, pd.DataFrame | None
# draws input and output tokens of so many requests, int64, shape (n, 2)
Lengths = Callable[[int, Generator], np.ndarray]
Tokens = Annotated[Number, Field(ge=1, le=MAX_TOKENS)]
Sigma = Annotated[Number, Field(ge=0, le=10, description="spread of its logarithm")]


class LogNormalLengths(Part):
    """Log-normal token lengths, as `fit_traffic` finds them."""

    input_median: Tokens = Field(180.0, description="median prompt, tokens")
    input_sigma: Sigma = 1.1
    input_limit: Tokens = Field(4000.0, description="longest prompt, tokens")
    output_median: Tokens = Field(130.0, description="median answer, tokens")
    output_sigma: Sigma = 0.9
    output_limit: Tokens = Field(1000.0, description="longest answer, tokens")
    correlation: Number = Field(0.0, ge=-1, le=1, description="of the two logarithms")

    def __call__(self, count: int, rng: Generator) -> np.ndarray:
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
        z = ndtri((np.arange(QUANTILES) + 0.5) / QUANTILES)
        # short numbers stay in the nearest memory
        return [table.astype(np.min_scalar_type(table[-1])) for table in self._at(z, z)]

    def _at(self, prompt: np.ndarray, answer: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        prompt = np.clip(self.input_median * np.exp(self.input_sigma * prompt), 1, self.input_limit)
        answer = self.output_median * np.exp(self.output_sigma * answer)
        return prompt.astype(np.int64), np.clip(answer, 1, self.output_limit).astype(np.int64)


def open_lengths(given: LogNormalLengths | Like | str, folder: Path | str = ".") -> Lengths:
    """Return what draws token counts: a law, rows of a request table or its file, else chats'."""
    given = read_requests(Path(folder) / given) if isinstance(given, str) else given
    if not isinstance(given, pd.DataFrame):
        return given or LogNormalLengths()
    rows = given[[*TOKENS]].to_numpy()
    # whole rows, with replacement: the correlation of their two counts stays
    return lambda count, rng: rows.take(rng.integers(0, len(rows), count, dtype=np.int32), axis=0)


class Requests(NamedTuple):
    """Requests of a chunk in order of arrival; tokens are input and output, shape (n, 2)."""

    arrival_s: np.ndarray
    tokens: np.ndarray
    session: np.ndarray | None = None

    def table(self) -> pd.DataFrame:
        """Return them as a request table."""
        columns = {"arrival_s": self.arrival_s} | dict(zip(TOKENS, self.tokens.T, strict=True))
        return pd.DataFrame(columns | ({} if self.session is None else {"session": self.session}))


class Stream:
    """What every pattern offers, that says how to `draw` a chunk from a generator of its own."""

    def chunk(
        self, index: int, begin_s: float, end_s: float, seeds: SeedSequence, carry: Carry
    ) -> Drawn:
        """Return requests, the same whatever was drawn before, and what the next is to be given."""
        seeds = SeedSequence(seeds.entropy, spawn_key=(*seeds.spawn_key, index))
        return self.draw(begin_s, end_s, np.random.default_rng(seeds), carry)


@dataclass(frozen=True)
class Poisson(Stream):
    """Independent arrivals at a rate that is constant or swings with the hour of the day."""

    n_servers: int
    rate_per_server: float
    lengths: Lengths
    swing: float = 0.0  # amplitude of the rate relative to its mean
    peak_hour: float = 0.0  # hour of the day with the greatest rate
    start_hour: float = 0.0  # hour of the day of second 0

    def draw(self, begin_s: float, end_s: float, rng: Generator, carry: Carry = None) -> Drawn:
        """Draw a chunk; nothing is carried."""
        return Requests(*self.server_chunk(begin_s, end_s, rng, self.n_servers)), {}

    def server_chunk(
        self, begin_s: float, end_s: float, rng: Generator, n_servers: int = 1
    ) -> tuple:
        """Draw arrivals (s) and tokens of one server, where each request goes to one at random."""
        # split at random a Poisson stream is many: each server thins its own of the greatest rate
        first, last = self._since_peak_rad(begin_s), self._since_peak_rad(end_s)
        peaks = np.floor(last / (2 * np.pi)) * 2 * np.pi >= first
        most = 1 + self.swing * (1.0 if peaks else max(np.cos(first), np.cos(last)))
        arrival_s = _even(n_servers * self.rate_per_server * most, begin_s, end_s, rng)
        if self.swing:
            rate = 1 + self.swing * np.cos(self._since_peak_rad(arrival_s))
            arrival_s = arrival_s[rng.random(arrival_s.size) * most < rate]
        return arrival_s, self.lengths(arrival_s.size, rng)

    def _since_peak_rad(self, time_s: np.ndarray | float) -> np.ndarray | float:
        return 2 * np.pi * (time_s / HOUR_S + self.start_hour - self.peak_hour) / 24


@dataclass(frozen=True)
class Bursty(Stream):
    """Arrivals of a pool with gamma-distributed gaps, which go on from chunk to chunk."""

    rate_per_s: float
    cv: float  # coefficient of variation of the gaps
    lengths: Lengths

    def draw(self, begin_s: float, end_s: float, rng: Generator, carry: Carry = None) -> Drawn:
        """Draw a chunk; the mean gaps to the next request are carried."""
        left = carry and carry["left"]
        arrival_s, left = renew(self.rate_per_s, begin_s, end_s, left, self.cv, rng)
        return Requests(arrival_s, self.lengths(arrival_s.size, rng)), {"left": left}


class _Switching(NamedTuple):
    rates_per_s: tuple[float, float]
    dwell_s: float

    def draw(self, begin_s: float, end_s: float, rng: Generator) -> Drawn:
        turns_s, _ = renew(1 / self.dwell_s, begin_s, end_s, None, 1.0, rng)
        arrival_s = _even(max(self.rates_per_s), begin_s, end_s, rng)
        rate = np.take(self.rates_per_s, np.searchsorted(turns_s, arrival_s) % 2)
        arrival_s = arrival_s[rng.random(arrival_s.size) * max(self.rates_per_s) < rate]
        return Requests(arrival_s, LogNormalLengths()(arrival_s.size, rng)), None


@dataclass(frozen=True)
class Replay(Stream):
    """A recorded table, again and again: after its last request one mean gap, then its first."""

    recorded: pd.DataFrame  # request table, sorted
    thin: float = 1.0  # share of requests kept, each on its own, anew each time round
    speed: float = 1.0
    offset_s: float = 0.0  # where in the recording second 0 lies, seconds of the recording

    @cached_property
    def after_s(self) -> np.ndarray:
        """Arrivals after the first, seconds of the recording, shape (rows,)."""
        return self.recorded["arrival_s"].to_numpy() - self.recorded["arrival_s"].iloc[0]

    @property
    def period_s(self) -> float:
        """Seconds of the recording from one time round to the next; of an instant one."""
        return float(self.after_s[-1] * self.after_s.size / max(self.after_s.size - 1, 1)) or 1.0

    def draw(self, begin_s: float, end_s: float, rng: Generator, carry: Carry = None) -> Drawn:
        """Draw a chunk; nothing is carried."""
        number = np.arange(self._before(begin_s), self._before(end_s))
        if self.thin < 1:
            number = number[rng.random(number.size) < self.thin]
        times_round, row = np.divmod(number, self.after_s.size)
        recorded_s = times_round * self.period_s + self.after_s[row]
        arrival_s = within((recorded_s - self.offset_s) / self.speed, begin_s, end_s)
        tokens = np.stack([self.recorded[name].to_numpy()[row] for name in TOKENS], axis=1)
        if "session" not in self.recorded:
            return Requests(arrival_s, tokens), {}
        session = self.recorded["session"].to_numpy()  # new ones each time round
        session = session[row] + times_round * (int(session.max()) + 1)
        return Requests(arrival_s, tokens, session), {}

    def _before(self, time_s: float) -> int:
        round_s = divmod(self.offset_s + time_s * self.speed, self.period_s)
        return int(round_s[0]) * self.after_s.size + int(np.searchsorted(self.after_s, round_s[1]))


def renew(
    rate: float, begin_s: float, end_s: float, left: float | None, law: float, rng: Generator
) -> tuple[np.ndarray, float]:
    """Draw events of a renewal process, `left` mean gaps from its begin on, and those then left."""
    if left is None:  # a long gap is met more often than a short one, anywhere in it
        met = _gaps(law, RESIDUAL_DRAWS, rng).cumsum()
        at = rng.random() * met[-1]
        left = float(met[np.searchsorted(met, at)] - at)
    length, events = (end_s - begin_s) * rate, np.array([left])
    while (togo := length - events[-1]) > 0:
        drawn = _gaps(law, int(togo + 4 * np.sqrt(togo)) + 16, rng)
        events = np.r_[events, events[-1] + np.cumsum(drawn)]
    count = int(np.searchsorted(events, length))
    return within(begin_s + events[:count] / rate, begin_s, end_s), float(events[count] - length)


def _gaps(law: float, count: int, rng: Generator) -> np.ndarray:
    if law < 0:  # the shape of Weibull gaps; else the variation of gamma ones, of mean 1
        return rng.weibull(-law, count) / gamma(1 - 1 / law)
    return rng.standard_gamma(law**-2.0, count) / law**-2.0


def within(arrival_s: np.ndarray, begin_s: float, end_s: float) -> np.ndarray:
    """Keep rounding from moving an arrival out of its stretch of time."""
    return np.minimum(np.maximum(arrival_s, begin_s), np.nextafter(end_s, begin_s))


def _even(rate_per_s: float, begin_s: float, end_s: float, rng: Generator) -> np.ndarray:
    # the partial sums of exponential gaps, over all of them, are sorted uniform numbers
    count = rng.poisson(rate_per_s * (end_s - begin_s))
    reached = np.cumsum(rng.standard_exponential(count + 1))
    return within(begin_s + reached[:-1] * ((end_s - begin_s) / reached[-1]), begin_s, end_s)


def whole(stream: Stream, duration_s: float, rng: Generator, rate_per_s: float = 1.0) -> Table:
    """Draw a stream from second 0 on, as a request table of whole microseconds."""
    where = f"{rate_per_s:g} requests/s over {duration_s:g} s"
    sound = 0 < duration_s <= MAX_SPAN_S and 0 < rate_per_s <= MAX_REQUESTS / duration_s
    mend = f"give a rate and a duration above 0, up to 31 days and {MAX_REQUESTS:,} requests"
    require(sound, where, "no such stream", mend)
    requests, _ = stream.draw(0.0, duration_s, rng)
    require(requests.arrival_s.size, where, "no request arrives", "give more time or a higher rate")
    return requests.table().round({"arrival_s": 6})


def poisson(rate_per_s: float, duration_s: float, rng: Generator, like: Like = None) -> Table:
    """Poisson arrivals at a constant rate.

    Parameters
    ----------
    rate_per_s, duration_s, rng, like : float, float, numpy.random.Generator, pandas.DataFrame
        As `bursty`.

    Returns
    -------
    pandas.DataFrame
        Request table from second 0.
    """
    return diurnal(rate_per_s, 0.0, duration_s, rng, like)


def bursty(
    rate_per_s: float, cv: float, duration_s: float, rng: Generator, like: Like = None
) -> pd.DataFrame:
    """Arrivals with gamma-distributed gaps, in their steady state from the first second.

    Parameters
    ----------
    rate_per_s, cv, duration_s : float
        Mean; variation of the gaps (1 is Poisson; vLLM's burstiness is ``1 / cv**2``); seconds.
    rng, like : numpy.random.Generator, pandas.DataFrame
        Source of randomness; request table whose rows give token lengths, else those of chats.

    Returns
    -------
    pandas.DataFrame
        Request table from second 0.
    """
    require(0.01 <= cv <= 100, f"cv {cv:g}", "no sensible variation", "give 0.01 to 100")
    return whole(Bursty(rate_per_s, cv, open_lengths(like)), duration_s, rng, rate_per_s)


def diurnal(
    rate_per_s: float,
    swing: float,
    duration_s: float,
    rng: Generator,
    like: Like = None,
    peak_hour: float = 15.0,
    begin_hour: float = 0.0,
) -> pd.DataFrame:
    """Poisson arrivals whose rate is a cosine of the hour of the day; `swing` is its amplitude."""
    require(0 <= swing <= 1, f"swing {swing:g}", "out of range", "give 0 to 1")
    for name, hour, least in (("peak_hour", peak_hour, 0), ("begin_hour", begin_hour, -24)):
        require(least <= hour <= 24, f"{name} {hour:g}", "no hour of a day", f"give {least} to 24")
    stream = Poisson(1, rate_per_s, open_lengths(like), swing, peak_hour, begin_hour)
    return whole(stream, duration_s, rng, rate_per_s)


def switching(rates_per_s: tuple, dwell_s: float, duration_s: float, rng: Generator) -> Table:
    """Poisson arrivals at two rates in turn, the first one first, each for a mean ``dwell_s``."""
    sound = all(rate >= 0 for rate in rates_per_s) and LEAST_DWELL_S <= dwell_s < np.inf
    where = f"rates {rates_per_s} requests/s, dwell {dwell_s:g} s"
    require(sound, where, "no two rates", f"give two from 0, and {LEAST_DWELL_S:g} s or more")
    return whole(_Switching(rates_per_s, dwell_s), duration_s, rng, max(rates_per_s))


def replay(requests: Table, thin: float, speed: float, rng: Generator) -> Table:
    """Replay a recorded table once, thinned to a share and warped in time, from its own begin."""
    stream, where = Replay(requests, thin, speed), f"thin {thin:g}, speed {speed:g}"
    sound = 0 < thin <= 1 and 1e-3 <= speed <= 1e3 and stream.after_s[-1] <= speed * MAX_SPAN_S
    mend = "give a share up to 1 and 0.001 to 1000, 31 days at most in all"
    require(sound, where, "no sensible replay", mend)
    # once round: between the last request and the first of the next time
    end_s = (stream.after_s[-1] + stream.period_s) / 2 / speed
    table = stream.draw(0.0, end_s, rng)[0].table()
    require(len(table), where, f"keeps none of {len(requests)} requests", "give a larger share")
    return table.assign(arrival_s=requests["arrival_s"].iloc[0] + table["arrival_s"])
