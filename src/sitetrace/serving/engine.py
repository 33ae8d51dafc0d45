"""Requests to what the engine does: a step-level engine and the paper's two surrogates."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from sitetrace.core.files import require
from sitetrace.core.types import Timeline, segment_frame
from sitetrace.serving import inflight, steps
from sitetrace.serving.surrogates import ConstantRate, LogNormalTTFT, fill_times, segments_of


def counted(batch: np.ndarray, batch_scale: float) -> np.ndarray:
    """Count the sequences of a batch as its time and power do: ``scale * ln(1 + batch/scale)``."""
    # A further sequence of a mixture of experts touches fewer new experts: it adds less time and
    # less power. One of a dense model adds its time, but finds the memory at work already.
    batch = np.asarray(batch, dtype=float)
    return batch if batch_scale >= steps.LINEAR else batch_scale * np.log1p(batch / batch_scale)


@dataclass(frozen=True)
class Server:
    """An engine with continuous batching: the law of its steps and its limits.

    A step lasts ``c0 + c1*counted + c2*prefill + c3*context + c4*prefill*(prefix + prefill/2)``:
    the sequences that decode are `counted`, ``prefill`` prompt tokens are computed behind
    ``prefix`` earlier ones, the decoding sequences attend to ``context`` tokens. The defaults are
    near those of a model of 8 billion parameters on one A100.
    """

    c0_s: float = 1.1e-2  # of any step: reading the weights, launching
    c1_s: float = 3.0e-5  # a decoding sequence
    c2_s: float = 9.0e-5  # a prompt token
    c3_s: float = 7.5e-8  # a token of context
    c4_s: float = 0.0  # a pair of prompt token and earlier token (attention of prefill)
    # decoding sequences from which on one more adds ever less time; from a million on never
    batch_scale: float = steps.LINEAR
    # what a client sees on top of the time to first token; no time of a `Timeline` contains it
    overhead_s: float = 5.0e-3
    max_num_seqs: int = 256  # that run at once
    max_num_batched_tokens: int = 8192  # of a step, at least `max_num_seqs`
    kv_tokens: int = 400_000  # that the KV cache holds

    def __post_init__(self) -> None:
        """Refuse values that no engine has."""
        for name, value in vars(self).items():
            lowest = 1 if name.startswith(("max_", "kv_")) else 0.0
            sound = lowest <= value < np.inf and (value or name not in ("c0_s", "batch_scale"))
            require(sound, "server", f"{name} = {value!r} is out of range", "mend that field")
        what = "max_num_batched_tokens is below max_num_seqs: a sequence needs a token a step"
        require(self.max_num_batched_tokens >= self.max_num_seqs, "server", what, "raise it")

    @cached_property
    def law(self) -> np.ndarray:
        """Coefficients and limits as `sitetrace.serving.steps` takes them, shape (1,)."""
        return np.array([tuple(getattr(self, name) for name in inflight.LAW.names)], inflight.LAW)

    def decode_s(self, batch: np.ndarray) -> np.ndarray:
        """Seconds of a decode step before its context is counted."""
        return self.c0_s + self.c1_s * counted(batch, self.batch_scale)

    def expected(self, prompt_tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Seconds to the first token without a queue, and law of a step: for a router."""
        return self.c2_s * prompt_tokens, self.law


