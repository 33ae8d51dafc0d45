"""Which drawn reading goes where: the distribution of chance, the seconds of what is expected."""

from __future__ import annotations

import heapq

import numpy as np
from numba import njit


def placed_w(
    drawn_w: np.ndarray, expected_w: np.ndarray, place: np.ndarray, reach: int
) -> np.ndarray:
    """Give drawn readings to the places around which most of what is expected is lacking."""
    if drawn_w.size == 0:
        return drawn_w
    middle_w = np.median(drawn_w)
    bins = place - place[0] + reach
    lack = np.zeros(bins[-1] + reach + 1)
    lack[bins] = expected_w - middle_w
    weight = 1.0 - np.abs(np.arange(-reach, reach + 1)) / reach
    lack = np.convolve(lack, weight, mode="same")
    given_w = np.empty(lack.size)
    _give(np.sort(drawn_w)[::-1], middle_w, bins, weight, lack, given_w)
    return given_w[bins]


@njit(cache=True)
def _give(values_w, middle_w, bins, weight, lack, given_w):
    """Give descending values to the bins that lack most, each taking from those around it."""
    reach = weight.size // 2
    free = np.zeros(lack.size, dtype=np.bool_)
    free[bins] = True
    heap = [(-lack[b], b) for b in bins]
    heapq.heapify(heap)
    for value in values_w:
        entry, b = heapq.heappop(heap)
        while not free[b] or entry != -lack[b]:
            if free[b]:
                heapq.heappush(heap, (-lack[b], b))
            entry, b = heapq.heappop(heap)
        given_w[b], free[b] = value, False
        for k in range(weight.size):
            near = b - reach + k
            lack[near] -= (value - middle_w) * weight[k]
            # where the lack has grown, an older entry would come too late
            if value < middle_w and free[near]:
                heapq.heappush(heap, (-lack[near], near))
