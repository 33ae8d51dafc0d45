"""The compiled engine: the law of a step, one step, leaps over equal steps, and an easy way.

A step lasts ``c0 + c1*batch + c2*prefill + c3*context + c4*pairs`` seconds, see `step_time`. A leap
is many steps of decode at once: while the same sequences run, each step lasts longer than the one
before it by the same time. Compiled code reads by position: the names below are places in arrays.
"""

from __future__ import annotations

import numpy as np
from numba import njit

# `law` and `limits` of a `Server`: coefficients in seconds and the scale of the batch; most
# sequences at once, most tokens of a step, tokens that the KV cache holds.
C0, C1, C2, C3, C4, BATCH_SCALE = range(6)
SEQUENCES, STEP_TOKENS, KV_TOKENS = range(3)
# from this scale on all sequences of a batch count alike; finite, so that a model file can hold it
LINEAR = 1e6
# State, changed in place. `clocks`, seconds: now; begin of the leap under way, its first step, and
# by how much each further one lasts longer. `counts`: running and pre-empted requests, row of the
# first that was not yet admitted, steps of the leap that are done.
CLOCK, LEAP_START, LEAP_FIRST, LEAP_SLOPE = range(4)
N_RUNNING, N_PREEMPTED, NEXT, LEAP_STEPS = range(4)
# `tables` = (arrival, tokens, running, preempted, times, decoding), by request in order of arrival:
# `tokens` of the prompt, asked for, computed (in the KV cache) and generated; `times`, NaN before;
# whether it decodes. `running` holds rows in order of admission, `preempted` those of requests that
# lost their tokens, the first to return at the end.
PROMPT, ASKED, COMPUTED, GENERATED = range(4)
ADMITTED, FIRST_TOKEN, ENDED = range(3)
# Segments of work have the columns of `sitetrace.core.types.SEGMENT_COLUMNS`.
WIDTH = 7
NEVER = 2**62


@njit(cache=True, inline="always", error_model="numpy")
def step_time(law, batch, prefill, context, pairs):
    """Seconds that a step lasts: c0 + c1*batch + c2*prefill + c3*context + c4*pairs."""
    # batch: sequences that decode one token each; context: tokens that these attend to, in all;
    # prefill: prompt tokens computed; pairs: of such a token with one before it, for attention
    return decode_time(law, batch) + law[C2] * prefill + law[C3] * context + law[C4] * pairs


@njit(cache=True, inline="always", error_model="numpy")
def decode_time(law, batch):
    """Seconds of a step of decode before its context is counted: c0 + c1*batch."""
    # of a mixture of experts each further sequence counts less, see `engine.counted`
    if law[BATCH_SCALE] < LINEAR:
        return law[C0] + law[C1] * law[BATCH_SCALE] * np.log1p(batch / law[BATCH_SCALE])
    return law[C0] + law[C1] * batch


@njit(cache=True, inline="always", error_model="numpy")
def leap_time(clocks, steps):
    """Tell the clock after so many steps of a leap: an arithmetic series in closed form."""
    slope = 0.5 * clocks[LEAP_SLOPE] * steps * (steps - 1.0)
    return clocks[LEAP_START] + (clocks[LEAP_FIRST] * steps + slope)


@njit(cache=True, inline="always", error_model="numpy")
def steps_until(clocks, done, time):
    """Find the least number of steps of a leap, above those done, that ends at or after a time."""
    if time == np.inf:
        return NEVER
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


