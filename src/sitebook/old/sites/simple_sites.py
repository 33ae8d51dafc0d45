"""Sites by methods too simple to be believed: nameplate, mean power, a look-up of three phases."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from sitetrace.core.registry import device
from sitetrace.core.types import Configuration, Run
from sitetrace.evaluate.judge import PHASES, phases
from sitetrace.serving.activity import activity_table
from sitetrace.serving.engine import Server, simulate
from sitetrace.serving.surrogates import ConstantRate


@dataclass(frozen=True)
class PhaseLookup:
    """Power of a server by phase, and when a request is active."""

    idle_w: float
    prefill_w: float
    decode_w: float
    rates: ConstantRate


def nameplate_w(configuration: Configuration) -> float:
    """Design power of the GPUs of a server."""
    return device(configuration.hardware)["tdp_w"] * configuration.tensor_parallel


def constant_rates(server: Server, requests: pd.DataFrame) -> ConstantRate:
    """Give an engine's service the form of the paper's surrogate."""
    served = simulate(requests, server).requests
    prefill_s = (served["first_token_s"] - served["arrival_s"]).sum()
    decode_s = (served["end_s"] - served["first_token_s"]).sum()
    tokens = served[["input_tokens", "output_tokens"]].sum()
    return ConstantRate(
        float(tokens["input_tokens"] / prefill_s), float(tokens["output_tokens"] / decode_s)
    )


def fit_lookup(fitting: Run, server: Server) -> PhaseLookup:
    """Take the three powers from a fitting run, as `sitetrace.evaluate.judge` does."""
    rates = constant_rates(server, fitting.requests)
    times_s = fitting.samples["time_s"].to_numpy()
    activity = activity_table(simulate(fitting.requests, rates), times_s, float(fitting.dt))
    power = fitting.samples["power_w"]
    levels = power.groupby(phases(activity)).mean().reindex(PHASES).fillna(power.mean())
    return PhaseLookup(*(float(watts) for watts in levels), rates)


def lookup_gpu_w(
    lookup: PhaseLookup,
    arrival_s: np.ndarray,
    tokens: np.ndarray,
    server_of: np.ndarray,
    dt_s: float,
    size: int,
) -> np.ndarray:
    """Power of the GPUs of all servers that have requests, by phase look-up."""
    end_s = arrival_s + tokens[:, 0] / lookup.rates.prefill_tok_s
    end_s = end_s + tokens[:, 1] / lookup.rates.decode_tok_s
    # the bin at whose end a change is first counted
    first, last = (
        np.minimum(np.ceil(times_s / dt_s).astype(np.int64) - 1, size)
        for times_s in (arrival_s, end_s)
    )
    first = np.maximum(first, 0)
    total_w = np.zeros(size)
    order = np.argsort(server_of, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(server_of[order])) + 1):
        change = np.bincount(first[rows], minlength=size + 1).astype(np.int64)
        change -= np.bincount(last[rows], minlength=size + 1)
        total_w += _phase_power(lookup, np.cumsum(change[:size]))
    absent = int(server_of.max()) + 1 - len(np.unique(server_of))
    return total_w + absent * lookup.idle_w


def _phase_power(lookup: PhaseLookup, active: np.ndarray) -> np.ndarray:
    """Power of one server, by the rule of `sitetrace.evaluate.judge.phases` in whole counts."""
    rising = (np.diff(active, prepend=active[:1]) > 0) & (active > 0)
    # at least two rising bins on end
    neighbour = np.zeros_like(rising)
    neighbour[1:] |= rising[:-1]
    neighbour[:-1] |= rising[1:]
    power_w = np.where(active > 0, lookup.decode_w, lookup.idle_w)
    return np.where(rising & neighbour, lookup.prefill_w, power_w)
