"""What the engine does in each bin of time: the features that drive the power states."""

from __future__ import annotations

import numpy as np
import pandas as pd

from sitetrace.timeline import Timeline
from sitetrace.walking import amounts_in_bins

COLUMNS = (
    "active",
    "delta_active",
    "busy_share",
    "prefill_share",
    "prefill_tokens",
    "decode_tokens",
)
PAPER_COLUMNS = ("active", "delta_active")


def activity_table(timeline: Timeline, end_times_s: np.ndarray, dt_s: float) -> pd.DataFrame:
    """Describe the engine's work in the bins ``[t - dt, t)``.

    Parameters
    ----------
    timeline : Timeline
        Result of `sitetrace.serving.simulate`.
    end_times_s : numpy.ndarray
        End of each bin (the time at which a meter prints it), seconds, ascending, shape (n,).
    dt_s : float
        Length of a bin, seconds.

    Returns
    -------
    pandas.DataFrame
        ``active``: requests arrived and not yet ended, at the bin's end (A of arXiv:2603.18383);
        ``delta_active``: its change since the bin before, 0 in the first; ``busy_share``,
        ``prefill_share``: shares of the bin in which the engine works, and works on a step with
        prefill; ``prefill_tokens``, ``decode_tokens``: tokens in the bin, spread evenly over
        their step; ``quiet_for_s``: time since the engine's last work, infinite before the first.
    """
    ends = np.asarray(end_times_s, dtype=float)
    events = (np.sort(timeline.requests[name].to_numpy()) for name in ("arrival_s", "end_s"))
    rows = activity_rows(timeline.segments.to_numpy(dtype=float), tuple(events), ends, dt_s)
    return pd.DataFrame(rows, columns=[*COLUMNS, "quiet_for_s"])


def activity_rows(
    segments: np.ndarray,
    events: tuple[np.ndarray, np.ndarray],
    ends: np.ndarray,
    dt_s: float,
    active: float = np.nan,
    worked_s: float = -np.inf,
) -> np.ndarray:
    """Describe the engine's work as `activity_table` does, from bare arrays.

    Parameters
    ----------
    segments : numpy.ndarray
        Columns as in `sitetrace.timeline.Timeline`, shape (m, 7).
    events : tuple of numpy.ndarray
        Ascending arrivals and ends of requests, seconds.
    ends : numpy.ndarray
        End of each bin, ascending, seconds, shape (n,).
    dt_s : float
        Length of a bin, seconds.
    active : float
        Requests at the end of the bin before the first; NaN if there was no bin.
    worked_s : float
        End of the last work before these segments, seconds.

    Returns
    -------
    numpy.ndarray
        Columns as in `activity_table`, shape (n, 7).
    """
    rows = np.empty((ends.size, len(COLUMNS) + 1))
    counts = [np.searchsorted(times, ends, side="right") for times in events]
    rows[:, 0] = (0.0 if np.isnan(active) else active) + counts[0] - counts[1]
    rows[:, 1] = np.diff(rows[:, 0], prepend=rows[:1, 0] if np.isnan(active) else active)
    begin, finish, prefill = segments[:, 0], segments[:, 1], segments[:, 5]
    length = finish - begin
    amounts = [length / dt_s, np.where(prefill > 0, length, 0.0) / dt_s, prefill, segments[:, 6]]
    knots = segments[:, :2].reshape(-1)
    rows[:, 2:6] = amounts_in_bins(knots, np.array(amounts), ends - dt_s, ends).T
    # epoch seconds are floats of a fraction of a microsecond: a full bin may come out as more
    np.minimum(rows[:, 2:4], 1.0, out=rows[:, 2:4])
    last = np.searchsorted(begin, ends, side="left")
    since = ends - np.concatenate([[worked_s], finish])[last]
    rows[:, 6] = np.maximum(since, 0.0)
    return rows


def amount_in_bins(
    segments: pd.DataFrame, amount: np.ndarray, end_times_s: np.ndarray, dt_s: float | np.ndarray
) -> np.ndarray:
    """Spread an amount per segment evenly over its time and sum it by bins.

    Parameters
    ----------
    segments : pandas.DataFrame
        Disjoint stretches with ``start_s``, ``end_s`` in time order.
    amount : numpy.ndarray
        What each segment holds (tokens, seconds, joules), shape (segments,).
    end_times_s : numpy.ndarray
        End of each bin, seconds, shape (n,).
    dt_s : float or numpy.ndarray
        Length of each bin, seconds.

    Returns
    -------
    numpy.ndarray
        Amount in each bin, shape (n,); nothing is lost or counted twice.
    """
    knots = segments[["start_s", "end_s"]].to_numpy(dtype=float).reshape(-1)
    amounts = np.asarray(amount, dtype=float)[None]
    return amounts_in_bins(knots, amounts, end_times_s - dt_s, end_times_s)[0]