class Engine:
    """A serving engine that can be advanced in time, looked at, and advanced again.

    As in the scheduler of vLLM V1: first come, first served; running sequences before waiting ones;
    prompts in chunks within the token budget of a step; when the KV cache is full the request
    admitted last loses its tokens and returns to the front of the queue (recompute).

    Parameters
    ----------
    server : Server
        Law and limits; may be replaced between two advances. A lower `max_num_seqs` holds for
        admissions from then on.
    """

    def __init__(self, server: Server) -> None:
        self.server = self._leaping_by = server
        self._state = inflight.idle_state(1, server.max_num_seqs)
        self._origin_s: float | None = None
        self._given, self._last_s = 0, -np.inf

    @property
    def clock_s(self) -> float:
        """Time on the clock of the requests, seconds; NaN before the first."""
        return np.nan if self._origin_s is None else self._origin_s + self._engine["clock_s"]

    @property
    def running(self) -> np.ndarray:
        """Rows of the running requests in order of admission."""
        return self._known["row"][self._state.running[0, : self._engine["running"]]]

    @property
    def queue(self) -> np.ndarray:
        """Rows of the requests that have arrived and wait, the first to be admitted first."""
        back = self._state.preempted[0, : self._engine["preempted"]][::-1]
        waiting = self._known[self._engine["following"] :]
        arrived = waiting["arrival_s"] <= self._engine["clock_s"]
        return np.concatenate([self._known["row"][back], waiting["row"][arrived]])

    @property
    def kv_tokens(self) -> int:
        """Tokens of the KV cache in use."""
        return int(self._engine["kv_tokens"])

    @property
    def _engine(self) -> np.void:
        return self._state.engine[0]

    @property
    def _known(self) -> np.ndarray:
        return self._state.requests[0, : self._engine["known"]]

    def advance(self, until_s: float, requests: pd.DataFrame | None = None) -> Timeline:
        """Work until the first step boundary at or after a time, or until idle.

        Parameters
        ----------
        until_s : float
            On the clock of the requests, seconds; may be infinite.
        requests : pandas.DataFrame or None
            More requests, none of which arrives before one given in an earlier advance.

        Returns
        -------
        Timeline
            What happened since the last advance: segments, and the requests that had not ended
            before, by the number of their row among all requests given so far.
        """
        segments = self.segments(until_s, requests)
        told = self._known[np.argsort(self._known["row"])]
        inflight.take_ended(self._state)
        return _as_timeline(told, self._origin_s or 0.0, segments)

    def segments(self, until_s: float, requests: pd.DataFrame | None = None) -> np.ndarray:
        """Work as `advance` does; bare segments in seconds after the first arrival."""
        if requests is not None and len(requests):
            self._add(requests)
        if self.server != self._leaping_by:
            self._leaping_by = self.server
            self._state = inflight.changed(self._state, 0, self.server.max_num_seqs)
        until_s = np.inf if self._origin_s is None else until_s - self._origin_s
        segments = steps.all_segments(until_s, self.server.law, self._state, 0)
        if np.isfinite(until_s):
            self._engine["clock_s"] = max(self._engine["clock_s"], until_s)
        return segments

    def _add(self, requests: pd.DataFrame) -> None:
        arrival_s, tokens = arrivals_of(requests)
        check_fits(tokens, self.server.kv_tokens, "requests")
        if self._origin_s is None:
            # small numbers keep nanoseconds where epoch seconds would keep microseconds
            self._origin_s = float(arrival_s.min())
        new = inflight.as_requests(arrival_s - self._origin_s, tokens, self._given)
        if (np.diff(arrival_s) < 0).any():
            new = new[np.argsort(arrival_s, kind="stable")]
        what = f"row {new['row'][0] - self._given} arrives before requests given in earlier ones"
        in_order = new["arrival_s"][0] >= self._last_s
        require(in_order, "requests", what, "give them in order of arrival")
        self._last_s, self._given = new["arrival_s"][-1], self._given + len(new)
        self._state = inflight.with_requests(self._state, new, np.zeros(len(new), np.int64))


def arrivals_of(requests: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Arrivals, seconds, and tokens of prompt and answer, shape (n, 2), of a request table."""
    tokens = requests[["input_tokens", "output_tokens"]].to_numpy(dtype=np.int64)
    return requests["arrival_s"].to_numpy(dtype=float), tokens


def check_fits(tokens: np.ndarray, kv_tokens: float, where: str) -> None:
    """Refuse requests larger than the KV cache: they would be waited for without end."""
    # the sum of rows is slow, and rarely needed
    if tokens.size and 2 * tokens.max() > kv_tokens:
        asked = tokens.sum(axis=1)
        row = int(np.argmax(asked > kv_tokens))
        what = f"row {row} needs {asked[row]} tokens of KV cache, the server has {kv_tokens}"
        require(asked[row] <= kv_tokens, where, what, "shorten it or raise kv_tokens")


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
        Needed by `LogNormalTTFT` alone.

    Returns
    -------
    Timeline
        Requests in the order given, and segments of work; those of a surrogate, which has no
        steps, lie between changes of its active requests, with tokens spread evenly.

    Examples
    --------
    >>> import pandas as pd
    >>> from sitetrace.serving import ConstantRate, simulate
    >>> one = pd.DataFrame({"arrival_s": [0.0], "input_tokens": [100], "output_tokens": [50]})
    >>> float(simulate(one, ConstantRate(1000.0, 25.0)).requests["end_s"].iloc[0])
    2.1
    """
    if isinstance(server, Server):
        return Engine(server).advance(np.inf, requests)
    served = inflight.as_requests(*arrivals_of(requests))
    fill_times(server, served, [], rng)
    return _as_timeline(served, 0.0, segments_of(served, served["arrival_s"].min()))


def _as_timeline(told: np.ndarray, origin_s: float, segments: np.ndarray) -> Timeline:
    names = ["arrival_s", "start_s", "first_token_s", "end_s"]
    table = {name: told[name] + origin_s for name in names}
    table |= {name: told[name] for name in ("input_tokens", "output_tokens")}
    segments["start_s"] += origin_s
    segments["end_s"] += origin_s
    return Timeline(pd.DataFrame(table, index=told["row"]), segment_frame(segments))
