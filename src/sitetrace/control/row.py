"""A row of serving engines advanced in lock step, with its power, a router, and a controller.

Compiled around the engine's own `sitetrace.serving.steps.run_until`. In each tick the router hands
out requests, all servers work to the tick's end, their power goes into bins, and the controller
sees the row's power late and moves its lever late.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from sitetrace.power.timeline.surface import LIMIT_S, WARM_S, warmed
from sitetrace.serving import steps

# State of a server's power: warmth, end of the last work (s), energy above the board's limit (J),
# extra power after work (W), noise, warmth by bin.
WARMTH, LAST, STORED_J, GLOW, NOISE, HEAT = range(6)
# fields of a `Surface`, in its order
IDLE, DECODE, SEQUENCE, PREFILL, TOKENS, WARM, BATCH, LIMIT = range(8)
# What is the same for all servers: idle power, extra power just after work (W), time constant of
# its decay (s), deviation of noise without and at work (W), its autocorrelation, extra idle power
# of a warm board (W).
BOARD_W, AFTER_W, DECAY_S, IDLE_NOISE, WORK_NOISE, PHI, WARM_IDLE_W = range(7)
# A dial, what a place of the lever means: most requests in service in the row, servers that get
# requests, most running sequences of a server, number of the clock and its law.
IN_SERVICE, OPEN, BATCH_LIMIT, LAW = range(4)
# requests that the tables of each server have room for at first
FIRST_ROOM = 16


@njit(cache=True, error_model="numpy")
def segment_joules(segments, surface, state, bins, dt_s):
    """Put the energy above idle of one server's segments into bins, going on from a state."""
    joules, busy_s, stop_s = bins
    room_j = max(surface[PREFILL] - surface[LIMIT], 0.0) * LIMIT_S
    for i in range(len(segments)):
        start, end = segments[i, 0], segments[i, 1]
        batch, prefill = segments[i, 3], segments[i, 5]
        gap, length = max(start - state[LAST], 0.0), end - start
        warm, state[WARMTH] = warmed(state[WARMTH], gap / WARM_S, length / WARM_S)
        if surface[BATCH] < steps.LINEAR:
            batch = surface[BATCH] * np.log1p(batch / surface[BATCH])
        level = surface[DECODE] + surface[SEQUENCE] * batch + surface[WARM] * warm
        if prefill > 0.0:
            level += (surface[PREFILL] - level) * (1.0 - np.exp(-prefill / surface[TOKENS]))
        emptied_j = (surface[LIMIT] - surface[IDLE]) * gap
        state[STORED_J] = max(state[STORED_J] - emptied_j, 0.0) + (level - surface[LIMIT]) * length
        if state[STORED_J] > room_j:
            level -= (state[STORED_J] - room_j) / length
            state[STORED_J] = room_j
        state[STORED_J] = max(state[STORED_J], 0.0)
        state[LAST] = end
        b = int(start / dt_s)
        while b < joules.size and b * dt_s < end:
            stop = min(end, (b + 1) * dt_s)
            inside = stop - max(start, b * dt_s)
            if inside > 0.0:
                joules[b] += inside * (level - surface[IDLE])
                busy_s[b] += inside
                stop_s[b] = stop
            b += 1


@njit(cache=True, error_model="numpy")
def bin_power(b, bins, normals, state, board, dt_s):
    """Tell a server's power in a bin whose work is complete: energy, idle, afterglow, noise."""
    joules, busy_s, stop_s = bins
    state[GLOW] *= np.exp(-dt_s / board[DECAY_S])
    if busy_s[b] > 0.0:
        since_s = min(stop_s[b] - (b + 1) * dt_s, 0.0)
        state[GLOW] = board[AFTER_W] * np.exp(since_s / board[DECAY_S])
    busy = min(busy_s[b] / dt_s, 1.0)
    fresh = np.sqrt(1.0 - board[PHI] ** 2) if b > 0 else 1.0
    state[NOISE] = board[PHI] * state[NOISE] + fresh * normals[b]
    extra_w = (1.0 - busy) * (state[GLOW] + board[WARM_IDLE_W] * state[HEAT])
    value = board[BOARD_W] + joules[b] / dt_s + extra_w
    state[HEAT] += (busy - state[HEAT]) * (1.0 - np.exp(-dt_s / WARM_S))
    spread_w = board[IDLE_NOISE] + (board[WORK_NOISE] - board[IDLE_NOISE]) * busy
    return max(value + state[NOISE] * spread_w, 0.0)


@njit(cache=True, error_model="numpy")
def command(k, per_tick, power_w, plan, curve, loop, trim):
    """Decide where the lever is to stand: by the static curve, trimmed by an integral."""
    # plan: set-point (W; NaN: none) and watts to be shed, by tick. curve: watts shed at rest,
    # ascending, and the lever's place of each. loop: ticks of the telemetry's window and of its
    # delay, share of the error corrected a tick. trim: watts that the integral holds.
    if np.isnan(plan[k, 0]):
        return 0.0, 0.0
    last = k - int(loop[1])
    first = last - int(loop[0])
    if first >= 0 and not np.isnan(plan[first, 0]):
        seen = power_w[first * per_tick : last * per_tick].mean()
        trim += loop[2] * (seen - plan[first:last, 0].mean())
        # no more is held than the lever can do
        trim = min(max(trim, curve[0][0] - plan[k, 1]), curve[0][-1] - plan[k, 1])
    return np.interp(plan[k, 1] + trim, curve[0], curve[1]), trim


