"""How much load a stream puts on a server, and warnings when it leaves what was fitted."""

import numpy as np
import pandas as pd

from sitetrace.core.types import Timeline

# a model is trusted up to BEYOND times what it was fitted on
QUEUE_LIMIT_S, RATE_WINDOW_S, BEYOND = 10.0, 30.0, 1.25
WORDS = {
    "active": "requests at once",
    "context_tokens": "tokens of context in a step",
    "requests_per_s": "requests a second over half a minute",
}


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
        limit, what = fitted.get(name), WORDS.get(name, name.replace("_", " "))
        if limit is not None and value > BEYOND * limit:
            lines.append(f"up to {value:g} {what}, but the model was fitted on at most {limit:g}")
    wait_s = (requests["start_s"] - requests["arrival_s"]).max()
    if wait_s > QUEUE_LIMIT_S:
        beyond = "the load exceeds what the server can take"
        lines.append(f"requests wait up to {wait_s:.0f} s: {beyond}")
    return lines


def most_at_once(requests: pd.DataFrame) -> int:
    """Count the requests in the system at its fullest moment."""
    events = np.concatenate([requests["arrival_s"], requests["end_s"]])
    change = np.repeat([1, -1], len(requests))[np.argsort(events, kind="stable")]
    return int(np.cumsum(change).max())


def busiest_rate(arrival_s: np.ndarray) -> float:
    """Greatest arrival rate over half a minute, requests a second."""
    after = np.searchsorted(arrival_s, arrival_s + RATE_WINDOW_S, side="left")
    return float((after - np.arange(arrival_s.size)).max() / RATE_WINDOW_S)
