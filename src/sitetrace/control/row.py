"""A row of servers under a policy: telemetry, decision, orders that act late, power and fates.

All servers share one stream of requests; each goes to one of them at random, by weight.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numba import njit

from sitetrace.control.clock import RULES, ClockRule, clock_under, clocked
from sitetrace.control.signals import Actuator, Orders, Telemetry, View
from sitetrace.core.files import require
from sitetrace.core.types import SEGMENT
from sitetrace.power.running import PAGE, Running, advance
from sitetrace.power.timeline.model import TimelineModel
from sitetrace.serving.engine import arrivals_of, check_fits
from sitetrace.serving.inflight import as_requests

AT_REST = Orders()
Policy = Callable[[View], Orders]


@dataclass(frozen=True)
class Outcome:
    """What a row did: by tick, and by request."""

    tick_s: float  # seconds of a tick
    server_w: np.ndarray  # mean power of each server, watts, shape (ticks, servers)
    # requests at work and waiting at each server at a tick's begin, shape (ticks, servers)
    running: np.ndarray
    queued: np.ndarray
    held: np.ndarray  # requests that waited at the router then, shape (ticks,)
    requests: pd.DataFrame  # the stream
    times_s: np.ndarray  # first token and end of each request, else NaN, shape (requests, 2)

    @cached_property
    def power_w(self) -> np.ndarray:
        """Power of the row by tick, watts."""
        return self.server_w.sum(axis=1)

    @cached_property
    def arrival_s(self) -> np.ndarray:
        """When each request arrives, seconds."""
        return self.requests["arrival_s"].to_numpy()

    @cached_property
    def ttft_s(self) -> np.ndarray:
        """Time to first token of each request; its age at the end where none has come."""
        first_s, end_s = self.times_s[:, 0], self.tick_s * len(self.held)
        return np.where(np.isnan(first_s), end_s, first_s) - self.arrival_s

    @cached_property
    def tpot_s(self) -> np.ndarray:
        """Time per further output token of each request that has ended, else NaN."""
        more = self.requests["output_tokens"].to_numpy() - 1.0
        return (self.times_s[:, 1] - self.times_s[:, 0]) / np.where(more > 0, more, np.nan)


def run(
    models: Sequence[TimelineModel],
    requests: pd.DataFrame,
    policy: Policy | None = None,
    *,
    seconds: float,
    rng: np.random.Generator,
    tick_s: float = 1.0,
    telemetry: Telemetry = Telemetry(),
    actuator: Actuator | None = None,
    rule: ClockRule = RULES[0],
    signals: dict[str, np.ndarray] | None = None,
) -> Outcome:
    """Run a row of servers over a stream of requests, under a policy or without one.

    Parameters
    ----------
    models : sequence of TimelineModel
        One a server, all of one step.
    requests : pandas.DataFrame
        ``arrival_s`` from 0 on, ``input_tokens``, ``output_tokens``, in order of arrival.
    policy : callable, optional
        From `View` to `Orders`; may keep a state of its own.
    seconds : float
        How long, a whole number of ticks.
    rng : numpy.random.Generator
        Chooses the server of each request, and draws the noise of power.
    tick_s : float
        A multiple of the models' step.
    telemetry : Telemetry
        How late the policy sees.
    actuator : Actuator, optional
        How late its orders act; by default at once.
    rule : ClockRule
        What a clock does: an assumption.
    signals : dict, optional
        Outside signals, each a value a tick.

    Returns
    -------
    Outcome
        Power, queues and the fates of all requests.
    """
    dt_s, n, ticks = float(models[0].dt), len(models), round(seconds / tick_s)
    fits = len({model.dt for model in models}) == 1 and round(tick_s / dt_s) * dt_s == tick_s
    require(fits, f"tick_s {tick_s:g}", "does not fit", "give a multiple of all models' one step")
    servers = Running(models, clocked=lambda m, clock: clocked(m.server, m.surface, clock, rule))
    arrival_s, tokens = arrivals_of(requests)
    check_fits(tokens, min(model.server.kv_tokens for model in models), "requests")
    normals = rng.standard_normal((n, round(seconds / dt_s)), dtype=np.float32)
    records, chance = as_requests(arrival_s, tokens), rng.random(len(tokens))
    come, shape = np.searchsorted(arrival_s, float(tick_s) * np.arange(ticks + 1)), (ticks + 1, n)
    told = tuple(np.zeros(shape, kind) for kind in ("f8", "f8", "i4", "i4", "f4"))
    server_w, seen_w, running, queued, kv_share = told
    seen_w[:] = np.nan
    held, times_s = np.full(ticks + 1, come[0]), np.full((len(tokens), 2), np.nan)
    stream = records, chance, come, normals
    actuator = actuator or Actuator()
    window, delay = round(telemetry.window_s / tick_s), round(telemetry.delay_s / tick_s)
    # In each tick the policy sees the row late and gives orders, those that act by now are carried
    # out, requests that have come go to servers, and all work to the tick's end.
    given, orders, k, first, coming = None, AT_REST, 0, 0, 0
    while k < ticks:
        now_s, seen, stop = k * tick_s, max(k - delay, 0), ticks
        if policy is not None:
            outside = {name: values[k] for name, values in (signals or {}).items()}
            late = seen_w[seen], running[seen], queued[seen], kv_share[seen]
            actuator.send(now_s, policy(View(now_s, *late, held[k], outside)))
            orders, stop = actuator.acting(now_s) or AT_REST, k + 1
        if orders is not given:
            edges = np.cumsum(np.broadcast_to(orders.weight, n))
            limits = float(orders.admit), edges / edges[-1]
            capped = np.isfinite(orders.cap_w).any()
        if orders is not given or capped:
            clock, batch = (np.broadcast_to(each, n) for each in (orders.clock, orders.batch))
            if capped and k > 0:
                second_w = server_w[max(k - max(round(1.0 / tick_s), 1), 0) : k].mean(axis=0)
                clock = np.minimum(clock, clock_under(orders.cap_w, second_w, servers, rule))
            for s, m in enumerate(orders.model or servers.models):
                down_s = 0.0 if m is servers.models[s] else orders.down_s
                servers.set(s, clock=float(clock[s]), batch=batch[s], model=m, down_s=down_s)
            given = orders
        while k < stop:
            span, at_work = ((k, stop, first), (float(tick_s), dt_s, window)), servers.parts(coming)
            k, first, coming = _work_on(*span, *limits, at_work, stream, (*told, held))
            if coming > 0 or k == ticks:  # those that have ended make room
                known = servers.requests
                times_s[known["row"]] = np.stack([known["first_token_s"], known["end_s"]], axis=1)
                servers.fates()
        servers.clock_s = k * tick_s
    told = (each[:ticks] for each in (server_w, running, queued, held))
    return Outcome(tick_s, *told, requests, times_s)


@njit(cache=True, nogil=True, error_model="numpy")
def _work_on(span, steps, admit, shares, servers, stream, told):
    """Work on tick by tick; where room for requests lacks, stop and tell how many come."""
    (k, stop, first), (tick_s, dt_s, window) = span, steps
    (records, chance, come, normals), (laws, _, (engine, requests, _, _), _) = stream, servers
    (server_w, seen_w, running, queued, kv_share, held), n = told, len(laws)
    bins, page, alone = round(tick_s / dt_s), np.empty(PAGE, SEGMENT), np.arange(n + 1)
    power_w = np.empty((n, bins))
    while k < stop:
        room = admit - running[k].sum() - queued[k].sum()
        coming = int(max(min(come[k + 1] - first, room), 0.0))
        if engine.known.max() + coming > requests.shape[1]:
            return k, first, coming
        for i in range(first, first + coming):
            s = np.searchsorted(shares, chance[i], side="right")
            records[i].arrival_s = max(records[i].arrival_s, k * tick_s)
            requests[s, engine[s].known] = records[i]
            engine[s].known += 1
        power_w[:] = 0.0
        clock, noise = (k * tick_s, dt_s, (k + 1) * tick_s), normals[:, k * bins : (k + 1) * bins]
        advance(clock, servers, page, noise, alone, power_w)
        first, k = first + coming, k + 1
        held[k] = come[k] - first
        for s in range(n):
            server_w[k - 1, s] = power_w[s].mean()
            running[k, s] = engine[s].running
            queued[k, s] = engine[s].known - engine[s].ended - engine[s].running
            kv_share[k, s] = engine[s].kv_tokens / laws[s].kv_tokens
            if k >= window:
                seen_w[k, s] = server_w[k - window : k, s].mean()
    return k, first, 0
