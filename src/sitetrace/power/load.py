"""How much load a stream puts on a server, and warnings when it leaves what was fitted."""

import numpy as np

from sitetrace.core.types import Timeline

QUEUE_LIMIT_S, RATE_WINDOW_S, BEYOND = 10.0, 30.0, 1.25  # trusted to BEYOND times what was fitted
WORDS = {
    "active": "requests at once",
    "context_tokens": "tokens of context in a step",
    "requests_per_s": "requests a second over half a minute",
}


def load_warnings(fitted: dict, timeline: Timeline) -> list[str]:
    """Say where requests leave what the model was fitted on, or what the server can take."""
    requests, lines = timeline.requests, []
    for name, value in load_of(timeline).items():
        limit, what = fitted.get(name), WORDS.get(name, name.replace("_", " "))
        if limit is not None and value > BEYOND * limit:
            lines.append(f"up to {value:g} {what}, but the model was fitted on at most {limit:g}")
    wait_s = (requests["start_s"] - requests["arrival_s"]).max()
    if wait_s > QUEUE_LIMIT_S:
        beyond = "the load exceeds what the server can take"
        lines.append(f"requests wait up to {wait_s:.0f} s: {beyond}")
    return lines


def load_of(timeline: Timeline) -> dict[str, float]:
    """Greatest values of a load: tokens, requests in the system at once, a second's arrivals."""
    requests, arrival_s = timeline.requests, np.sort(timeline.requests["arrival_s"].to_numpy())
    events = np.concatenate([requests["arrival_s"], requests["end_s"]])
    change = np.repeat([1, -1], len(requests))[np.argsort(events, kind="stable")]
    after = np.searchsorted(arrival_s, arrival_s + RATE_WINDOW_S, side="left")
    return {
        "input_tokens": int(requests["input_tokens"].max()),
        "output_tokens": int(requests["output_tokens"].max()),
        "active": int(np.cumsum(change).max()),
        "requests_per_s": float((after - np.arange(arrival_s.size)).max() / RATE_WINDOW_S),
        "context_tokens": int(timeline.segments["context"].max()),
    }
