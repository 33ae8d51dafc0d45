"""Power of a server besides its GPUs: what was fitted to servers measured at the plug."""

from __future__ import annotations

from sitetrace.datasets import data_dir
from sitetrace.files import InputError, read_json

SIDES = ("low", "high")


def default_non_gpu(gpus: int, side: str | None = None) -> tuple[float, float]:
    """Power besides the GPUs of a server, as a line in the watts of its GPUs."""
    if gpus < 1:
        raise InputError(f"gpus: {gpus}: a server has at least one")
    if side is not None and side not in SIDES:
        raise InputError(f"side={side!r}: say 'low', 'high' or None")
    fitted = read_json(data_dir() / "nodes.json")
    line = fitted if side is None else fitted[side]
    return gpus * line["base_w_per_gpu"], line["per_gpu_w"]
