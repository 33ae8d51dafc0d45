"""What the engine does in each bin of time: the features that drive the power states."""

from __future__ import annotations

import numpy as np
import pandas as pd

from sitetrace.timeline import Timeline
from sitetrace.walking import active_and_quiet, amounts_in_bins

COLUMNS = (
    "active",
    "delta_active",
    "busy_share",
    "prefill_share",
    "prefill_tokens",
    "decode_tokens",
)
PAPER_COLUMNS = ("active", "delta_active")
ROW = [*COLUMNS, "quiet_for_s"]


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
    ends = np.array(end_times_s, dtype=float)
    events = (np.sort(timeline.requests[name].to_numpy()) for name in ("arrival_s", "end_s"))
    segments = timeline.segments.to_numpy(dtype=float)
    return pd.DataFrame(activity_columns(segments, tuple(events), ends, dt_s).T, columns=ROW)


def activity_columns(
    segments: np.ndarray,
    events: tuple[np.ndarray, np.ndarray],
    ends: np.ndarray,
    dt_s: float,
    earlier: np.ndarray | None = None,
    worked_s: float = -np.inf,
) -> np.ndarray:
    """Describe the engine's work as `activity_table` does, from bare arrays."""
    known = 0 if earlier is None else earlier.shape[1]
    table = np.empty((len(ROW), known + ends.size))
    columns = table[:, known:]
    before = np.nan
    if known:
        table[:, :known] = earlier
        before = earlier[0, -1]
    # copies: the compiled passes are made once, for arrays that lie in one piece
    begin, finish, prefill, decode = np.array(segments[:, [0, 1, 5, 6]].T, order="C")
    share = (finish - begin) / dt_s
    amounts = np.array([share, np.where(prefill > 0, share, 0.0), prefill, decode])
    knots = np.column_stack([begin, finish]).reshape(-1)
    amounts_in_bins(knots, amounts, ends - dt_s, ends, columns[2:6])
    # epoch seconds are floats of a fraction of a microsecond: a full bin may come out as more
    np.minimum(columns[2:4], 1.0, out=columns[2:4])
    found = (columns[0], columns[1], columns[6])
    active_and_quiet(*events, (begin, finish), ends, before, worked_s, found)
    return table


def amount_in_bins(
    segments: pd.DataFrame, amount: np.ndarray, end_times_s: np.ndarray, dt_s: float | np.ndarray
) -> np.ndarray:
    """Spread an amount per segment evenly over its time and sum it by bins."""
    knots = np.column_stack([segments["start_s"], segments["end_s"]]).reshape(-1)
    ends = np.array(end_times_s, dtype=float)
    found = np.empty((1, ends.size))
    amounts_in_bins(knots, np.array([amount], dtype=float), ends - dt_s, ends, found)
    return found[0]
