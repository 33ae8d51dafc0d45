"""The simulated engine beside the counters that an engine prints itself."""

from __future__ import annotations

import numpy as np
import pandas as pd

from sitetrace.core.types import Run
from sitetrace.serving.activity import amount_in_bins
from sitetrace.serving.calibration import observe, printed_count
from sitetrace.serving.engine import Server, simulate


def counters(run: Run, server: Server) -> pd.DataFrame:
    """Put the simulated engine beside the counters of a recording."""
    seen = observe(run)
    timeline = simulate(seen.requests, server)
    since_s = seen.times_s - seen.times_s[0]
    decode = timeline.segments["decode_tokens"].to_numpy()
    first = np.searchsorted(np.sort(timeline.requests["first_token_s"]), seen.times_s, side="right")
    made = amount_in_bins(timeline.segments, decode, seen.times_s, since_s) + first - first[0]
    columns = {"time_s": seen.times_s, "running": seen.running, "tokens": seen.generated}
    columns["running_simulated"] = printed_count(timeline, seen.times_s)
    return pd.DataFrame(columns | {"tokens_simulated": made})


def counter_errors(table: pd.DataFrame) -> dict[str, float]:
    """Tell how far the simulated engine is from the counters."""
    rate = table["tokens"].iloc[-1] / np.ptp(table["time_s"])
    return {
        "requests": float((table["running_simulated"] - table["running"]).abs().mean()),
        "of": float(table["running"].mean()),
        "token_lead_s": float((table["tokens_simulated"] - table["tokens"]).abs().mean() / rate),
    }
