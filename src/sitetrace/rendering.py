"""The compiled passes over segments of work: warming up, the board's limit, power into bins."""

from __future__ import annotations

import numpy as np
from numba import njit

from sitetrace.serving import LINEAR

SMALL = 0.1
FAINT = 1e-9

# What one stretch of time hands to the next: warmth, end of the last work, energy above the limit,
# noise, afterglow, whether it has begun, the segment that reaches over the edge, and warmth by bin.
WARM, UNTIL, STORED, NOISE, GLOW, BEGUN, OPEN_START, OPEN_END, OPEN_W, HEAT = range(10)
STATES = 10


@njit(cache=True, inline="always")
def _decay(x):
    """Exponential of -x, for small x by a quotient that is right within 1e-4."""
    return (1.0 - 0.5 * x) / (1.0 + 0.5 * x) if x < SMALL else np.exp(-x)


@njit(cache=True, inline="always")
def warmed(now, gap, length):
    """Let a board cool down in a gap and warm up in the work that follows."""
    if gap > 0.0:
        now *= _decay(gap)
    left = _decay(length)
    # the mean of a short segment is its middle
    share = 0.5 * (1.0 + left) if length < SMALL else (1.0 - left) / length
    return 1.0 - (1.0 - now) * share, 1.0 - (1.0 - now) * left


@njit(cache=True, nogil=True)
def warmth(start, end, warm_s, state):
    """How warm a board is in each segment of work, from 0 to 1."""
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
    """Power of successive segments of work."""
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
    """Make room for what `lay` puts into bins."""
    bins = np.zeros((3, size))
    bins[2] = -1.0
    return bins


@njit(cache=True, nogil=True)
def _spread_out(start, end, power_w, clock, bins):
    """Put segments of power above idle into bins."""
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
def lay_open(clock, state, bins):
    """Put the segment that reached over the last edge into bins."""
    if state[OPEN_END] > clock[0]:
        start, end = state[OPEN_START : OPEN_START + 1], state[OPEN_END : OPEN_END + 1]
        _spread_out(start, end, state[OPEN_W : OPEN_W + 1], clock, bins)
    if state[OPEN_END] <= clock[0] + clock[1] * bins.shape[1]:
        state[OPEN_START], state[OPEN_END], state[OPEN_W] = 0.0, 0.0, 0.0


@njit(cache=True, nogil=True)
def lay(start, end, batch, prefill, law, scales, clock, state, bins):
    """Put the power of successive segments into bins."""
    above_w = segment_power(start, end, batch, prefill, law, scales, state) - law[0]
    _spread_out(start, end, above_w, clock, bins)
    if start.size and end[-1] > clock[0] + clock[1] * bins.shape[1]:
        state[OPEN_START], state[OPEN_END], state[OPEN_W] = start[-1], end[-1], above_w[-1]


@njit(cache=True, nogil=True)
def settle(dt_s, idle, spread, normals, state, bins, total_w):
    """Add the mean power of bins to a total: what was laid into them, idle power and noise."""
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
    """Add the power of what an engine does to equidistant bins: lay it, and settle."""
    bins = blank_bins(normals.size)
    lay_open(clock, state, bins)
    lay(*work, law, scales, clock, state, bins)
    settle(clock[1], idle, spread, normals, state, bins, total_w)
