"""Racks at work for a stretch of time: requests to servers, their power, and its sums.

What a block of racks draws hangs on the site's seed, the server and the stretch alone, so that the
result is the same whoever does the work.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from sitetrace.power.running import Running, RunningStates, start
from sitetrace.serving.engine import check_fits
from sitetrace.serving.inflight import as_requests
from sitetrace.serving.routing import route
from sitetrace.site.plant import Plant

# each draws numbers of its own: the servers, and the traffic of pools with one stream for all
SERVER_KEY, TRAFFIC_KEY = 1, 2
# Servers that are switched on together would start with a ramp that no site has: they work before
# second 0, in a stretch of this number, on traffic like that of the first minutes.
WARM_UP_S, WARM_UP = 300.0, -1
FAR = 2**31  # number of the stretch whose traffic warms servers up: no site gets there
# arrivals, seconds, shape (n,), and tokens of prompt and answer, shape (n, 2)
Requests = tuple[np.ndarray, np.ndarray]
# what the servers of a pool in a block go on from; `tally` counts requests and tokens of prompt and
# answer that they have served, and the longest wait for admission
State = dict[str, np.ndarray]
# for each entry of `Plant.keep` the IT power of one unit after the other, watts, at its step
Series = list[list[np.ndarray]]


class BlockWork(NamedTuple):
    """What a block of racks has done in a stretch."""

    gpu_w: np.ndarray  # of all together
    racks_w: Series
    servers_w: Series
    states: list[State]


def teams(plant: Plant, block: tuple[int, int]) -> Iterator[tuple[int, np.ndarray]]:
    """Tell pool and servers for all servers of a pool in a block of racks: they share one state."""
    servers = np.array(plant.servers_in(block))
    for pool in np.unique(plant.pool_of[servers]).tolist():
        yield pool, servers[plant.pool_of[servers] == pool]


def begin(plant: Plant) -> list[State]:
    """Switch all servers on: idle, with nothing to do."""
    return [
        _started(plant, *team).state() | {"tally": np.zeros(4)}
        for block in plant.blocks()
        for team in teams(plant, block)
    ]


def work_block(
    plant: Plant,
    block: tuple[int, int],
    index: int,
    n_bins: int,
    states: list[State],
    routed: dict[int, Requests],
) -> BlockWork:
    """Let a block of racks work for a stretch of so many bins; of `WARM_UP` only states remain."""
    rack_w = np.zeros((block[1] - block[0], n_bins))
    servers_w, after, warming = {}, [], index == WARM_UP
    span_s = (0.0, WARM_UP_S) if warming else plant.span_s(index, n_bins)  # of the traffic
    ahead_s = WARM_UP_S if warming else 0.0
    for (number, servers), state in zip(teams(plant, block), states, strict=True):
        running, before = _started(plant, number, servers).resumed(state), state["tally"]
        pool = plant.pools[number]
        rngs = [_rng(plant, SERVER_KEY, int(at), index - WARM_UP) for at in servers]
        given = [
            routed[at] if at in routed else pool.stream.server_chunk(*span_s, rng)
            for at, rng in zip(servers.tolist(), rngs, strict=True)
        ]
        arrival_s, tokens = (np.concatenate(part) for part in zip(*given, strict=True))
        check_fits(tokens, getattr(pool.model.server, "kv_tokens", np.inf), f"pool {pool.name}")
        to = np.repeat(np.arange(len(servers)), [len(arrival) for arrival, _ in given])
        # what is not kept need not be drawn one by one: noises of independent servers add up
        group = servers if plant.keeps_servers else plant.rack_of[servers]
        edges = np.flatnonzero(np.diff(group, prepend=-1, append=-1))
        noise = running.noise(rngs, round((span_s[1] - span_s[0]) / running.dt_s), edges)
        requests = as_requests(arrival_s - ahead_s, tokens)
        power_w = running.advance(span_s[1] - ahead_s, requests, to, noise, edges)
        served = running.tally()
        tally = np.append((before + served)[:3], max(before[3], served[3]))
        after.append(running.state() | {"tally": before if warming else tally})
        if warming:
            continue
        if pool.every > 1:
            power_w = power_w.reshape(len(power_w), -1, pool.every).mean(axis=2)
        for lead, row_w in zip(servers[edges[:-1]].tolist(), power_w, strict=True):
            rack_w[plant.rack_of[lead] - block[0]] += row_w
            if plant.keeps_servers:
                servers_w[lead] = row_w
    base_w = np.bincount(plant.rack_of, plant.base_w)[slice(*block)]
    by_server = [(servers_w[at], plant.base_w[at]) for at in sorted(servers_w)]
    racks = _kept(plant, "rack", zip(rack_w, base_w, strict=True))
    return BlockWork(rack_w.sum(axis=0), racks, _kept(plant, "server", by_server), after)


def routed_requests(
    plant: Plant, index: int, span_s: tuple[float, float], carries: list
) -> tuple[dict[int, Requests], list]:
    """Draw a stretch's requests of pools with one stream for all; give each request its server."""
    requests, after = {}, []
    for number, (pool, carry) in enumerate(zip(plant.pools, carries, strict=True)):
        after.append(carry)
        if pool.independent:  # its servers draw for themselves
            continue
        streamed, sent = carry or (None, None)
        seeds = np.random.SeedSequence(plant.seed, spawn_key=(TRAFFIC_KEY, number))
        drawn, streamed = pool.stream.chunk(index, *span_s, seeds, streamed)
        rng = _rng(plant, TRAFFIC_KEY, number, index, 1)
        server, sent = route(pool.routing, *drawn, pool.servers.size, rng, sent, pool.model.server)
        after[-1] = [streamed, sent]
        order = np.argsort(server, kind="stable")
        edges = np.searchsorted(server[order], np.arange(pool.servers.size + 1))
        for at, part in zip(pool.servers.tolist(), np.split(order, edges[1:-1]), strict=True):
            requests[at] = (drawn.arrival_s[part], drawn.tokens[part])
    return requests, after


def _rng(plant: Plant, *key: int) -> np.random.Generator:
    """Random numbers that no other key of the site has."""
    return np.random.default_rng(np.random.SeedSequence(plant.seed, spawn_key=key))


def _started(plant: Plant, pool: int, servers: np.ndarray) -> Running | RunningStates:
    of_pool = plant.pools[pool]
    return start([of_pool.model] * len(servers), -WARM_UP_S, of_pool.idle_w)


def _kept(plant: Plant, level: str, units: object) -> Series:
    """Tell the IT power of units, their GPU power and the rest, at the steps that are kept."""
    kept_w: Series = [[] for _ in plant.keep]
    for gpu_w, base_w in units:
        for entry, own in zip(plant.keep, kept_w, strict=True):
            if level in entry.levels:
                own.append(base_w + (1.0 + plant.per_gpu_w) * entry.mean(gpu_w))
    return kept_w
