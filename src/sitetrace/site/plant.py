"""What a site is made of when it runs: pools with their models, racks, rows, and what is kept."""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pandas as pd

from sitetrace.core.files import require
from sitetrace.core.registry import device
from sitetrace.power.modelfile import load_model
from sitetrace.power.states.model import StatesModel
from sitetrace.power.timeline.model import TimelineModel
from sitetrace.site.facility import Pue, greatest_pue, non_gpu_law
from sitetrace.site.scenario import Scenario, Topology, exact
from sitetrace.workload.spec import open_stream
from sitetrace.workload.streams import Stream

MOST_BLOCKS = 16  # enough for any number of workers at hand; no result hangs on it


@dataclass(frozen=True)
class ServerPool:
    """Servers of one model, loaded, with the stream of their requests opened."""

    name: str
    model: TimelineModel | StatesModel
    idle_w: float | None  # where boards idle unlike the model; kind timeline is re-based already
    servers: np.ndarray  # their numbers on the site, ascending
    stream: Stream
    routing: str
    every: int  # steps of the model in one of the simulation

    @property
    def independent(self) -> bool:
        """Whether a server's requests are a stream of their own: a thinned Poisson stream is."""
        return self.routing == "random" and hasattr(self.stream, "server_chunk")


@dataclass(frozen=True)
class Kept:
    """What is stored at one step, of so many bins of the simulation."""

    group: str | None  # in the Zarr folder, such as 0.25s; None is its root
    levels: tuple[str, ...]
    step_s: float
    every: int

    def mean(self, power_w: np.ndarray) -> np.ndarray:
        """Average over the bins of each stored one."""
        # a product with equal weights is many times faster than a mean over a short axis
        return power_w.reshape(-1, self.every) @ np.full(self.every, 1.0 / self.every)


@dataclass(frozen=True)
class Plant:
    """All that a block of racks needs to know; servers stand in the order of racks and rows."""

    pools: tuple[ServerPool, ...]
    topology: Topology
    pool_of: np.ndarray  # of each server
    rack_of: np.ndarray  # of each server, counted through the site
    row_of: np.ndarray  # of each rack
    nameplate_gpu_w: np.ndarray  # thermal design power of each server's GPUs
    base_w: np.ndarray  # of each server, beside its GPUs; per_gpu_w comes on top
    per_gpu_w: float
    seed: int
    dt: Fraction
    chunk: int  # bins of a stretch of time
    keep: tuple[Kept, ...]

    def blocks(self) -> list[tuple[int, int]]:
        """Cut the racks into blocks within a row: first rack, and the one after the last."""
        most, per_row = -(-self.row_of.size // MOST_BLOCKS), self.topology.racks_per_row
        parts = [(at, min(at + most, per_row)) for at in range(0, per_row, most)]
        rows = range(0, self.row_of.size, per_row)
        return [(row + begin, row + end) for row in rows for begin, end in parts]

    @property
    def keeps_servers(self) -> bool:
        """Whether the power of each server is stored."""
        return any("server" in entry.levels for entry in self.keep)

    def span_s(self, index: int, n_bins: int) -> tuple[float, float]:
        """Tell when a stretch of time begins and ends."""
        begin_s = index * self.chunk * float(self.dt)
        return begin_s, begin_s + n_bins * float(self.dt)

    def servers_in(self, block: tuple[int, int]) -> range:
        """List the servers of a block."""
        per_rack = self.topology.servers_per_rack
        return range(block[0] * per_rack, block[1] * per_rack)


def make_plant(scenario: Scenario) -> Plant:
    """Load what a scenario names and put it in its place."""
    topology, dt, of = scenario.topology, exact(scenario.step_s), scenario.pool_of()
    pools = [_opened(scenario, i, np.flatnonzero(of == i)) for i in range(len(scenario.fleet))]
    boards = [pool.model.configuration for pool in pools]
    laws = [non_gpu_law(scenario.non_gpu, board.tensor_parallel) for board in boards]
    (per_gpu_w,) = {slope for _, slope in laws}  # sums over racks and rows know no other
    gpu_w = [device(board.hardware)["tdp_w"] * board.tensor_parallel for board in boards]
    keep = []
    for each in scenario.keep:
        group = f"{each.step_s:.15g}s" if keep else None
        keep.append(Kept(group, each.levels, each.step_s, int(exact(each.step_s) / dt)))
    racks = np.arange(topology.rows * topology.racks_per_row)
    given = {"pools": tuple(pools), "topology": topology, "keep": tuple(keep), "dt": dt}
    given |= {"pool_of": of, "rack_of": np.repeat(racks, topology.servers_per_rack)}
    given |= {"row_of": racks // topology.racks_per_row, "seed": scenario.seed}
    given |= {"nameplate_gpu_w": np.array(gpu_w, dtype=float)[of], "per_gpu_w": per_gpu_w}
    given |= {"base_w": np.array([base_w for base_w, _ in laws])[of]}
    return Plant(**given, chunk=int(exact(scenario.chunk_s) / dt))


def _opened(scenario: Scenario, place: int, servers: np.ndarray) -> ServerPool:
    pool, at = scenario.fleet[place], ("fleet", place)
    with scenario.blaming(*at, "model"):
        model = load_model(scenario.model_files[place])
    traffic, top = pool.traffic or scenario.traffic, () if pool.traffic is None else at
    with scenario.blaming(*top, "traffic"):
        stream = open_stream(traffic, servers.size, scenario.folder, scenario.start_hour)
    every = exact(scenario.step_s) / model.dt
    with scenario.blaming("step_s"):
        what = f"step_s {scenario.step_s:g} is no multiple of its model's {float(model.dt):g} s"
        require(every.denominator == 1, f"pool {pool.name}", what, "give that or a multiple")
    with scenario.blaming(*at, "idle_w"):
        if pool.idle_w is not None and isinstance(model, TimelineModel):
            model = model.on_board(pool.idle_w)
        elif pool.idle_w is not None:
            model.rebase(np.zeros(0), pool.idle_w)  # done when drawn; what is wrong is said now
    return ServerPool(pool.name, model, pool.idle_w, servers, stream, traffic.routing, int(every))


def unit_table(plant: Plant, entry: Kept, pue: Pue) -> pd.DataFrame:
    """List the units that are kept, with place and nameplate, in the order of the file."""
    gpu_w = plant.nameplate_gpu_w
    it_w = plant.base_w + (1.0 + plant.per_gpu_w) * gpu_w
    shape = plant.topology.rows, plant.topology.racks_per_row, plant.topology.servers_per_rack
    totals = {"facility": greatest_pue(pue) * it_w.sum(), "site": it_w.sum(), "gpu": gpu_w.sum()}
    totals = totals if "site" in entry.levels else {}
    units = [(name, name, -1, -1, it_w.size, watts) for name, watts in totals.items()]
    for depth, level in enumerate(("row", "rack", "server"), start=1):
        watts = it_w.reshape(*shape[:depth], -1)
        for at in np.ndindex(*shape[:depth]) if level in entry.levels else ():
            name = "-".join(map(str, (level, *at)))
            units.append((name, level, *(*at, -1)[:2], watts[at].size, watts[at].sum()))
    columns = ["unit", "level", "row", "rack", "servers", "nameplate_w"]
    return pd.DataFrame(units, columns=columns).set_index("unit")
