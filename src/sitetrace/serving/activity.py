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
    table = segments.reindex(columns=[*SEGMENT.names], fill_value=0.0).to_numpy(dtype=float)
    return np.array(table, order="C").view(SEGMENT).reshape(-1)


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
    known, before = 0 if earlier is None else earlier.shape[1], np.nan
    table = np.empty((len(ROW), known + ends.size))
    if known:
        table[:, :known], before = earlier, earlier[0, -1]
    # copies: the compiled passes are made once, for arrays that lie in one piece
    names = ("start_s", "end_s", "prefill_tokens", "decode_tokens")
    begin, finish, prefill, decode = (np.array(segments[name]) for name in names)
    share = (finish - begin) / dt_s
    amounts = (share, np.where(prefill > 0, share, 0.0), prefill, decode)
    _amounts_in_bins((begin, finish), amounts, ends - dt_s, ends, table[2:6])
    # epoch seconds are floats of a fraction of a microsecond: a full bin may come out as more
    np.minimum(table[2:4, known:], 1.0, out=table[2:4, known:])
    _active_and_quiet(*events, (begin, finish), ends, before, worked_s, table)
    return table


def amount_in_bins(
    segments: pd.DataFrame, amount: np.ndarray, end_times_s: np.ndarray, dt_s: float | np.ndarray
) -> np.ndarray:
    """Spread an amount per segment evenly over its time and sum it by bins."""
    columns = (segments["start_s"], segments["end_s"], amount)
    *work, amount = (np.array(each, dtype=float) for each in columns)
    ends, found = np.array(end_times_s, dtype=float), np.empty((1, len(end_times_s)))
    _amounts_in_bins(tuple(work), (amount,), ends - dt_s, ends, found)
    return found[0]


@njit(cache=True, nogil=True, error_model="numpy")
def _amounts_in_bins(work, amounts, begins, ends, found):
    """Spread amounts evenly over stretches of time; sum each kind by bins, the last of `found`."""
    (begin, finish), n, kinds, first = work, len(work[0]), len(amounts), found.shape[1] - ends.size
    if n == 0:
        found[:, first:] = 0.0
        return
    # sums up to the end of each stretch, and up to the time that was looked at last
    total, level, place, last = np.empty((n, kinds)), np.zeros(kinds), -1, np.nan
    for i in range(n):
        for kind in range(kinds):
            total[i, kind] = (total[i - 1, kind] if i > 0 else 0.0) + amounts[kind][i]
    for b in range(ends.size):
        for edge in range(begins[b] == last, 2):
            last = ends[b] if edge else begins[b]
            while place >= 0 and begin[place] > last:
                place -= 1
            while place + 1 < n and begin[place + 1] <= last:
                place += 1
            # within a stretch or before the first; or after one, up to the next if there is one
            i = max(place, 0)
            inside, then = last < finish[i], min(i + 1, n - 1)
            since_s, until_s = (begin[i], finish[i]) if inside else (finish[i], begin[then])
            for kind in range(kinds):
                now, after = total[i, kind], total[then, kind] - amounts[kind][then]
                if inside:
                    now, after = now - amounts[kind][i], now
                if until_s > since_s:
                    now += (after - now) / (until_s - since_s) * max(last - since_s, 0.0)
                found[kind, first + b] = max(now - level[kind], 0.0)
                level[kind] = now


@njit(cache=True, nogil=True)
def _active_and_quiet(arrivals, leaves, work, ends, before, worked_s, found):
    (begin, finish), first = work, found.shape[1] - ends.size
    active, change, quiet_for_s = found[0, first:], found[1, first:], found[6, first:]
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
