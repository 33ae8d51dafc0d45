"""Which server each request of a pool goes to."""

from heapq import heappop, heappush
from typing import Any

import numpy as np
from numba import njit

from sitetrace.core.files import named
from sitetrace.serving.engine import Server
from sitetrace.serving.steps import decode_time
from sitetrace.serving.surrogates import ConstantRate, LogNormalTTFT

# In turn; to one of the servers with the fewest requests outstanding, by what a router may expect
# of their ends; all requests of a session to one server. Sessions that the stream does not know
# are made up, so many at a time, with a geometric number of turns of this mean.
ROUTINGS = ("random", "round_robin", "least_loaded", "session")
MEAN_TURNS, SESSIONS_PER_SERVER = 4.0, 16


def route(
    how: str,
    arrival_s: np.ndarray,
    tokens: np.ndarray,
    session: np.ndarray | None,
    n_servers: int,
    rng: np.random.Generator,
    carry: dict[str, Any] | None,
    serving: Server | ConstantRate | LogNormalTTFT,
) -> tuple[np.ndarray, dict[str, Any]]:
    """Choose a server for each request of a chunk; tell what the next one is to be given too."""
    # tokens: of prompt and answer, shape (n, 2); carry: None for the first, else as JSON holds it
    carry, n = carry or {}, arrival_s.size
    if how == "random":
        return rng.integers(0, n_servers, n), {}
    if how == "round_robin":
        first = carry.get("next", 0)
        return (first + np.arange(n)) % n_servers, {"next": (first + n) % n_servers}
    if named("routing", how, ROUTINGS) == "least_loaded":
        there = np.array(carry.get("ends", []), float), np.array(carry.get("servers", []), int)
        given = arrival_s, tokens[:, 1], rng.random(n), n_servers, *there
        server, ends, at = _least_loaded(*given, *serving.expected(tokens[:, 0]))
        return server, {"ends": ends.tolist(), "servers": at.tolist()}
    # a hash of a session's number points to its server, as in sticky routers
    carry = dict(carry)
    salt = carry.setdefault("salt", int(rng.integers(2**62)))
    if session is None:
        slots = np.array(carry.get("sessions", range(SESSIONS_PER_SERVER * n_servers)), np.int64)
        chosen = rng.integers(0, slots.size, n)
        last = rng.random(n) < 1 / MEAN_TURNS
        session, following = _draw_sessions(slots, chosen, last, carry.get("following", slots.size))
        carry |= {"sessions": slots.tolist(), "following": int(following)}
    return (_mixed(session, salt) % np.uint64(n_servers)).astype(np.int64), carry


def _mixed(number: np.ndarray, salt: int) -> np.ndarray:
    """Hash whole numbers (splitmix64)."""
    x = number.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(salt)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@njit(cache=True)
def _draw_sessions(slots, chosen, last, following):
    """Give each request a session under way; after its last turn a new one takes its place."""
    session = np.empty(chosen.size, np.int64)
    for i in range(chosen.size):
        session[i] = slots[chosen[i]]
        if last[i]:
            slots[chosen[i]] = following
            following += 1
    return session, following


@njit(cache=True)
def _least_loaded(arrival_s, answer, chance, n_servers, ends, at, prompt_s, law):
    """Send each request to one of the servers with the fewest requests outstanding."""
    # The servers are kept in order of these; each change swaps two of them. Returns the servers
    # chosen, and end and server of what is outstanding after the last arrival.
    most = ends.size + arrival_s.size + 2
    count = np.zeros(n_servers, np.int64)
    for server in at:
        count[server] += 1
    order = np.argsort(count)
    place = np.empty(n_servers, np.int64)
    first = np.full(most, n_servers)  # place of the first server with at least so many
    for i in range(n_servers - 1, -1, -1):
        place[order[i]] = i
    for k in range(count.max() + 1):
        first[k] = (count < k).sum()
    heap = [(0.0, 0) for _ in range(0)]  # empty, but of known type
    for i in range(ends.size):
        heappush(heap, (ends[i], at[i]))
    chosen = np.empty(arrival_s.size, np.int64)
    for i in range(chosen.size):
        while len(heap) > 0 and heap[0][0] <= arrival_s[i]:
            server = heappop(heap)[1]
            k = count[server]  # to the front of its group, whose border then moves behind it
            _swap(order, place, place[server], first[k])
            first[k] += 1
            count[server] -= 1
        least = count[order[0]]
        server = order[int(chance[i] * first[least + 1])]
        _swap(order, place, place[server], first[least + 1] - 1)
        first[least + 1] -= 1
        count[server] += 1
        lasts_s = prompt_s[i] + decode_time(law[0], least + 1) * answer[i]
        heappush(heap, (arrival_s[i] + lasts_s, server))
        chosen[i] = server
    left_s, left = np.empty(len(heap)), np.empty(len(heap), np.int64)
    for i in range(len(heap)):
        left_s[i], left[i] = heap[i]
    return chosen, left_s, left


@njit(cache=True, inline="always")
def _swap(order, place, one, other):
    order[one], order[other] = order[other], order[one]
    place[order[one]], place[order[other]] = one, other
