"""The compiled loop of powertrace_v1's engine: its roofline of a step, and its scheduler."""

from __future__ import annotations

import numpy as np
from numba import njit

STEP_COLUMNS = (
    "start_s",
    "end_s",
    "batch",
    "prefill_tokens",
    "flop",
    "weight_bytes",
    "decode_kv_bytes",
    "prefill_kv_bytes",
)


@njit(cache=True)
def seen_tokens(context, window):
    """Tokens that a layer reads on average; with a window, half of the layers have it."""
    return 0.5 * (context + min(context, window)) if window > 0.0 else context


@njit(cache=True)
def step_cost(law, batch, context, prefill, sampled, pairs, streamed):
    """Work and duration of one step."""
    tokens = batch + prefill
    body_flop, head_flop = law.token_flop * tokens, law.head_flop * (batch + sampled)
    if law.expert_share > 0.0:
        read = 1.0 - law.expert_share * law.untouched_share**tokens
        weight_bytes = law.weight_bytes * read
        gemm_s = max((body_flop + head_flop) / law.flop_rate, weight_bytes / law.byte_rate)
    else:
        head_bytes = law.head_bytes if batch + sampled > 0 else 0.0
        row_bytes = law.row_bytes * tokens
        weight_bytes = law.weight_bytes + head_bytes + row_bytes
        gemm_s = max(body_flop / law.flop_rate, law.weight_bytes / law.stream_rate)
        gemm_s += max(head_flop / law.flop_rate, head_bytes / law.byte_rate)
        gemm_s += row_bytes / law.byte_rate
    seen = seen_tokens(context, law.window)
    attention_flop = law.pair_flop * (batch * seen + pairs)
    decode_bytes, prefill_bytes = law.kv_bytes * batch * (seen + 1.0), law.kv_bytes * streamed
    attention_s = max(
        attention_flop / law.flop_rate, (decode_bytes + prefill_bytes) / law.byte_rate
    )
    flop = body_flop + head_flop + attention_flop
    seconds = law.launch_s + gemm_s + attention_s + law.sample_s * batch
    return flop, weight_bytes, decode_bytes, prefill_bytes, seconds


@njit(cache=True)
def _admit(clock, limits, arrival, tokens, running, n_running, coming):
    """Let those in who have arrived, first come first, while there are seats and KV space."""
    used = 0
    for i in range(n_running):
        row = running[i]
        used += max(tokens[row, 2] + tokens[row, 3], tokens[row, 0]) + 1
    while coming < arrival.size and arrival[coming] <= clock and n_running < limits[0]:
        used += tokens[coming, 0] + 1
        if used > limits[2]:
            break
        running[n_running] = coming
        n_running += 1
        coming += 1
    return n_running, coming


@njit(cache=True)
def _step(step, law, budget, clock, tokens, running, n_running, times):
    """Do one step: each sequence with a whole prompt decodes, the rest of the budget prefills."""
    batch, context = 0, 0
    for i in range(n_running):
        row = running[i]
        if tokens[row, 3] > 0:
            batch += 1
            context += tokens[row, 2] + tokens[row, 3]
    left, sampled, pairs, streamed = budget - batch, 0, 0.0, 0.0
    for i in range(n_running):
        row = running[i]
        if tokens[row, 3] > 0:
            tokens[row, 3] += 1
        elif left > 0:
            chunk = min(left, tokens[row, 0] - tokens[row, 2])
            seen = seen_tokens(tokens[row, 2] + 0.5 * chunk, law.window)
            pairs += chunk * seen
            streamed += seen + chunk
            left -= chunk
            tokens[row, 2] += chunk
            if tokens[row, 2] == tokens[row, 0]:
                tokens[row, 3] = 1
                sampled += 1
                times[row, 0] = -1.0
    mean = context / batch if batch > 0 else 0.0
    prefill = max(budget - batch, 0) - max(left, 0)
    cost = step_cost(law, batch, mean, prefill, sampled, pairs, streamed)
    step[0], step[1], step[2], step[3] = clock, clock + cost[4], batch, prefill
    step[4], step[5], step[6], step[7] = cost[0], cost[1], cost[2], cost[3]
    return step[1]


@njit(cache=True)
def _retire(clock, tokens, running, n_running, times):
    """Note first tokens, and take those that have all their tokens out."""
    kept = 0
    for i in range(n_running):
        row = running[i]
        if times[row, 0] < 0.0:
            times[row, 0] = clock
        if tokens[row, 3] > 0 and tokens[row, 3] >= tokens[row, 1]:
            times[row, 1] = clock
        else:
            running[kept] = row
            kept += 1
    return kept


@njit(cache=True)
def serve_steps(law, limits, arrival, asked):
    """Serve requests first come, first served, one step at a time."""
    n = arrival.size
    tokens = np.zeros((n, 4), dtype=np.int64)  # prompt, output, prefilled, generated
    tokens[:, :2] = asked
    times = np.zeros((n, 2))
    running = np.empty(limits[0], dtype=np.int64)
    steps = np.empty((1024, 8))
    done, n_running, coming, clock = 0, 0, 0, 0.0
    while True:
        n_running, coming = _admit(clock, limits, arrival, tokens, running, n_running, coming)
        if n_running == 0:
            if coming == n:
                return steps[:done], times
            clock = max(clock, arrival[coming])
            continue
        if done == len(steps):
            longer = np.empty((2 * done, 8))
            longer[:done] = steps
            steps = longer
        clock = _step(steps[done], law, limits[1], clock, tokens, running, n_running, times)
        n_running = _retire(clock, tokens, running, n_running, times)
        done += 1
