"""The state of servers at work: engines and the requests in flight, as arrays of named records.

One set of arrays holds any number of servers, a row each. It grows with the requests in flight.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numba import njit


def record(floats: str, counts: str = "") -> np.dtype:
    """Name the fields of records that compiled code reads."""
    return np.dtype([(n, float) for n in floats.split()] + [(n, np.int64) for n in counts.split()])


# coefficients and the scale of the batch; limits of sequences, tokens of a step, and the KV cache
LAW = record(
    "c0_s c1_s c2_s c3_s c4_s batch_scale", "max_num_seqs max_num_batched_tokens kv_tokens"
)
# A request; `row` is its number for who sent it, a time that has not come is NaN. While it decodes,
# `finish` tells the engine's step after which it has all its tokens, and else is -1; `computed` (in
# the KV cache) and `generated` tokens are kept while it does not.
REQUEST = record(
    "arrival_s start_s first_token_s end_s",
    "row input_tokens output_tokens computed generated finish",
)
# An engine: its clock; begin of the leap under way, its first step, by how much each further one
# lasts longer, and the steps done of it; steps done in all, and that after which a request ends
# next; tokens in the KV cache; how many requests are known, are running, were pre-empted, have
# ended; the row of the first that was not yet admitted; 1 if the last one running still prefills.
ENGINE = record(
    "clock_s leap_start_s leap_first_s leap_slope_s",
    "leap_steps steps next_end kv_tokens known running preempted ended following prefilling",
)
NEVER = 2**62
# Nothing here makes an array: without counts of who holds one, it takes a quarter of the time.
compiled = njit(cache=True, nogil=True, error_model="numpy", _nrt=False)


class State(NamedTuple):
    """Servers at work: for each an engine, requests in order of arrival, and rows of these."""

    engine: np.ndarray  # shape (servers,)
    requests: np.ndarray  # shape (servers, room)
    running: np.ndarray  # rows in order of admission, shape (servers, most sequences)
    preempted: np.ndarray  # rows of those that lost their tokens, the first to return at the end


def idle_state(n_servers: int, most_sequences: int, clock_s: float = 0.0, room: int = 16) -> State:
    """Servers with nothing to do."""
    engine, requests = np.zeros(n_servers, ENGINE), np.zeros((n_servers, room), REQUEST)
    engine["clock_s"], engine["next_end"] = clock_s, NEVER
    rows = np.zeros((2, n_servers, most_sequences), np.int64)
    return State(engine, requests, rows[0], rows[1])


def as_requests(arrival_s: np.ndarray, tokens: np.ndarray, first_row: int = 0) -> np.ndarray:
    """Lay new requests out as an engine holds them."""
    new = np.empty(len(arrival_s), REQUEST)
    _fill(new, arrival_s, tokens, first_row)
    return new


@compiled
def _fill(new, arrival_s, tokens, first_row):
    for i in range(len(new)):
        new[i].arrival_s, new[i].row = arrival_s[i], first_row + i
        new[i].start_s = new[i].first_token_s = new[i].end_s = np.nan
        new[i].input_tokens, new[i].output_tokens = tokens[i, 0], tokens[i, 1]
        new[i].computed, new[i].generated, new[i].finish = 0, 0, -1


def with_requests(state: State, new: np.ndarray, server: np.ndarray) -> State:
    """Put new requests, in order of arrival at each server, behind those known."""
    if len(new) == 0:
        return state
    state = with_room(state, np.bincount(server, minlength=len(state.engine)))
    _add(state.engine, state.requests, new, server)
    return state


def with_room(state: State, coming: int | np.ndarray) -> State:
    """Make room for so many more requests at each server."""
    known, (n_servers, room) = state.engine["known"].max(), state.requests.shape
    least = int((state.engine["known"] + coming).max())
    if least <= room:
        return state
    requests = np.empty((n_servers, max(least, 2 * room)), REQUEST)
    requests[:, :known] = state.requests[:, :known]
    return state._replace(requests=requests)


def packed(state: State) -> dict[str, np.ndarray]:
    """Lay a state out in flat arrays, as a checkpoint stores it."""
    parts = {name: rows[here] for name, rows, here in _parts(state, state.engine)}
    return {"engine": state.engine} | parts


def unpacked(told: dict[str, np.ndarray], most_sequences: int) -> State:
    """Make a state of its own of flat arrays."""
    engine = told["engine"].copy()
    state = idle_state(len(engine), most_sequences, room=max(int(engine["known"].max()), 1))
    for name, rows, here in _parts(state, engine):
        rows[here] = told[name]
    return state._replace(engine=engine)


def _parts(state: State, engine: np.ndarray) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Tell which places of each array are in use."""
    for name in ("requests", "running", "preempted"):
        rows, used = getattr(state, name), engine["known" if name == "requests" else name]
        yield name, rows, np.arange(rows.shape[1]) < used[:, None]


def changed(state: State, s: int, most_sequences: int) -> State:
    """Begin anew at a server's next step boundary what its former law had begun."""
    state.engine["leap_steps"][s] = 0
    more = most_sequences - state.running.shape[1]
    if more <= 0:
        return state
    rows = (np.pad(each, ((0, 0), (0, more))) for each in (state.running, state.preempted))
    return State(state.engine, state.requests, *rows)


@compiled
def _add(engine, requests, new, server):
    for i in range(len(new)):
        s = server[i]
        requests[s, engine[s].known] = new[i]
        engine[s].known += 1


def take_ended(state: State) -> tuple[np.ndarray, np.ndarray]:
    """Take out the requests that have ended: records, and the server of each."""
    counts = state.engine["ended"].copy()
    ended = np.empty(counts.sum(), REQUEST)
    _compact(state, np.empty(state.requests.shape[1], np.int64), ended, np.zeros(4))
    return ended, np.repeat(np.arange(len(counts)), counts)


def count_ended(state: State) -> np.ndarray:
    """Take out the requests that have ended: how many, tokens, and the longest wait, shape (4,)."""
    tally, none = np.zeros(4), np.empty(0, REQUEST)
    _compact(state, np.empty(state.requests.shape[1], np.int64), none, tally)
    return tally


@compiled
def _compact(state, place, ended, tally):
    """Count those that have ended, list them where there is room, and close their gaps."""
    n = 0
    for s in range(len(state.engine)):
        engine, requests = state.engine[s], state.requests[s]
        if engine.ended == 0:
            continue
        kept = admitted = 0
        for row in range(engine.known):
            request = requests[row]
            if np.isnan(request.end_s):
                place[row] = kept
                requests[kept] = request
                kept += 1
                admitted += row < engine.following
                continue
            tally[0] += 1.0
            tally[1] += request.input_tokens
            tally[2] += request.output_tokens
            tally[3] = max(tally[3], request.start_s - request.arrival_s)
            if n < len(ended):
                ended[n] = request
                n += 1
        for i in range(engine.running):
            state.running[s, i] = place[state.running[s, i]]
        for i in range(engine.preempted):
            state.preempted[s, i] = place[state.preempted[s, i]]
        engine.known, engine.following, engine.ended = kept, admitted, 0
