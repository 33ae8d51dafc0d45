"""Watts of an engine's steps: the surface, and the compiled passes that put it into bins.

A step's power depends on the sequences that decode and on the prompt tokens that it computes; a
board warms up while it works, and holds a long prefill down to its limit. A segment is a stretch of
equal steps, as in `sitetrace.core.types.Timeline`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numba import njit

from sitetrace.core.types import Timeline
from sitetrace.serving.activity import amount_in_bins
from sitetrace.serving.engine import counted
from sitetrace.serving.steps import LINEAR

# time constant of warming up and cooling down, and how long prefill may stay above the limit
WARM_S, LIMIT_S = 20.0, 0.5
# finite, so that a model file can hold it
LIMITLESS_W = 1e6
# What a stretch of time hands to the next is one array, changed in place, zeros for a cold board:
# WARM    how warm the last work has left the board, from 0 to 1
# UNTIL   end of the last work, seconds
# STORED  energy drawn above the board's limit and not yet made up for, joules
# NOISE   noise of the last bin, standard deviations
# GLOW    extra power after work, left at the end of the last bin, watts
# BEGUN   1 once there was a bin: the noise of the first one is not fresh but stationary
# OPEN_   the segment that reaches over the edge of the last bin: begin, end, watts above idle
# HEAT    how warm the board is by the share of work in whole bins, for its idle power
WARM, UNTIL, STORED, NOISE, GLOW, BEGUN, OPEN_START, OPEN_END, OPEN_W, HEAT = range(10)
STATE_SIZE = 10
# below SMALL an exponential is a quotient; a rest below FAINT is nothing, its arithmetic is slow
SMALL, FAINT = 0.1, 1e-9


@dataclass(frozen=True)
class Surface:
    """Power of a server by what its engine does.

    Parameters
    ----------
    idle_w : float
        Without work, watts.
    decode_w : float
        Decoding on a cold board, before any sequence is counted, watts.
    per_sequence_w : float
        Added by each decoding sequence, watts.
    prefill_w : float
        Limit for a step with very many prompt tokens, watts.
    scale_tokens : float
        Prompt tokens at which 63% of the way to that limit are gone.
    warm_w : float
        Added to decoding on a warm board, watts: a first-order term that saturates, with a time
        constant of 20 s of work, and fades as fast without it.
    batch_scale : float
        Sequences from which on one more adds ever less: the batch counts as
        ``batch_scale ln(1 + batch/batch_scale)``, which is the batch itself without a scale.
    limit_w : float
        What the board holds its power to when prefill would stay above for half a second, watts.
    warm_idle_w : float
        Added to idle on a warm board, watts: it fades with the time constant of warming up.
    """

    idle_w: float
    decode_w: float
    per_sequence_w: float
    prefill_w: float
    scale_tokens: float
    warm_w: float = 0.0
    batch_scale: float = LINEAR
    limit_w: float = LIMITLESS_W
    warm_idle_w: float = 0.0

    def step_power_w(self, batch: np.ndarray, prefill_tokens: np.ndarray) -> np.ndarray:
        """Watts of steps on a cold board: d + (prefill_w - d) (1 - exp(-tokens/scale_tokens)).

        d = decode_w + per_sequence_w counted(batch) is what decoding alone draws.
        """
        decode_w = self.decode_w + self.per_sequence_w * counted(batch, self.batch_scale)
        saturation = -np.expm1(-np.asarray(prefill_tokens, dtype=float) / self.scale_tokens)
        return decode_w + (self.prefill_w - decode_w) * saturation

    def segment_power_w(
        self, start_s: np.ndarray, end_s: np.ndarray, batch: np.ndarray, prefill_tokens: np.ndarray
    ) -> np.ndarray:
        """Mean watts of successive segments of work, the board warming up and limited."""
        work = (start_s, end_s, batch, prefill_tokens)
        return segment_power(*work, *self.numbers(), np.zeros(STATE_SIZE))

    def numbers(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Law (watts) and scales (where power saturates), as `segment_power` takes them."""
        law = (self.idle_w, self.decode_w, self.per_sequence_w, self.prefill_w, self.warm_w)
        return law, (self.scale_tokens, self.batch_scale, WARM_S, self.limit_w, LIMIT_S)

    def above_idle_w(self, segments: pd.DataFrame) -> np.ndarray:
        """Watts of each segment above an idle board; all that a meter must know of the surface."""
        names = ("start_s", "end_s", "batch", "prefill_tokens")
        columns = (segments[name].to_numpy(dtype=float) for name in names)
        return self.segment_power_w(*columns) - self.idle_w

    def mean_power_w(self, timeline: Timeline, end_times_s: np.ndarray, dt_s: float) -> np.ndarray:
        """Mean watts of the bins ``[t - dt, t)``; energy is neither lost nor counted twice."""
        segments = timeline.segments
        length_s = (segments["end_s"] - segments["start_s"]).to_numpy()
        above_j = amount_in_bins(
            segments, self.above_idle_w(segments) * length_s, end_times_s, dt_s
        )
        return self.idle_w + above_j / dt_s


