"""A recorded stream in a few numbers, from which streams of any length can be drawn."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd

from sitetrace.core.files import InputError
from sitetrace.workload.spec import open_stream
from sitetrace.workload.streams import DAY_S
from sitetrace.workload.whole import check_duration

LEAST_REQUESTS = 20
LEAST_CV, MOST_CV = 0.05, 50.0
LEAST_WINDOWS = 3


def fit_traffic(
    requests: pd.DataFrame,
    n_servers: int = 1,
    scale_s: float | None = None,
    begin_hour: float = 0.0,
) -> dict[str, Any]:
    """Fit arrivals and token lengths; the result is the traffic section of a scenario.

    Two days and more: a rate that swings with the hour (first harmonic of whole days). Shorter
    ones: gamma gaps. One number cannot say how a stream bunches at all scales: by default it is
    that of the gaps, which bursts of a second rule; with `scale_s` it makes the index of dispersion
    of counts in such windows right (which tends to the squared variation of the gaps), and the gaps
    more uneven than they were where the rate wanders slowly. Lengths are log-normal, correlated,
    cut at the greatest ones seen.

    Parameters
    ----------
    requests : pandas.DataFrame
        Request table.
    n_servers : int
        Servers that the stream is meant for; the rate is divided among them.
    scale_s : float, optional
        Seconds of the windows that the burstiness is fitted to; by default to the gaps.
    begin_hour : float
        Hour of the day at second 0 of the table, which the table does not know:
        `read_azure` says it, for epoch seconds it is the zone's hours ahead of UTC.

    Returns
    -------
    dict
        ``pattern``, ``rate_per_server``, ``cv`` or ``swing`` and ``peak_hour`` (of the day, as far
        as `begin_hour` is), and ``lengths``, fields of `LogNormalLengths`.

    Raises
    ------
    InputError
        If there are too few requests or windows, or the hour is out of range.
    """
    arrival_s = requests["arrival_s"].to_numpy()
    if arrival_s.size < LEAST_REQUESTS or arrival_s[-1] == arrival_s[0]:
        raise InputError(
            f"{arrival_s.size} requests are too few to fit: give {LEAST_REQUESTS} that do not "
            "arrive at once"
        )
    if not -24 <= begin_hour <= 24:
        raise InputError(f"begin_hour {begin_hour:g}: give an hour of the day, -24 to 24")
    gaps_s = np.diff(arrival_s)
    fitted = {"pattern": "bursty", "rate_per_server": 1 / gaps_s.mean() / n_servers}
    days = int((arrival_s[-1] - arrival_s[0] + gaps_s.mean()) // DAY_S)
    if days >= 2:
        fitted |= {"pattern": "diurnal"} | _day(arrival_s, days, begin_hour)
    elif scale_s is None:
        fitted["cv"] = gaps_s.std() / gaps_s.mean()
    else:
        dispersion = index_of_dispersion(arrival_s, scale_s) if scale_s > 0 else np.nan
        if np.isnan(dispersion):
            raise InputError(
                f"scale_s {scale_s:g} s: {LEAST_WINDOWS} windows have to fit between the first "
                f"request and the last, {arrival_s[-1] - arrival_s[0]:g} s: give shorter ones"
            )
        fitted["cv"] = np.sqrt(dispersion)
    if "cv" in fitted:
        fitted["cv"] = float(np.clip(fitted["cv"], LEAST_CV, MOST_CV))
    return _plain(fitted | {"lengths": _lengths(requests)})


def draw_traffic(
    section: dict[str, Any], duration_s: float, seed: int, begin_hour: float = 0.0
) -> pd.DataFrame:
    """Draw requests of one server from a fitted section.

    Parameters
    ----------
    section : dict
        From `fit_traffic`.
    duration_s : float
        Seconds from second 0.
    seed : int
        Seed of the stream.
    begin_hour : float
        Hour of the day at second 0.

    Returns
    -------
    pandas.DataFrame
        Request table.

    Raises
    ------
    InputError
        If the duration is no sensible one, or nothing arrives in it.
    """
    check_duration(duration_s)
    stream = open_stream(SimpleNamespace(**section), 1, Path(), begin_hour)
    drawn, _ = stream.chunk(0, 0.0, duration_s, np.random.SeedSequence(seed), None)
    if not drawn.arrival_s.size:
        raise InputError("no request arrives: give a longer duration")
    columns = {"arrival_s": drawn.arrival_s.round(6), "input_tokens": drawn.tokens[:, 0]}
    return pd.DataFrame(columns | {"output_tokens": drawn.tokens[:, 1]})


def index_of_dispersion(arrival_s: np.ndarray, window_s: float) -> float:
    """Return variance over mean of the counts in windows: 1 for Poisson, NaN for too few."""
    windows = int((arrival_s[-1] - arrival_s[0]) // window_s)
    if windows < LEAST_WINDOWS:
        return np.nan
    ends_s = arrival_s[0] + window_s * np.arange(windows + 1)
    counts = np.diff(np.searchsorted(arrival_s, ends_s))
    return float(counts.var(ddof=1) / counts.mean())


def _day(arrival_s: np.ndarray, days: int, begin_hour: float) -> dict[str, float]:
    """First harmonic of the arrivals of whole days."""
    whole = arrival_s[arrival_s < arrival_s[0] + days * DAY_S]
    harmonic = 2 * np.exp(2j * np.pi * whole / DAY_S).mean()
    hour = (np.angle(harmonic) / (2 * np.pi) * 24 + begin_hour) % 24
    return {"swing": min(1.0, float(np.abs(harmonic))), "peak_hour": float(hour)}


def _lengths(requests: pd.DataFrame) -> dict[str, float]:
    """Fields of `LogNormalLengths`: moments of the logarithms, and the greatest lengths."""
    tokens = requests[["input_tokens", "output_tokens"]]
    logarithm = np.log(tokens)
    found = {}
    for side in ("input", "output"):
        column = f"{side}_tokens"
        found[f"{side}_median"] = float(np.exp(logarithm[column].mean()))
        found[f"{side}_sigma"] = float(logarithm[column].std(ddof=0))
        found[f"{side}_limit"] = int(tokens[column].max())
    constant = tokens.nunique().min() == 1
    together = 0.0 if constant else logarithm.corr().iloc[0, 1]
    return found | {"correlation": float(np.clip(together, -1, 1))}


def _plain(value: Any) -> Any:
    """Keep six digits, as plain numbers that YAML can write."""
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    return float(f"{value:.6g}") if isinstance(value, float) else value
