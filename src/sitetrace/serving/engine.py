"""Requests to what the engine does: a step-level engine and the paper's two surrogates."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import pandas as pd

from sitetrace.core.files import InputError
from sitetrace.core.types import Timeline, segment_frame
from sitetrace.serving import steps
from sitetrace.serving.surrogates import ConstantRate, LogNormalTTFT, serve


def counted(batch: np.ndarray, batch_scale: float) -> np.ndarray:
    """Count the sequences of a batch as its time and power do: ``scale * ln(1 + batch/scale)``."""
    # A further sequence of a mixture of experts touches fewer experts that no other one touched: it
    # adds less time and less power. One of a dense model adds its time, but finds the memory at
    # work already.
    batch = np.asarray(batch, dtype=float)
    return batch if batch_scale >= steps.LINEAR else batch_scale * np.log1p(batch / batch_scale)


@dataclass(frozen=True)
class Server:
    """An engine with continuous batching: the law of its steps and its limits.

    A step lasts ``c0 + c1*counted + c2*prefill + c3*context + c4*prefill*(prefix + prefill/2)``:
    ``counted`` is the number of sequences that decode one token each, see `counted`, ``prefill``
    prompt tokens are computed behind ``prefix`` earlier ones, ``context`` is the sum of the tokens
    that the decoding sequences attend to. The defaults are near those of a model of 8 billion
    parameters on one A100.

    Parameters
    ----------
    c0_s : float
        Seconds of any step: reading the weights, launching.
    c1_s, c2_s, c3_s : float
        Seconds a decoding sequence, a prompt token, a token of context.
    c4_s : float
        Seconds a pair of prompt token and earlier token (attention of prefill).
    batch_scale : float
        Decoding sequences from which on one more adds ever less time, as in a mixture of experts;
        from a million on never.
    overhead_s : float
        Seconds that a client sees on top of the engine's time to first token; it moves nothing
        on the engine's clock, so no time of a `Timeline` contains it.
    max_num_seqs : int
        Most sequences that run at once.
    max_num_batched_tokens : int
        Most tokens of a step, at least `max_num_seqs`.
    kv_tokens : int
        Tokens that the KV cache holds.

    Raises
    ------
    InputError
        If a field is out of its range.
    """

    c0_s: float = 1.1e-2
    c1_s: float = 3.0e-5
    c2_s: float = 9.0e-5
    c3_s: float = 7.5e-8
    c4_s: float = 0.0
    batch_scale: float = steps.LINEAR
    overhead_s: float = 5.0e-3
    max_num_seqs: int = 256
    max_num_batched_tokens: int = 8192
    kv_tokens: int = 400_000

    def __post_init__(self) -> None:
        """Refuse values that no engine has."""
        for name in (field.name for field in fields(self)):
            value = getattr(self, name)
            lowest = 1 if name.startswith(("max_", "kv_")) else 0.0
            above = name in ("c0_s", "batch_scale")
            if not lowest <= value < np.inf or (above and value == 0):
                raise InputError(f"server: {name} = {value!r} is out of range: mend that field")
        if self.max_num_batched_tokens < self.max_num_seqs:
            raise InputError(
                f"server: max_num_batched_tokens = {self.max_num_batched_tokens} is below "
                f"max_num_seqs = {self.max_num_seqs}: each sequence needs a token a step"
            )

    @property
    def law(self) -> np.ndarray:
        """Coefficients and batch scale as `sitetrace.serving.steps.step_time` takes them."""
        return np.array([self.c0_s, self.c1_s, self.c2_s, self.c3_s, self.c4_s, self.batch_scale])

    @property
    def limits(self) -> np.ndarray:
        """Sequences, tokens of a step and KV tokens, as `sitetrace.serving.steps` takes them."""
        limits = [self.max_num_seqs, self.max_num_batched_tokens, self.kv_tokens]
        return np.array(limits, dtype=np.int64)

    def decode_s(self, batch: np.ndarray) -> np.ndarray:
        """Seconds of a decode step before its context is counted."""
        return self.c0_s + self.c1_s * counted(batch, self.batch_scale)

    def expected(self, prompt_tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Seconds to the first token and law of a step: all that a router expects of requests."""
        # no queue, and no context counted
        return self.c2_s * prompt_tokens, self.law


