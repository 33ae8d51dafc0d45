"""Racks at work for a stretch of time: the random numbers and power of each server, and their sums.

A worker does a block of racks at once. What it draws hangs on the site's seed, the server and the
stretch alone, so that the result is the same whoever does the work.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sitetrace.core.files import InputError
from sitetrace.power.states import model as states
from sitetrace.power.states.model import StatesModel
from sitetrace.power.timeline.model import TimelineModel
from sitetrace.power.timeline.stream import (
    LONGEST_WAIT,
    Unfinished,
    advance_engine,
    advance_power,
    idle_engine,
)
from sitetrace.power.timeline.surface import STATE_SIZE
from sitetrace.serving.engine import Server
from sitetrace.serving.surrogates import none_running, surrogate_chunk
from sitetrace.site.plant import Plant, ServerPool

# traffic of a pool has another key, so that no two share their numbers
SERVER_KEY = 1
# servers that are switched on together would start with a ramp that no site has
WARM_UP_S = 300.0
WARM_UP = -1
# arrivals, seconds, shape (n,), and tokens of prompt and answer, shape (n, 2)
Requests = tuple[np.ndarray, np.ndarray]
# what a server goes on from
State = dict[str, np.ndarray]
# for each entry of `Plant.keep` the IT power of one unit after the other, watts, at its step
Series = list[list[np.ndarray]]


class BlockWork(NamedTuple):
    """What a block of racks has done in a stretch: GPU power of all, racks, servers, states."""

    gpu_w: np.ndarray
    racks_w: Series
    servers_w: Series
    states: list[State]


def work_block(
    plant: Plant,
    block: tuple[int, int],
    index: int,
    n_bins: int,
    states: list[State],
    routed: dict[int, Requests],
) -> BlockWork:
    """Let a block of racks work for the stretch `index` of so many bins."""
    span_s = plant.span_s(index, n_bins)
    gpu_w, left = np.zeros(n_bins), iter(states)
    racks_w: Series = [[] for _ in plant.keep]
    servers_w: Series = [[] for _ in plant.keep]
    after = []
    for rack in range(*block):
        rack_w, base_w = np.zeros(n_bins), 0.0
        for number in plant.servers_in((rack, rack + 1)):
            pool, rng = plant.pools[plant.pool_of[number]], server_rng(plant, number, index)
            requests = routed.get(number)
            if requests is None:
                requests = pool.stream.server_chunk(*span_s, rng)
            own_bins = n_bins * pool.every
            server_w, state = advance(pool, next(left), requests, span_s, rng, own_bins)
            if pool.every > 1:
                server_w = server_w.reshape(-1, pool.every).mean(axis=1)
            after.append(state)
            rack_w += server_w
            base_w += plant.base_w[number]
            _keep(plant, "server", server_w, plant.base_w[number], servers_w)
        gpu_w += rack_w
        _keep(plant, "rack", rack_w, base_w, racks_w)
    return BlockWork(gpu_w, racks_w, servers_w, after)


def warm_block(
    plant: Plant, block: tuple[int, int], states: list[State], routed: dict[int, Requests]
) -> list[State]:
    """Let a block of racks work before second 0; forget its power and what it served."""
    after = []
    for state, number in zip(states, plant.servers_in(block), strict=True):
        pool, rng = plant.pools[plant.pool_of[number]], server_rng(plant, number, WARM_UP)
        requests = routed.get(number)
        if requests is None:
            # traffic like that of the first minutes
            arrival_s, tokens = pool.stream.server_chunk(0.0, WARM_UP_S, rng)
            requests = (arrival_s - WARM_UP_S, tokens)
        n_bins = round(WARM_UP_S / float(pool.model.dt))
        _, state = advance(pool, state, requests, (-WARM_UP_S, 0.0), rng, n_bins)
        after.append(state | {"tally": np.zeros(4)})
    return after


def begin(model: TimelineModel | StatesModel) -> State:
    """Switch a server on, some minutes before the simulation: idle, with nothing to do."""
    engine = idle_engine(-WARM_UP_S)._asdict()
    if isinstance(model, TimelineModel):
        return engine | {"power": np.zeros(STATE_SIZE)}
    if not isinstance(model.server, Server):
        engine = none_running() | {"tally": np.zeros(4)}
    return engine | states.begin(model)


def advance(
    pool: ServerPool,
    state: State,
    requests: Requests,
    span_s: tuple[float, float],
    rng: np.random.Generator,
    n_bins: int,
) -> tuple[np.ndarray, State]:
    """Let a server work for a while: mean GPU power of each of the model's bins, and its state."""
    model, tokens = pool.model, requests[1]
    # a request larger than the KV cache would be waited for without end
    room = getattr(model.server, "kv_tokens", np.inf)
    # the sum of rows is slow, and rarely needed
    if tokens.size and 2 * tokens.max() > room and tokens.sum(axis=1).max() > room:
        raise InputError(
            f"pool {pool.name}: a request of {tokens.sum(axis=1).max()} tokens, the server's KV "
            f"cache holds {room}: shorten the requests of its traffic"
        )
    if isinstance(model, TimelineModel):
        power, gpu_w = state["power"].copy(), np.zeros(n_bins)
        before = Unfinished(*(state[name] for name in Unfinished._fields))
        normals = rng.standard_normal(n_bins, dtype=np.float32)
        after = advance_power(model, before, requests, span_s, normals, power, gpu_w)
        return gpu_w, after._asdict() | {"power": power}
    segments, ends_s, served = _serve(model.server, state, requests, span_s, rng)
    events = (requests[0], ends_s)
    gpu_w, kept = states.advance(model, state, segments, events, span_s[0], n_bins, rng)
    if pool.idle_w is not None:
        gpu_w = model.rebase(gpu_w, pool.idle_w)
    return gpu_w, served | kept


def server_rng(plant: Plant, number: int, index: int) -> np.random.Generator:
    """Make the random numbers of one server for one stretch, or for `WARM_UP`."""
    key = (SERVER_KEY, int(number), index - WARM_UP)
    return np.random.default_rng(np.random.SeedSequence(plant.seed, spawn_key=key))


def _serve(server, state, requests, span_s, rng):  # noqa: ANN001, ANN202
    """Turn requests into work, by the engine or by a surrogate; count what is done."""
    if isinstance(server, Server):
        before = Unfinished(*(state[name] for name in Unfinished._fields))
        segments, ends_s, after = advance_engine(server, before, *requests, span_s[1])
        return segments, ends_s, after._asdict()
    segments, ends_s, wait_s, after = surrogate_chunk(server, *requests, span_s, state, rng)
    # served to the end: what ran before and what came, less what still runs
    tokens = state["tokens"].sum(axis=0) + requests[1].sum(axis=0) - after["tokens"].sum(axis=0)
    tally = state["tally"] + np.array([ends_s.size, *tokens, 0.0])
    tally[LONGEST_WAIT] = max(tally[LONGEST_WAIT], wait_s)
    return segments, ends_s, after | {"tally": tally}


def _keep(plant: Plant, level: str, gpu_w: np.ndarray, base_w: float, kept_w: Series) -> None:
    """Store the IT power of a unit at the steps at which its level is kept."""
    for entry, units in zip(plant.keep, kept_w, strict=True):
        if level in entry.levels:
            units.append(base_w + (1.0 + plant.per_gpu_w) * entry.mean(gpu_w))
