"""The compiled passes of the kind `states`: work into bins, one state after the other, AR(1)."""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(cache=True)
def _move(time, place, knots):
    """Move to the last knot at or before a time, -1 if there is none."""
    while place >= 0 and knots[place] > time:
        place -= 1
    while place + 1 < knots.size and knots[place + 1] <= time:
        place += 1
    return place


@numba.njit(cache=True, error_model="numpy")
def _level(time, place, kind, knots, total, slope):
    """Value of a piecewise linear total at a time: the knot before it, and on from there."""
    if place < 0:
        return total[0, kind]
    if place == knots.size - 1 or time == knots[place]:
        return total[place, kind]
    return slope[place, kind] * (time - knots[place]) + total[place, kind]


@numba.njit(cache=True, error_model="numpy")
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
    kinds = len(amounts)
    # beside each other for a knot, so that a bin finds all kinds in one place
    total, slope = np.empty((knots.size, kinds)), np.zeros((knots.size, kinds))
    for kind in range(kinds):
        so_far = 0.0
        for i in range(amounts.shape[1]):
            amount = amounts[kind, i]
            so_far += amount
            total[2 * i, kind], total[2 * i + 1, kind] = so_far - amount, so_far
    for i in range(knots.size - 1):
        length = knots[i + 1] - knots[i]
        for kind in range(kinds):
            slope[i, kind] = (total[i + 1, kind] - total[i, kind]) / length
    place, last, level = -1, np.nan, np.empty(kinds)
    for b in range(ends.size):
        if begins[b] != last:
            place = _move(begins[b], place, knots)
            for kind in range(kinds):
                level[kind] = _level(begins[b], place, kind, knots, total, slope)
        last = ends[b]
        place = _move(last, place, knots)
        for kind in range(kinds):
            after = _level(last, place, kind, knots, total, slope)
            found[kind, b] = max(after - level[kind], 0.0)
            level[kind] = after


@numba.njit(cache=True)
def count_before(events, times, also_at):
    """Count the events before each time; as ``np.searchsorted``, but walking along.

    Parameters
    ----------
    events, times : numpy.ndarray
        Ascending, seconds, shapes (events,) and (times,); NaN stands at the end.
    also_at : bool
        Whether an event at the very time counts.

    Returns
    -------
    numpy.ndarray
        Integers, shape (times,).
    """
    counts = np.empty(times.size, dtype=np.int64)
    count = 0
    for i in range(times.size):
        while count > 0 and not events[count - 1] <= times[i]:
            count -= 1
        while count < events.size and events[count] <= times[i]:
            count += 1
        counts[i] = count
        while not also_at and counts[i] > 0 and events[counts[i] - 1] == times[i]:
            counts[i] -= 1
    return counts


@numba.njit(cache=True)
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


@numba.njit(cache=True)
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


@numba.njit(cache=True, error_model="numpy")
def walk_logit(features, law, quiet, uniform, start):
    """Draw one state after the other by a multinomial logit of this bin and the one before.

    Parameters
    ----------
    features : numpy.ndarray
        Features of the bins, shape (features, earlier + bins): earlier bins first.
    law : tuple of numpy.ndarray
        Weights of this bin's features and of those before, shape (features, states) each;
        intercept, shape (states,); weights of the previous state as factors, shape
        (previous, states).
    quiet, uniform, start
        As `walk_matrix`.

    Returns
    -------
    numpy.ndarray
        States, shape (bins,).
    """
    weight, weight_before, intercept, factor = law
    earlier, n_states = features.shape[1] - quiet.size, intercept.size
    path = np.empty(quiet.size, dtype=np.int64)
    score = np.empty(n_states)
    state = start
    for i in range(quiet.size):
        if quiet[i]:
            state = 0
        else:
            score[:] = intercept
            for f in range(len(features)):
                now, before = features[f, earlier + i], features[f, max(earlier + i - 1, 0)]
                for k in range(n_states):
                    score[k] += now * weight[f, k] + before * weight_before[f, k]
            top = score[0]
            for k in range(1, n_states):
                top = max(top, score[k])
            total = 0.0
            for k in range(n_states):
                score[k] = np.exp(score[k] - top) * factor[state, k]
                total += score[k]
            target, state = uniform[i] * total - score[0], 0
            while state < n_states - 1 and target >= 0.0:
                state += 1
                target -= score[state]
        path[i] = state
    return path


@numba.njit(cache=True)
def autoregressive(mean_w, sigma_w, phi, noise, last_w):
    """AR(1) around the state's mean; the deviation carries over a change of state.

    Parameters
    ----------
    mean_w, sigma_w, phi : numpy.ndarray
        Mean, standard deviation (watts) and autocorrelation of each bin's state, shape (bins,).
    noise : numpy.ndarray
        Standard normal numbers, shape (bins,).
    last_w : float
        Power before the first bin, watts; NaN where there was none.

    Returns
    -------
    numpy.ndarray
        Power, watts, shape (bins,).
    """
    power_w = np.empty(noise.size)
    for i in range(noise.size):
        if np.isnan(last_w):
            last_w = mean_w[i]
        scale_w = sigma_w[i] * np.sqrt(1 - phi[i] ** 2)
        last_w = mean_w[i] + phi[i] * (last_w - mean_w[i]) + scale_w * noise[i]
        power_w[i] = last_w
    return power_w


@numba.njit(cache=True)
def own_deviation(phi, noise, last):
    """AR(1) of the standardised deviation: normal in every bin, whatever the states do.

    Parameters
    ----------
    phi, noise : numpy.ndarray
        As `autoregressive`.
    last : float
        Deviation before the first bin, standard deviations; NaN where there was none.

    Returns
    -------
    numpy.ndarray
        Deviation of each bin, standard deviations, shape (bins,).
    """
    deviation = np.empty(noise.size)
    for i in range(noise.size):
        if np.isnan(last):
            last = noise[i]
        else:
            last = noise[i] * np.sqrt(1 - phi[i] ** 2) + phi[i] * last
        deviation[i] = last
    return deviation