@njit(cache=True, nogil=True, error_model="numpy")
def run_until(until, law, limits, clocks, counts, tables):
    """Work until the first step boundary at or after a time, or until idle; return segments."""
    arrival, tokens, running, preempted, times, decoding = tables
    # each request still to come makes some three segments: room for them is taken at once
    segments = np.empty((256 + 3 * (arrival.size - counts[NEXT]), WIDTH))
    n, used = 0, 0
    for i in range(counts[N_RUNNING]):
        used += tokens[running[i], COMPUTED]
    while clocks[CLOCK] < until:
        if counts[N_RUNNING] + counts[N_PREEMPTED] == 0:
            if counts[NEXT] == arrival.size or arrival[counts[NEXT]] >= until:
                break
            clocks[CLOCK] = max(clocks[CLOCK], arrival[counts[NEXT]])
        batch = counts[N_RUNNING]
        head = _head(clocks[CLOCK], counts, preempted, arrival)
        # a leap: all who run decode, and nobody who waits could be admitted
        plain = batch > 0 and decoding[running[batch - 1]] and used + batch <= limits[KV_TOKENS]
        if plain and head >= 0 and batch < limits[SEQUENCES]:
            chunk = tokens[head, PROMPT] + tokens[head, GENERATED]
            chunk = min(chunk, limits[STEP_TOKENS] - batch)
            plain = used + batch + chunk > limits[KV_TOKENS]
        if n == len(segments):
            longer = np.empty((2 * n, WIDTH))
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
def _head(clock, counts, preempted, arrival):
    """Row of the request that waits first, or -1: pre-empted ones stand before all others."""
    if counts[N_PREEMPTED] > 0:
        return preempted[counts[N_PREEMPTED] - 1]
    if counts[NEXT] < arrival.size and arrival[counts[NEXT]] <= clock:
        return counts[NEXT]
    return -1


@njit(cache=True, inline="always", error_model="numpy")
def _write(segments, n, start, end, steps, batch, context, prefill, decoded):
    """Describe what was done."""
    segments[n, 0], segments[n, 1], segments[n, 2], segments[n, 3] = start, end, steps, batch
    segments[n, 4], segments[n, 5], segments[n, 6] = context, prefill, decoded


@njit(cache=True, inline="always", error_model="numpy")
def _leap(segments, n, until, law, limits, clocks, counts, head, used, tables):
    """Decode up to the next event at once; return KV tokens in use, and whether a request ended."""
    arrival, tokens, running = tables[0], tables[1], tables[2]
    batch, done, clock = counts[N_RUNNING], counts[LEAP_STEPS], clocks[CLOCK]
    # a decoding sequence attends to all its tokens, of which the newest is not in the cache yet
    context = used + batch
    left = NEVER
    for i in range(batch):
        left = min(left, tokens[running[i], ASKED] - tokens[running[i], GENERATED])
    steps = left
    if used + left * batch > limits[KV_TOKENS]:
        steps = (limits[KV_TOKENS] - used) // batch
    if done == 0:
        clocks[LEAP_START] = clock
        clocks[LEAP_FIRST] = step_time(law, batch, 0, context, 0.0)
        clocks[LEAP_SLOPE] = law[C3] * batch
    coming = counts[NEXT]
    if head < 0 and coming < arrival.size and batch < limits[SEQUENCES]:
        chunk = min(tokens[coming, PROMPT], limits[STEP_TOKENS] - batch)
        met = leap_time(clocks, done + steps) > arrival[coming]
        if met and used + batch + chunk <= limits[KV_TOKENS]:
            steps = min(steps, steps_until(clocks, done, arrival[coming]) - done)
    paused = steps_until(clocks, done, until) - done
    counts[LEAP_STEPS] = done + paused if paused < steps else 0
    steps = min(steps, paused)
    clocks[CLOCK] = leap_time(clocks, done + steps)
    for i in range(batch):
        tokens[running[i], COMPUTED] += steps
        tokens[running[i], GENERATED] += steps
    mean_context = context + 0.5 * batch * (steps - 1)
    _write(segments, n, clock, clocks[CLOCK], steps, batch, mean_context, 0.0, batch * steps)
    return used + batch * steps, steps == left