def since_work_s(timeline: Timeline, times_s: np.ndarray) -> np.ndarray:
    """Seconds since the last work that ended; infinite before the first has."""
    ends = timeline.segments["end_s"].to_numpy()
    last = np.searchsorted(ends, times_s, side="right") - 1
    return np.where(last >= 0, times_s - ends[np.maximum(last, 0)], np.inf)


def left_warmth(timeline: Timeline, times_s: np.ndarray) -> np.ndarray:
    """How warm the last work that ended has left the board, from 0 to 1."""
    start, end = (timeline.segments[name].to_numpy() for name in ("start_s", "end_s"))
    length = (end - start) / WARM_S
    fading = length * np.exp(-length) / -np.expm1(-length)
    at_end = 1.0 - (1.0 - warmth(start, end, WARM_S, np.zeros(STATE_SIZE))) * fading
    last = np.maximum(np.searchsorted(end, times_s, side="right") - 1, 0)
    return at_end[last] * np.exp(-since_work_s(timeline, times_s) / WARM_S)


@njit(cache=True, inline="always")
def _decay(x):
    """Exponential of -x, for small x by a quotient that is right within 1e-4."""
    return (1.0 - 0.5 * x) / (1.0 + 0.5 * x) if x < SMALL else np.exp(-x)


@njit(cache=True, inline="always")
def warmed(now, gap, length):
    """Cool down in a gap, warm up in the work behind it: mean warmth in it, and at its end."""
    # Gap and length of the work are in time constants, warmth is from 0 to 1.
    if gap > 0.0:
        now *= _decay(gap)
    left = _decay(length)
    # the mean of a short segment is its middle
    share = 0.5 * (1.0 + left) if length < SMALL else (1.0 - left) / length
    return 1.0 - (1.0 - now) * share, 1.0 - (1.0 - now) * left


@njit(cache=True, nogil=True)
def warmth(start, end, warm_s, state):
    """Mean warmth of a board in each segment of work, from 0 to 1."""
    mean = np.empty(start.size)
    now, last = state[WARM], state[UNTIL]
    for i in range(start.size):
        gap, length = (start[i] - last) / warm_s, (end[i] - start[i]) / warm_s
        mean[i], now = warmed(now, gap, length)
        last = end[i]
    state[WARM] = now
    return mean


@njit(cache=True, nogil=True)
def segment_power(start, end, batch, prefill, law, scales, state):
    """Mean watts of successive segments: decode, prefill that saturates, warmth, and the limit."""
    # `law` and `scales` are `Surface.numbers`. Energy above the limit goes into a store that power
    # below it empties; when the store is full, power is held to the limit.
    idle_w, decode_w, sequence_w, prefill_w, warm_w = law
    scale_tokens, batch_scale, warm_s, limit_w, limit_s = scales
    power_w = np.empty(start.size)
    warm = warmth(start, end, warm_s, state)
    most = 0 if start.size == 0 else int(batch.max())
    counted = np.arange(most + 1.0)
    if batch_scale < LINEAR:
        counted = batch_scale * np.log1p(counted / batch_scale)
    room_j = max(prefill_w - limit_w, 0.0) * limit_s
    stored_j, last = state[STORED], state[UNTIL]
    for i in range(start.size):
        level = decode_w + sequence_w * counted[int(batch[i])] + warm_w * warm[i]
        if prefill[i] > 0.0:
            level += (prefill_w - level) * (1.0 - np.exp(-prefill[i] / scale_tokens))
        length = end[i] - start[i]
        emptied_j = (limit_w - idle_w) * max(start[i] - last, 0.0)
        stored_j = max(stored_j - emptied_j, 0.0) + (level - limit_w) * length
        if stored_j > room_j:
            level -= (stored_j - room_j) / length
            stored_j = room_j
        stored_j = max(stored_j, 0.0)
        last = end[i]
        power_w[i] = level
    state[STORED], state[UNTIL] = stored_j, last
    return power_w


