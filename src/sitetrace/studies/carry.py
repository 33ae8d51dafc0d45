"""What hardware and architecture say: how much of a GPU a step uses, and a model carried over.

The roofline of a decode step: its bytes (weights, of a mixture of experts those that are touched,
and the cache) over the memory's bandwidth, its operations over the peak. A board's power above idle
grows with the root of the share of its bandwidth in use, as in the later model of
grantwilkins/powertrace-sim.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from sitetrace.core.registry import device
from sitetrace.core.types import Configuration
from sitetrace.power.idle import Idle
from sitetrace.power.timeline.model import TimelineModel
from sitetrace.serving.architecture import ROOFLINE, read_architecture, read_bytes, room_for_tokens
from sitetrace.serving.engine import Server

OPTIONAL = ("moe_frac", "n_experts", "top_k", "swa_global_ratio")
FEW, MANY = 2.0, 12.0


@dataclass(frozen=True)
class Machine:
    """An architecture on so many GPUs of a type."""

    configuration: Configuration
    layers: float
    active: float
    dense_bytes: float
    expert_bytes: float
    touched: float
    token_bytes: float
    kv_tokens: int
    width: float
    gpu: dict

    @property
    def gpus(self) -> int:
        """Number of GPUs."""
        return self.configuration.tensor_parallel

    def read_s(self, batch: np.ndarray | float, context: float = 0.0) -> np.ndarray | float:
        """Time to read what a decode step needs at the full bandwidth."""
        untouched = (1.0 - self.touched) ** np.asarray(batch, dtype=float)
        weights = self.dense_bytes + self.expert_bytes * (1.0 - untouched)
        taken = weights + self.token_bytes * context * np.asarray(batch, dtype=float)
        return taken / (self.gpus * self.gpu["bandwidth_bytes_s"])

    def compute_s(self, tokens: np.ndarray | float) -> np.ndarray | float:
        """Time to compute so many tokens at the peak rate."""
        return 2.0 * self.active * tokens / (self.gpus * self.gpu["peak_flop_s"])


def machine(configuration: Configuration, info: dict) -> Machine:
    """Read an architecture."""
    arch = read_architecture(configuration.name, info, ROOFLINE, OPTIONAL)
    in_experts = arch["moe_frac"]
    return Machine(
        configuration=configuration,
        layers=arch["n_layers"],
        active=arch["n_active"],
        dense_bytes=arch["w_bytes"] * (1.0 - in_experts),
        expert_bytes=arch["w_bytes"] * in_experts,
        touched=(arch["top_k"] or 1.0) / (arch["n_experts"] or 1.0) if in_experts else 1.0,
        token_bytes=read_bytes(arch),
        kv_tokens=room_for_tokens(configuration.name, arch, configuration),
        width=arch["d_model"],
        gpu=device(configuration.hardware),
    )


def bandwidth_share(served: Machine, server: Server, batch: float) -> float:
    """Share of the memory's bandwidth that decode steps use."""
    return float(min(served.read_s(batch) / (server.decode_s(batch)), 1.0))


def carried_server(server: Server, source: Machine, target: Machine) -> Server:
    """Guess the engine of another architecture, GPU type or number of GPUs."""
    steps = {}
    for batch in (FEW, MANY):
        spent_s = server.decode_s(batch)
        left_s = spent_s - source.read_s(batch)
        # an engine faster than its memory does not read all: the times then scale as a whole
        steps[batch] = (
            target.read_s(batch) + left_s * target.layers / source.layers
            if left_s > 0
            else spent_s * target.read_s(batch) / source.read_s(batch)
        )
    c1_s = max((steps[MANY] - steps[FEW]) / (MANY - FEW), 0.0)
    pairs = target.width * target.layers / (target.gpus * target.gpu["peak_flop_s"])
    pairs_before = source.width * source.layers / (source.gpus * source.gpu["peak_flop_s"])
    return replace(
        server,
        c0_s=float(steps[FEW] - FEW * c1_s),
        c1_s=float(c1_s),
        c2_s=float(server.c2_s * target.compute_s(1.0) / source.compute_s(1.0)),
        c3_s=float(target.token_bytes / (target.gpus * target.gpu["bandwidth_bytes_s"])),
        c4_s=float(server.c4_s * pairs / pairs_before),
        batch_scale=Server.batch_scale,
        kv_tokens=target.kv_tokens,
    )


def carried(
    model: TimelineModel, source: Machine, target: Machine, board: Idle, like: TimelineModel
) -> TimelineModel:
    """Carry a fitted model over to another architecture, GPU type or number of GPUs."""
    server, old = carried_server(model.server, source, target), model.surface
    before_w = source.gpu["tdp_w"] - old.idle_w / source.gpus
    gain = target.gpus * (target.gpu["tdp_w"] - board.mean_w / target.gpus)
    gain /= before_w * source.gpus
    levels = {}
    for batch in (FEW, MANY):
        used = bandwidth_share(target, server, batch) / bandwidth_share(source, model.server, batch)
        above_w = float(old.step_power_w(np.array([batch]), np.zeros(1))[0]) - old.idle_w
        levels[batch] = board.mean_w + gain * above_w * np.sqrt(used)
    slope_w = max((levels[MANY] - levels[FEW]) / (MANY - FEW), 0.0)
    surface = replace(
        old,
        idle_w=board.mean_w,
        decode_w=float(levels[FEW] - FEW * slope_w),
        per_sequence_w=float(slope_w),
        prefill_w=float(board.mean_w + gain * (old.prefill_w - old.idle_w)),
        warm_w=float(gain * old.warm_w),
        warm_idle_w=float(gain * old.warm_idle_w),
        batch_scale=type(old).batch_scale,
        limit_w=float(target.gpu["tdp_w"] * target.gpus),
    )
    noise = replace(model.residual, decode_w=float(gain * model.residual.decode_w))
    rule = f"carried over from {source.configuration.name} by roofline terms"
    return replace(
        model,
        configuration=target.configuration,
        server=server,
        idle=replace(board, active_w=float(gain * model.idle.active_w)),
        surface=surface,
        meter=like.meter,
        residual=noise,
        provenance=model.provenance | {"rule": rule},
    )
