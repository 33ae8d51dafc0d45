"""How long power stays in a state, held against laws without memory."""

from __future__ import annotations

import numpy as np
import pandas as pd

from sitetrace.power.idle import Idle
from sitetrace.power.states.labels import label, usable
from sitetrace.power.states.mixture import Mixture


def stays(frame: pd.DataFrame, idle: Idle, mixture: Mixture) -> pd.DataFrame:
    """Cut the loaded samples into stays: successive samples with one label."""
    state = label(frame, idle, mixture).state
    loaded = usable(frame, idle)[0]
    breaks = frame["begins"].to_numpy() | (np.diff(state, prepend=-1) != 0)
    breaks |= np.diff(loaded, prepend=False)
    stay = pd.Series(state[loaded]).groupby(np.cumsum(breaks)[loaded])
    return pd.DataFrame({"state": stay.first(), "bins": stay.size()}).reset_index(drop=True)


def mean_stay_s(found: pd.DataFrame, dt_s: float) -> float:
    """Mean length of a stay above idle."""
    return float(found.loc[found["state"] > 0, "bins"].mean() * dt_s)


def dwell(found: pd.DataFrame, mixture: Mixture, dt_s: float) -> pd.DataFrame:
    """Hold the stays in each state against two laws without memory.

    A Markov chain's are geometric, a share 1/mean of one bin; independent draws stay 1/(1 - share).
    """
    working = found[found["state"] > 0]
    bins = working.groupby("state")["bins"]
    mean, share = bins.mean(), bins.sum() / working["bins"].sum()
    table = {"mean_w": mixture.mean_w[mean.index - 1], "stays": bins.size(), "share": share}
    table |= {"stay_s": mean * dt_s, "independent_s": dt_s / (1 - share)}
    table |= {"one_bin": bins.apply(lambda each: (each == 1).mean())}
    table |= {"one_bin_geometric": 1 / mean, "longest_s": bins.max() * dt_s}
    return pd.DataFrame(table, index=mean.index).reset_index()


def survival(found: pd.DataFrame, dt_s: float) -> pd.DataFrame:
    """Share of stays above idle that last longer, found and as the geometric law has it."""
    working = found[found["state"] > 0]
    bins = np.arange(working["bins"].max())
    leave = 1 / working.groupby("state")["bins"].transform("mean").to_numpy()
    table = {"found": (working["bins"].to_numpy() > bins[:, None]).mean(axis=1)}
    table |= {"geometric": ((1 - leave) ** bins[:, None]).mean(axis=1)}
    return pd.DataFrame(table, index=pd.Index(bins * dt_s, name="stay_s"))