@njit(cache=True, nogil=True)
def blank_bins(size):
    """Bins without work: share at work, watts above idle, rest."""
    # The rest is the time from the last work in a bin to the bin's end, in bins: 0 where work goes
    # on into the next bin, -1 where there was none.
    bins = np.zeros((3, size))
    bins[2] = -1.0
    return bins


@njit(cache=True, nogil=True)
def _spread_out(start, end, power_w, clock, bins):
    """Spread segments of power above idle over the bins that they touch."""
    busy, above_w, rest = bins[0], bins[1], bins[2]
    size = busy.size
    for i in range(start.size):
        first = max((start[i] - clock[0]) / clock[1], 0.0)
        last = min((end[i] - clock[0]) / clock[1], float(size))
        if last <= first:
            continue
        b, e = int(first), int(last)
        if b == e:
            busy[b] += last - first
            above_w[b] += (last - first) * power_w[i]
            rest[b] = 1.0 + e - last
            continue
        busy[b] += 1.0 + b - first
        above_w[b] += (1.0 + b - first) * power_w[i]
        for k in range(b + 1, e):
            busy[k] = 1.0
            above_w[k] = power_w[i]
        for k in range(b, e):
            rest[k] = 0.0
        if e < size and last > e:
            busy[e] += last - e
            above_w[e] += (last - e) * power_w[i]
            rest[e] = 1.0 + e - last


@njit(cache=True, nogil=True)
def open_into_bins(clock, state, bins):
    """Put the segment that reached over the edge of the last bins into these."""
    if state[OPEN_END] > clock[0]:
        start, end = state[OPEN_START : OPEN_START + 1], state[OPEN_END : OPEN_END + 1]
        _spread_out(start, end, state[OPEN_W : OPEN_W + 1], clock, bins)
    if state[OPEN_END] <= clock[0] + clock[1] * bins.shape[1]:
        state[OPEN_START], state[OPEN_END], state[OPEN_W] = 0.0, 0.0, 0.0


@njit(cache=True, nogil=True)
def segments_into_bins(start, end, batch, prefill, law, scales, clock, state, bins):
    """Put the power of successive segments into bins; the last alone may reach beyond them."""
    above_w = segment_power(start, end, batch, prefill, law, scales, state) - law[0]
    _spread_out(start, end, above_w, clock, bins)
    if start.size and end[-1] > clock[0] + clock[1] * bins.shape[1]:
        state[OPEN_START], state[OPEN_END], state[OPEN_W] = start[-1], end[-1], above_w[-1]


@njit(cache=True, nogil=True)
def bins_into_total(dt_s, idle, spread, normals, state, bins, total_w):
    """Add the mean watts of bins to a total: the work in them, idle power, afterglow and noise."""
    # `idle` and `spread` are those of `TimelineModel.numbers`; the noise is AR(1), its standard
    # deviation between that of idle and of work by the share of work.
    idle_w, after_w, after_s, warm_idle_w, warm_s = idle
    idle_sd, decode_sd, phi = spread
    busy, above_w, rest = bins[0], bins[1], bins[2]
    fresh, fade = np.sqrt(1.0 - phi * phi), np.exp(-dt_s / after_s)
    noise, glow, heat = state[NOISE], state[GLOW], state[HEAT]
    warming = 1.0 - np.exp(-dt_s / warm_s)
    gain = fresh if state[BEGUN] > 0.0 else 1.0
    for b in range(normals.size):
        noise = phi * noise + gain * normals[b]
        gain = fresh
        share = min(busy[b], 1.0)
        if rest[b] == 0.0:
            glow = after_w
        elif rest[b] > 0.0:
            glow = after_w * np.exp(-rest[b] * dt_s / after_s)
        else:  # numbers too small for their exponent are slow
            glow = glow * fade if glow > FAINT else 0.0
        value = idle_w + above_w[b] + (1.0 - share) * (glow + warm_idle_w * heat)
        heat += (share - heat) * warming if heat + share > FAINT else -heat
        total_w[b] += max(value + noise * (idle_sd + (decode_sd - idle_sd) * share), 0.0)
    state[NOISE], state[GLOW], state[BEGUN], state[HEAT] = noise, glow, 1.0, heat


@njit(cache=True, nogil=True)
def add_power(work, law, scales, clock, idle, spread, normals, state, total_w):
    """Add the mean watts of bins in which an engine does some work to a total."""
    bins = blank_bins(normals.size)
    open_into_bins(clock, state, bins)
    segments_into_bins(*work, law, scales, clock, state, bins)
    bins_into_total(clock[1], idle, spread, normals, state, bins, total_w)
