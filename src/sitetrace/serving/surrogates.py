"""The paper's two serving surrogates: rates and distributions instead of an engine."""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np
import pandas as pd

from sitetrace.core.files import InputError
from sitetrace.core.types import Timeline, segment_frame

TTFT_FLOOR_S = 1e-3
PHASES = ("start_s", "first_token_s", "end_s")


@dataclass(frozen=True)
class ConstantRate:
    """The surrogate behind the paper's results: no queue, no batch, constant token rates.

    Parameters
    ----------
    prefill_tok_s, decode_tok_s : float
        Prompt and output tokens of one request a second.

    Notes
    -----
    METHOD: arXiv:2603.18383 and the paper's repository (grantwilkins/powertrace-sim):
    ``end = arrival + input/prefill_tok_s + output/decode_tok_s``.
    """

    prefill_tok_s: float
    decode_tok_s: float

    def expected(self, prompt_tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Tell a router what to expect of requests, as `Server.expected` does."""
        return prompt_tokens / self.prefill_tok_s, _whatever_the_batch(1 / self.decode_tok_s)


@dataclass(frozen=True)
class LogNormalTTFT:
    """The surrogate with log-normal TTFT, Gaussian TPOT and a first-in-first-out batch limit.

    Parameters
    ----------
    alpha, beta : float
        ``ln TTFT`` has the mean ``alpha + beta*ln(input_tokens)``.
    s0, gamma, delta : float
        and the variance ``s0**2 + exp(gamma + delta*ln(input_tokens))**2``.
    tpot_mean_s, tpot_sd_s : float
        Normal distribution of seconds an output token, drawn once a request; the mean where the
        draw is not positive.
    max_active : int
        A request starts once fewer are active.

    Notes
    -----
    METHOD: the paper's repository (grantwilkins/powertrace-sim), its earlier simulator. TTFT has
    a floor of 1 ms; the clipping to observed ranges is left out, since these are not published.
    """

    alpha: float
    beta: float
    s0: float
    gamma: float
    delta: float
    tpot_mean_s: float
    tpot_sd_s: float
    max_active: int

    def expected(self, prompt_tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Tell a router what to expect of requests, as `Server.expected` does."""
        mean, spread = self.log_ttft(prompt_tokens)
        ttft_s = np.maximum(np.exp(mean + 0.5 * spread**2), TTFT_FLOOR_S)
        return ttft_s, _whatever_the_batch(self.tpot_mean_s)

    def log_ttft(self, prompt_tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of ``ln TTFT``."""
        log_n = np.log(prompt_tokens)
        spread = np.hypot(self.s0, np.exp(self.gamma + self.delta * log_n))
        return self.alpha + self.beta * log_n, spread


def _whatever_the_batch(token_s: float) -> np.ndarray:
    """Law of a step of the engine in which each sequence gets a token, however many there are."""
    return np.array([token_s, 0.0, 0.0, 0.0, 0.0, np.inf])


def serve(
    requests: pd.DataFrame,
    surrogate: ConstantRate | LogNormalTTFT,
    rng: np.random.Generator | None,
) -> Timeline:
    """Serve a stream of requests by a surrogate, as `sitetrace.serving.engine.simulate` does."""
    arrival = requests["arrival_s"].to_numpy(dtype=float)
    tokens = requests[["input_tokens", "output_tokens"]].to_numpy(dtype=np.int64)
    times = _times(arrival, tokens, surrogate, [], rng)
    table = pd.DataFrame({"arrival_s": arrival, **dict(zip(PHASES, times.T, strict=True))})
    table[["input_tokens", "output_tokens"]] = tokens
    origin_s = arrival.min()
    segments = _sweep(times - origin_s, tokens)
    segments[:, :2] += origin_s
    return Timeline(table, segment_frame(segments))


def none_running() -> dict[str, np.ndarray]:
    """Begin without requests: what `surrogate_chunk` carries from one chunk to the next."""
    tokens = np.empty((0, 2), dtype=np.int64)
    nobody = np.empty(0)
    return {"times": np.empty((0, 3)), "tokens": tokens, "waits_s": nobody, "slots_s": nobody}


def surrogate_chunk(
    surrogate: ConstantRate | LogNormalTTFT,
    arrival_s: np.ndarray,
    tokens: np.ndarray,
    span_s: tuple[float, float],
    carried: dict[str, np.ndarray],
    rng: np.random.Generator | None,
) -> tuple[np.ndarray, np.ndarray, float, dict[str, np.ndarray]]:
    """Serve the requests of one chunk of time, and go on with those of the chunks before."""
    # returns the segments, cut at the chunk's end; ascending ends of the requests that end in the
    # chunk; the longest that one of these waited (s); what the next chunk is to be given
    slots = carried["slots_s"].tolist()
    new = _times(arrival_s, tokens, surrogate, slots, rng)
    times = np.concatenate([carried["times"], new])
    tokens = np.concatenate([carried["tokens"], tokens])
    waits_s = np.concatenate([carried["waits_s"], new[:, 0] - arrival_s])
    begin_s, until_s = span_s
    segments = _sweep(times - begin_s, tokens, (0.0, until_s - begin_s))
    segments = segments[(segments[:, 0] >= 0.0) & (segments[:, 0] < until_s - begin_s)]
    segments[:, :2] += begin_s
    on = times[:, 2] > until_s
    carried = {"times": times[on], "tokens": tokens[on], "waits_s": waits_s[on]}
    carried["slots_s"] = np.array(slots)
    return segments, np.sort(times[~on, 2]), float(waits_s[~on].max(initial=0.0)), carried


def _times(
    arrival: np.ndarray,
    tokens: np.ndarray,
    surrogate: ConstantRate | LogNormalTTFT,
    slots: list[float],
    rng: np.random.Generator | None,
) -> np.ndarray:
    """Start, first token and end of each request, shape (n, 3); a heap of ends is kept in slots."""
    prompt, output = tokens.T
    if isinstance(surrogate, ConstantRate):
        start = arrival
        ttft_s, decode_s = prompt / surrogate.prefill_tok_s, output / surrogate.decode_tok_s
    elif rng is None:
        raise InputError("LogNormalTTFT draws its times: give a numpy.random.Generator as rng")
    else:
        ttft_s = np.maximum(np.exp(rng.normal(*surrogate.log_ttft(prompt))), TTFT_FLOOR_S)
        tpot_s = rng.normal(surrogate.tpot_mean_s, surrogate.tpot_sd_s, prompt.size)
        decode_s = output * np.where(tpot_s > 0, tpot_s, surrogate.tpot_mean_s)
        start = _first_in_first_out(arrival, ttft_s + decode_s, surrogate.max_active, slots)
    return np.column_stack([start, start + ttft_s, start + (ttft_s + decode_s)])


def _first_in_first_out(
    arrival: np.ndarray, service_s: np.ndarray, most: int, ends: list[float]
) -> np.ndarray:
    """Start each request at its arrival, or at the earliest end while `most` are active."""
    start = np.empty(arrival.size)
    for row in np.argsort(arrival, kind="stable"):
        while ends and ends[0] <= arrival[row]:
            heapq.heappop(ends)
        start[row] = arrival[row] if len(ends) < most else heapq.heappop(ends)
        heapq.heappush(ends, start[row] + service_s[row])
    return start


def _sweep(times: np.ndarray, tokens: np.ndarray, cuts: tuple[float, ...] = ()) -> np.ndarray:
    """Segments of work: cut where a request changes phase, tokens spread evenly over phases."""
    start, first, end = times.T
    prompt, output = tokens.T
    n, rate, prefill_rate = len(times), output / (end - first), prompt / (first - start)
    # Of all requests: how many are in prefill and their tokens a second, then how many decode,
    # their tokens a second, and their context at time 0 if it had grown so from there.
    change = np.zeros((3 * n + len(cuts), 5))
    change[:n, 0], change[n : 2 * n, 0] = 1, -1
    change[:n, 1], change[n : 2 * n, 1] = prefill_rate, -prefill_rate
    decode = np.column_stack([np.ones(n), rate, prompt - rate * first])
    change[n : 2 * n, 2:], change[2 * n : 3 * n, 2:] = decode, -decode
    time = np.concatenate([start, first, end, cuts])
    order = np.argsort(time, kind="stable")
    level, time = np.cumsum(change[order], axis=0)[:-1], time[order]
    length, middle = np.diff(time), 0.5 * (time[1:] + time[:-1])
    # Sums of rates leave rounding behind: the whole counts say what is there.
    prefilling, batch = np.rint(level[:, 0]), np.rint(level[:, 2])
    prefill = np.where(prefilling > 0, level[:, 1] * length, 0.0)
    decoded = np.where(batch > 0, level[:, 3] * length, 0.0)
    context = np.where(batch > 0, level[:, 4] + level[:, 3] * middle, 0.0)
    table = [time[:-1], time[1:], np.ones_like(length), batch, context, prefill, decoded]
    return np.column_stack(table)[(length > 0) & (prefilling + batch > 0)]
