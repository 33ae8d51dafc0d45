"""What the engine does in each bin of time: the features that drive the power states."""

from __future__ import annotations

import numpy as np
import pandas as pd

from sitetrace.timeline import Timeline

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
    requests, segments = timeline.requests, timeline.segments
    ends = np.asarray(end_times_s, dtype=float)
    active = _count(requests["arrival_s"], ends) - _count(requests["end_s"], ends)
    length = (segments["end_s"] - segments["start_s"]).to_numpy()
    amounts = {
        "busy_share": length / dt_s,
        "prefill_share": np.where(segments["prefill_tokens"] > 0, length, 0.0) / dt_s,
        "prefill_tokens": segments["prefill_tokens"].to_numpy(dtype=float),
        "decode_tokens": segments["decode_tokens"].to_numpy(dtype=float),
    }
    table = {"active": active, "delta_active": np.diff(active, prepend=active[:1])}
    for name, amount in amounts.items():
        table[name] = amount_in_bins(segments, amount, ends, dt_s)
    for name in ("busy_share", "prefill_share"):
        # epoch seconds are floats of a fraction of a microsecond: a full bin may come out as more
        table[name] = np.minimum(table[name], 1.0)
    table["quiet_for_s"] = _time_since_work(segments, ends)
    return pd.DataFrame(table)


def amount_in_bins(
    segments: pd.DataFrame, amount: np.ndarray, end_times_s: np.ndarray, dt_s: float
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
    dt_s : float
        Length of a bin, seconds.

    Returns
    -------
    numpy.ndarray
        Amount in each bin, shape (n,); nothing is lost or counted twice.
    """
    if segments.empty:
        return np.zeros(len(end_times_s))
    knots = segments[["start_s", "end_s"]].to_numpy().ravel()
    total = np.cumsum(amount)
    level = np.column_stack([total - amount, total]).ravel()
    before = np.interp(end_times_s - dt_s, knots, level)
    return np.maximum(np.interp(end_times_s, knots, level) - before, 0.0)


def _count(times: pd.Series, at: np.ndarray) -> np.ndarray:
    """Count the events up to and at each time."""
    return np.searchsorted(np.sort(times.to_numpy()), at, side="right").astype(float)


def _time_since_work(segments: pd.DataFrame, ends: np.ndarray) -> np.ndarray:
    """Seconds since the engine last did anything, 0 while it works, infinite before."""
    begin = segments["start_s"].to_numpy()
    finish = segments["end_s"].to_numpy()
    last = np.searchsorted(begin, ends, side="left") - 1
    since = np.full(ends.shape, np.inf)
    worked = last >= 0
    since[worked] = np.maximum(ends[worked] - finish[last[worked]], 0.0)
    return since
