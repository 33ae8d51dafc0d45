"""Models too simple to be believed, which a better one must beat on the same seconds."""

from fractions import Fraction

import numpy as np
import pandas as pd

from sitetrace.core.files import require
from sitetrace.core.registry import device
from sitetrace.core.types import PowerTrace, Run
from sitetrace.serving.activity import activity_table
from sitetrace.serving.engine import Server, simulate
from sitetrace.serving.surrogates import ConstantRate

PHASES = ("idle", "prefill", "decode")
ACTIVE, RISING, RISING_BINS = 1e-6, 0.05, 2


def baselines(
    fitting: Run,
    server: Server | ConstantRate,
    requests: pd.DataFrame,
    start_s: float,
    dt: Fraction,
    size: int,
) -> dict[str, PowerTrace]:
    """Power for a stream of requests, `size` bins of it, by all baselines of a fitting run.

    They are: its GPUs' nameplate, its mean, its mean by phase, its power from first arrival on.
    """
    asked = fitting.requests is not None
    require(asked, fitting.name, "no requests.csv", "phases need the requests of the run")
    power_w, served = fitting.samples["power_w"], fitting.configuration
    design_w = device(served.hardware)["tdp_w"] * served.tensor_parallel
    constant_w = {"nameplate": float(design_w), "mean": float(power_w.mean())}
    sampled_s = fitting.samples["time_s"].to_numpy()
    seen = activity_table(simulate(fitting.requests, server), sampled_s, float(fitting.dt))
    levels = power_w.groupby(phases(seen)).mean().reindex(PHASES).fillna(constant_w["mean"])
    ends_s = PowerTrace(start_s + float(dt), dt, np.empty(size)).time_s
    wanted = activity_table(simulate(requests, server), ends_s, float(dt))
    since_s = start_s - float(requests["arrival_s"].iloc[0])
    replayed_w = _static_replay(fitting, PowerTrace(since_s, dt, np.empty(size + 1)).time_s)
    values_w = {name: np.full(size, value_w) for name, value_w in constant_w.items()}
    values_w |= {"phase look-up": levels.loc[phases(wanted)].to_numpy()}
    values_w |= {"static replay": replayed_w / float(dt)}
    return {name: PowerTrace(start_s, dt, each_w) for name, each_w in values_w.items()}


def phases(activity: pd.DataFrame) -> np.ndarray:
    """Name the phase of each bin by the rule of the paper's repository."""
    # of the look-up table that grantwilkins/powertrace-sim (March 2026) compares itself with:
    # idle without an active request, prefill where their number rises for two bins on end
    active = activity["active"].to_numpy() > ACTIVE
    rising = pd.Series(active & (activity["delta_active"].to_numpy() > RISING))
    stretch = rising.groupby((rising != rising.shift()).cumsum()).transform("size")
    prefill = (rising & (stretch >= RISING_BINS)).to_numpy()
    return np.select([~active, prefill], ["idle", "prefill"], "decode")


def _static_replay(fitting: Run, since_s: np.ndarray) -> np.ndarray:
    time_s = fitting.samples["time_s"].to_numpy()
    # a sample holds from the one before to its own time
    begin_s = time_s[0] - float(fitting.dt)
    knots_s = np.r_[0.0, time_s - begin_s]
    energy_j = np.r_[0.0, np.cumsum(fitting.samples["power_w"] * np.diff(knots_s))]
    load_s = float(fitting.requests["arrival_s"].iloc[0]) - begin_s
    turns, rest_s = np.divmod(since_s + load_s, knots_s[-1])
    return np.diff(turns * energy_j[-1] + np.interp(rest_s, knots_s, energy_j))
