"""A row of serving engines advanced in lock step, with its power, a router, and a controller.

Compiled around `sitetrace.stepping.run_until`, the engine itself. In each tick the router hands out
requests, all servers work to the tick's end, their power goes into bins, and the controller sees
the row's power late and moves its lever late.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from sitetrace.power.timeline.surface import LIMIT_S, WARM_S, warmed
from sitetrace.serving.steps import (
    CLOCK,
    LEAP_STEPS,
    LINEAR,
    N_PREEMPTED,
    N_RUNNING,
    NEXT,
    run_until,
)

# places in a server's state of power, in a surface, and in a dial
WARMTH, LAST, STORED_J, GLOW, NOISE, HEAT = range(6)
IDLE, DECODE, SEQUENCE, PREFILL, TOKENS, WARM, BATCH, LIMIT = range(8)
IN_SERVICE, OPEN, BATCH_LIMIT, LAW = range(4)
# requests that the tables of each server have room for at first
FIRST_ROOM = 16


@njit(cache=True, error_model="numpy")
def segment_joules(segments, surface, state, bins, dt_s):
    """Put the energy above idle of one server's segments into bins, going on from a state."""
    joules, busy_s, stop_s = bins
    room_j = max(surface[PREFILL] - surface[LIMIT], 0.0) * LIMIT_S
    for i in range(len(segments)):
        start, end, batch, prefill = (
            segments[i, 0],
            segments[i, 1],
            segments[i, 3],
            segments[i, 5],
        )
        gap, length = max(start - state[LAST], 0.0), end - start
        warm, state[WARMTH] = warmed(state[WARMTH], gap / WARM_S, length / WARM_S)
        if surface[BATCH] < LINEAR:
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
    state[GLOW] *= np.exp(-dt_s / board[2])
    if busy_s[b] > 0.0:
        state[GLOW] = board[1] * np.exp(min(stop_s[b] - (b + 1) * dt_s, 0.0) / board[2])
    busy = min(busy_s[b] / dt_s, 1.0)
    fresh = np.sqrt(1.0 - board[5] ** 2) if b > 0 else 1.0
    state[NOISE] = board[5] * state[NOISE] + fresh * normals[b]
    value = board[0] + joules[b] / dt_s + (1.0 - busy) * (state[GLOW] + board[6] * state[HEAT])
    state[HEAT] += (busy - state[HEAT]) * (1.0 - np.exp(-dt_s / WARM_S))
    return max(value + state[NOISE] * (board[3] + (board[4] - board[3]) * busy), 0.0)


@njit(cache=True, error_model="numpy")
def command(k, per_tick, power_w, plan, curve, loop, trim):
    """Decide where the lever is to stand: by the static curve, trimmed by an integral."""
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
    """Run a row for a number of ticks: requests, steps, power, and the lever."""
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
            active = counts[s, N_RUNNING] + counts[s, N_PREEMPTED]
            in_service += active + given[s] - counts[s, NEXT]
            states[k, 2] += given[s] - counts[s, NEXT] + counts[s, N_PREEMPTED]
            states[k, 4] = max(states[k, 4], counts[s, N_RUNNING])
            if dial[LAW] != former:
                counts[s, LEAP_STEPS] = 0  # a leap under way was computed with the former law
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
            segments = run_until(until, laws[former], limits, clocks[s], counts[s], tables)
            clocks[s, CLOCK] = max(clocks[s, CLOCK], until)
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
