"""The compiled passes of the kind `states`: work into bins, one state after the other, AR(1)."""

from __future__ import annotations

import numba
import numpy as np

# bins that are worked on while they are still in the nearest memory
SLICE = 250


@numba.njit(cache=True, nogil=True)
def _move(time, place, knots):
    """Move to the last knot at or before a time, -1 if there is none."""
    while place >= 0 and knots[place] > time:
        place -= 1
    while place + 1 < knots.size and knots[place + 1] <= time:
        place += 1
    return place


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _running_totals(knots, amounts):
    """Sum amounts up to each knot, and their slopes from there on: all kinds beside each other."""
    kinds = len(amounts)
    total, slope = np.empty((knots.size, kinds)), np.zeros((knots.size, kinds))
    for kind in range(kinds):
        so_far = 0.0
        for i in range(amounts.shape[1]):
            amount = amounts[kind, i]
            so_far += amount
            total[2 * i, kind], total[2 * i + 1, kind] = so_far - amount, so_far
    for i in range(knots.size - 1):
        length = knots[i + 1] - knots[i]
        if length > 0.0:
            for kind in range(kinds):
                slope[i, kind] = (total[i + 1, kind] - total[i, kind]) / length
    return total, slope


@numba.njit(cache=True, nogil=True, error_model="numpy")
def amounts_in_bins(knots, amounts, begins, ends, found):
    """Spread amounts evenly over stretches of time and sum them by bins."""
    found[:] = 0.0
    if knots.size == 0:
        return
    total, slope = _running_totals(knots, amounts)
    place, last, level = -1, np.nan, np.empty(len(amounts))
    for b in range(ends.size):
        if begins[b] != last:
            place = _move(begins[b], place, knots)
            knot = max(place, 0)
            on_s = max(begins[b] - knots[knot], 0.0)
            for kind in range(level.size):
                level[kind] = slope[knot, kind] * on_s + total[knot, kind]
        last = ends[b]
        place = _move(last, place, knots)
        knot = max(place, 0)
        on_s = max(last - knots[knot], 0.0)
        for kind in range(level.size):
            after = slope[knot, kind] * on_s + total[knot, kind]
            found[kind, b] = max(after - level[kind], 0.0)
            level[kind] = after


@numba.njit(cache=True, nogil=True)
def active_and_quiet(arrivals, leaves, work, ends, before, worked_s, found):
    """Count the requests there at the end of each bin, and the time since the last work."""
    begin, finish = work
    active, change, quiet_for_s = found
    there, known = (0.0, False) if np.isnan(before) else (before, True)
    came = left = done = 0
    for b in range(ends.size):
        last = there
        while came < arrivals.size and arrivals[came] <= ends[b]:
            came += 1
            there += 1.0
        while left < leaves.size and leaves[left] <= ends[b]:
            left += 1
            there -= 1.0
        while done < begin.size and begin[done] < ends[b]:
            worked_s = finish[done]
            done += 1
        active[b], change[b] = there, there - last if known else 0.0
        quiet_for_s[b] = max(ends[b] - worked_s, 0.0)
        known = True


@numba.njit(cache=True, nogil=True)
def walk_matrix(matrix, quiet, uniform, start):
    """Draw one state after the other; quiet bins are idle."""
    path = np.empty(quiet.size, dtype=np.int64)
    state = start
    for i in range(quiet.size):
        if quiet[i]:
            state = 0
        else:
            total, target = 0.0, uniform[i]
            previous, state = state, matrix.shape[2] - 1
            for k in range(matrix.shape[2]):
                total += matrix[i, previous, k]
                if target < total:
                    state = k
                    break
        path[i] = state
    return path


@numba.njit(cache=True, nogil=True)
def walk_levels(drive, edges, cumulated, quiet, uniform, start):
    """Draw one state after the other by a chain for each level of a drive."""
    path = np.empty(quiet.size, dtype=np.int64)
    state, last = start, cumulated.shape[2] - 1
    for i in range(quiet.size):
        if quiet[i]:
            state = 0
        else:
            level = 0
            while level < edges.size and edges[level] <= drive[i]:
                level += 1
            row = cumulated[level, state]
            state = 0
            while state < last and row[state] <= uniform[i]:
                state += 1
        path[i] = state
    return path


@numba.njit(cache=True, nogil=True)
def exponential(x):
    """Exponential of a number from minus infinity to 0, right within 1e-13."""
    x = (x if x > -40.0 else -40.0) * (1 / 256)
    high = 1 / 24 + x * (1 / 120) + x * x * (1 / 720 + x * (1 / 5040))
    power = 1.0 + x + x * x * (1 / 2 + x * (1 / 6) + x * x * high)
    power *= power
    power *= power
    power *= power
    power *= power
    power *= power
    power *= power
    power *= power
    return power * power


@numba.njit(cache=True, nogil=True)
def _weigh(features, first, law, chance, size):
    """Weigh each state in successive bins but for the previous state: the likeliest by 1."""
    weight, weight_before, intercept = law
    top = np.full(size, -np.inf)
    for k in range(len(chance)):
        score = chance[k]
        score[:] = intercept[k]
        for f in range(len(features)):
            now, before = features[f, first:], features[f, first - 1 :]
            w, w_before = weight[f, k], weight_before[f, k]
            for i in range(size):
                score[i] += now[i] * w + before[i] * w_before
        for i in range(size):
            top[i] = score[i] if score[i] > top[i] else top[i]
    for k in range(len(chance)):
        score = chance[k]
        for i in range(size):
            score[i] = exponential(score[i] - top[i])


@numba.njit(cache=True, nogil=True)
def walk_logit(features, law, factor, quiet, uniform, start):
    """Draw one state after the other by a multinomial logit of this bin and the one before."""
    path = np.empty(quiet.size, dtype=np.int64)
    earlier, n_states = features.shape[1] - quiet.size, len(factor)
    chance, state = np.empty((n_states, SLICE)), start
    for first in range(0, quiet.size, SLICE):
        size = min(SLICE, quiet.size - first)
        _weigh(features, earlier + first, law, chance, size)
        for i in range(size):
            row, state = factor[state], 0
            if not quiet[first + i]:
                total = 0.0
                for k in range(n_states):
                    total += chance[k, i] * row[k]
                target, total = uniform[first + i] * total, 0.0
                for k in range(n_states - 1):
                    total += chance[k, i] * row[k]
                    state += total <= target
            path[first + i] = state
    return path


@numba.njit(cache=True, nogil=True)
def autoregressive(states, mean_w, sigma_w, phi, noise, last_w):
    """AR(1) around the state's mean; the deviation carries over a change of state."""
    power_w, scale_w = np.zeros(noise.size), sigma_w * np.sqrt(1 - phi**2)
    for i in range(noise.size):
        k = states[i]
        if k < 0:
            continue
        if np.isnan(last_w):
            last_w = mean_w[k]
        last_w = mean_w[k] + phi[k] * (last_w - mean_w[k]) + scale_w[k] * noise[i]
        power_w[i] = last_w
    return power_w, last_w


@numba.njit(cache=True, nogil=True)
def own_deviation(states, mean_w, sigma_w, phi, noise, last):
    """AR(1) of the standardised deviation: normal in every bin, whatever the states do."""
    power_w, fresh = np.zeros(noise.size), np.sqrt(1 - phi**2)
    for i in range(noise.size):
        k = states[i]
        if k < 0:
            continue
        last = noise[i] if np.isnan(last) else noise[i] * fresh[k] + phi[k] * last
        power_w[i] = mean_w[k] + sigma_w[k] * last
    return power_w, last