@njit(cache=True, inline="always", error_model="numpy")
def _step(segments, n, law, limits, clocks, counts, used, tables):
    """Do one step, running sequences first, then the queue; return what `_leap` returns."""
    arrival, tokens, running, preempted, times, decoding = tables
    clock, budget, capacity = clocks[CLOCK], limits[STEP_TOKENS], limits[KV_TOKENS]
    batch, context, prefill, pairs = 0, 0, 0, 0.0
    any_preempted = False
    i = 0
    while i < counts[N_RUNNING]:
        row = running[i]
        chunk = 1
        if not decoding[row]:
            # a pre-empted request computes its own answer again, like a prompt
            chunk = tokens[row, PROMPT] + tokens[row, GENERATED] - tokens[row, COMPUTED]
            chunk = min(chunk, budget)
        while used + chunk > capacity and counts[N_RUNNING] > i:
            counts[N_RUNNING] -= 1
            last = running[counts[N_RUNNING]]
            used -= tokens[last, COMPUTED]
            tokens[last, COMPUTED] = 0
            decoding[last] = False
            preempted[counts[N_PREEMPTED]] = last
            counts[N_PREEMPTED] += 1
            any_preempted = True
        if counts[N_RUNNING] <= i:
            break
        if decoding[row]:
            batch += 1
            context += tokens[row, PROMPT] + tokens[row, GENERATED]
        else:
            prefill += chunk
            pairs += chunk * (tokens[row, COMPUTED] + 0.5 * chunk)
        tokens[row, COMPUTED] += chunk
        used += chunk
        budget -= chunk
        i += 1
    # As in vLLM V1, nobody is admitted in a step that had to pre-empt.
    while not any_preempted and counts[N_RUNNING] < limits[SEQUENCES] and budget > 0:
        row = _head(clock, counts, preempted, arrival)
        if row < 0:
            break
        chunk = min(tokens[row, PROMPT] + tokens[row, GENERATED], budget)
        if used + chunk > capacity:
            break
        if counts[N_PREEMPTED] > 0:
            counts[N_PREEMPTED] -= 1
        else:
            counts[NEXT] += 1
            times[row, ADMITTED] = clock
        running[counts[N_RUNNING]] = row
        counts[N_RUNNING] += 1
        prefill += chunk
        pairs += 0.5 * chunk * chunk
        tokens[row, COMPUTED] = chunk
        used += chunk
        budget -= chunk
    clocks[CLOCK] = clock + step_time(law, batch, prefill, context, pairs)
    any_done = False
    for i in range(counts[N_RUNNING]):
        row = running[i]
        if tokens[row, COMPUTED] == tokens[row, PROMPT] + tokens[row, GENERATED]:
            decoding[row] = True
            tokens[row, GENERATED] += 1
            any_done |= tokens[row, GENERATED] == tokens[row, ASKED]
            if tokens[row, GENERATED] == 1:
                times[row, FIRST_TOKEN] = clocks[CLOCK]
    _write(segments, n, clock, clocks[CLOCK], 1, batch, context, prefill, batch)
    return used, any_done


@njit(cache=True, inline="always", error_model="numpy")
def _retire(clock, counts, tokens, running, times):
    """Take out the requests that have all their tokens; return the KV tokens that are freed."""
    kept, freed = 0, 0
    for i in range(counts[N_RUNNING]):
        row = running[i]
        if tokens[row, GENERATED] == tokens[row, ASKED]:
            times[row, ENDED] = clock
            freed += tokens[row, COMPUTED]
        else:
            running[kept] = row
            kept += 1
    counts[N_RUNNING] = kept
    return freed


