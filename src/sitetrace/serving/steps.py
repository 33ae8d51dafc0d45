"""The compiled engine: one step, leaps over equal steps, and a fast path without waiting."""

from __future__ import annotations

import numpy as np
from numba import njit

# finite, so that a model file can hold it
LINEAR = 1e6
# Places in the integer and the float state that survive from one call to the next.
N_RUNNING, N_PREEMPTED, NEXT, LEAP_STEPS = range(4)
CLOCK, LEAP_START, LEAP_FIRST, LEAP_SLOPE = range(4)
FAR = 2**62


@njit(cache=True, inline="always", error_model="numpy")
def decode_time(law, batch):
    """Tell the time of a decode step before its context is counted."""
    if law[5] < LINEAR:
        return law[0] + law[1] * law[5] * np.log1p(batch / law[5])
    return law[0] + law[1] * batch


@njit(cache=True, inline="always", error_model="numpy")
def leap_time(clocks, steps):
    """Tell the clock after so many steps of a leap: an arithmetic series in closed form."""
    slope = 0.5 * clocks[LEAP_SLOPE] * steps * (steps - 1.0)
    return clocks[LEAP_START] + (clocks[LEAP_FIRST] * steps + slope)


@njit(cache=True, inline="always", error_model="numpy")
def steps_until(clocks, done, time):
    """Find the least number of steps of a leap, above those done, that ends at or after a time."""
    if time == np.inf:
        return FAR
    distance = max(time - clocks[LEAP_START], 0.0)
    linear = clocks[LEAP_FIRST] - 0.5 * clocks[LEAP_SLOPE]
    root = np.sqrt(linear * linear + 2.0 * clocks[LEAP_SLOPE] * distance)
    steps = max(int(np.ceil(2.0 * distance / (linear + root))), done + 1)
    # The root is rounded; the sum itself decides, so that slices of time agree to the bit.
    while leap_time(clocks, steps) < time:
        steps += 1
    while steps - 1 > done and leap_time(clocks, steps - 1) >= time:
        steps -= 1
    return steps


@njit(cache=True, inline="always", error_model="numpy")
def _head(clock, counts, preempted, arrival):
    """Row of the request that waits first, or -1: pre-empted ones stand before all others."""
    if counts[N_PREEMPTED] > 0:
        return preempted[counts[N_PREEMPTED] - 1]
    if counts[NEXT] < arrival.size and arrival[counts[NEXT]] <= clock:
        return counts[NEXT]
    return -1


@njit(cache=True, inline="always", error_model="numpy")
def _leap(segments, n, until, law, limits, clocks, counts, head, used, tables):
    """Decode many steps at once, up to the next event; describe them as one segment."""
    arrival, tokens, running = tables[0], tables[1], tables[2]
    batch, done, clock = counts[N_RUNNING], counts[LEAP_STEPS], clocks[CLOCK]
    # a decoding sequence attends to all its tokens, of which the newest is not in the cache yet
    context = used + batch
    left = FAR
    for i in range(batch):
        left = min(left, tokens[running[i], 1] - tokens[running[i], 3])
    steps = left
    if used + left * batch > limits[2]:
        steps = (limits[2] - used) // batch
    if done == 0:
        clocks[LEAP_START] = clock
        clocks[LEAP_FIRST] = decode_time(law, batch) + law[3] * context
        clocks[LEAP_SLOPE] = law[3] * batch
    coming = counts[NEXT]
    if head < 0 and coming < arrival.size and batch < limits[0]:
        chunk = min(tokens[coming, 0], limits[1] - batch)
        met = leap_time(clocks, done + steps) > arrival[coming]
        if met and used + batch + chunk <= limits[2]:
            steps = min(steps, steps_until(clocks, done, arrival[coming]) - done)
    paused = steps_until(clocks, done, until) - done
    counts[LEAP_STEPS] = done + paused if paused < steps else 0
    steps = min(steps, paused)
    clocks[CLOCK] = leap_time(clocks, done + steps)
    for i in range(batch):
        tokens[running[i], 2] += steps
        tokens[running[i], 3] += steps
    mean_context = context + 0.5 * batch * (steps - 1)
    segments[n, 0], segments[n, 1], segments[n, 2], segments[n, 3] = (
        clock,
        clocks[CLOCK],
        steps,
        batch,
    )
    segments[n, 4], segments[n, 5], segments[n, 6] = mean_context, 0.0, batch * steps
    return used + batch * steps, steps == left


