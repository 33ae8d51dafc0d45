"""A server that goes on from stretch to stretch of time: its engine, and its power on the way.

`sitetrace.serving.Engine` keeps every request that it was ever given. A site's day has millions, so
here a stretch hands the next only those that still run or wait: memory does not grow with hours.
"""

from __future__ import annotations

from dataclasses import astuple
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numba import njit

from sitetrace.power.timeline.model import TimelineModel
from sitetrace.power.timeline.surface import (
    bins_into_total,
    blank_bins,
    open_into_bins,
    segments_into_bins,
)
from sitetrace.serving.engine import Server
from sitetrace.serving.steps import CLOCK, N_PREEMPTED, N_RUNNING, NEXT, cruise, run_until

# Places in `Unfinished.tally`: requests and tokens served to their end, longest wait for admission.
SERVED, PROMPT_TOKENS, ANSWER_TOKENS, LONGEST_WAIT = range(4)
# Columns of `Unfinished.rows`; a place from 0 is that among the running requests, from -2 downwards
# among the pre-empted ones, and -1 that in the queue.
ARRIVAL, PROMPT, ASKED, COMPUTED, GENERATED, ADMITTED, FIRST, DECODING, PLACE = range(9)
QUEUED = -1
# segments and bins that are worked on while they are still in the nearest memory
PAGE, SLICE = 512, 2048


class Unfinished(NamedTuple):
    """What an engine has not finished at the end of a stretch of time, and what it has served."""

    clock_s: np.ndarray  # the engine's, shape (1,)
    rows: np.ndarray  # unfinished requests in order of arrival
    tally: np.ndarray


def idle_engine(clock_s: float) -> Unfinished:
    """Begin the first stretch with nothing to do."""
    return Unfinished(np.array([clock_s]), np.empty((0, PLACE + 1)), np.zeros(4))


def advance_engine(
    server: Server, before: Unfinished, arrival_s: np.ndarray, tokens: np.ndarray, until_s: float
) -> tuple[np.ndarray, np.ndarray, Unfinished]:
    """Work on until the first step boundary at or after a time."""
    # Gives the segments (as in `Timeline`; the last may reach a step beyond the end), the ascending
    # ends of requests, and what is unfinished; `before` is left as it is.
    law, limits = _numbers(server)
    segments, ends_s, *after = _advance_engine(until_s, law, limits, before, arrival_s, tokens)
    return segments, ends_s, Unfinished(*after)


def advance_power(
    model: TimelineModel,
    before: Unfinished,
    requests: tuple[np.ndarray, np.ndarray],
    span_s: tuple[float, float],
    normals: np.ndarray,
    state: np.ndarray,
    total_w: np.ndarray,
) -> Unfinished:
    """Work on as `advance_engine` does, and add the watts of the stretch's bins to a total."""
    # `state` is the board's (see `surface`), changed in place as the total is.
    law, limits = _numbers(model.server)
    drawing, clock = model.numbers, (span_s[0], float(model.dt))
    return Unfinished(
        *_advance_power(
            span_s[1], law, limits, before, *requests, drawing, clock, normals, state, total_w
        )
    )


@lru_cache(maxsize=256)
def _numbers(server: Server) -> tuple[np.ndarray, np.ndarray]:
    """Law and limits as `run_until` takes them."""
    return np.array(astuple(server)[:6]), np.array(astuple(server)[7:])


@njit(cache=True, nogil=True, error_model="numpy")
def _joined(before, arrival, asked, most):
    """Put new requests below the unfinished ones, in the tables of `run_until`."""
    rows = before.rows
    old, total = len(rows), len(rows) + arrival.size
    arrivals, decoding = np.empty(total), np.zeros(total, dtype=np.bool_)
    tokens, times = np.zeros((total, 4), dtype=np.int64), np.full((total, 3), np.nan)
    running, preempted = np.empty(most, dtype=np.int64), np.empty(most, dtype=np.int64)
    clocks, counts = np.zeros(4), np.zeros(4, dtype=np.int64)
    clocks[CLOCK] = before.clock_s[0]
    for row in range(old):
        arrivals[row], decoding[row] = rows[row, ARRIVAL], rows[row, DECODING] > 0.0
        for i in range(4):
            tokens[row, i] = int(rows[row, PROMPT + i])
        times[row, 0], times[row, 1] = rows[row, ADMITTED], rows[row, FIRST]
        place = int(rows[row, PLACE])
        if place > QUEUED:
            running[place] = row
            counts[N_RUNNING] += 1
        elif place < QUEUED:
            preempted[QUEUED - 1 - place] = row
            counts[N_PREEMPTED] += 1
        if place != QUEUED:
            counts[NEXT] = row + 1
    for i in range(arrival.size):
        arrivals[old + i] = arrival[i]
        tokens[old + i, 0], tokens[old + i, 1] = asked[i, 0], asked[i, 1]
    return clocks, counts, (arrivals, tokens, running, preempted, times, decoding)


