"""How much load a stream puts on a server, and warnings when it leaves what was fitted."""

from __future__ import annotations

import numpy as np
import pandas as pd

from sitetrace.core.types import Timeline
from sitetrace.power.states.model import QUEUE_LIMIT_S, RATE_WINDOW_S, WORDS


def most_at_once(requests: pd.DataFrame) -> int:
    """Count the requests in the system at its fullest moment."""
    events = np.concatenate([requests["arrival_s"], requests["end_s"]])
    change = np.repeat([1, -1], len(requests))[np.argsort(events, kind="stable")]
    return int(np.cumsum(change).max())


def busiest_rate(arrival_s: np.ndarray) -> float:
    """Find the greatest arrival rate over half a minute."""
    after = np.searchsorted(arrival_s, arrival_s + RATE_WINDOW_S, side="left")
    return float((after - np.arange(arrival_s.size)).max() / RATE_WINDOW_S)


def load_warnings(fitted: dict, timeline: Timeline) -> list[str]:
    """Say where requests leave what the model was fitted on, or what the server can take."""
    requests, lines = timeline.requests, []
    seen = {
        "active": most_at_once(requests),
        "context_tokens": int(timeline.segments["context"].max()),
        "input_tokens": int(requests["input_tokens"].max()),
        "output_tokens": int(requests["output_tokens"].max()),
        "requests_per_s": busiest_rate(np.sort(requests["arrival_s"].to_numpy())),
    }
    for name, value in seen.items():
        limit = fitted.get(name)
        if limit is not None and value > 1.25 * limit:
            what = WORDS.get(name, name.replace("_", " "))
            lines.append(f"up to {value:g} {what}, but the model was fitted on at most {limit:g}")
    wait_s = (requests["start_s"] - requests["arrival_s"]).to_numpy()
    if wait_s.max() > QUEUE_LIMIT_S:
        lines.append(
            f"requests wait up to {wait_s.max():.0f} s: the load exceeds what the server can take"
        )
    return lines
