"""Requests to what the engine does: a step-level engine and the paper's two surrogates."""

from __future__ import annotations

from dataclasses import astuple, dataclass, fields

import numpy as np
import pandas as pd

from sitetrace.core.files import InputError
from sitetrace.core.types import Timeline, segment_frame
from sitetrace.serving.steps import LINEAR
from sitetrace.serving.surrogates import ConstantRate, LogNormalTTFT, serve


def counted(batch: np.ndarray, batch_scale: float) -> np.ndarray:
    """Count sequences so that each further one counts less."""
    batch = np.asarray(batch, dtype=float)
    return batch if batch_scale >= LINEAR else batch_scale * np.log1p(batch / batch_scale)


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
    batch_scale: float = LINEAR
    overhead_s: float = 5.0e-3
    max_num_seqs: int = 256
    max_num_batched_tokens: int = 8192
    kv_tokens: int = 400_000

    def __post_init__(self) -> None:
        """Refuse values that no engine has."""
        for name, value in zip((f.name for f in fields(self)), astuple(self), strict=True):
            lowest = 1 if name.startswith(("max_", "kv_")) else 0.0
            above = name in ("c0_s", "batch_scale")
            if not lowest <= value < np.inf or (above and value == 0):
                raise InputError(f"server: {name} = {value!r} is out of range: mend that field")
        if self.max_num_batched_tokens < self.max_num_seqs:
            raise InputError(
                f"server: max_num_batched_tokens = {self.max_num_batched_tokens} is below "
                f"max_num_seqs = {self.max_num_seqs}: each sequence needs a token a step"
            )

    def decode_s(self, batch: np.ndarray) -> np.ndarray:
        """Time of a decode step before its context is counted.

        Parameters
        ----------
        batch : numpy.ndarray
            Sequences, shape (n,).

        Returns
        -------
        numpy.ndarray
            Seconds, shape (n,).
        """
        return self.c0_s + self.c1_s * counted(batch, self.batch_scale)

    def expected(self, prompt_tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Tell a router what to expect of requests: no queue, and no context counted.

        Parameters
        ----------
        prompt_tokens : numpy.ndarray
            Prompt tokens of each request, shape (n,).

        Returns
        -------
        prompt_s : numpy.ndarray
            Seconds up to the first token, shape (n,).
        law : numpy.ndarray
            What `sitetrace.serving.steps.decode_time` makes seconds an answer token of, shape (6,).
        """
        return self.c2_s * prompt_tokens, np.array(astuple(self)[:6])


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
        return np.nan if self._origin_s is None else self._origin_s + float(self._clocks[0])

    @property
    def running(self) -> np.ndarray:
        """Rows of the running requests in order of admission."""
        return self._row[self._running[: self._counts[0]]]

    @property
    def queue(self) -> np.ndarray:
        """Rows of the requests that have arrived and wait, the first to be admitted first."""
        arrived = np.searchsorted(self._arrival, self._clocks[0], side="right")
        preempted = self._preempted[: self._counts[1]][::-1]
        return self._row[np.concatenate([preempted, np.arange(self._counts[2], arrived)])]

    @property
    def kv_tokens(self) -> int:
        """Tokens of the KV cache in use."""
        return int(self._tokens[self._running[: self._counts[0]], 2].sum())

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
        return self._timeline(self.run(until_s, requests))

    def run(self, until_s: float, requests: pd.DataFrame | None = None) -> np.ndarray:
        """Work as `advance` does, and return the bare segments: for those who want no requests.

        Parameters
        ----------
        until_s : float
            As `advance`.
        requests : pandas.DataFrame or None
            As `advance`.

        Returns
        -------
        numpy.ndarray
            Columns as in `Timeline`, but seconds after the first arrival, shape (segments, 7).

        Raises
        ------
        InputError
            As `advance`.
        """
        from sitetrace.serving.steps import cruise, run_until

        if requests is not None and len(requests):
            self._add(requests)
        if self.server != self._leaping_by:
            self._counts[3] = 0  # a leap under way was computed with the former law
            self._leaping_by = self.server
            more = np.zeros(max(self.server.max_num_seqs - self._running.size, 0), dtype=np.int64)
            self._running = np.concatenate([self._running, more])
            self._preempted = np.concatenate([self._preempted, more])
        until = np.inf if self._origin_s is None else until_s - self._origin_s
        law, limits = np.array(astuple(self.server)[:6]), np.array(astuple(self.server)[7:])
        tables = (self._arrival, self._tokens, self._running, self._preempted)
        tables += (self._times, self._decoding)
        state = (law, limits, self._clocks, self._counts, tables)
        segments = np.empty((0, 7))
        if until == np.inf and not self._counts[:2].any():
            # a request makes three segments at most: prefill, and leaps to and from another's
            segments = np.empty((3 * (self._arrival.size - self._counts[2]) + 1, 7))
            segments = segments[: cruise(until, *state, segments)]
        if until < np.inf or self._counts[0] or self._counts[2] < self._arrival.size:
            segments = np.concatenate([segments, run_until(until, *state)])
        if np.isfinite(until):
            self._clocks[0] = max(self._clocks[0], until)
        return segments

    def _add(self, requests: pd.DataFrame) -> None:
        """Put requests behind those known, in order of arrival."""
        arrival = requests["arrival_s"].to_numpy(dtype=float)
        tokens = np.zeros((arrival.size, 4), dtype=np.int64)
        tokens[:, 0], tokens[:, 1] = requests["input_tokens"], requests["output_tokens"]
        asked = tokens[:, 0] + tokens[:, 1]
        if asked.max() > self.server.kv_tokens:
            over = np.flatnonzero(asked > self.server.kv_tokens)
            raise InputError(
                f"requests: row {over[0]} needs {asked[over[0]]} tokens of KV cache, the "
                f"server has {self.server.kv_tokens}: shorten it or raise kv_tokens"
            )
        if self._origin_s is None:
            # Small numbers keep nanoseconds where epoch seconds would keep microseconds.
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

    def _timeline(self, segments: np.ndarray) -> Timeline:
        """Put the rows not reported as ended, and the segments, on the requests' clock."""
        origin_s = 0.0 if self._origin_s is None else self._origin_s
        rows = np.flatnonzero(~self._reported)
        rows = rows[np.argsort(self._row[rows])]
        self._reported = ~np.isnan(self._times[:, 2])
        times = self._times[rows] + origin_s
        table = {
            "arrival_s": self._arrival[rows] + origin_s,
            "start_s": times[:, 0],
            "first_token_s": times[:, 1],
            "end_s": times[:, 2],
            "input_tokens": self._tokens[rows, 0],
            "output_tokens": self._tokens[rows, 1],
        }
        segments[:, :2] += origin_s
        return Timeline(pd.DataFrame(table, index=self._row[rows]), segment_frame(segments))


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