@njit(cache=True, nogil=True, error_model="numpy")
def _easy(counts, tables):
    """Tell whether the fast `cruise` may work: all that run decode, nothing was pre-empted."""
    _, _, running, _, _, decoding = tables
    for i in range(counts[N_RUNNING]):
        if not decoding[running[i]]:
            return False
    return counts[N_PREEMPTED] == 0


@njit(cache=True, nogil=True, error_model="numpy")
def _left(until, clocks, counts, tables):
    """Tell whether there is work before the end of the stretch that `cruise` left."""
    some = counts[N_RUNNING] + counts[N_PREEMPTED] > 0 or counts[NEXT] < tables[0].size
    return some and clocks[CLOCK] < until


@njit(cache=True, nogil=True, error_model="numpy")
def _handed_over(until, clocks, counts, tables, tally):
    """Count what ended, and give its ends and the next stretch's clock, rows and tally."""
    arrivals, tokens, running, preempted, times, decoding = tables
    tally, ends, kept, gone = tally.copy(), np.empty(arrivals.size), 0, 0
    place = np.full(arrivals.size, QUEUED)
    for i in range(counts[N_RUNNING]):
        place[running[i]] = i
    for i in range(counts[N_PREEMPTED]):
        place[preempted[i]] = QUEUED - 1 - i
    rows = np.empty((arrivals.size, PLACE + 1))
    for row in range(arrivals.size):
        if np.isnan(times[row, 2]):
            rows[kept, ARRIVAL] = arrivals[row]
            for i in range(4):
                rows[kept, PROMPT + i] = tokens[row, i]
            rows[kept, ADMITTED], rows[kept, FIRST] = times[row, 0], times[row, 1]
            rows[kept, DECODING], rows[kept, PLACE] = decoding[row], place[row]
            kept += 1
            continue
        ends[gone] = times[row, 2]
        gone += 1
        tally[SERVED] += 1.0
        tally[PROMPT_TOKENS] += tokens[row, 0]
        tally[ANSWER_TOKENS] += tokens[row, 1]
        tally[LONGEST_WAIT] = max(tally[LONGEST_WAIT], times[row, 0] - arrivals[row])
    clock_s = np.full(1, max(clocks[CLOCK], until))
    return ends[:gone], clock_s, rows[:kept].copy(), tally


@njit(cache=True, nogil=True, error_model="numpy")
def _advance_engine(until, law, limits, before, arrival, asked):
    """Join, work, and hand over."""
    clocks, counts, tables = _joined(before, arrival, asked, limits[0])
    segments = np.empty((3 * len(tables[0]) + 1, 7))
    n = 0
    if _easy(counts, tables):
        n = cruise(until, law, limits, clocks, counts, tables, segments)
    segments = segments[:n]
    if _left(until, clocks, counts, tables):
        segments = np.concatenate((segments, run_until(until, law, limits, clocks, counts, tables)))
    ends, clock_s, rows, tally = _handed_over(until, clocks, counts, tables, before.tally)
    return segments, np.sort(ends), clock_s, rows, tally


@njit(cache=True, nogil=True, error_model="numpy")
def _advance_power(
    until, law, limits, before, arrival, asked, drawing, clock, normals, state, total_w
):
    """Join, work slice by slice of bins and page by page of segments, and hand over."""
    clocks, counts, tables = _joined(before, arrival, asked, limits[0])
    power_law, scales, idle, spread = drawing
    page = np.empty((PAGE, 7))
    for first in range(0, normals.size, SLICE):
        inside = slice(first, min(first + SLICE, normals.size))
        begin_s = clock[0] + first * clock[1]
        end_s = until if inside.stop == normals.size else begin_s + SLICE * clock[1]
        own = (begin_s, clock[1])
        bins = blank_bins(inside.stop - first)
        open_into_bins(own, state, bins)
        n = PAGE
        while n == PAGE and _easy(counts, tables):
            n = cruise(end_s, law, limits, clocks, counts, tables, page)
            done = page[:n]
            work = (done[:, 0], done[:, 1], done[:, 3], done[:, 5])
            segments_into_bins(*work, power_law, scales, own, state, bins)
        if _left(end_s, clocks, counts, tables):
            done = run_until(end_s, law, limits, clocks, counts, tables)
            work = (done[:, 0], done[:, 1], done[:, 3], done[:, 5])
            segments_into_bins(*work, power_law, scales, own, state, bins)
        bins_into_total(clock[1], idle, spread, normals[inside], state, bins, total_w[inside])
    _, clock_s, rows, tally = _handed_over(until, clocks, counts, tables, before.tally)
    return clock_s, rows, tally
