"""The paper's two serving surrogates: rates and distributions instead of an engine."""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np

from sitetrace.core.files import InputError
from sitetrace.core.types import SEGMENT
from sitetrace.serving.inflight import LAW

TTFT_FLOOR_S = 1e-3


@dataclass(frozen=True)
class ConstantRate:
    """The surrogate behind the paper's results: no queue, no batch, constant token rates."""

    # METHOD: arXiv:2603.18383 and the paper's repository (grantwilkins/powertrace-sim):
    # end = arrival + input/prefill_tok_s + output/decode_tok_s.
    # prefill_tok_s, decode_tok_s: prompt and output tokens of one request a second
    prefill_tok_s: float
    decode_tok_s: float

    def expected(self, prompt_tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Tell a router what to expect of requests, as `Server.expected` does."""
        return prompt_tokens / self.prefill_tok_s, _whatever_the_batch(1 / self.decode_tok_s)


@dataclass(frozen=True)
class LogNormalTTFT:
    """The surrogate with log-normal TTFT, Gaussian TPOT and a first-in-first-out batch limit."""

    # METHOD: the paper's repository (grantwilkins/powertrace-sim), its earlier simulator. TTFT has
    # a floor of 1 ms; the clipping to observed ranges is left out, since these are not published.
    # alpha, beta: ``ln TTFT`` has the mean ``alpha + beta*ln(input_tokens)``
    alpha: float
    beta: float
    # s0, gamma, delta: and the variance ``s0**2 + exp(gamma + delta*ln(input_tokens))**2``
    s0: float
    gamma: float
    delta: float
    # tpot_mean_s, tpot_sd_s: normal distribution of seconds an output token, drawn once a request;
    # the mean where the draw is not positive
    tpot_mean_s: float
    tpot_sd_s: float
    max_active: int  # a request starts once fewer are active

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
    return np.array([(token_s, 0.0, 0.0, 0.0, 0.0, np.inf, 0, 0, 0)], LAW)


def fill_times(
    surrogate: ConstantRate | LogNormalTTFT,
    new: np.ndarray,
    slots: list[float],
    rng: np.random.Generator | None,
) -> None:
    """Give new requests their start, first token and end; a heap of ends is kept in slots."""
    arrival_s, prompt, output = new["arrival_s"], new["input_tokens"], new["output_tokens"]
    if isinstance(surrogate, ConstantRate):
        start_s = arrival_s
        ttft_s, decode_s = prompt / surrogate.prefill_tok_s, output / surrogate.decode_tok_s
    elif rng is None:
        raise InputError("LogNormalTTFT draws its times: give a numpy.random.Generator as rng")
    else:
        ttft_s = np.maximum(np.exp(rng.normal(*surrogate.log_ttft(prompt))), TTFT_FLOOR_S)
        tpot_s = rng.normal(surrogate.tpot_mean_s, surrogate.tpot_sd_s, prompt.size)
        decode_s = output * np.where(tpot_s > 0, tpot_s, surrogate.tpot_mean_s)
        start_s = _first_in_first_out(arrival_s, ttft_s + decode_s, surrogate.max_active, slots)
    new["start_s"], new["first_token_s"] = start_s, start_s + ttft_s
    new["end_s"] = start_s + (ttft_s + decode_s)


def _first_in_first_out(
    arrival_s: np.ndarray, service_s: np.ndarray, most: int, ends: list[float]
) -> np.ndarray:
    """Start each request at its arrival, or at the earliest end while `most` are active."""
    start_s = np.empty(arrival_s.size)
    for row in np.argsort(arrival_s, kind="stable"):
        while ends and ends[0] <= arrival_s[row]:
            heapq.heappop(ends)
        start_s[row] = arrival_s[row] if len(ends) < most else heapq.heappop(ends)
        heapq.heappush(ends, start_s[row] + service_s[row])
    return start_s


def segments_of(requests: np.ndarray, origin_s: float, span_s: float = np.inf) -> np.ndarray:
    """Segments of work from a time on: cut where a request changes phase, tokens spread evenly."""
    times = np.column_stack([requests[name] for name in ("start_s", "first_token_s", "end_s")])
    start, first, end = (times - origin_s).T
    cuts = () if span_s == np.inf else (0.0, span_s)
    prompt, output = requests["input_tokens"], requests["output_tokens"]
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
    work = np.ones(length.size, SEGMENT)
    work["start_s"], work["end_s"], work["batch"] = time[:-1], time[1:], batch
    work["context"] = np.where(batch > 0, level[:, 4] + level[:, 3] * middle, 0.0)
    work["prefill_tokens"] = np.where(prefilling > 0, level[:, 1] * length, 0.0)
    work["decode_tokens"] = np.where(batch > 0, level[:, 3] * length, 0.0)
    work = work[(length > 0) & (prefilling + batch > 0)]
    if span_s < np.inf:
        work = work[(work["start_s"] >= 0.0) & (work["start_s"] < span_s)]
    work["start_s"] += origin_s
    work["end_s"] += origin_s
    return work
