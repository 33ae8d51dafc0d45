"""Streams of many clients, each with rates, burstiness and lengths of its own.

ServeGen (alibaba/ServeGen, Apache-2.0) publishes, for windows of 600 s and each client, the rate
and the gamma or Weibull law of the gaps (arg1 is the shape); and token lengths for windows of 6 h.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.random import Generator
from scipy.special import ndtri

from sitetrace.core.files import read_table, refuse_row, require
from sitetrace.workload.streams import Carry, Drawn, Requests, Stream, renew
from sitetrace.workload.table import MAX_TOKENS, TOKENS

WINDOW_S, LENGTH_WINDOW_S, WINDOWS_A_DAY, QUANTILES = 600.0, 21600.0, 144, 1024
STEEPEST, STEEPNESS_HALVINGS = 3.0, 18


@dataclass(frozen=True)
class Clients(Stream):
    """The sum of many clients' streams; after its last day the recording begins anew."""

    # A client's clock runs with its rate: the expected count of each window is the recorded one.
    rates: np.ndarray  # requests a second, shape (clients, windows)
    laws: np.ndarray  # variation of gamma gaps, less than 0: shape of Weibull ones
    quantiles: np.ndarray  # tokens, input and output, of each summary, shape (rows, 2, 1024)
    row: np.ndarray  # summary of a client in a window, -1: it borrows, shape (clients, windows)
    donors: np.ndarray  # cumulated shares of those with a summary, shape (windows, clients)
    offset_s: float = 0.0  # where in the recording second 0 lies

    def draw(self, begin_s: float, end_s: float, rng: Generator, carry: Carry = None) -> Drawn:
        """Draw a chunk; each client's mean gaps to its next request are carried."""
        left = [None] * len(self.rates) if carry is None else list(carry["left"])
        first = int(np.floor((begin_s + self.offset_s) / WINDOW_S))
        edges_s = np.arange(first, np.ceil((end_s + self.offset_s) / WINDOW_S) + 1) * WINDOW_S
        edges_s = np.clip(edges_s - self.offset_s, begin_s, end_s)
        parts = []
        for number in np.flatnonzero(np.diff(edges_s)):
            window, span_s = (first + number) % self.rates.shape[1], edges_s[number : number + 2]
            arrivals, client = [np.empty(0)], [np.empty(0, dtype=np.intp)]
            for place in np.flatnonzero(self.rates[:, window]):
                rate, law = self.rates[place, window], self.laws[place, window]
                times_s, left[place] = renew(rate, *span_s, left[place], law, rng)
                arrivals.append(times_s)
                client.append(np.full(times_s.size, place))
            arrival_s = np.concatenate(arrivals)
            order = np.argsort(arrival_s, kind="stable")
            tokens = self.lengths(np.concatenate(client)[order], window, rng)
            parts.append((arrival_s[order], tokens))
        return Requests(*map(np.concatenate, zip(*parts, strict=True))), {"left": left}

    def lengths(self, client: np.ndarray, window: int, rng: Generator) -> np.ndarray:
        """Draw the tokens of requests of a window, shape (n, 2), given the client of each."""
        row = self.row[client, window]
        # without a summary a client borrows, for each request from one drawn by their requests
        borrows = np.flatnonzero(row < 0)
        donor = np.searchsorted(self.donors[window], rng.random(borrows.size), side="right")
        row[borrows] = self.row[donor, window]
        chances = rng.integers(0, QUANTILES, (2, client.size), dtype=np.uint16)
        return self.quantiles[row[:, None], [0, 1], chances.T].astype(np.int64)


