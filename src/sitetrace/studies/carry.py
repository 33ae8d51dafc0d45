"""What a fitted model says of another architecture, GPU type or number of GPUs.

It is carried over by roofline terms: the bytes of a decode step (weights, of a mixture of experts
those that are touched, and the cache) over the memory's bandwidth, its operations over the peak.
Assumed: what a step takes besides goes with the number of layers; a prompt token takes its
operations at the same share of the peak; power above idle is a share of what lies between idle and
design power, and while decoding grows with the root of the bandwidth in use, as in the later model
of grantwilkins/powertrace-sim.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from sitetrace.core.registry import device
from sitetrace.core.types import Configuration
from sitetrace.meter import Meter
from sitetrace.power.timeline.model import TimelineModel
from sitetrace.serving.calibration import ROOFLINE, read_architecture, room_for_tokens
from sitetrace.serving.engine import Server

OPTIONAL = ("moe_frac", "n_experts", "top_k", "swa_global_ratio")
FEW, MANY = 2.0, 12.0  # batches through which a line in the batch is laid


@dataclass(frozen=True)
class Machine:
    """An architecture on so many GPUs of a type."""

    configuration: Configuration
    layers: float
    active: float  # parameters that a token uses
    dense_bytes: float  # weights that every step reads, and those in experts
    expert_bytes: float
    touched: float  # share of the experts that one token uses; 1 in a dense model
    token_bytes: float  # keys and values that a decode step reads for a token of context
    kv_tokens: int  # tokens whose keys and values find room beside the weights
    width: float
    gpu: dict  # from `sitetrace.core.registry.device`

    @property
    def gpus(self) -> int:
        """Number of GPUs."""
        return self.configuration.tensor_parallel

    def read_s(self, batch: np.ndarray | float, context: float = 0.0) -> np.ndarray | float:
        """Seconds to read what a step needs, each sequence `context` tokens, at full bandwidth."""
        untouched = (1.0 - self.touched) ** np.asarray(batch, dtype=float)
        weights = self.dense_bytes + self.expert_bytes * (1.0 - untouched)
        taken = weights + self.token_bytes * context * np.asarray(batch, dtype=float)
        return taken / (self.gpus * self.gpu["bandwidth_bytes_s"])

    def compute_s(self, tokens: np.ndarray | float) -> np.ndarray | float:
        """Seconds to compute so many tokens at the peak rate."""
        return 2.0 * self.active * tokens / (self.gpus * self.gpu["peak_flop_s"])


def machine(configuration: Configuration, info: dict) -> Machine:
    """Take from run.json what the roofline needs of an architecture."""
    arch = read_architecture(configuration.name, info, ROOFLINE, OPTIONAL)
    in_experts = arch["moe_frac"]
    return Machine(
        configuration=configuration,
        layers=arch["n_layers"],
        active=arch["n_active"],
        dense_bytes=arch["w_bytes"] * (1.0 - in_experts),
        expert_bytes=arch["w_bytes"] * in_experts,
        touched=(arch["top_k"] or 1.0) / (arch["n_experts"] or 1.0) if in_experts else 1.0,
        token_bytes=arch["read_bytes"],
        kv_tokens=room_for_tokens(configuration.name, arch, configuration),
        width=arch["d_model"],
        gpu=device(configuration.hardware),
    )


def bandwidth_share(served: Machine, server: Server, batch: float) -> float:
    """Share of the memory's bandwidth that decode steps use."""
    return float(min(served.read_s(batch) / server.decode_s(batch), 1.0))


def _line(at: Callable[[float], float]) -> tuple[float, float]:
    """Level at no sequence and slope (not negative) of a line through two batches."""
    few, many = at(FEW), at(MANY)
    slope = max((many - few) / (MANY - FEW), 0.0)
    return float(few - FEW * slope), float(slope)


def carried_server(server: Server, source: Machine, target: Machine) -> Server:
    """Guess the engine of another architecture, GPU type or number of GPUs."""

    def step_s(batch: float) -> float:
        spent_s = server.decode_s(batch)
        left_s = spent_s - source.read_s(batch)
        if left_s > 0:
            return target.read_s(batch) + left_s * target.layers / source.layers
        # an engine faster than its memory does not read all: the times then scale as a whole
        return spent_s * target.read_s(batch) / source.read_s(batch)

    c0_s, c1_s = _line(step_s)
    pairs = target.width * target.layers / (target.gpus * target.gpu["peak_flop_s"])
    pairs_before = source.width * source.layers / (source.gpus * source.gpu["peak_flop_s"])
    return replace(
        server,
        c0_s=c0_s,
        c1_s=c1_s,
        c2_s=float(server.c2_s * target.compute_s(1.0) / source.compute_s(1.0)),
        c3_s=float(target.token_bytes / (target.gpus * target.gpu["bandwidth_bytes_s"])),
        c4_s=float(server.c4_s * pairs / pairs_before),
        batch_scale=Server.batch_scale,
        kv_tokens=target.kv_tokens,
    )


def carried(
    model: TimelineModel, source: Machine, target: Machine, idle_w: float, meter: Meter
) -> TimelineModel:
    """Carry a fitted model over to a target of which the idle watts and a kind of meter are told.

    How idle power spreads and fades stays that of the source. Nothing else of the target is used.
    """
    server, old = carried_server(model.server, source, target), model.surface
    before_w = source.gpu["tdp_w"] - old.idle_w / source.gpus
    gain = target.gpus * (target.gpu["tdp_w"] - idle_w / target.gpus)
    gain /= before_w * source.gpus

    def level_w(batch: float) -> float:
        used = bandwidth_share(target, server, batch) / bandwidth_share(source, model.server, batch)
        above_w = float(old.step_power_w(np.array([batch]), np.zeros(1))[0]) - old.idle_w
        return idle_w + gain * above_w * np.sqrt(used)

    decode_w, slope_w = _line(level_w)
    surface = replace(
        old,
        idle_w=idle_w,
        decode_w=decode_w,
        per_sequence_w=slope_w,
        prefill_w=float(idle_w + gain * (old.prefill_w - old.idle_w)),
        warm_w=float(gain * old.warm_w),
        warm_idle_w=float(gain * old.warm_idle_w),
        batch_scale=type(old).batch_scale,
        limit_w=float(target.gpu["tdp_w"] * target.gpus),
    )
    noise = replace(model.residual, decode_w=float(gain * model.residual.decode_w))
    rule = {"rule": f"carried over from {source.configuration.name} by roofline terms"}
    return replace(
        model,
        configuration=target.configuration,
        server=server,
        idle=replace(model.idle, mean_w=idle_w, active_w=float(gain * model.idle.active_w)),
        surface=surface,
        meter=meter,
        residual=noise,
        provenance=model.provenance | rule,
    )
