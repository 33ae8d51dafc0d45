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
    """Spread amounts evenly over stretches of time and sum them by bins.

    Parameters
    ----------
    knots : numpy.ndarray
        Begin and end of disjoint stretches in time order, seconds, shape (2 stretches,).
    amounts : numpy.ndarray
        What each stretch holds, shape (kinds, stretches).
    begins, ends : numpy.ndarray
        Begin and end of each bin, ascending, seconds, shape (bins,).
    found : numpy.ndarray
        Is given the amounts in each bin, shape (kinds, bins), to the bit as ``np.interp`` of the
        running total.
    """
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
    """Count the requests that are there at the end of each bin, and the time since the last work.

    Parameters
    ----------
    arrivals, leaves : numpy.ndarray
        When requests come and go, ascending, seconds; NaN stands at the end.
    work : tuple of numpy.ndarray
        Begin and end of disjoint segments of work in time order, seconds.
    ends : numpy.ndarray
        End of each bin, ascending, seconds, shape (bins,).
    before : float
        Requests that were there before; NaN makes the change in the first bin 0.
    worked_s : float
        End of the last work before, seconds.
    found : tuple of numpy.ndarray
        Are given the requests, their change since the bin before, and the seconds without work,
        shape (bins,) each.
    """
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
    """Draw one state after the other; quiet bins are idle.

    Parameters
    ----------
    matrix : numpy.ndarray
        Probabilities, shape (bins, previous, states).
    quiet : numpy.ndarray
        Bins that are idle, booleans, shape (bins,).
    uniform : numpy.ndarray
        Numbers from 0 to 1, shape (bins,).
    start : int
        State before the first bin.

    Returns
    -------
    numpy.ndarray
        States, shape (bins,).
    """
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
    """Draw one state after the other by a chain for each level of a drive.

    Parameters
    ----------
    drive : numpy.ndarray
        What chooses the chain, shape (bins,).
    edges : numpy.ndarray
        Ascending limits of the levels, shape (levels - 1,).
    cumulated : numpy.ndarray
        Probabilities summed up over the states, shape (levels, previous, states).
    quiet, uniform, start
        As `walk_matrix`.

    Returns
    -------
    numpy.ndarray
        States, shape (bins,).
    """
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
    """Exponential of a number from minus infinity to 0, right within 1e-13.

    Unlike the library's it is compiled for several numbers at once.

    Parameters
    ----------
    x : float
        Below -40 as -40.

    Returns
    -------
    float
        From 0 to 1.
    """
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
    """Draw one state after the other by a multinomial logit of this bin and the one before.

    Parameters
    ----------
    features : numpy.ndarray
        Features of the bins, shape (features, earlier + bins): at least one earlier bin first.
    law : tuple of numpy.ndarray
        Weights of this bin's features and of those before, shape (features, states) each, and
        intercept, shape (states,).
    factor : numpy.ndarray
        Weights of the previous state as factors, shape (previous, states).
    quiet, uniform, start
        As `walk_matrix`.

    Returns
    -------
    numpy.ndarray
        States, shape (bins,).
    """
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
    """AR(1) around the state's mean; the deviation carries over a change of state.

    Parameters
    ----------
    states : numpy.ndarray
        State of each bin, integers, shape (bins,); -1 is none and has the power 0.
    mean_w, sigma_w, phi : numpy.ndarray
        Mean, standard deviation (watts) and autocorrelation of each state, shape (states,).
    noise : numpy.ndarray
        Standard normal numbers, shape (bins,).
    last_w : float
        Power before the first bin, watts; NaN where there was none.

    Returns
    -------
    power_w : numpy.ndarray
        Watts, shape (bins,).
    last_w : float
        Power in the last bin.
    """
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
    """AR(1) of the standardised deviation: normal in every bin, whatever the states do.

    Parameters
    ----------
    states, mean_w, sigma_w, phi, noise
        As `autoregressive`.
    last : float
        Deviation before the first bin, standard deviations; NaN where there was none.

    Returns
    -------
    power_w : numpy.ndarray
        Watts, shape (bins,).
    last : float
        Deviation in the last bin.
    """
    power_w, fresh = np.zeros(noise.size), np.sqrt(1 - phi**2)
    for i in range(noise.size):
        k = states[i]
        if k < 0:
            continue
        last = noise[i] if np.isnan(last) else noise[i] * fresh[k] + phi[k] * last
        power_w[i] = mean_w[k] + sigma_w[k] * last
    return power_w, last