@njit(cache=True, error_model="numpy")
def run_row(stream, server, dials, board, clock, normals, orders):
    """Run a row: its power by bin, states by tick, first token and end of each request."""
    # By request: arrival (s), tokens of prompt and answer, and the chance (0 to 1) that chooses its
    # server. By clock: law and surface of a server. How many ticks late a command acts; -1: never.
    arrival, prompt, answer, chance = stream
    laws, own_limits, surfaces = server
    plan, curve, loop, latency = orders
    (tick_s, dt_s), (n_servers, n_bins), n = clock, normals.shape, arrival.size
    per_tick, n_ticks = int(round(tick_s / dt_s)), len(plan)
    clocks, counts = np.zeros((n_servers, 4)), np.zeros((n_servers, 4), np.int64)
    given, running = np.zeros(n_servers, np.int64), np.zeros((n_servers, own_limits[0]), np.int64)
    preempted, state = np.zeros_like(running), np.zeros((n_servers, 6))
    # by server, then by request that it was given: doubled when a server has no room left
    owner, arrived = np.zeros((n_servers, FIRST_ROOM), np.int64), np.zeros((n_servers, FIRST_ROOM))
    tokens = np.zeros((n_servers, FIRST_ROOM, 4), np.int64)
    times = np.full((n_servers, FIRST_ROOM, 3), np.nan)
    decoding = np.zeros((n_servers, FIRST_ROOM), np.bool_)
    binned = np.zeros((3, n_servers, n_bins))
    # states at a tick's begin: place of the lever, requests held by the router, waiting in engines,
    # in service; and the most sequences that a server runs
    power_w, states = np.zeros(n_bins), np.zeros((n_ticks, 5))
    limits, following, trim, former = own_limits.copy(), 0, 0.0, 0
    places = np.zeros(n_ticks, np.int64)
    for k in range(n_ticks):
        now, until = k * tick_s, (k + 1) * tick_s
        place, trim = command(k, per_tick, power_w, plan, curve, loop, trim)
        places[k] = int(round(place * (len(dials) - 1)))
        dial = dials[places[k - latency] if 0 <= latency <= k else 0]
        limits[0] = min(own_limits[0], dial[BATCH_LIMIT])
        in_service = 0
        for s in range(n_servers):
            active = counts[s, steps.N_RUNNING] + counts[s, steps.N_PREEMPTED]
            in_service += active + given[s] - counts[s, steps.NEXT]
            states[k, 2] += given[s] - counts[s, steps.NEXT] + counts[s, steps.N_PREEMPTED]
            states[k, 4] = max(states[k, 4], counts[s, steps.N_RUNNING])
            if dial[LAW] != former:
                counts[s, steps.LEAP_STEPS] = 0  # a leap under way was computed with the former law
        former, states[k, 3] = dial[LAW], in_service
        states[k, 0] = place
        states[k, 1] = np.searchsorted(arrival, now) - following
        while following < n and arrival[following] < until and in_service < dial[IN_SERVICE]:
            s = int(chance[following] * dial[OPEN])
            row = given[s]
            if row == owner.shape[1]:
                owner = np.concatenate((owner, np.zeros_like(owner)), axis=1)
                arrived = np.concatenate((arrived, np.zeros_like(arrived)), axis=1)
                tokens = np.concatenate((tokens, np.zeros_like(tokens)), axis=1)
                times = np.concatenate((times, np.full_like(times, np.nan)), axis=1)
                decoding = np.concatenate((decoding, np.zeros_like(decoding)), axis=1)
            arrived[s, row] = max(arrival[following], now)
            tokens[s, row, 0], tokens[s, row, 1] = prompt[following], answer[following]
            owner[s, row] = following
            given[s] += 1
            following += 1
            in_service += 1
        for s in range(n_servers):
            m = given[s]
            tables = (
                arrived[s][:m],
                tokens[s][:m],
                running[s],
                preempted[s],
                times[s][:m],
                decoding[s][:m],
            )
            segments = steps.run_until(until, laws[former], limits, clocks[s], counts[s], tables)
            clocks[s, steps.CLOCK] = max(clocks[s, steps.CLOCK], until)
            bins = (binned[0, s], binned[1, s], binned[2, s])
            segment_joules(segments, surfaces[former], state[s], bins, dt_s)
            for b in range(k * per_tick, (k + 1) * per_tick):
                power_w[b] += bin_power(b, bins, normals[s], state[s], board, dt_s)
    fates = np.full((n, 2), np.nan)
    for s in range(n_servers):
        for row in range(given[s]):
            fates[owner[s, row], 0] = times[s, row, 1]
            fates[owner[s, row], 1] = times[s, row, 2]
    return power_w, states, fates