@njit(cache=True, nogil=True, error_model="numpy")
def cruise(until, law, limits, clocks, counts, tables, segments):
    """Work as `run_until` does while it is easy and there is room; return the segments written."""
    # Easy: all who run decode, no prompt has to be cut, the KV cache has room. From an idle engine
    # and without an end it agrees with `run_until` to the bit; an end in the middle of a leap
    # begins a new leap there, which rounds anew.
    arrival, tokens, running, _, times, decoding = tables
    clock, following = clocks[CLOCK], counts[NEXT]
    n, done, batch = 0, 0, counts[N_RUNNING]
    # the running requests, the first to end first: the step after which each ends, and its row
    finish, rows = np.empty_like(running), np.empty_like(running)
    context = 0
    for i in range(batch):
        row = running[i]
        _insert(tokens[row, ASKED] - tokens[row, GENERATED], i, row, finish, rows)
        context += tokens[row, PROMPT] + tokens[row, GENERATED]
    leap = np.zeros(4)
    while n < len(segments) and clock < until and (batch > 0 or following < arrival.size):
        if batch == 0:
            if arrival[following] >= until:
                break
            clock = max(clock, arrival[following])
        count = _fitting(clock, batch, context, following, limits, arrival, tokens)
        if count < 0 or context > limits[KV_TOKENS]:
            break
        begin, prefill = clock, 0
        if count > 0:
            pairs = 0.0
            for row in range(following, following + count):
                times[row, ADMITTED] = clock
                prefill += tokens[row, PROMPT]
                pairs += 0.5 * tokens[row, PROMPT] * tokens[row, PROMPT]
            steps, mean_context = 1, float(context)
            clock += step_time(law, batch, prefill, context, pairs)
        else:
            steps = finish[0] - done
            leap[LEAP_START], leap[LEAP_SLOPE] = clock, law[C3] * batch
            leap[LEAP_FIRST] = step_time(law, batch, 0, context, 0.0)
            if context - batch + steps * batch > limits[KV_TOKENS]:
                break
            if following < arrival.size and batch < limits[SEQUENCES]:
                if context + tokens[following, PROMPT] > limits[KV_TOKENS]:
                    break
                if leap_time(leap, steps) > arrival[following]:
                    steps = min(steps, steps_until(leap, 0, arrival[following]))
            if leap_time(leap, steps) > until:
                steps = min(steps, steps_until(leap, 0, until))
            mean_context = context + 0.5 * batch * (steps - 1)
            clock = leap_time(leap, steps)
        _write(segments, n, begin, clock, steps, batch, mean_context, prefill, batch * steps)
        n += 1
        done += steps
        context += batch * steps
        gone, freed = _retire_first(clock, done, batch, finish, rows, tokens, times)
        batch -= gone
        context -= freed
        for row in range(following, following + count):
            times[row, FIRST_TOKEN] = clock
            tokens[row, GENERATED] = 1
            if tokens[row, ASKED] == 1:
                times[row, ENDED] = clock
            else:
                _insert(done + tokens[row, ASKED] - 1, batch, row, finish, rows)
                batch += 1
                context += tokens[row, PROMPT] + 1
        following += count
    clocks[CLOCK], counts[NEXT], counts[N_RUNNING], counts[LEAP_STEPS] = clock, following, batch, 0
    running[:batch] = np.sort(rows[:batch])
    for i in range(batch):
        row = rows[i]
        tokens[row, GENERATED] = tokens[row, ASKED] - (finish[i] - done)
        tokens[row, COMPUTED] = tokens[row, PROMPT] + tokens[row, GENERATED] - 1
        decoding[row] = True
    return n


@njit(cache=True, inline="always", error_model="numpy")
def _fitting(clock, batch, context, following, limits, arrival, tokens):
    """Count the arrived requests whose whole prompts fit in a step; -1 if one would not."""
    count, prefill = 0, 0
    while following + count < arrival.size and arrival[following + count] <= clock:
        if batch + count == limits[SEQUENCES] or batch + prefill == limits[STEP_TOKENS]:
            break
        prefill += tokens[following + count, PROMPT]
        if batch + prefill > limits[STEP_TOKENS] or context + prefill > limits[KV_TOKENS]:
            return -1
        count += 1
    return count


@njit(cache=True, inline="always", error_model="numpy")
def _insert(step, batch, row, finish, rows):
    """Put a request among the decoding ones, which end one after the other."""
    place = batch
    while place > 0 and finish[place - 1] > step:
        finish[place], rows[place] = finish[place - 1], rows[place - 1]
        place -= 1
    finish[place], rows[place] = step, row


@njit(cache=True, inline="always", error_model="numpy")
def _retire_first(clock, done, batch, finish, rows, tokens, times):
    """Take out the requests that have all their tokens; return their number and tokens."""
    gone, freed = 0, 0
    while gone < batch and finish[gone] == done:
        row = rows[gone]
        times[row, ENDED] = clock
        tokens[row, GENERATED] = tokens[row, ASKED]
        freed += tokens[row, PROMPT] + tokens[row, ASKED]
        gone += 1
    if gone > 0:
        for i in range(gone, batch):
            finish[i - gone], rows[i - gone] = finish[i], rows[i]
    return gone, freed
