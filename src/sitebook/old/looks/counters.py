"""The simulated engine beside the counters that an engine prints itself."""

from __future__ import annotations

import numpy as np
import pandas as pd

from sitetrace.core.types import Run
from sitetrace.serving.calibration import observe, printed
from sitetrace.serving.engine import Server, simulate


def counters(run: Run, server: Server) -> pd.DataFrame:
    """Put the simulated engine beside the counters of a recording."""
    seen = observe(run)
    table = seen.engine.rename(columns={"generation_tokens": "tokens"})
    table = table[["time_s", "running", "tokens"]].reset_index(drop=True)
    running, tokens = printed(simulate(seen.requests, server), table["time_s"].to_numpy())
    return table.assign(running_simulated=running, tokens_simulated=tokens)


def counter_errors(table: pd.DataFrame) -> dict[str, float]:
    """Tell how far the simulated engine is from the counters."""
    rate = table["tokens"].iloc[-1] / np.ptp(table["time_s"])
    return {
        "requests": float((table["running_simulated"] - table["running"]).abs().mean()),
        "of": float(table["running"].mean()),
        "token_lead_s": float((table["tokens_simulated"] - table["tokens"]).abs().mean() / rate),
    }
