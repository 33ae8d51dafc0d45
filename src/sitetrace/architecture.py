"""What an engine costs and holds before any fit: from its architecture and its GPUs."""

from __future__ import annotations

from dataclasses import replace

from sitetrace.devices import device
from sitetrace.files import InputError
from sitetrace.serving import Server
from sitetrace.trace import Run

MEMORY_SHARE = 0.9
ATTENTION_EFFICIENCY = 0.5
# a mixture of experts: sequences at which one more costs half the time of the first
EXPERTS_BATCH = 4.0
ARCHITECTURE = ("d_model", "n_layers", "n_kv", "head_dim", "w_bytes")


def from_architecture(run: Run, largest_request: int) -> tuple[Server, float]:
    """Limits of an engine and, where architecture and GPU are known, c3, c4 and KV space.

    ``c3`` is the time to read a token's keys and values (16 bit) from memory; ``c4`` is the
    attention of a pair of tokens, ``4 * d_model * n_layers`` FLOP, at half the peak. With experts
    a further sequence adds ever less time.

    Parameters
    ----------
    run : Run
        Its ``run.json`` may hold ``arch`` and the engine's limits.
    largest_request : int
        Tokens of the largest request served: it did fit, whatever the sum says.

    Returns
    -------
    server : Server
        With defaults for what is not known.
    c3_floor_s : float
        Least ``c3`` that the memory allows; 0 where it is not known.
    """
    server = Server(
        max_num_seqs=int(_number(run, run.info, "max_num_seqs", 256, 1)),
        max_num_batched_tokens=int(_number(run, run.info, "max_num_batched_tokens", 8192, 1)),
        kv_tokens=max(Server.kv_tokens, largest_request),
    )
    table, gpus = run.info.get("arch"), run.configuration.tensor_parallel
    if fallen_back(run):
        return server, 0.0
    gpu = device(run.configuration.hardware)
    arch = {name: _number(run, table, name, 1.0, 1) for name in ARCHITECTURE}
    if _number(run, table, "n_experts", 1.0, 0) > 1:
        server = replace(server, batch_scale=EXPERTS_BATCH)
    # With sliding windows only one layer in so many reads the whole context.
    windowed = _number(run, table, "swa_global_ratio", 0.0, 0.0)
    token_bytes = 4 * arch["n_layers"] * arch["n_kv"] * arch["head_dim"]
    free_bytes = gpu["memory_bytes"] * MEMORY_SHARE * gpus - arch["w_bytes"]
    c3_s = token_bytes / (1 + windowed) / (gpus * gpu["bandwidth_bytes_s"])
    pair_flop = 4 * arch["d_model"] * arch["n_layers"]
    return replace(
        server,
        c3_s=c3_s,
        c4_s=pair_flop / (gpus * gpu["peak_flop_s"] * ATTENTION_EFFICIENCY),
        kv_tokens=max(int(free_bytes / token_bytes), largest_request),
    ), c3_s


def fallen_back(run: Run) -> dict[str, str]:
    """Say which numbers of an engine are defaults because a run does not tell enough.

    Parameters
    ----------
    run : Run
        As in `from_architecture`.

    Returns
    -------
    dict of str to str
        The reason by name of the field; ``c3_s`` is its floor where counters teach ``c3``.
    """
    table, why = run.info.get("arch"), None
    if not isinstance(table, dict):
        why = "no arch in run.json"
    elif not set(ARCHITECTURE) <= set(table):
        why = f"run.json: arch lacks {', '.join(sorted(set(ARCHITECTURE) - set(table)))}"
    else:
        try:
            device(run.configuration.hardware)
        except InputError:
            why = f"unknown GPU {run.configuration.hardware!r}"
    return dict.fromkeys(("c3_s", "c4_s", "kv_tokens", "batch_scale"), why) if why else {}


def _number(run: Run, table: dict, name: str, default: float, lowest: float) -> float:
    """One number of ``run.json``, or its default where there is none."""
    value = table.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not lowest <= value < 1e18:
        raise InputError(
            f"run {run.name}: run.json: {name} = {value!r} is no sensible number: mend"
        )
    return value
