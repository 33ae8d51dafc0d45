"""What a step costs in powertrace_v1: published coefficients, and the model's architecture."""

from __future__ import annotations

from typing import NamedTuple

from sitetrace.core.files import InputError, read_json
from sitetrace.core.registry import data_dir, device
from sitetrace.core.types import Run
from sitetrace.serving.calibration import ROOFLINE, read_architecture

EXPERTS = ("n_experts", "top_k")
PARTS = (
    "transformer_active_params",
    "transformer_weight_bytes",
    "output_head_params",
    "output_head_weight_bytes",
    "input_embedding_params",
    "input_embedding_weight_bytes",
)
MAY_BE_ZERO = ("moe_frac", "fp8", "fp8_flop_frac", "swa_window", "n_linear_layers")


class Law(NamedTuple):
    """What a step costs: all GPUs of the engine together."""

    launch_s: float
    sample_s: float
    flop_rate: float
    byte_rate: float
    stream_rate: float
    token_flop: float
    head_flop: float
    pair_flop: float
    weight_bytes: float
    head_bytes: float
    row_bytes: float
    expert_share: float
    untouched_share: float
    kv_bytes: float
    window: float


def coefficients() -> dict:
    """Read the published coefficients."""
    return read_json(data_dir() / "paper" / "powertrace_v1.json")


def architecture(run: Run) -> dict[str, float]:
    """Read the served model's architecture from a run."""
    where = f"run {run.name}"
    arch = read_architecture(where, run.info, (), MAY_BE_ZERO)
    needed = ROOFLINE + EXPERTS if arch["moe_frac"] > 0 else ROOFLINE
    arch |= read_architecture(where, run.info, needed)
    if arch["n_linear_layers"] > 0:
        raise InputError(
            f"{where}: run.json: arch.n_linear_layers is above zero: powertrace_v1 serves "
            "only models whose layers all keep keys and values"
        )
    if all(run.info["arch"].get(name) is not None for name in PARTS):
        arch |= read_architecture(where, run.info, PARTS)
    return arch


def law_of(run: Run) -> Law:
    """Cost of a step of the engine that served a run."""
    arch, fit = architecture(run), serving_fit(run)
    gpu, gpus = device(run.configuration.hardware), run.configuration.tensor_parallel
    fp8 = arch["fp8_flop_frac"] or float(arch["fp8"] > 0)
    if arch["fp8"] > 0 and "fp8_stream_scale" not in fit:
        raise InputError(
            f"run {run.name}: run.json: arch.fp8: powertrace_v1 has no FP8 coefficient for "
            f"{run.configuration.hardware}: take an H100 run"
        )
    whole, experts = PARTS[0] in arch, arch["moe_frac"] > 0
    parts = whole and not experts
    byte_rate = fit["byte_efficiency"] * gpu["bandwidth_bytes_s"] * gpus
    scale = fit["fp8_stream_scale"] if arch["fp8"] > 0 and parts else 1.0
    row_bytes = 0.0
    if parts:
        element_bytes = arch["input_embedding_weight_bytes"] / arch["input_embedding_params"]
        row_bytes = element_bytes * arch["d_model"]
    kv_elements = 2 * arch["n_layers"] * arch["n_kv"] * arch["head_dim"]
    return Law(
        launch_s=fit["base_s"] + 2 * arch["n_layers"] * fit["message_s"][str(gpus)],
        sample_s=fit["sample_s"],
        flop_rate=fit["flop_efficiency"] * gpu["peak_flop_s"] * gpus,
        byte_rate=byte_rate,
        stream_rate=byte_rate * scale,
        # FP8 multiplies at twice the rate, which counts as half the FLOP
        token_flop=2 * (1 - 0.5 * fp8) * arch[PARTS[0] if whole else "n_active"],
        head_flop=2 * arch["output_head_params"] if whole else 0.0,
        pair_flop=4 * arch["d_model"] * arch["n_layers"],
        weight_bytes=arch["transformer_weight_bytes" if parts else "w_bytes"],
        head_bytes=arch["output_head_weight_bytes"] if parts else 0.0,
        row_bytes=row_bytes,
        expert_share=arch["moe_frac"],
        untouched_share=1 - arch["top_k"] / arch["n_experts"] if experts else 0.0,
        kv_bytes=kv_elements * coefficients()["engine"]["kv_element_bytes"],
        window=arch["swa_window"],
    )


def serving_fit(run: Run) -> dict:
    """Look the coefficients of a step up."""
    fits, configuration = coefficients()["serving"], run.configuration
    fit = fits.get(configuration.hardware)
    if fit is None or str(configuration.tensor_parallel) not in fit["message_s"]:
        raise InputError(
            f"run {run.name}: powertrace_v1 has no coefficients for {configuration.name}: it knows "
            f"{' and '.join(fits)} at tensor parallelism 1, 2, 4 and 8"
        )
    return fit
