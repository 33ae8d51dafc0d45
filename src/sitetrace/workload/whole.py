"""Whole streams of requests in one table: Poisson, bursty, diurnal, switching, replayed."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.random import Generator

from sitetrace.core.files import InputError
from sitetrace.core.types import MAX_SPAN_S
from sitetrace.workload.lengths import LogNormalLengths
from sitetrace.workload.streams import DAY_S

MAX_REQUESTS = 50_000_000
LEAST_DWELL_S = 0.1


def poisson(
    rate_per_s: float, duration_s: float, rng: Generator, like: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Poisson arrivals at a constant rate.

    Parameters
    ----------
    rate_per_s : float
        Requests a second.
    duration_s, rng, like : float, numpy.random.Generator, pandas.DataFrame
        As `bursty`.

    Returns
    -------
    pandas.DataFrame
        Request table from time 0.
    """
    return bursty(rate_per_s, 1.0, duration_s, rng, like)


def bursty(
    rate_per_s: float,
    cv: float,
    duration_s: float,
    rng: Generator,
    like: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Arrivals with gamma-distributed gaps.

    Parameters
    ----------
    rate_per_s : float
        Requests a second.
    cv : float
        Coefficient of variation of the gaps: 1 is Poisson, above it bursts, below it evenness;
        the burstiness of vLLM's client is ``1 / cv**2``.
    duration_s : float
        Seconds.
    rng : numpy.random.Generator
        Source of randomness.
    like : pandas.DataFrame, optional
        Request table whose rows give the token lengths; by default those of shared chats.

    Returns
    -------
    pandas.DataFrame
        Request table from time 0.

    Raises
    ------
    InputError
        If rate, spread or duration are out of range.
    """
    check_duration(duration_s)
    if not 0 < rate_per_s or not rate_per_s * duration_s <= MAX_REQUESTS:  # they fill the memory
        raise InputError(
            f"rate {rate_per_s:g} requests/s over {duration_s:g} s: give a rate above 0 that makes "
            f"at most {MAX_REQUESTS:,} requests"
        )
    if not 0.01 <= cv <= 100:
        raise InputError(f"cv {cv:g}: give 0.01 to 100")
    shape = cv**-2.0
    arrivals, last = [], 0.0
    while last < duration_s:
        count = int(1.1 * rate_per_s * (duration_s - last)) + 16
        times = last + np.cumsum(rng.gamma(shape, 1 / (shape * rate_per_s), count))
        arrivals.append(times)
        last = times[-1]
    arrival_s = np.concatenate(arrivals)
    arrival_s = _some(arrival_s[arrival_s < duration_s])
    table = lengths(arrival_s.size, rng, like)
    table.insert(0, "arrival_s", np.round(arrival_s, 6))
    return table


def diurnal(
    rate_per_s: float,
    swing: float,
    duration_s: float,
    rng: Generator,
    like: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Poisson arrivals whose rate follows a day, least at second 0 and greatest 12 h after it.

    The pattern of this name in a scenario has its peak at a local hour instead, see
    `sitetrace.workload.spec.DiurnalTraffic`.

    Parameters
    ----------
    rate_per_s : float
        Mean requests a second.
    swing : float
        Amplitude of the rate relative to its mean, 0 to 1.
    duration_s, rng, like : float, numpy.random.Generator, pandas.DataFrame
        As `bursty`.

    Returns
    -------
    pandas.DataFrame
        Request table from time 0.

    Raises
    ------
    InputError
        If the swing is out of range.
    """
    if not 0 <= swing <= 1:
        raise InputError(f"swing {swing:g}: give 0 to 1")
    most = poisson(rate_per_s * (1 + swing), duration_s, rng, like)
    rate = 1 - swing * np.cos(2 * np.pi * most["arrival_s"].to_numpy() / DAY_S)
    kept = rng.random(len(most)) * (1 + swing) < rate
    return _some(most[kept]).reset_index(drop=True)


def switching(
    rates_per_s: tuple[float, float],
    dwell_s: float,
    duration_s: float,
    rng: Generator,
    like: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Markov-modulated Poisson arrivals: two rates take turns, each for ``dwell_s`` in the mean."""
    if not min(rates_per_s) >= 0 or np.isnan(rates_per_s).any():
        raise InputError(f"rates {rates_per_s} requests/s: give two rates, none below 0")
    if not LEAST_DWELL_S <= dwell_s < np.inf:
        raise InputError(f"dwell {dwell_s:g} s: give a time from {LEAST_DWELL_S:g} s")
    greatest = max(rates_per_s)
    most = poisson(greatest, duration_s, rng, like)
    stays = rng.exponential(dwell_s, int(3 * duration_s / dwell_s) + 32)
    turn = np.searchsorted(np.cumsum(stays), most["arrival_s"]) % 2
    kept = rng.random(len(most)) * greatest < np.asarray(rates_per_s)[turn]
    return _some(most[kept]).reset_index(drop=True)


def replay(requests: pd.DataFrame, thin: float, speed: float, rng: Generator) -> pd.DataFrame:
    """Replay a recorded stream, thinned and warped in time.

    Parameters
    ----------
    requests : pandas.DataFrame
        Request table.
    thin : float
        Share of requests kept, each on its own; above 0, at most 1.
    speed : float
        Factor by which time runs faster.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    pandas.DataFrame
        Request table that begins when the recorded one does.

    Raises
    ------
    InputError
        If share or speed are out of range, nothing is left, or the stream gets too long.
    """
    if not 0 < thin <= 1 or not 1e-3 <= speed <= 1e3:
        raise InputError(f"thin {thin:g}, speed {speed:g}: give a share up to 1 and 0.001 to 1000")
    kept = requests[rng.random(len(requests)) < thin]
    if kept.empty:
        raise InputError(f"thin {thin:g} keeps none of {len(requests)} requests: give a larger one")
    first = requests["arrival_s"].iloc[0]
    after_s = (kept["arrival_s"] - first) / speed
    if after_s.iloc[-1] > MAX_SPAN_S:
        raise InputError(f"speed {speed:g} makes the stream longer than 31 days: give a higher one")
    table = kept[["input_tokens", "output_tokens"]].reset_index(drop=True)
    table.insert(0, "arrival_s", (first + after_s).to_numpy())
    return table


def lengths(count: int, rng: Generator, like: pd.DataFrame | None = None) -> pd.DataFrame:
    """Draw prompt and answer tokens: rows of a table, which keeps their correlation, or chats'."""
    if like is not None:
        rows = rng.integers(0, len(like), count)
        return like[["input_tokens", "output_tokens"]].iloc[rows].reset_index(drop=True)
    law = LogNormalLengths()
    prompt = rng.lognormal(np.log(law.input_median), law.input_sigma, count)
    answer = rng.lognormal(np.log(law.output_median), law.output_sigma, count)
    prompt, answer = np.clip(prompt, 1, law.input_limit), np.clip(answer, 1, law.output_limit)
    tokens = {"input_tokens": prompt, "output_tokens": answer}
    return pd.DataFrame(tokens).astype(np.int64)


def check_duration(duration_s: float) -> None:
    """Refuse streams of no time, or of more than a month."""
    if not 0 < duration_s <= MAX_SPAN_S:
        raise InputError(f"duration {duration_s:g} s: give 0 to {MAX_SPAN_S:g} s (31 days)")


def _some(arrivals: np.ndarray | pd.DataFrame) -> np.ndarray | pd.DataFrame:
    """Refuse a stream without requests."""
    if not len(arrivals):
        raise InputError("no request arrives: give a longer duration or a higher rate")
    return arrivals
