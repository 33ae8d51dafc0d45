"""The compiled engine: one loop over the steps of a server.

A step lasts ``c0 + c1*batch + c2*prefill + c3*context + c4*pairs`` seconds, see `step_time`. While
the same sequences decode, each step lasts longer than the one before by the same time: so many
steps are done at once, by a leap. Slices of time agree with the whole to the bit. Segments of work
are records of the dtype `sitetrace.core.types.SEGMENT`.
"""

import numpy as np

from sitetrace.core.types import SEGMENT
from sitetrace.serving.inflight import NEVER, State, compiled

# from this scale on all sequences of a batch count alike; finite, so that a model file can hold it
LINEAR = 1e6


def all_segments(until_s: float, laws: np.ndarray, state: State, s: int) -> np.ndarray:
    """Let server s work as `advance` does, however many segments it takes."""
    # each request still to come makes some three
    parts, room = [], 256 + 3 * int(state.engine["known"][s] - state.engine["following"][s])
    while not parts or len(parts[-1]) == room:
        page = np.empty(room, SEGMENT)
        parts.append(page[: advance(until_s, laws, state, s, page)])
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


@compiled
def step_time(law, batch, prefill, context, pairs):
    """Seconds that a step lasts: c0 + c1*batch + c2*prefill + c3*context + c4*pairs."""
    # batch: sequences that decode one token each; context: tokens that these attend to, in all;
    # prefill: prompt tokens computed; pairs: of such a token with one before it, for attention
    return decode_time(law, batch) + law.c2_s * prefill + law.c3_s * context + law.c4_s * pairs


@compiled
def decode_time(law, batch):
    """Seconds of a step of decode before its context is counted: c0 + c1*batch."""
    # of a mixture of experts each further sequence counts less, see `engine.counted`
    if law.batch_scale < LINEAR:
        return law.c0_s + law.c1_s * law.batch_scale * np.log1p(batch / law.batch_scale)
    return law.c0_s + law.c1_s * batch


@compiled
def _leap_time(start_s, first_s, slope_s, steps):
    """Tell the clock after so many steps of a leap: an arithmetic series in closed form."""
    return start_s + (first_s * steps + 0.5 * slope_s * steps * (steps - 1.0))


@compiled
def _steps_until(start_s, first_s, slope_s, done, time_s):
    """Find the least number of steps of a leap, above those done, that ends at or after a time."""
    if time_s == np.inf:
        return NEVER
    distance = max(time_s - start_s, 0.0)
    linear = first_s - 0.5 * slope_s
    root = np.sqrt(linear * linear + 2.0 * slope_s * distance)
    steps = max(int(np.ceil(2.0 * distance / (linear + root))), done + 1)
    # The root is rounded; the sum itself decides, so that slices of time agree to the bit.
    while _leap_time(start_s, first_s, slope_s, steps) < time_s:
        steps += 1
    while steps - 1 > done and _leap_time(start_s, first_s, slope_s, steps - 1) >= time_s:
        steps -= 1
    return steps


@compiled
def advance(until_s, laws, state, s, segments):
    """Let server s work until the first step boundary at or after a time, or until idle."""
    # Returns the number of segments written; if that is all that there is room for, call again.
    law, engine, requests = laws[s], state.engine[s], state.requests[s]
    running, preempted = state.running[s], state.preempted[s]
    n = 0
    while engine.clock_s < until_s and n < len(segments):
        if engine.running + engine.preempted == 0:
            if engine.following == engine.known or requests[engine.following].arrival_s >= until_s:
                break
            engine.clock_s = max(engine.clock_s, requests[engine.following].arrival_s)
        batch, used, head = engine.running, engine.kv_tokens, _head(engine, requests, preempted)
        # a leap: all who run decode, and nobody who waits could be admitted
        leap = batch > 0 and not engine.prefilling and used + batch <= law.kv_tokens
        if leap and head >= 0 and batch < law.max_num_seqs:
            chunk = requests[head].input_tokens + requests[head].generated
            chunk = min(chunk, law.max_num_batched_tokens - batch)
            leap = used + batch + chunk > law.kv_tokens
        if leap:
            _leap(until_s, law, engine, requests, head, segments[n])
        else:
            _step(law, engine, requests, running, preempted, segments[n])
        n += 1
        if engine.steps == engine.next_end:
            _retire(engine, requests, running)
    return n


@compiled
def _head(engine, requests, preempted):
    """Row of the request that waits first, or -1: pre-empted ones stand before all others."""
    if engine.preempted > 0:
        return preempted[engine.preempted - 1]
    if engine.following < engine.known:
        if requests[engine.following].arrival_s <= engine.clock_s:
            return engine.following
    return -1


@compiled
def _write(segment, start_s, end_s, steps, batch, context, prefill):
    """Describe what was done: each sequence of the batch got a token in each step."""
    segment.start_s, segment.end_s, segment.steps, segment.batch = start_s, end_s, steps, batch
    segment.context, segment.prefill_tokens, segment.decode_tokens = context, prefill, batch * steps


