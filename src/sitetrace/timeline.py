"""What serving returns: the fate of requests, and stretches of work in time order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

SEGMENT_COLUMNS = (
    "start_s",
    "end_s",
    "steps",
    "batch",
    "context",
    "prefill_tokens",
    "decode_tokens",
)


@dataclass
class Timeline:
    """What became of requests, and what the engine did when.

    Parameters
    ----------
    requests : pandas.DataFrame
        ``arrival_s``, ``start_s`` (first admitted), ``first_token_s``, ``end_s`` (seconds),
        ``input_tokens``, ``output_tokens``; rows as in the requests given; NaN where it has not
        happened yet.
    segments : pandas.DataFrame
        Disjoint stretches of work in time order, gaps where the engine is idle: ``start_s``,
        ``end_s``, ``steps``, ``batch`` (sequences decoding), ``context`` (their tokens, summed
        over sequences, mean over steps), ``prefill_tokens`` (of the whole segment, recomputed
        ones included), ``decode_tokens`` (without the first token that ends a prefill). Either
        one step with prefill or several steps of decode with the same sequences.
    """

    requests: pd.DataFrame
    segments: pd.DataFrame


def running_count(timeline: Timeline, times_s: np.ndarray) -> np.ndarray:
    """Count the requests that have started and not ended."""
    started, ended = (
        np.searchsorted(np.sort(timeline.requests[name].dropna()), times_s, side="right")
        for name in ("start_s", "end_s")
    )
    return started - ended


def segment_frame(segments: np.ndarray) -> pd.DataFrame:
    """Name the columns of segments."""
    frame = pd.DataFrame(segments, columns=list(SEGMENT_COLUMNS))
    return frame.astype({"steps": np.int64, "batch": np.int64})
