"""The compiled passes over segments of work: warming up, the board's limit, power into bins."""

from __future__ import annotations

import numpy as np
from numba import njit

LONG_AFTER = 8.0


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
        length = end[i] - start[i]
        if start[i] > last:
            now *= np.exp(-(start[i] - last) / warm_s)
        x = length / warm_s
        left = np.exp(-x) if x > 1e-2 else 1.0 - x + 0.5 * x * x
        mean[i] = 1.0 - (1.0 - now) * ((1.0 - left) / x if x > 1e-6 else 1.0)
        now = 1.0 - (1.0 - now) * left
        last = end[i]
    return mean


@njit(cache=True)
def held_below(start, end, power_w, idle_w, limit_w, limit_s):
    """Power that a board's limit allows.

    Parameters
    ----------
    start, end : numpy.ndarray
        Begin and end of successive segments, seconds, shape (n,).
    power_w : numpy.ndarray
        What they would draw, watts, shape (n,).
    idle_w, limit_w : float
        Power without work, and the limit of its running mean, watts.
    limit_s : float
        Time constant of that mean, seconds.

    Returns
    -------
    numpy.ndarray
        Watts, shape (n,): the limit for what of a segment lies after the running mean reached it.
    """
    allowed = power_w.copy()
    if start.size == 0 or power_w.max() <= limit_w:
        return allowed
    mean, last = idle_w, start[0]
    for i in range(start.size):
        if start[i] > last:
            mean = idle_w + (mean - idle_w) * np.exp(-(start[i] - last) / limit_s)
        length = end[i] - start[i]
        if power_w[i] <= limit_w:
            mean = power_w[i] + (mean - power_w[i]) * np.exp(-length / limit_s)
        else:
            free = 0.0
            if mean < limit_w:
                free = limit_s * np.log((power_w[i] - mean) / (power_w[i] - limit_w))
            if free >= length:
                mean = power_w[i] + (mean - power_w[i]) * np.exp(-length / limit_s)
            else:
                allowed[i] = limit_w + (power_w[i] - limit_w) * free / length
                mean = limit_w
        last = end[i]
    return allowed


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
    i, noise, last = 0, 0.0, -np.inf
    for b in range(normals.size):
        low, high = begin_s + b * dt_s, begin_s + (b + 1) * dt_s
        busy, joules = 0.0, 0.0
        while i < start.size and start[i] < high:
            inside = min(end[i], high) - max(start[i], low)
            busy += inside
            joules += inside * above_w[i]
            last = min(end[i], high)
            if end[i] > high:
                break
            i += 1
        busy = min(busy / dt_s, 1.0)
        value = idle_w + joules / dt_s
        if busy < 1.0 and after_w > 0.0 and high - last < LONG_AFTER * after_s:
            value += (1.0 - busy) * after_w * np.exp(-(high - last) / after_s)
        noise = phi * noise + (fresh if b else 1.0) * normals[b]
        power_w[b] = max(value + noise * (idle_sd + (decode_sd - idle_sd) * busy), 0.0)
    return power_w
