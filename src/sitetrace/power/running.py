"""Servers that run: engines, boards and noise, advanced in time, steered, and looked at."""

from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
from numba import njit
from numpy.random import Generator

from sitetrace.core.types import SEGMENT
from sitetrace.power.states import model as states
from sitetrace.power.timeline import surface
from sitetrace.power.timeline.surface import BOARD, POWER
from sitetrace.serving import inflight, steps
from sitetrace.serving.engine import Server
from sitetrace.serving.surrogates import fill_times, segments_of

PAGE, SLICE = 512, 2048  # segments and bins worked on while still in the nearest memory
NO_NOISE = np.empty((0, 0), np.float32)


class Running:
    """Servers of the kind `timeline` that run side by side, each with its own model."""

    # of one step, idle and cold at `begin_s`; `clocked`: server and surface at a share of the clock
    def __init__(
        self, models: Sequence[Any], begin_s: float = 0.0, clocked: Callable | None = None
    ) -> None:
        n, most = len(models), max(model.server.max_num_seqs for model in models)
        self.models, self.clock_s, self._clocked = list(models), begin_s, clocked
        self.dt_s, self._boards = float(models[0].dt), np.zeros(n, BOARD)
        self._work = inflight.idle_state(n, most, begin_s)
        self._orders: list[tuple] = [(1.0, None)] * n
        own = {id(model): model for model in models}.values()  # often one for all
        self._known = {(id(m), 1.0): (m.server.law, power_law(m, m.surface)) for m in own}
        self._laws, self._powers = np.empty(n, inflight.LAW), np.empty(n, POWER)
        for s, model in enumerate(models):
            self._laws[s], self._powers[s] = (part[0] for part in self._known[id(model), 1.0])

    @property
    def clocks(self) -> np.ndarray:
        """Share of the full clock that each server runs at, shape (servers,)."""
        return np.array([clock for clock, _ in self._orders])

    def set(
        self,
        server: int,
        *,
        clock: float = 1.0,
        batch: int | None = None,
        model: Any = None,  # noqa: ANN401
        down_s: float = 0.0,
    ) -> None:
        """Give orders from the next step boundary on; another `model` computes what runs anew."""
        if model is not None and model is not self.models[server]:
            engine, *rows = (part[server] for part in self._work)
            steps.make_room(np.zeros(1, inflight.LAW)[0], engine, *rows)  # there is none
            self.models[server], self._orders[server] = model, (None, None)
        if down_s > 0.0:
            self._work.engine["clock_s"][server] = self.clock_s + down_s
        if (clock, batch) == self._orders[server]:
            return
        own, self._orders[server] = self.models[server], (clock, batch)
        if (id(own), clock) not in self._known:
            pair = (own.server, own.surface) if clock == 1.0 else self._clocked(own, clock)
            self._known[id(own), clock] = pair[0].law, power_law(own, pair[1])
        law, power = self._known[id(own), clock]
        self._laws[server], self._powers[server] = law[0], power[0]
        if batch is not None:
            self._laws["max_num_seqs"][server] = min(own.server.max_num_seqs, batch)
        self._work = inflight.changed(self._work, server, own.server.max_num_seqs)

    def advance(
        self,
        until_s: float,
        requests: np.ndarray,
        to: np.ndarray,
        normals: np.ndarray = NO_NOISE,
        edges: np.ndarray | None = None,
    ) -> np.ndarray:
        """Work on for whole bins until a time: their mean watts, shape (sums, bins)."""
        # requests as of `as_requests`, by arrival at each server, `to` which each goes; one draw of
        # `noise` a sum, none for the mean; summed are servers edges[g] to [g + 1], of one model
        self._work = inflight.with_requests(self._work, requests, to)
        edges = np.arange(len(self.models) + 1) if edges is None else edges
        power_w = np.zeros((len(edges) - 1, round((until_s - self.clock_s) / self.dt_s)))
        clock = (self.clock_s, self.dt_s, until_s)
        advance(clock, self.parts(), np.empty(PAGE, SEGMENT), normals, edges, power_w)
        self.clock_s = until_s
        return power_w

    def parts(self, coming: int = 0) -> tuple:
        """Give what compiled code works on, with room for so many more requests at each server."""
        if coming > 0:
            self._work = inflight.with_room(self._work, coming)
        return self._laws, self._powers, self._work, self._boards

    def noise(self, rngs: Sequence[Generator], n_bins: int, edges: np.ndarray) -> np.ndarray:
        """Draw what `advance` takes, of sources of the servers the first of each sum."""
        rngs = [rngs[first] for first in edges[:-1]]
        return np.stack([rng.standard_normal(n_bins, dtype=np.float32) for rng in rngs])

    def fates(self) -> tuple[np.ndarray, np.ndarray]:
        """Take out the requests that have ended since this was asked last: records, and servers."""
        return inflight.take_ended(self._work)

    def tally(self) -> np.ndarray:
        """Count instead: requests, their tokens of prompt and answer, and the longest wait."""
        return inflight.count_ended(self._work)

    @property
    def requests(self) -> np.ndarray:
        """Records of the requests under way, and of those whose `fates` were not taken out."""
        return inflight.packed(self._work)["requests"]

    def state(self) -> dict[str, np.ndarray]:
        """Tell what a checkpoint stores."""
        clock_s = np.array([self.clock_s])
        return inflight.packed(self._work) | {"clock_s": clock_s, "boards": self._boards}

    def resumed(self, state: dict[str, np.ndarray]) -> Self:
        """Go on from a state, which is left as it is."""
        self.clock_s, self._boards = float(state["clock_s"][0]), state["boards"].copy()
        self._work = inflight.unpacked(state, self._work.running.shape[1])
        return self


