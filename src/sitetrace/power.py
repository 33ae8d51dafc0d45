"""Power samples: reading them, and refusing what no server draws."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd

from sitetrace.files import InputError, read_table
from sitetrace.trace import MAX_SPAN_S

MAX_GAP_S = 60.0
KILOWATT_SUSPICION_W = 20.0
MAX_POWER_W = 1e6
MAX_GPUS = 1024


def read_power(path: Path | str, tensor_parallel: int | None = None) -> tuple[pd.DataFrame, list]:
    """Read power samples; several GPUs are summed to the server's power."""
    path = Path(path)
    table = read_table(path, ("time_s", "power_w"), ("gpu",))
    if "gpu" not in table:
        table["gpu"] = 0.0
    check_power(path, table)
    wide = table.pivot(index="time_s", columns="gpu", values="power_w")
    notes = []
    if tensor_parallel is not None and wide.shape[1] > tensor_parallel:
        kept = wide.mean().nlargest(tensor_parallel).index.sort_values()
        notes.append(
            f"{path.name}: {wide.shape[1]} GPUs recorded, the {tensor_parallel} busiest taken"
        )
        wide = wide[kept]
    if tensor_parallel is not None and wide.shape[1] < tensor_parallel:
        raise InputError(
            f"{path}: {wide.shape[1]} GPUs recorded but tensor_parallel is {tensor_parallel}: "
            "record all GPUs of the engine or mend run.json"
        )
    whole = wide.dropna()
    if len(whole) < 0.5 * len(wide):
        raise InputError(
            f"{path}: most instants lack a GPU: give all GPUs of a sample the same time_s"
        )
    if len(whole) < len(wide):
        notes.append(f"{path.name}: {len(wide) - len(whole)} instants lack a GPU and are left out")
    samples = whole.sum(axis=1).rename("power_w").reset_index()
    _check_gaps(path, samples["time_s"].to_numpy())
    return samples, notes


def check_power(path: Path, table: pd.DataFrame) -> None:
    """Refuse times out of order and powers that no server draws."""
    lines = table.index.to_numpy() + 2
    power_w = table["power_w"].to_numpy()
    for bad, why in (
        (power_w < 0, "is below zero: mend or remove that sample"),
        (power_w > MAX_POWER_W, "is more than any server draws: give watts"),
    ):
        if bad.any():
            row = int(np.argmax(bad))
            raise InputError(f"{path}: line {lines[row]}, power_w: {power_w[row]:g} {why}")
    if power_w.max() < KILOWATT_SUSPICION_W:
        raise InputError(
            f"{path}: power_w: the greatest is {power_w.max():g}, which looks like kilowatts: "
            "multiply by 1000"
        )
    gpus = table["gpu"].to_numpy()
    bad = (gpus < 0) | (gpus >= MAX_GPUS) | (gpus != np.floor(gpus))
    if bad.any():
        row = int(np.argmax(bad))
        raise InputError(
            f"{path}: line {lines[row]}, gpu: {gpus[row]:g} is no GPU number from 0 to "
            f"{MAX_GPUS - 1}: number the GPUs"
        )
    times = table["time_s"].to_numpy()
    if times.max() - times.min() > MAX_SPAN_S:
        row = int(np.argmax(np.abs(times - np.median(times))))
        raise InputError(
            f"{path}: line {lines[row]}, time_s: {times[row]:g} makes the recording span more than "
            f"{MAX_SPAN_S / 86400:g} days: mend that time or split the recording"
        )
    for gpu, rows in table.groupby("gpu"):
        step = np.diff(rows["time_s"].to_numpy())
        if (step <= 0).any():
            row = int(np.argmax(step <= 0)) + 1
            raise InputError(
                f"{path}: line {rows.index[row] + 2}, time_s: "
                f"{rows['time_s'].iloc[row]:.3f} does not come after the sample "
                f"before it (GPU {gpu:g}): sort by time and remove duplicates"
            )


def _check_gaps(path: Path, times: np.ndarray) -> None:
    """Refuse recordings that are too short or have a hole of more than a minute."""
    if times.size < 2:
        raise InputError(f"{path}: fewer than two samples: a recording needs many")
    gap = np.diff(times)
    if gap.max() > MAX_GAP_S:
        at = times[int(np.argmax(gap))]
        raise InputError(
            f"{path}: time_s: no sample for {gap.max():.0f} s after {at:.3f}: cut the recording "
            "there and use the parts as runs of their own"
        )


def sampling_step(times_s: np.ndarray) -> Fraction:
    """Usual distance of samples, as a simple exact fraction."""
    return max(
        Fraction(float(np.median(np.diff(times_s)))).limit_denominator(100), Fraction(1, 100)
    )


def read_power_1s(path: Path, info: dict) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """Read published one-second means; the mean of second k is complete at k + 1."""
    others = ("predicted_w",)
    table = read_table(path, ("second", "measured_w"), others)
    start_s = info.get("power_1s_start_epoch_s")
    if not isinstance(start_s, (int, float)) or not np.isfinite(start_s):
        raise InputError(
            f"{path.parent / 'run.json'}: power_1s_start_epoch_s is missing: give the epoch of "
            "second 0"
        )
    times = table["second"].to_numpy() + 1.0 + start_s
    named = table.rename(columns={"measured_w": "power_w"}).assign(gpu=0.0, time_s=times)
    check_power(path, named)
    _check_gaps(path, times)
    samples = pd.DataFrame({"time_s": times, "power_w": table["measured_w"]})
    published = table[[name for name in others if name in table]]
    return samples, published if published.shape[1] else None
