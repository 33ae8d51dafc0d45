"""What a server does in each bin of time: running requests, tokens, time since work."""

import numpy as np
import pandas as pd
from numba import njit

from sitetrace.core.types import SEGMENT, Timeline

# What the paper's classifier sees, what ours may see, and all that a bin is described by. Requests
# that have arrived and not ended by the bin's end (A of arXiv:2603.18383), the change of that since
# the bin before; shares of the bin in which the engine works, and works on a step with prefill;
# tokens, spread evenly over their step; time since the last work, infinite before the first.
PAPER_COLUMNS = ("active", "delta_active")
COLUMNS = (*PAPER_COLUMNS, "busy_share", "prefill_share", "prefill_tokens", "decode_tokens")
ROW = [*COLUMNS, "quiet_for_s"]


def activity_table(timeline: Timeline, end_times_s: np.ndarray, dt_s: float) -> pd.DataFrame:
    """Describe the engine's work in the bins ``[t - dt, t)``; their ends ascend."""
    ends = np.array(end_times_s, dtype=float)
    events = tuple(np.sort(timeline.requests[name].to_numpy()) for name in ("arrival_s", "end_s"))
    columns = activity_columns(as_segments(timeline.segments), events, ends, dt_s)
    return pd.DataFrame(columns.T, columns=ROW)


def as_segments(segments: pd.DataFrame) -> np.ndarray:
    """Segments of a `Timeline` as compiled code takes them; columns that are not there are 0."""
    work = np.zeros(len(segments), SEGMENT)
    for name in segments.columns.intersection(SEGMENT.names):
        work[name] = segments[name]
    return work


def activity_columns(
    segments: np.ndarray,
    events: tuple[np.ndarray, np.ndarray],
    ends: np.ndarray,
    dt_s: float,
    earlier: np.ndarray | None = None,
    worked_s: float = -np.inf,
) -> np.ndarray:
    """Describe the engine's work as `activity_table` does, from bare arrays, shape (7, k + n)."""
    # events: ascending arrivals and ends of requests; earlier: result for the k bins just before;
    # worked_s: end of the last work before these segments
    known = 0 if earlier is None else earlier.shape[1]
    table, before = np.empty((len(ROW), known + ends.size)), np.nan
    columns = table[:, known:]
    if known:
        table[:, :known], before = earlier, earlier[0, -1]
    # copies: the compiled passes are made once, for arrays that lie in one piece
    names = ("start_s", "end_s", "prefill_tokens", "decode_tokens")
    begin, finish, prefill, decode = (np.ascontiguousarray(segments[name]) for name in names)
    share = (finish - begin) / dt_s
    amounts = np.array([share, np.where(prefill > 0, share, 0.0), prefill, decode])
    knots = np.column_stack([begin, finish]).reshape(-1)
    _amounts_in_bins(knots, amounts, ends - dt_s, ends, columns[2:6])
    # epoch seconds are floats of a fraction of a microsecond: a full bin may come out as more
    np.minimum(columns[2:4], 1.0, out=columns[2:4])
    _active_and_quiet(*events, (begin, finish), ends, before, worked_s, columns)
    return table


def amount_in_bins(
    segments: pd.DataFrame, amount: np.ndarray, end_times_s: np.ndarray, dt_s: float | np.ndarray
) -> np.ndarray:
    """Spread an amount per segment evenly over its time and sum it by bins."""
    knots = np.column_stack([segments["start_s"], segments["end_s"]]).reshape(-1)
    ends, found = np.array(end_times_s, dtype=float), np.empty((1, len(end_times_s)))
    _amounts_in_bins(knots, np.array([amount], dtype=float), ends - dt_s, ends, found)
    return found[0]


@njit(cache=True, nogil=True, error_model="numpy")
def _amounts_in_bins(knots, amounts, begins, ends, found):
    """Spread amounts evenly over stretches of time and sum them by bins, each kind for itself."""
    found[:] = 0.0
    if knots.size == 0:
        return
    # sums of amounts up to each knot (begins and ends of stretches in turn), and slopes from there
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
                slope[i, kind] = (total[i + 1, kind] - total[i, kind]) / length
    place, last, level = -1, np.nan, np.empty(len(amounts))
    for b in range(ends.size):
        if begins[b] != last:
            place, knot, on_s = _move(begins[b], place, knots)
            for kind in range(level.size):
                level[kind] = slope[knot, kind] * on_s + total[knot, kind]
        last = ends[b]
        place, knot, on_s = _move(last, place, knots)
        for kind in range(level.size):
            after = slope[knot, kind] * on_s + total[knot, kind]
            found[kind, b] = max(after - level[kind], 0.0)
            level[kind] = after


@njit(cache=True, nogil=True)
def _move(time, place, knots):
    """Move to the last knot at or before a time, -1 if there is none; tell the time since it."""
    while place >= 0 and knots[place] > time:
        place -= 1
    while place + 1 < knots.size and knots[place + 1] <= time:
        place += 1
    knot = max(place, 0)
    return place, knot, max(time - knots[knot], 0.0)


@njit(cache=True, nogil=True)
def _active_and_quiet(arrivals, leaves, work, ends, before, worked_s, found):
    begin, finish = work
    active, change, quiet_for_s = found[0], found[1], found[6]
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