class RunningStates:
    """Servers of the kind `states` that run side by side, as `Running` those of `timeline`."""

    def __init__(
        self, models: Sequence[Any], begin_s: float = 0.0, idle_w: float | None = None
    ) -> None:
        self.models, self.clock_s, self._idle_w = list(models), begin_s, idle_w
        self.dt_s, server = float(models[0].dt), models[0].server
        self._laws = np.repeat(server.law, len(models)) if isinstance(server, Server) else None
        most = 0 if self._laws is None else server.max_num_seqs
        self._work = inflight.idle_state(len(models), most, begin_s)
        self._boards = [states.begin(model) for model in models]
        self._slots = [np.empty(0) for _ in models]  # of a surrogate: when its places are free
        self._ended: list[tuple[np.ndarray, np.ndarray]] = []

    def noise(self, rngs: Sequence[Generator], *_: object) -> Sequence[Generator]:
        """Give the sources of the random numbers that `advance` takes, one a server."""
        return rngs

    def advance(
        self,
        until_s: float,
        requests: np.ndarray,
        to: np.ndarray,
        rngs: Sequence[Generator],
        edges: np.ndarray | None = None,
    ) -> np.ndarray:
        """Work on until a time, and tell the watts of the bins up to it, as `Running` does."""
        n_bins = round((until_s - self.clock_s) / self.dt_s)
        power_w, arrived_s = np.empty((len(self.models), n_bins)), requests["arrival_s"]
        self._work = inflight.with_requests(self._work, requests, to)
        serve = self._serve_by_surrogate if self._laws is None else self._serve_by_steps
        work, (ended, server) = serve(until_s, rngs)
        self._ended.append((ended, server))
        for s, (model, rng) in enumerate(zip(self.models, rngs, strict=True)):
            events = arrived_s[to == s], np.sort(ended["end_s"][server == s])
            board = (model, self._boards[s], work[s], events, self.clock_s, n_bins, rng)
            power_w[s], self._boards[s] = states.advance(*board)
            if self._idle_w is not None:
                power_w[s] = model.rebase(power_w[s], self._idle_w)
        self.clock_s = until_s
        return power_w if edges is None else np.add.reduceat(power_w, edges[:-1], axis=0)

    # segments of each server, then requests that have ended and the server of each
    def _serve_by_steps(self, until_s: float, _: object) -> tuple[list, tuple]:
        engine, servers = self._work.engine, range(len(self.models))
        segments = [steps.all_segments(until_s, self._laws, self._work, s) for s in servers]
        engine["clock_s"] = np.maximum(engine["clock_s"], until_s)
        return segments, inflight.take_ended(self._work)

    def _serve_by_surrogate(self, until_s: float, rngs: Sequence[Generator]) -> tuple[list, tuple]:
        # a surrogate knows the fate of a request when it comes
        segments, ended = [], []
        for s, (model, rng) in enumerate(zip(self.models, rngs, strict=True)):
            engine, slots = self._work.engine[s], self._slots[s].tolist()
            known = self._work.requests[s, : engine["known"]]
            fill_times(model.server, known[engine["following"] :], slots, rng)
            segments.append(segments_of(known, self.clock_s, until_s - self.clock_s))
            on, self._slots[s] = known["end_s"] > until_s, np.array(slots)
            ended.append(known[~on])
            known[: on.sum()] = known[on]
            engine["known"] = engine["following"] = on.sum()
        server = np.repeat(np.arange(len(ended)), [len(each) for each in ended])
        return segments, (np.concatenate(ended), server)

    def fates(self) -> tuple[np.ndarray, np.ndarray]:
        """Take out the requests that have ended since this was asked last: records, and servers."""
        told, self._ended = self._ended, []
        return told[0] if len(told) == 1 else tuple(map(np.concatenate, zip(*told, strict=True)))

    def tally(self) -> np.ndarray:
        """Count instead, as `Running` does."""
        ended, _ = self.fates()
        waits_s = ended["start_s"] - ended["arrival_s"]
        tokens = ended["input_tokens"].sum(), ended["output_tokens"].sum()
        return np.array([ended.size, *tokens, waits_s.max(initial=0.0)])

    def state(self) -> dict[str, np.ndarray]:
        """Tell what a checkpoint stores."""
        told = inflight.packed(self._work) | {"clock_s": np.array([self.clock_s])}
        for s, board in enumerate(self._boards):
            told |= {f"{s}:{name}": value for name, value in board.items()}
            told[f"{s}:slots_s"] = self._slots[s]
        return told

    def resumed(self, state: dict[str, np.ndarray]) -> Self:
        """Go on from a state, which is left as it is."""
        self.clock_s = float(state["clock_s"][0])
        self._work = inflight.unpacked(state, self._work.running.shape[1])
        for s, board in enumerate(self._boards):
            self._boards[s] = {name: state[f"{s}:{name}"] for name in board}
            self._slots[s] = state[f"{s}:slots_s"]
        return self


