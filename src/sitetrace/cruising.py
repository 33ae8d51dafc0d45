"""The engine's loop while all is easy: whole prompts, room in the cache, no end in sight.

It does what `sitetrace.stepping.run_until` does for as long as no prompt has to be cut and nobody
has to wait for the cache; then it hands over. From an idle engine and without an end they agree to
the bit; an end in the middle of a leap begins a new leap there, which rounds anew.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from sitetrace.stepping import (
    CLOCK,
    LEAP_STEPS,
    N_RUNNING,
    NEXT,
    decode_time,
    leap_time,
    steps_until,
)


@njit(cache=True, inline="always", error_model="numpy")
def _fitting(clock, batch, context, following, limits, arrival, tokens):
    """Count the arrived requests whose whole prompts fit in a step; -1 if one would not."""
    count, prefill = 0, 0
    while following + count < arrival.size and arrival[following + count] <= clock:
        if batch + count == limits[0] or batch + prefill == limits[1]:
            break
        prefill += tokens[following + count, 0]
        if batch + prefill > limits[1] or context + prefill > limits[2]:
            return -1
        count += 1
    return count


@njit(cache=True, inline="always", error_model="numpy")
def _admit(step, batch, row, finish, rows):
    """Put a request among the decoding ones, the first to end first."""
    place = batch
    while place > 0 and finish[place - 1] > step:
        finish[place], rows[place] = finish[place - 1], rows[place - 1]
        place -= 1
    finish[place], rows[place] = step, row


@njit(cache=True, inline="always", error_model="numpy")
def _retire_easy(clock, done, batch, finish, rows, tokens, times):
    """Take out the requests that have all their tokens; return their number and tokens."""
    gone, freed = 0, 0
    while gone < batch and finish[gone] == done:
        row = rows[gone]
        times[row, 2] = clock
        tokens[row, 3] = tokens[row, 1]
        freed += tokens[row, 0] + tokens[row, 1]
        gone += 1
    if gone > 0:
        for i in range(gone, batch):
            finish[i - gone], rows[i - gone] = finish[i], rows[i]
    return gone, freed


@njit(cache=True, inline="always", error_model="numpy")
def _taken_up(running, tokens, finish, rows):
    """Put the running requests among the decoding ones; return their tokens."""
    context = 0
    for i in range(running.size):
        row = running[i]
        _admit(tokens[row, 1] - tokens[row, 3], i, row, finish, rows)
        context += tokens[row, 0] + tokens[row, 3]
    return context


@njit(cache=True, nogil=True, error_model="numpy")
def cruise(until, law, limits, clocks, counts, tables, segments):
    """Work until the first step boundary at or after a time, the end of work, or a difficulty."""
    arrival, tokens, running, _, times, decoding = tables
    clock, following = clocks[CLOCK], counts[NEXT]
    n, done, batch = 0, 0, counts[N_RUNNING]
    finish, rows = np.empty_like(running), np.empty_like(running)
    context = _taken_up(running[:batch], tokens, finish, rows)
    leap = np.zeros(4)
    while n < len(segments) and clock < until and (batch > 0 or following < arrival.size):
        if batch == 0:
            if arrival[following] >= until:
                break
            clock = max(clock, arrival[following])
        count = _fitting(clock, batch, context, following, limits, arrival, tokens)
        if count < 0 or context > limits[2]:
            break
        segments[n, 0], segments[n, 3] = clock, batch
        if count > 0:
            prefill, pairs = 0, 0.0
            for row in range(following, following + count):
                times[row, 0] = clock
                prefill += tokens[row, 0]
                pairs += 0.5 * tokens[row, 0] * tokens[row, 0]
            steps, mean_context = 1, float(context)
            clock += decode_time(law, batch) + law[2] * prefill + law[3] * context + law[4] * pairs
        else:
            steps, prefill = finish[0] - done, 0
            leap[1], leap[2] = clock, decode_time(law, batch) + law[3] * context
            leap[3] = law[3] * batch
            if context - batch + steps * batch > limits[2]:
                break
            if following < arrival.size and batch < limits[0]:
                if context + tokens[following, 0] > limits[2]:
                    break
                if leap_time(leap, steps) > arrival[following]:
                    steps = min(steps, steps_until(leap, 0, arrival[following]))
            if leap_time(leap, steps) > until:
                steps = min(steps, steps_until(leap, 0, until))
            mean_context = context + 0.5 * batch * (steps - 1)
            clock = leap_time(leap, steps)
        segments[n, 1], segments[n, 2], segments[n, 4] = clock, steps, mean_context
        segments[n, 5], segments[n, 6] = prefill, batch * steps
        n += 1
        done += steps
        context += batch * steps
        gone, freed = _retire_easy(clock, done, batch, finish, rows, tokens, times)
        batch -= gone
        context -= freed
        for row in range(following, following + count):
            times[row, 1] = clock
            tokens[row, 3] = 1
            if tokens[row, 1] == 1:
                times[row, 2] = clock
            else:
                _admit(done + tokens[row, 1] - 1, batch, row, finish, rows)
                batch += 1
                context += tokens[row, 0] + 1
        following += count
    clocks[CLOCK], counts[NEXT], counts[N_RUNNING], counts[LEAP_STEPS] = clock, following, batch, 0
    running[:batch] = np.sort(rows[:batch])
    for i in range(batch):
        row = rows[i]
        tokens[row, 3] = tokens[row, 1] - (finish[i] - done)
        tokens[row, 2] = tokens[row, 0] + tokens[row, 3] - 1
        decoding[row] = True
    return n
