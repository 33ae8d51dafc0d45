"""The engine in stretches of time: what one leaves unfinished is handed to the next.

`sitetrace.serving.Engine` keeps every request that it was ever given. A site's day has millions, so
here a stretch hands over only those that still run or wait: memory does not grow with hours.
"""

from __future__ import annotations

from dataclasses import astuple
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numba import njit

from sitetrace.cruising import cruise
from sitetrace.serving import Server
from sitetrace.stepping import CLOCK, N_PREEMPTED, N_RUNNING, NEXT, run_until

# Places in `Unfinished.tally`: requests and tokens served to their end, longest wait for admission.
SERVED, PROMPT_TOKENS, ANSWER_TOKENS, LONGEST_WAIT = range(4)


class Unfinished(NamedTuple):
    """What an engine has not finished at the end of a stretch of time, all of it plain arrays.

    Parameters
    ----------
    clock_s : numpy.ndarray
        The engine's clock, seconds, shape (1,).
    arrival_s : numpy.ndarray
        Arrivals of the unfinished requests, seconds, shape (n,).
    tokens : numpy.ndarray
        Prompt, asked, computed and generated tokens, integers, shape (n, 4).
    times_s : numpy.ndarray
        Admission, first token and end, NaN where it is to come, seconds, shape (n, 3).
    decoding : numpy.ndarray
        Whether it decodes, booleans, shape (n,).
    running, preempted : numpy.ndarray
        Rows in order of admission; rows that lost their cache, the first to return last.
    tally : numpy.ndarray
        Requests served so far, their prompt and answer tokens, the longest wait (s), shape (4,).
    """

    clock_s: np.ndarray
    arrival_s: np.ndarray
    tokens: np.ndarray
    times_s: np.ndarray
    decoding: np.ndarray
    running: np.ndarray
    preempted: np.ndarray
    tally: np.ndarray


def idle_engine(clock_s: float) -> Unfinished:
    """Begin with nothing to do.

    Parameters
    ----------
    clock_s : float
        Begin of the first stretch, seconds.

    Returns
    -------
    Unfinished
        What the first stretch goes on from.
    """
    rows = np.empty(0, dtype=np.int64)
    table, times_s = np.empty((0, 4), dtype=np.int64), np.empty((0, 3))
    none = np.empty(0, dtype=bool)
    return Unfinished(
        np.array([clock_s]), np.empty(0), table, times_s, none, rows, rows.copy(), np.zeros(4)
    )


def relay(
    server: Server, before: Unfinished, arrival_s: np.ndarray, tokens: np.ndarray, until_s: float
) -> tuple[np.ndarray, np.ndarray, Unfinished]:
    """Work on until the first step boundary at or after a time.

    Parameters
    ----------
    server : Server
        Law and limits.
    before : Unfinished
        What the stretch before handed over; it is left as it is.
    arrival_s : numpy.ndarray
        Arrivals before `until_s` and after all earlier ones, ascending, seconds, shape (n,).
    tokens : numpy.ndarray
        Prompt and answer tokens of the new requests, integers, shape (n, 2).
    until_s : float
        End of the stretch, seconds.

    Returns
    -------
    segments : numpy.ndarray
        Columns as in `sitetrace.timeline.Timeline`, shape (segments, 7); the last may reach a step
        beyond the end.
    ends_s : numpy.ndarray
        When requests ended, ascending, seconds.
    after : Unfinished
        For the next stretch.
    """
    segments, ends_s, after = _relay(until_s, *_numbers(server), before, arrival_s, tokens)
    return segments, ends_s, Unfinished(*after)


@lru_cache(maxsize=256)
def _numbers(server: Server) -> tuple[np.ndarray, np.ndarray]:
    """Law and limits as `run_until` takes them."""
    return np.array(astuple(server)[:5]), np.array(astuple(server)[6:])


@njit(cache=True, nogil=True, error_model="numpy")
def _joined(before, arrival, asked, most):
    """Put new requests below the unfinished ones, in the tables of `run_until`."""
    old, new = before[1].size, arrival.size
    tokens = np.zeros((old + new, 4), dtype=np.int64)
    tokens[:old] = before[2]
    tokens[old:, :2] = asked
    times = np.full((old + new, 3), np.nan)
    times[:old] = before[3]
    decoding = np.zeros(old + new, dtype=np.bool_)
    decoding[:old] = before[4]
    running, preempted = np.empty(most, dtype=np.int64), np.empty(most, dtype=np.int64)
    running[: before[5].size] = before[5]
    preempted[: before[6].size] = before[6]
    arrivals = np.concatenate((before[1], arrival))
    return arrivals, tokens, running, preempted, times, decoding


@njit(cache=True, nogil=True, error_model="numpy")
def _relay(until, law, limits, before, arrival, asked):
    """Join, work, count what ended, and keep the rest."""
    tables = _joined(before, arrival, asked, limits[0])
    arrivals, tokens, running, preempted, times, decoding = tables
    clocks, counts = np.zeros(4), np.zeros(4, dtype=np.int64)
    clocks[CLOCK] = before[0][0]
    counts[N_RUNNING], counts[N_PREEMPTED] = before[5].size, before[6].size
    while counts[NEXT] < times.shape[0] and not np.isnan(times[counts[NEXT], 0]):
        counts[NEXT] += 1
    easy = counts[N_PREEMPTED] == 0
    for i in range(counts[N_RUNNING]):
        easy = easy and decoding[running[i]]
    segments = np.empty((0, 7))
    if easy:
        segments = cruise(until, law, limits, clocks, counts, tables)
    if clocks[CLOCK] < until and (
        counts[N_RUNNING] + counts[N_PREEMPTED] > 0 or counts[NEXT] < arrivals.size
    ):
        segments = np.concatenate((segments, run_until(until, law, limits, clocks, counts, tables)))
    clocks[CLOCK] = max(clocks[CLOCK], until)
    tally = before[7].copy()
    place = np.full(arrivals.size, -1)
    kept, gone = 0, 0
    ends = np.empty(arrivals.size)
    for row in range(arrivals.size):
        if np.isnan(times[row, 2]):
            place[row] = kept
            arrivals[kept], decoding[kept] = arrivals[row], decoding[row]
            tokens[kept], times[kept] = tokens[row], times[row]
            kept += 1
            continue
        ends[gone] = times[row, 2]
        gone += 1
        tally[SERVED] += 1.0
        tally[PROMPT_TOKENS] += tokens[row, 0]
        tally[ANSWER_TOKENS] += tokens[row, 1]
        tally[LONGEST_WAIT] = max(tally[LONGEST_WAIT], times[row, 0] - arrivals[row])
    after = (
        clocks[CLOCK : CLOCK + 1].copy(),
        arrivals[:kept].copy(),
        tokens[:kept].copy(),
        times[:kept].copy(),
        decoding[:kept].copy(),
        place[running[: counts[N_RUNNING]]],
        place[preempted[: counts[N_PREEMPTED]]],
        tally,
    )
    return segments, np.sort(ends[:gone]), after