@compiled
def _leap(until_s, law, engine, requests, head, segment):
    """Decode up to the next event at once."""
    batch, done, clock_s, used = engine.running, engine.leap_steps, engine.clock_s, engine.kv_tokens
    # a decoding sequence attends to all its tokens, of which the newest is not in the cache yet
    context, steps = used + batch, engine.next_end - engine.steps
    if used + steps * batch > law.kv_tokens:
        steps = (law.kv_tokens - used) // batch
    if done == 0:
        engine.leap_start_s = clock_s
        engine.leap_first_s = step_time(law, batch, 0, context, 0.0)
        engine.leap_slope_s = law.c3_s * batch
    start_s, first_s, slope_s = engine.leap_start_s, engine.leap_first_s, engine.leap_slope_s
    if head < 0 and engine.following < engine.known and batch < law.max_num_seqs:
        arrival_s = requests[engine.following].arrival_s
        chunk = min(requests[engine.following].input_tokens, law.max_num_batched_tokens - batch)
        met = _leap_time(start_s, first_s, slope_s, done + steps) > arrival_s
        if met and used + batch + chunk <= law.kv_tokens:
            steps = min(steps, _steps_until(start_s, first_s, slope_s, done, arrival_s) - done)
    engine.leap_steps = 0
    if _leap_time(start_s, first_s, slope_s, done + steps) > until_s:
        paused = _steps_until(start_s, first_s, slope_s, done, until_s) - done
        if paused < steps:
            steps, engine.leap_steps = paused, done + paused
    engine.clock_s = _leap_time(start_s, first_s, slope_s, done + steps)
    engine.steps += steps
    engine.kv_tokens = used + batch * steps
    _write(segment, clock_s, engine.clock_s, steps, batch, context + 0.5 * batch * (steps - 1), 0.0)


@compiled
def _step(law, engine, requests, running, preempted, segment):
    """Do one step, running sequences first, then the queue."""
    clock_s, budget = engine.clock_s, law.max_num_batched_tokens
    any_preempted = make_room(law, engine, requests, running, preempted)
    batch, prefill, pairs = engine.running - engine.prefilling, 0, 0.0
    used = context = engine.kv_tokens + batch
    budget -= batch
    if engine.prefilling:
        request = requests[running[batch]]
        context -= request.computed
        # a pre-empted request computes its own answer again, like a prompt
        prefill = min(request.input_tokens + request.generated - request.computed, budget)
        pairs = prefill * (request.computed + 0.5 * prefill)
        request.computed += prefill
        used += prefill
        budget -= prefill
    # As in vLLM V1, nobody is admitted in a step that had to pre-empt.
    while not any_preempted and engine.running < law.max_num_seqs and budget > 0:
        row = _head(engine, requests, preempted)
        if row < 0:
            break
        chunk = min(requests[row].input_tokens + requests[row].generated, budget)
        if used + chunk > law.kv_tokens:
            break
        if engine.preempted > 0:
            engine.preempted -= 1
        else:
            engine.following += 1
            requests[row].start_s = clock_s
        running[engine.running] = row
        engine.running += 1
        prefill += chunk
        pairs += 0.5 * chunk * chunk
        requests[row].computed = chunk
        used += chunk
        budget -= chunk
    engine.clock_s = clock_s + step_time(law, batch, prefill, context, pairs)
    engine.kv_tokens, engine.leap_steps, engine.prefilling = used, 0, 0
    engine.steps += 1
    for i in range(batch, engine.running):
        request = requests[running[i]]
        if request.computed < request.input_tokens + request.generated:
            engine.prefilling = 1
            continue
        request.generated += 1
        request.finish = engine.steps + request.output_tokens - request.generated
        engine.next_end = min(engine.next_end, request.finish)
        if request.generated == 1:
            request.first_token_s = engine.clock_s
    _write(segment, clock_s, engine.clock_s, 1, batch, context, prefill)


@compiled
def make_room(law, engine, requests, running, preempted):
    """Take the tokens of the last ones running while the KV cache is too small for a step."""
    # The sequences get their room one after the other; the last of all is taken from first.
    budget, before, used, served = law.max_num_batched_tokens, engine.running, engine.kv_tokens, 0
    if used + budget <= law.kv_tokens:
        return False
    while served < engine.running:
        request, chunk = requests[running[served]], 1
        if request.finish < 0:
            chunk = min(request.input_tokens + request.generated - request.computed, budget)
        while used + chunk > law.kv_tokens and engine.running > served:
            engine.running -= 1
            last = requests[running[engine.running]]
            preempted[engine.preempted] = running[engine.running]
            engine.preempted += 1
            if last.finish >= 0:
                last.generated = last.output_tokens - (last.finish - engine.steps)
                last.computed = last.input_tokens + last.generated - 1
            used -= last.computed
            engine.kv_tokens -= last.computed
            last.computed, last.finish = 0, -1
            engine.prefilling = 0
        if engine.running > served:
            used += chunk
            budget -= chunk
            served += 1
    if engine.running < before:
        _find_next_end(engine, requests, running)
    return engine.running < before


@compiled
def _find_next_end(engine, requests, running):
    engine.next_end = NEVER
    for i in range(engine.running - engine.prefilling):
        engine.next_end = min(engine.next_end, requests[running[i]].finish)


@compiled
def _retire(engine, requests, running):
    kept = 0
    for i in range(engine.running):
        request = requests[running[i]]
        if request.finish == engine.steps:
            request.end_s = engine.clock_s
            engine.kv_tokens -= request.input_tokens + request.output_tokens - 1
            engine.ended += 1
        else:
            running[kept] = running[i]
            kept += 1
    engine.running = kept
    _find_next_end(engine, requests, running)