@njit(cache=True, inline="always", error_model="numpy")
def _step(segments, n, law, limits, clocks, counts, used, tables):
    """Do one step, running sequences first, then the queue; describe it as a segment."""
    arrival, tokens, running, preempted, times, decoding = tables
    clock, budget, capacity = clocks[CLOCK], limits[1], limits[2]
    batch, context, prefill, pairs = 0, 0, 0, 0.0
    any_preempted = False
    i = 0
    while i < counts[N_RUNNING]:
        row = running[i]
        chunk = 1
        if not decoding[row]:
            chunk = min(tokens[row, 0] + tokens[row, 3] - tokens[row, 2], budget)
        while used + chunk > capacity and counts[N_RUNNING] > i:
            counts[N_RUNNING] -= 1
            last = running[counts[N_RUNNING]]
            used -= tokens[last, 2]
            tokens[last, 2] = 0
            decoding[last] = False
            preempted[counts[N_PREEMPTED]] = last
            counts[N_PREEMPTED] += 1
            any_preempted = True
        if counts[N_RUNNING] <= i:
            break
        if decoding[row]:
            batch += 1
            context += tokens[row, 0] + tokens[row, 3]
        else:
            prefill += chunk
            pairs += chunk * (tokens[row, 2] + 0.5 * chunk)
        tokens[row, 2] += chunk
        used += chunk
        budget -= chunk
        i += 1
    # As in vLLM V1, nobody is admitted in a step that had to pre-empt.
    while not any_preempted and counts[N_RUNNING] < limits[0] and budget > 0:
        row = _head(clock, counts, preempted, arrival)
        if row < 0:
            break
        chunk = min(tokens[row, 0] + tokens[row, 3], budget)
        if used + chunk > capacity:
            break
        if counts[N_PREEMPTED] > 0:
            counts[N_PREEMPTED] -= 1
        else:
            counts[NEXT] += 1
            times[row, 0] = clock
        running[counts[N_RUNNING]] = row
        counts[N_RUNNING] += 1
        prefill += chunk
        pairs += 0.5 * chunk * chunk
        tokens[row, 2] = chunk
        used += chunk
        budget -= chunk
    duration = decode_time(law, batch) + law[2] * prefill + law[3] * context + law[4] * pairs
    clocks[CLOCK] = clock + duration
    any_done = False
    for i in range(counts[N_RUNNING]):
        row = running[i]
        if tokens[row, 2] == tokens[row, 0] + tokens[row, 3]:
            decoding[row] = True
            tokens[row, 3] += 1
            any_done |= tokens[row, 3] == tokens[row, 1]
            if tokens[row, 3] == 1:
                times[row, 1] = clocks[CLOCK]
    segments[n, 0], segments[n, 1], segments[n, 2], segments[n, 3] = clock, clocks[CLOCK], 1, batch
    segments[n, 4], segments[n, 5], segments[n, 6] = context, prefill, batch
    return used, any_done


@njit(cache=True, inline="always", error_model="numpy")
def _retire(clock, counts, tokens, running, times):
    """Take the requests that have all their tokens out of the running ones."""
    kept, freed = 0, 0
    for i in range(counts[N_RUNNING]):
        row = running[i]
        if tokens[row, 3] == tokens[row, 1]:
            times[row, 2] = clock
            freed += tokens[row, 2]
        else:
            running[kept] = row
            kept += 1
    counts[N_RUNNING] = kept
    return freed


@njit(cache=True, nogil=True, error_model="numpy")
def run_until(until, law, limits, clocks, counts, tables):
    """Work until the first step boundary at or after a time, or until nothing is left to do."""
    arrival, tokens, running, preempted, times, decoding = tables
    # each request still to come makes some three segments: room for them is taken at once
    segments = np.empty((256 + 3 * (arrival.size - counts[NEXT]), 7))
    n, used = 0, 0
    for i in range(counts[N_RUNNING]):
        used += tokens[running[i], 2]
    while clocks[CLOCK] < until:
        if counts[N_RUNNING] + counts[N_PREEMPTED] == 0:
            if counts[NEXT] == arrival.size or arrival[counts[NEXT]] >= until:
                break
            clocks[CLOCK] = max(clocks[CLOCK], arrival[counts[NEXT]])
        batch = counts[N_RUNNING]
        head = _head(clocks[CLOCK], counts, preempted, arrival)
        plain = batch > 0 and decoding[running[batch - 1]] and used + batch <= limits[2]
        if plain and head >= 0 and batch < limits[0]:
            chunk = min(tokens[head, 0] + tokens[head, 3], limits[1] - batch)
            plain = used + batch + chunk > limits[2]
        if n == len(segments):
            longer = np.empty((2 * n, 7))
            longer[:n] = segments
            segments = longer
        if plain:
            used, any_done = _leap(
                segments, n, until, law, limits, clocks, counts, head, used, tables
            )
        else:
            counts[LEAP_STEPS] = 0
            used, any_done = _step(segments, n, law, limits, clocks, counts, used, tables)
        n += 1
        if any_done:
            used -= _retire(clocks[CLOCK], counts, tokens, running, times)
    return segments[:n]


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
