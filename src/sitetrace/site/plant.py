"""What a site is made of when it runs: pools with their models, racks, rows, and what is kept."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pandas as pd

from sitetrace.core.files import InputError
from sitetrace.core.registry import device
from sitetrace.power.modelfile import load_model
from sitetrace.power.states.model import StatesModel
from sitetrace.power.timeline.model import TimelineModel
from sitetrace.site.facility import greatest_pue, non_gpu_law, resolve_pue
from sitetrace.site.fleet import resolve_model
from sitetrace.site.scenario import Scenario, exact
from sitetrace.workload.spec import open_stream
from sitetrace.workload.streams import Stream

# enough blocks for any number of workers at hand; the result hangs on their number in no way
MOST_BLOCKS = 64


@dataclass(frozen=True)
class Pool:
    """Servers of one model."""

    name: str
    model: TimelineModel | StatesModel
    idle_w: float | None
    servers: np.ndarray
    stream: Stream
    routing: str
    every: int

    @property
    def independent(self) -> bool:
        """Whether a server's requests are a stream of their own: a thinned Poisson stream is."""
        return self.routing == "random" and hasattr(self.stream, "server_chunk")


@dataclass(frozen=True)
class Kept:
    """What is stored at one step."""

    levels: tuple[str, ...]
    step_s: float
    every: int

    def mean(self, power_w: np.ndarray) -> np.ndarray:
        """Average over the bins of each stored one."""
        # a product with equal weights is many times faster than a mean over a short axis
        return power_w.reshape(-1, self.every) @ np.full(self.every, 1.0 / self.every)


