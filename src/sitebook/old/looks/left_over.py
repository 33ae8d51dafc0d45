"""What the expected reading leaves over, by what the engine did meanwhile."""

from __future__ import annotations

import numpy as np
import pandas as pd

from sitetrace.core.types import Timeline
from sitetrace.evaluate.metrics import acf
from sitetrace.meter import ages_s, seen_w
from sitetrace.power.timeline.fit import LEAST_SD_W
from sitetrace.power.timeline.model import TimelineModel
from sitetrace.serving.activity import amount_in_bins

REGIMES = ("idle", "edge", "decode", "prefill")
FULL_SHARE, LITTLE_PREFILL = 0.98, 0.05
LEAST, OUTLIER_SD = 20, 4.0
COLUMNS = ["regime", "readings", "mean [W]", "sd [W]", "sd, middle [W]", "outliers"]
COLUMNS += ["autocorrelation"]


def left_over(
    model: TimelineModel,
    timeline: Timeline,
    time_s: np.ndarray,
    power_w: np.ndarray,
    phase_s: float = 0.0,
) -> pd.DataFrame:
    """Subtract the expected reading from readings: what no part of the model accounts for."""
    ages = ages_s(model.meter, phase_s)
    seen = np.array([seen_w(timeline, model, time_s - age) for age in ages])
    expected_w, busy = seen[:, 0].mean(axis=0), seen[:, 1]
    work, window_s = timeline.segments, model.meter.window_s
    length_s = np.where(work["prefill_tokens"] > 0, work["end_s"] - work["start_s"], 0.0)
    prefill_s = [amount_in_bins(work, length_s, time_s - age, window_s) for age in ages]
    kinds = [
        np.mean(prefill_s, axis=0) > LITTLE_PREFILL * window_s,
        busy.max(axis=0) == 0,
        busy.min(axis=0) > FULL_SHARE,
    ]
    regime = np.select(kinds, ["prefill", "idle", "decode"], "edge")
    return pd.DataFrame({"time_s": time_s, "left_w": power_w - expected_w, "regime": regime})


def by_regime(left: pd.DataFrame) -> pd.DataFrame:
    """Spread and memory of what is left over in each regime."""
    left_w, regime = left["left_w"].to_numpy(), left["regime"].to_numpy()
    rows = [{"regime": name} | _spread(left_w, regime == name) for name in REGIMES]
    return pd.DataFrame(rows).reindex(columns=COLUMNS)


def _spread(left_w: np.ndarray, inside: np.ndarray) -> dict[str, float]:
    """One row of `by_regime`, as far as there are readings."""
    from scipy.stats import median_abs_deviation

    row = {"readings": int(inside.sum())}
    if inside.sum() < LEAST:
        return row
    of_regime = left_w[inside]
    middle_sd_w = float(median_abs_deviation(of_regime, scale="normal"))
    # an idle meter may print one value alone
    reach_w = OUTLIER_SD * max(middle_sd_w, LEAST_SD_W)
    near = inside & (np.abs(left_w - np.median(of_regime)) <= reach_w)
    row |= {"mean [W]": of_regime.mean(), "sd [W]": of_regime.std()}
    row |= {"sd, middle [W]": middle_sd_w, "outliers": 1.0 - near.sum() / inside.sum()}
    pairs = near[1:] & near[:-1]
    if pairs.sum() >= LEAST:
        row["autocorrelation"] = np.corrcoef(left_w[:-1][pairs], left_w[1:][pairs])[0, 1]
    return row


def busy_memory(left: pd.DataFrame, lags: int) -> np.ndarray:
    """Autocorrelation of what is left over from the first reading at work to the last."""
    work = np.flatnonzero(left["regime"] != "idle")
    return acf(left["left_w"].to_numpy()[work[0] : work[-1] + 1], lags)