def start(
    models: Sequence[Any], begin_s: float = 0.0, idle_w: float | None = None
) -> Running | RunningStates:
    """Let servers of one kind run, from idle; other idle watts are for the kind `states` alone."""
    if hasattr(models[0], "surface"):
        return Running(models, begin_s)
    return RunningStates(models, begin_s, idle_w)


def power_law(model: Any, of_work: surface.Surface) -> np.ndarray:  # noqa: ANN401
    """Tell compiled code what it must know of a model's power, shape (1,)."""
    noise, idle = model.residual, model.idle
    board = {"board_w": idle.mean_w, "after_w": idle.active_w, "after_s": model.decay_s}
    spread = {"idle_sd_w": noise.idle_w, "work_sd_w": noise.decode_w, "phi": noise.phi}
    told = vars(of_work) | board | spread
    return np.array([tuple(told[name] for name in POWER.names)], POWER)


@njit(cache=True, nogil=True, error_model="numpy")
def power_of(segments, power, begin_s, dt_s, normals):
    """Mean watts of bins in which a server that was idle and cold does the work of segments."""
    board, total_w = np.zeros(1, BOARD), np.zeros(normals.size)  # held until the last pass
    bins, above_w = np.empty((3, normals.size)), np.empty(len(segments))
    mean_w, sd_w = np.empty(normals.size), np.empty(normals.size)
    surface.begin_bins(begin_s, dt_s, board[0], bins)
    surface.lay(segments, len(segments), power[0], board[0], begin_s, dt_s, bins, above_w)
    surface.settle(power[0], board[0], dt_s, bins, mean_w, sd_w)
    surface.add_noise(power[0].phi, normals, mean_w, sd_w, board[0], total_w)
    return total_w


@njit(cache=True, nogil=True, error_model="numpy")
def advance(clock, servers, page, normals, edges, total_w):
    """Let servers work on for whole bins, and add their mean watts to those of their sums."""
    (begin_s, dt_s, until_s), (laws, powers, work, boards) = clock, servers
    n_bins, above_w, alone = total_w.shape[1], np.empty(len(page)), len(total_w) == len(laws)
    bins_of_slice, settled = np.empty((3, SLICE)), np.empty((4, SLICE))
    for first in range(0, n_bins, SLICE):
        size, here_s = min(SLICE, n_bins - first), begin_s + first * dt_s
        inside = slice(first, first + size)
        end_s = until_s if first + size == n_bins else here_s + size * dt_s
        bins, (mean_w, sd_w, variance, covariance) = bins_of_slice[:, :size], settled[:, :size]
        for g in range(len(total_w)):
            sum_w, before, lead = total_w[g, inside], 0.0, edges[g]
            variance[:] = covariance[:] = 0.0
            for s in range(lead, edges[g + 1]):
                power, board, n = powers[s], boards[s], len(page)
                surface.begin_bins(here_s, dt_s, board, bins)
                while n == len(page):
                    n = steps.advance(end_s, laws, work, s, page)
                    surface.lay(page, n, power, board, here_s, dt_s, bins, above_w)
                surface.settle(power, board, dt_s, bins, mean_w, sd_w)
                if normals.size > 0 and alone:
                    surface.add_noise(power.phi, normals[g, inside], mean_w, sd_w, board, sum_w)
                    continue
                before += board.sd_w * board.sd_w
                surface.gather(mean_w, sd_w, board, variance, covariance, sum_w)
            if normals.size > 0 and not alone:
                spread = normals[g, inside], variance, covariance, before
                surface.add_shared_noise(powers[lead].phi, *spread, boards[lead], sum_w)
    for s in range(len(laws)):
        work.engine[s].clock_s = max(work.engine[s].clock_s, until_s)