@dataclass(frozen=True)
class Plant:
    """All that a block of racks needs to know."""

    pools: tuple[Pool, ...]
    pool_of: np.ndarray
    rack_of: np.ndarray
    row_of: np.ndarray
    base_w: np.ndarray
    per_gpu_w: float
    seed: int
    dt: Fraction
    chunk: int
    keep: tuple[Kept, ...]

    def blocks(self) -> list[tuple[int, int]]:
        """Cut the racks into blocks that lie within a row."""
        most = -(-self.row_of.size // MOST_BLOCKS)
        edges = np.flatnonzero(np.diff(self.row_of)) + 1
        parts = zip([0, *edges.tolist()], [*edges.tolist(), self.row_of.size], strict=True)
        return [
            (begin, min(begin + most, end))
            for first, end in parts
            for begin in range(first, end, most)
        ]

    def span_s(self, index: int, n_bins: int) -> tuple[float, float]:
        """Tell when a stretch of time begins and ends."""
        begin_s = index * self.chunk * float(self.dt)
        return begin_s, begin_s + n_bins * float(self.dt)

    def servers_in(self, block: tuple[int, int]) -> range:
        """List the servers of a block."""
        first, end = np.searchsorted(self.rack_of, block)
        return range(int(first), int(end))


def steps_in(dt: Fraction, model: TimelineModel | StatesModel, name: str) -> int:
    """Count the steps of a model in one of the simulation."""
    every = dt / model.dt
    if every.denominator != 1:
        raise InputError(
            f"pool {name}: step_s {float(dt):g} is no multiple of its model's step of "
            f"{float(model.dt):g} s: give {float(model.dt):g} or a multiple"
        )
    return int(every)


def _on_board(
    model: TimelineModel | StatesModel, idle_w: float | None
) -> TimelineModel | StatesModel:
    """Carry a model over to other boards; one of states is re-based when it has drawn."""
    if idle_w is None:
        return model
    if isinstance(model, TimelineModel):
        return model.on_board(idle_w)
    model.rebase(np.zeros(0), idle_w)  # what is wrong is said now
    return model


def make_plant(scenario: Scenario) -> Plant:
    """Load what a scenario names and put it in its place."""
    units, dt = scenario.units(), exact(scenario.step_s)
    base_w, slopes, pools = np.zeros(scenario.n_servers), set(), []
    for place, filled in enumerate(scenario.pools()):
        with scenario.blaming("fleet", place, "model"):
            model = load_model(resolve_model(filled.pool.model, scenario.folder))
        law = non_gpu_law(scenario.non_gpu, model.configuration.tensor_parallel)
        base_w[filled.servers], slope = law
        slopes.add(slope)
        top = () if filled.pool.traffic is None else ("fleet", place)
        with scenario.blaming(*top, "traffic"):
            stream = open_stream(
                filled.traffic, filled.servers.size, scenario.folder, scenario.start_hour
            )
        with scenario.blaming("step_s"):
            every = steps_in(dt, model, filled.pool.name)
        with scenario.blaming("fleet", place, "idle_w"):
            model = _on_board(model, filled.pool.idle_w)
        own = (filled.servers, stream, filled.traffic.routing, every)
        pools.append(Pool(filled.pool.name, model, filled.pool.idle_w, *own))
    (per_gpu_w,) = slopes  # sums over racks and rows know no other
    rack_of = np.cumsum(np.diff(units.rack, prepend=units.rack[:1]) != 0)
    rack_of += np.cumsum((np.diff(units.rack, prepend=units.rack[:1]) == 0)
                         & (np.diff(units.row, prepend=units.row[:1]) != 0))  # fmt: skip
    keep = tuple(
        Kept(entry.levels, entry.step_s, int(exact(entry.step_s) / dt)) for entry in scenario.keep
    )
    return Plant(
        pools=tuple(pools),
        pool_of=units.pool,
        rack_of=rack_of,
        row_of=units.row[np.flatnonzero(np.diff(rack_of, prepend=-1))],
        base_w=base_w,
        per_gpu_w=per_gpu_w,
        seed=scenario.seed,
        dt=dt,
        chunk=int(exact(scenario.chunk_s) / dt),
        keep=keep,
    )


def unit_table(scenario: Scenario, plant: Plant, entry: Kept) -> pd.DataFrame:
    """List the units that are kept, in the order of the file."""
    gpu_w = nameplate_gpu_w(plant)
    it_w = plant.base_w + (1.0 + plant.per_gpu_w) * gpu_w
    row = plant.row_of[plant.rack_of]
    first = np.searchsorted(plant.row_of, plant.row_of)
    rack = (np.arange(plant.row_of.size) - first)[plant.rack_of]
    place = np.arange(row.size) - np.searchsorted(plant.rack_of, plant.rack_of)
    servers = pd.DataFrame({"row": row, "rack": rack, "place": place, "nameplate_w": it_w})
    rows = []
    if "site" in entry.levels:
        most = greatest_pue(resolve_pue(scenario.pue, scenario.folder))
        totals = {"facility": most * it_w.sum(), "site": it_w.sum(), "gpu": gpu_w.sum()}
        rows += [(name, name, -1, -1, row.size, watts) for name, watts in totals.items()]
    for level, keys in (("row", ["row"]), ("rack", ["row", "rack"])):
        if level in entry.levels:
            found = servers.groupby(keys)["nameplate_w"].agg(["size", "sum"])
            for key, (size, watts) in zip(found.index, found.to_numpy(), strict=True):
                at = (key, -1) if level == "row" else key
                name = "-".join([level, *(str(i) for i in at if i >= 0)])
                rows.append((name, level, *at, int(size), watts))
    if "server" in entry.levels:
        rows += [
            (f"server-{s.row}-{s.rack}-{s.place}", "server", s.row, s.rack, 1, s.nameplate_w)
            for s in servers.itertuples()
        ]
    columns = ["unit", "level", "row", "rack", "servers", "nameplate_w"]
    return pd.DataFrame(rows, columns=columns).set_index("unit")


def nameplate_gpu_w(plant: Plant) -> np.ndarray:
    """Thermal design power of each server's GPUs."""
    each = [pool.model.configuration for pool in plant.pools]
    design = [device(it.hardware)["tdp_w"] * it.tensor_parallel for it in each]
    return np.array(design)[plant.pool_of]
