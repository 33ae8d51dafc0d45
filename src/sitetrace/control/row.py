"""A row of servers under a policy: telemetry, decision, orders that act late, power and fates.

All servers share one stream of requests; each goes to one of them at random, by weight.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from sitetrace.control.clock import RULES, ClockRule, clock_under, clocked
from sitetrace.control.signals import Actuator, Orders, Telemetry, View
from sitetrace.core.files import require
from sitetrace.power.running import Running
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
    dt_s, ticks = float(models[0].dt), round(seconds / tick_s)
    fits = len({model.dt for model in models}) == 1 and round(tick_s / dt_s) * dt_s == tick_s
    require(fits, f"tick_s {tick_s:g}", "does not fit", "give a multiple of all models' one step")
    servers = Running(models, clocked=lambda m, clock: clocked(m.server, m.surface, clock, rule))
    arrival_s, tokens = arrivals_of(requests)
    check_fits(tokens, min(model.server.kv_tokens for model in models), "requests")
    normals = rng.standard_normal((len(models), round(seconds / dt_s)), dtype=np.float32)
    records, chance = as_requests(arrival_s, tokens), rng.random(len(tokens))
    shape, per_tick = (ticks, len(models)), round(tick_s / dt_s)
    server_w, kv_share = np.zeros(shape), np.zeros(shape, np.float32)
    running, queued = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
    held, times_s, first = np.zeros(ticks, np.int64), np.full((len(tokens), 2), np.nan), 0
    actuator = actuator or Actuator()
    window, delay = round(telemetry.window_s / tick_s), round(telemetry.delay_s / tick_s)
    # In each tick the policy sees the row late and gives orders, those that act by now are carried
    # out, requests that have come go to servers, and all work to the tick's end.
    given, clock, weight = AT_REST, np.ones(len(models)), np.ones(len(models))
    for k in range(ticks):
        now_s, seen = k * tick_s, max(k - delay, 0)
        running[k], queued[k], kv_share[k] = servers.running, servers.queue, servers.kv_share
        held[k] = np.searchsorted(arrival_s, now_s) - first
        if policy is not None:
            outside = {name: values[k] for name, values in (signals or {}).items()}
            late_w = np.full(len(models), np.nan)
            if k - delay >= window:
                late_w = server_w[k - delay - window : k - delay].mean(axis=0)
            late = late_w, running[seen], queued[seen], kv_share[seen]
            actuator.send(now_s, policy(View(now_s, *late, held[k], outside)))
            orders = actuator.acting(now_s) or AT_REST
            capped = np.isfinite(orders.cap_w).any()
            if orders is not given or capped:
                clock = np.broadcast_to(orders.clock, len(models))
                if capped and k > 0:
                    second_w = server_w[max(k - max(round(1.0 / tick_s), 1), 0) : k].mean(axis=0)
                    clock = np.minimum(clock, clock_under(orders.cap_w, second_w, servers, rule))
                batch = np.broadcast_to(orders.batch, len(clock))
                for s, m in enumerate(orders.model or servers.models):
                    down_s = 0.0 if m is servers.models[s] else orders.down_s
                    servers.set(s, clock=float(clock[s]), batch=batch[s], model=m, down_s=down_s)
                weight, given = np.broadcast_to(orders.weight, len(models)), orders
        room = given.admit - int(running[k].sum() + queued[k].sum())
        coming = np.searchsorted(arrival_s, now_s + tick_s) - first
        inside = slice(first, first + int(max(min(coming, room), 0)))
        first, new, edges = inside.stop, records[inside].copy(), np.cumsum(weight)
        np.maximum(new["arrival_s"], now_s, out=new["arrival_s"])
        to = np.searchsorted(edges / edges[-1], chance[inside], side="right")
        noise = normals[:, k * per_tick : (k + 1) * per_tick]
        server_w[k] = servers.advance(now_s + tick_s, new, to, noise).mean(axis=1)
        ended, _ = servers.fates()
        times_s[ended["row"], 0], times_s[ended["row"], 1] = ended["first_token_s"], ended["end_s"]
    left = servers.unfinished()
    times_s[left["row"], 0] = left["first_token_s"]
    return Outcome(tick_s, server_w, running, queued, held, requests, times_s)
