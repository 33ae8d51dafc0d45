"""What an engine costs and holds before any fit: from its architecture and its GPUs."""

from __future__ import annotations

from dataclasses import replace

from sitetrace.core.files import InputError
from sitetrace.core.registry import device
from sitetrace.core.types import Configuration, Run
from sitetrace.serving.engine import Server

# Fields of `arch` in run.json: what is held in memory, and what a roofline needs besides.
HELD = ("d_model", "n_layers", "n_kv", "head_dim", "w_bytes")
ROOFLINE = (*HELD, "n_active")
MEMORY_SHARE = 0.9  # of a GPU's memory that vLLM takes by default
ELEMENT_BYTES = 2.0  # of a key or value: 16 bit
ATTENTION_EFFICIENCY = 0.5  # share of the peak rate at which attention computes
# a mixture of experts: sequences at which one more costs half the time of the first
EXPERTS_BATCH = 4.0


def from_architecture(run: Run, largest_request: int) -> tuple[Server, dict[str, str]]:
    """Limits of an engine, its least c3, c4 and KV space; and why some of these are defaults."""
    where, info, gpus = f"run {run.name}", run.info, run.configuration.tensor_parallel
    place, gpu = f"{where}: run.json: ", known_device(run.configuration.hardware)
    server = Server(
        max_num_seqs=int(_number(place, info, "max_num_seqs", 256, 1)),
        max_num_batched_tokens=int(_number(place, info, "max_num_batched_tokens", 8192, 1)),
        # the largest request served did fit, whatever the sum says
        kv_tokens=max(Server.kv_tokens, largest_request),
    )
    table, why = _arch(info), ""
    lacking = sorted(name for name in HELD if table.get(name) is None)
    if not table:
        why = "no arch in run.json"
    elif lacking:
        why = f"run.json: arch lacks {', '.join(lacking)}"
    elif gpu is None:
        why = f"unknown GPU {run.configuration.hardware!r}"
    if why:
        return server, dict.fromkeys(("c3_s", "c4_s", "kv_tokens", "batch_scale"), why)
    arch = read_architecture(where, info, HELD, ("n_experts", "swa_global_ratio"))
    share = min(_number(place, info, "gpu_memory_utilization", MEMORY_SHARE, 0.01), 1.0)
    pair_flop = 4 * arch["d_model"] * arch["n_layers"]
    known = replace(
        server,
        # of a token of context keys and values are read, of a pair of tokens attention is computed
        c3_s=read_bytes(arch) / (gpus * gpu["bandwidth_bytes_s"]),
        c4_s=pair_flop / (gpus * gpu["peak_flop_s"] * ATTENTION_EFFICIENCY),
        batch_scale=EXPERTS_BATCH if arch["n_experts"] > 1 else Server.batch_scale,
        kv_tokens=max(room_for_tokens(where, arch, run.configuration, share), largest_request),
    )
    return known, {}


def known_device(hardware: str) -> dict | None:
    """Datasheet of a GPU type, if there is one."""
    try:
        return device(hardware)
    except InputError:
        return None


def read_architecture(
    where: str, info: dict, needed: tuple[str, ...], optional: tuple[str, ...] = ()
) -> dict[str, float]:
    """Read fields of the served model's architecture; optional ones are 0 where not told."""
    table, place = _arch(info), f"{where}: run.json: arch."
    for name in needed:
        if table.get(name) is None:
            raise InputError(f"{place}{name} is missing: give {', '.join(needed)}")
    lowest = dict.fromkeys(optional, 0.0) | dict.fromkeys(needed, 1.0)
    return {name: _number(place, table, name, 0.0, least) for name, least in lowest.items()}


def _arch(info: dict) -> dict:
    table = info.get("arch")
    return table if isinstance(table, dict) else {}


def _number(place: str, table: dict, name: str, default: float, lowest: float) -> float:
    """One number of ``run.json``, or its default where there is none."""
    value = table.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not lowest <= value < 1e18:
        raise InputError(f"{place}{name} = {value!r} is no sensible number: mend it")
    return float(value)


def read_bytes(arch: dict[str, float]) -> float:
    """Keys and values that a decode step reads for a token of context."""
    # with sliding windows only one layer in so many reads the whole context
    return _held_bytes(arch) / (1 + arch["swa_global_ratio"])


def _held_bytes(arch: dict[str, float]) -> float:
    """Keys and values of a token in all layers, for within its window a layer holds it too."""
    return 2 * ELEMENT_BYTES * arch["n_layers"] * arch["n_kv"] * arch["head_dim"]


def room_for_tokens(
    where: str, arch: dict[str, float], configuration: Configuration, share: float = MEMORY_SHARE
) -> int:
    """Tokens whose keys and values find room beside the weights in a share of the memory."""
    whole_bytes = device(configuration.hardware)["memory_bytes"] * configuration.tensor_parallel
    tokens = int((share * whole_bytes - arch["w_bytes"]) / _held_bytes(arch))
    if tokens < 1:
        raise InputError(
            f"{where}: run.json: arch.w_bytes = {arch['w_bytes']:g} leaves no room for keys and "
            f"values in {share * whole_bytes:g} bytes of {configuration.tensor_parallel} "
            f"{configuration.hardware}: raise tensor_parallel, mend w_bytes, or state "
            "gpu_memory_utilization"
        )
    return tokens
