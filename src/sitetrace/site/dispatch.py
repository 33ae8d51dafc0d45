"""Stretch of time after stretch: requests to the servers of a pool, blocks of racks to workers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from sitetrace.serving.routing import route
from sitetrace.site.plant import Plant
from sitetrace.site.racks import WARM_UP_S, BlockWork, Requests, State, warm_block, work_block
from sitetrace.site.workers import Submit

# servers have another key, so that no two share their numbers
TRAFFIC_KEY = 2
# number of the stretch whose traffic warms servers up: no site gets there
FAR = 2**31


class Stretch(NamedTuple):
    """What a stretch has come to: work of each block, state of each server and of each pool."""

    index: int
    results: list[BlockWork]
    states: list[State]
    carries: list  # where each pool's stream and routing stand, as JSON holds it


def work(
    plant: Plant, n_bins: int, submit: Submit, done: int, states: list[State], carries: list
) -> Iterator[Stretch]:
    """Work on all stretches but those `done`; a block begins the next when its present one ends."""
    blocks = plant.blocks()
    bins = [min(plant.chunk, n_bins - first) for first in range(0, n_bins, plant.chunk)]

    def give(index: int, block: tuple[int, int], own: list[State], requests: dict):  # noqa: ANN202
        mine = _inside(plant, block, requests)
        return submit(work_block, plant, block, index, bins[index], own, mine)

    if done == 0:
        states = _warm_up(plant, submit, states, carries)
    if done < len(bins):
        requests, carries = _routed(plant, done, plant.span_s(done, bins[done]), carries)
        own = [[states[at] for at in plant.servers_in(block)] for block in blocks]
        waiting = [give(done, *of, requests) for of in zip(blocks, own, strict=True)]
    for index in range(done, len(bins)):
        here = carries
        if index + 1 < len(bins):
            ahead_s = plant.span_s(index + 1, bins[index + 1])
            requests, carries = _routed(plant, index + 1, ahead_s, carries)
        results, states = [], []
        for place, block in enumerate(blocks):
            results.append(waiting[place]())
            states += results[-1].states
            if index + 1 < len(bins):
                waiting[place] = give(index + 1, block, results[-1].states, requests)
        yield Stretch(index, results, states, here)


def _warm_up(plant: Plant, submit: Submit, states: list[State], carries: list) -> list[State]:
    """Let all servers work for some minutes, on traffic like that of the first ones."""
    routed, _ = _routed(plant, FAR, (0.0, WARM_UP_S), carries)
    routed = {at: (arrival_s - WARM_UP_S, tokens) for at, (arrival_s, tokens) in routed.items()}
    waiting = []
    for block in plant.blocks():
        own = [states[at] for at in plant.servers_in(block)]
        waiting.append(submit(warm_block, plant, block, own, _inside(plant, block, routed)))
    return [state for wait in waiting for state in wait()]


def _routed(
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
        key = (TRAFFIC_KEY, number, index, 1)
        rng = np.random.default_rng(np.random.SeedSequence(plant.seed, spawn_key=key))
        drawn, streamed = pool.stream.chunk(index, *span_s, seeds, streamed)
        server, sent = route(pool.routing, *drawn, pool.servers.size, rng, sent, pool.model.server)
        after[-1] = [streamed, sent]
        order = np.argsort(server, kind="stable")
        edges = np.searchsorted(server[order], np.arange(pool.servers.size + 1))
        arrival_s, tokens = drawn.arrival_s[order], drawn.tokens[order]
        for place, at in enumerate(pool.servers.tolist()):
            inside = slice(edges[place], edges[place + 1])
            requests[at] = (arrival_s[inside], tokens[inside])
    return requests, after


def _inside(plant: Plant, block: tuple[int, int], routed: dict[int, Requests]) -> dict:
    """Pick the requests of a block's servers."""
    return {at: routed[at] for at in plant.servers_in(block) if at in routed}
