"""The compiled passes over segments of work: warming up, the board's limit, power into bins."""

from __future__ import annotations

import numpy as np
from numba import njit

LONG_AFTER = 8.0
LINEAR = 1e6
SMALL = 0.1


@njit(cache=True, inline="always")
def _decay(x):
    """Exponential of -x, for small x by a quotient that is right within 1e-4."""
    return (1.0 - 0.5 * x) / (1.0 + 0.5 * x) if x < SMALL else np.exp(-x)


@njit(cache=True)
def warmth(start, end, warm_s):
    """How warm a board is in each segment of work, from 0 to 1.

    Parameters
    ----------
    start, end : numpy.ndarray
        Begin and end of successive segments, seconds, shape (n,).
    warm_s : float
        Time constant of warming up and of cooling down, seconds.

    Returns
    -------
    numpy.ndarray
        Mean warmth in each segment, shape (n,); it starts cold.
    """
    mean = np.empty(start.size)
    now, last = 0.0, start[0] if start.size else 0.0
    for i in range(start.size):
        if start[i] > last:
            now *= _decay((start[i] - last) / warm_s)
        x = (end[i] - start[i]) / warm_s
        left = _decay(x)
        # the mean of a short segment is its middle
        share = 0.5 * (1.0 + left) if x < SMALL else (1.0 - left) / x
        mean[i] = 1.0 - (1.0 - now) * share
        now = 1.0 - (1.0 - now) * left
        last = end[i]
    return mean


@njit(cache=True)
def segment_power(start, end, batch, prefill, law, scales):
    """Power of successive segments of work.

    Parameters
    ----------
    start, end, batch, prefill : numpy.ndarray
        Begin and end (seconds), sequences that decode and prompt tokens, shape (n,) each.
    law : tuple of float
        Watts: idle, decoding, a sequence, limit of prefill, gained when warm.
    scales : tuple of float
        Prompt tokens and sequences at which power begins to saturate, time constant of warming up
        (s), limit of sustained power (W) and for how long prefill may stay above it (s).

    Returns
    -------
    numpy.ndarray
        Mean watts of each segment, shape (n,). Energy above the limit goes into a store that what
        lies below the limit empties; when it is full, power is held to the limit.
    """
    idle_w, decode_w, sequence_w, prefill_w, warm_w = law
    scale_tokens, batch_scale, warm_s, limit_w, limit_s = scales
    power_w = np.empty(start.size)
    warm = warmth(start, end, warm_s)
    most = 0 if start.size == 0 else int(batch.max())
    counted = np.arange(most + 1.0)
    if batch_scale < LINEAR:
        counted = batch_scale * np.log1p(counted / batch_scale)
    room_j = max(prefill_w - limit_w, 0.0) * limit_s
    stored_j, last = 0.0, 0.0
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
    return power_w


@njit(cache=True)
def render(segments, clock, idle, spread, normals):
    """Put the power of segments into equidistant bins, with idle power and noise, in one pass.

    Parameters
    ----------
    segments : tuple of numpy.ndarray
        Begin, end (seconds) and power above idle (watts), shape (n,) each.
    clock : tuple of float
        Begin of the first bin and length of a bin, seconds.
    idle : tuple of float
        Idle power, extra power just after work (watts), and the time constant of its decay (s).
    spread : tuple of float
        Standard deviation of noise without work and at work (watts), and its autocorrelation from
        one bin to the next.
    normals : numpy.ndarray
        Standard normal numbers, one a bin, shape (bins,).

    Returns
    -------
    numpy.ndarray
        Mean power of each bin, watts, shape (bins,).
    """
    start, end, above_w = segments
    begin_s, dt_s = clock
    idle_w, after_w, after_s = idle
    idle_sd, decode_sd, phi = spread
    fresh = np.sqrt(1.0 - phi * phi)
    power_w = np.empty(normals.size)
    per_s, fade = 1.0 / dt_s, np.exp(-dt_s / after_s)
    i, noise, glow = 0, 0.0, 0.0
    for b in range(normals.size):
        low, high = begin_s + b * dt_s, begin_s + (b + 1) * dt_s
        busy, joules = 0.0, 0.0
        glow *= fade
        while i < start.size and start[i] < high:
            stop = min(end[i], high)
            inside = stop - max(start[i], low)
            busy += inside
            joules += inside * above_w[i]
            glow = after_w
            if end[i] > high:
                break
            i += 1
            if i == start.size or start[i] >= high:
                glow *= np.exp((stop - high) / after_s)
        busy = min(busy * per_s, 1.0)
        noise = phi * noise + (fresh if b else 1.0) * normals[b]
        value = idle_w + joules * per_s + (1.0 - busy) * glow
        power_w[b] = max(value + noise * (idle_sd + (decode_sd - idle_sd) * busy), 0.0)
    return power_w