def open_clients(
    rates_file: Path, lengths_file: Path, rate_per_s: float | None, offset_s: float
) -> Clients:
    """Read rates and lengths; a `rate_per_s` scales all rates so that their mean sum is that."""
    table = read_rates(rates_file)
    clients, place = np.unique(table["client"], return_inverse=True)
    window = (table["window_start_s"] / WINDOW_S).astype(int).to_numpy()
    rates, laws = np.zeros((2, clients.size, (window.max() // WINDOWS_A_DAY + 1) * WINDOWS_A_DAY))
    rates[place, window] = table["rate_rps"]
    weibull = table["pattern"] == "Weibull"
    laws[place, window] = np.where(weibull, -table["arg1"], table["arg1"] ** -0.5)
    # a window that the recording lacks holds what the last one before it held, else the first
    lost = ~rates.any(axis=0)
    source = np.maximum.accumulate(np.where(lost, int(np.argmin(lost)), np.arange(lost.size)))
    rates, laws = rates[:, source], laws[:, source]
    lengths = _length_laws(lengths_file, clients, rates)
    if rate_per_s is not None:
        rates = rates * (rate_per_s / rates.sum(axis=0).mean())
    return Clients(rates, laws, *lengths, offset_s)


def _length_laws(path: Path, clients: np.ndarray, rates: np.ndarray) -> tuple[np.ndarray, ...]:
    keys = ["client", "window_start_s"]
    summaries = read_lengths(path).sort_values(keys)
    sides = [summaries[summaries["field"] == name] for name in TOKENS]
    both = np.array_equal(sides[0][keys], sides[1][keys])
    require(both, path, "a window lacks input_tokens or output_tokens", "give each once")
    windows_s = np.arange(rates.shape[1]) * WINDOW_S + WINDOW_S / 2
    middle_s = sides[0]["window_start_s"].to_numpy() + LENGTH_WINDOW_S / 2
    row = np.full(rates.shape, -1)
    for place, client in enumerate(clients):
        own = np.flatnonzero(sides[0]["client"] == client)
        if own.size:
            row[place] = own[np.abs(windows_s[:, None] - middle_s[own]).argmin(axis=1)]
    has = row[:, 0] >= 0
    require(has.any(), path, "none of the clients of the rates is in it", "give their lengths")
    # a window without any donor borrows from all requests of the recording
    share = rates * has[:, None]
    share = np.where(share.sum(axis=0) > 0, share, share.sum(axis=1, keepdims=True))
    donors = np.cumsum(share / share.sum(axis=0), axis=0).T
    donors[:, np.flatnonzero(has)[-1] :] = 1.0
    return np.stack([_quantiles(side) for side in sides], axis=1), row, donors


def _quantiles(summaries: pd.DataFrame) -> np.ndarray:
    # its log is a line over a normal variable, broken at P50, P90, P99; at first as the mean asks
    z = ndtri((np.arange(QUANTILES) + 0.5) / QUANTILES)
    low, high = -z[: QUANTILES // 2], z[QUANTILES // 2 :]
    p50, p90, p99 = (np.log(summaries[[name]].to_numpy()) for name in ("p50", "p90", "p99"))
    at_90, at_99 = ndtri([0.90, 0.99])
    upper = p50 + (p90 - p50) / at_90 * np.minimum(high, at_90)
    upper = np.exp(upper + (p99 - p90) / (at_99 - at_90) * np.maximum(high - at_90, 0))
    wanted = 2 * summaries[["mean_tokens"]].to_numpy() - upper.mean(axis=1, keepdims=True)
    least, most = np.zeros_like(p50), np.full_like(p50, STEEPEST)
    for _ in range(STEEPNESS_HALVINGS):
        middle = (least + most) / 2
        flat = np.exp(p50 - middle * low).mean(axis=1, keepdims=True) > wanted
        least, most = np.where(flat, middle, least), np.where(flat, most, middle)
    tokens = np.hstack([np.exp(p50 - least * low), upper])
    return np.clip(np.rint(tokens), 1, MAX_TOKENS).astype(np.int32)


def read_rates(path: Path | str) -> pd.DataFrame:
    """Read rates, and the laws of the gaps, by client and window."""
    numbers = ["rate_rps", "cv", "arg1", "arg2"]
    table = read_table(path, ("client", "window_start_s", *numbers), texts=("pattern",))
    bad = (table[numbers] <= 0).any(axis=1) | (table["window_start_s"] % WINDOW_S != 0)
    bad |= ~table["pattern"].isin(["Gamma", "Weibull"]) | (table["window_start_s"] < 0)
    bad |= table.duplicated(["client", "window_start_s"])
    why = f"not one row a client and window of {WINDOW_S:g} s with numbers above 0 and Gamma or"
    refuse_row(path, bad, f"{why} Weibull: mend or remove it")
    return table


def read_lengths(path: Path | str) -> pd.DataFrame:
    """Read summaries of token lengths by client and window."""
    rising = ["p50", "p90", "p99"]
    table = read_table(path, ("client", "window_start_s", "mean_tokens", *rising), (), ("field",))
    tokens = table["field"].isin(TOKENS)
    bad = (table[rising].diff(axis=1) < 0).any(axis=1) | (table["p99"] > MAX_TOKENS)
    bad |= (table[["mean_tokens", "p50"]] <= 0).any(axis=1)
    refuse_row(path, tokens & bad, "not a mean and rising percentiles above 0: mend or remove it")
    return table[tokens].reset_index(drop=True)