class Engine:
    """A serving engine that can be advanced in time, looked at, and advanced again.

    First come, first served; running sequences before waiting ones; prompts in chunks within the
    token budget of a step; when the KV cache is full the request admitted last loses its tokens
    and returns to the front of the queue (recompute), all as in the scheduler of vLLM V1.

    Parameters
    ----------
    server : Server
        Law and limits; the attribute may be replaced between two advances. A lower `max_num_seqs`
        holds for admissions from then on: running requests finish. The other limits stay.
    """

    def __init__(self, server: Server) -> None:
        self.server = server
        self._leaping_by = server
        self._origin_s: float | None = None
        self._clocks = np.zeros(4)
        self._counts = np.zeros(4, dtype=np.int64)
        self._arrival = np.empty(0)
        self._tokens = np.empty((0, 4), dtype=np.int64)
        self._times = np.empty((0, 3))
        self._decoding = np.empty(0, dtype=bool)
        self._row = np.empty(0, dtype=np.int64)
        self._running = np.empty(server.max_num_seqs, dtype=np.int64)
        self._preempted = np.empty(server.max_num_seqs, dtype=np.int64)
        self._reported = np.empty(0, dtype=bool)

    @property
    def clock_s(self) -> float:
        """Time on the clock of the requests, seconds; NaN before the first."""
        if self._origin_s is None:
            return np.nan
        return self._origin_s + float(self._clocks[steps.CLOCK])

    @property
    def running(self) -> np.ndarray:
        """Rows of the running requests in order of admission."""
        return self._row[self._running[: self._counts[steps.N_RUNNING]]]

    @property
    def queue(self) -> np.ndarray:
        """Rows of the requests that have arrived and wait, the first to be admitted first."""
        arrived = np.searchsorted(self._arrival, self._clocks[steps.CLOCK], side="right")
        preempted = self._preempted[: self._counts[steps.N_PREEMPTED]][::-1]
        return self._row[np.concatenate([preempted, np.arange(self._counts[steps.NEXT], arrived)])]

    @property
    def kv_tokens(self) -> int:
        """Tokens of the KV cache in use."""
        running = self._running[: self._counts[steps.N_RUNNING]]
        return int(self._tokens[running, steps.COMPUTED].sum())

    def advance(self, until_s: float, requests: pd.DataFrame | None = None) -> Timeline:
        """Work until the first step boundary at or after a time, or until idle.

        Parameters
        ----------
        until_s : float
            Time to stop at on the clock of the requests, seconds; may be infinite.
        requests : pandas.DataFrame or None
            Requests to be added: ``arrival_s``, ``input_tokens``, ``output_tokens``. None of them
            arrives before one that was given in an earlier advance.

        Returns
        -------
        Timeline
            What happened since the last advance: segments, and the requests that had not ended
            before, by the number of their row among all requests given so far.

        Raises
        ------
        InputError
            If a request needs more than the KV cache or comes before those given earlier.
        """
        segments = self.run(until_s, requests)
        origin_s = 0.0 if self._origin_s is None else self._origin_s
        rows = np.flatnonzero(~self._reported)
        rows = rows[np.argsort(self._row[rows])]
        self._reported = ~np.isnan(self._times[:, steps.ENDED])
        times = self._times[rows] + origin_s
        table = {
            "arrival_s": self._arrival[rows] + origin_s,
            "start_s": times[:, steps.ADMITTED],
            "first_token_s": times[:, steps.FIRST_TOKEN],
            "end_s": times[:, steps.ENDED],
            "input_tokens": self._tokens[rows, steps.PROMPT],
            "output_tokens": self._tokens[rows, steps.ASKED],
        }
        segments[:, :2] += origin_s
        return Timeline(pd.DataFrame(table, index=self._row[rows]), segment_frame(segments))

    def run(self, until_s: float, requests: pd.DataFrame | None = None) -> np.ndarray:
        """Work as `advance` does, and return bare segments in seconds after the first arrival."""
        if requests is not None and len(requests):
            self._add(requests)
        if self.server != self._leaping_by:
            self._counts[steps.LEAP_STEPS] = 0  # a leap under way was computed with the former law
            self._leaping_by = self.server
            more = np.zeros(max(self.server.max_num_seqs - self._running.size, 0), dtype=np.int64)
            self._running = np.concatenate([self._running, more])
            self._preempted = np.concatenate([self._preempted, more])
        until = np.inf if self._origin_s is None else until_s - self._origin_s
        tables = (self._arrival, self._tokens, self._running, self._preempted)
        tables += (self._times, self._decoding)
        state = (self.server.law, self.server.limits, self._clocks, self._counts, tables)
        running, preempted, following = self._counts[: steps.LEAP_STEPS]
        segments = np.empty((0, steps.WIDTH))
        if until == np.inf and not running and not preempted:
            # a request makes three segments at most: prefill, and leaps to and from another's
            segments = np.empty((3 * (self._arrival.size - following) + 1, steps.WIDTH))
            segments = segments[: steps.cruise(until, *state, segments)]
            running, following = self._counts[steps.N_RUNNING], self._counts[steps.NEXT]
        if until < np.inf or running or following < self._arrival.size:
            segments = np.concatenate([segments, steps.run_until(until, *state)])
        if np.isfinite(until):
            self._clocks[steps.CLOCK] = max(self._clocks[steps.CLOCK], until)
        return segments

    def _add(self, requests: pd.DataFrame) -> None:
        """Put requests behind those known, in order of arrival."""
        arrival = requests["arrival_s"].to_numpy(dtype=float)
        prompt, answer = requests["input_tokens"], requests["output_tokens"]
        tokens = np.zeros((arrival.size, 4), dtype=np.int64)
        tokens[:, steps.PROMPT], tokens[:, steps.ASKED] = prompt, answer
        asked = tokens[:, steps.PROMPT] + tokens[:, steps.ASKED]
        if asked.max() > self.server.kv_tokens:
            over = np.flatnonzero(asked > self.server.kv_tokens)
            raise InputError(
                f"requests: row {over[0]} needs {asked[over[0]]} tokens of KV cache, the "
                f"server has {self.server.kv_tokens}: shorten it or raise kv_tokens"
            )
        if self._origin_s is None:
            # small numbers keep nanoseconds where epoch seconds would keep microseconds
            self._origin_s = float(arrival.min())
        order = np.arange(arrival.size)
        if (np.diff(arrival) < 0).any():
            order = np.argsort(arrival, kind="stable")
            arrival, tokens = arrival[order], tokens[order]
        arrival = arrival - self._origin_s
        if self._arrival.size and arrival[0] < self._arrival[-1]:
            raise InputError(
                f"requests: row {order[0]} arrives before requests given in an earlier advance: "
                "give them in order of arrival"
            )
        n = arrival.size
        self._row = np.concatenate([self._row, order + self._row.size])
        self._arrival = np.concatenate([self._arrival, arrival])
        self._tokens = np.concatenate([self._tokens, tokens])
        self._times = np.concatenate([self._times, np.full((n, 3), np.nan)])
        self._decoding = np.concatenate([self._decoding, np.zeros(n, dtype=bool)])
        self._reported = np.concatenate([self._reported, np.zeros(n, dtype=bool)])


def simulate(
    requests: pd.DataFrame,
    server: Server | ConstantRate | LogNormalTTFT,
    rng: np.random.Generator | None = None,
) -> Timeline:
    """Serve a stream of requests to its end.

    Parameters
    ----------
    requests : pandas.DataFrame
        ``arrival_s``, ``input_tokens``, ``output_tokens``.
    server : Server, ConstantRate or LogNormalTTFT
        The engine, or one of the paper's surrogates.
    rng : numpy.random.Generator, optional
        Needed by `LogNormalTTFT` alone; the others are deterministic.

    Returns
    -------
    Timeline
        Requests in the order given, and segments of work. A surrogate has no steps: its segments
        lie between changes of its active requests, with ``steps`` 1 and tokens spread evenly.

    Raises
    ------
    InputError
        If a request is larger than the KV cache, or `LogNormalTTFT` gets no generator.

    Examples
    --------
    >>> import pandas as pd
    >>> from sitetrace.serving.engine import simulate
    >>> from sitetrace.serving.surrogates import ConstantRate
    >>> one = pd.DataFrame({"arrival_s": [0.0], "input_tokens": [100], "output_tokens": [50]})
    >>> float(simulate(one, ConstantRate(1000.0, 25.0)).requests["end_s"].iloc[0])
    2.1
    """
    if isinstance(server, Server):
        timeline = Engine(server).advance(np.inf, requests)
        return Timeline(timeline.requests.reset_index(drop=True), timeline.segments)
    return serve(requests, server, rng)
