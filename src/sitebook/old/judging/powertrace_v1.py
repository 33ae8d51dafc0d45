"""powertrace_v1, the deterministic model that followed the paper's: requests, work, power.

Rebuilt from its published equations and coefficients (grantwilkins/powertrace-sim), to compare
with. It serves the requests step by step, books FLOP and bytes into bins of 0.25 s, and maps each
bin to power; nothing is fitted here.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pandas as pd

from sitebook.old.judging.powertrace_v1_costs import architecture, coefficients, law_of, serving_fit
from sitetrace.core.files import InputError
from sitetrace.core.registry import device
from sitetrace.core.types import PowerTrace, Run
from sitetrace.serving.activity import amount_in_bins

DT = Fraction(1, 4)
LIMITS = ("max_num_seqs", "max_num_batched_tokens")


def serve(run: Run) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Serve a run's requests as powertrace_v1 does."""
    from sitebook.old.judging.powertrace_v1_serving import STEP_COLUMNS, serve_steps

    if run.requests is None:
        raise InputError(f"run {run.name}: requests.csv is missing: powertrace_v1 serves requests")
    law, limits = law_of(run), _limits(run)
    arrival = run.requests["arrival_s"].to_numpy(dtype=float)
    arrival = arrival - arrival[0]
    asked = run.requests[["input_tokens", "output_tokens"]].to_numpy(dtype=np.int64)
    if asked[:, 0].max() >= limits[2]:
        raise InputError(
            f"run {run.name}: requests.csv: a prompt of {asked[:, 0].max()} tokens is more than "
            f"the {limits[2]} that fit beside the weights: shorten it or give more GPUs"
        )
    steps, times = serve_steps(law, limits, arrival, asked)
    told = {
        "ttft_s": times[:, 0] - arrival + serving_fit(run)["first_token_s"],
        "decode_s": times[:, 1] - times[:, 0],
    }
    return pd.DataFrame(steps, columns=list(STEP_COLUMNS)), pd.DataFrame(told)


def _limits(run: Run) -> np.ndarray:
    """Sequences, tokens a step, and tokens of KV space in what the weights leave free."""
    engine, limits = coefficients()["engine"], []
    for name in LIMITS:
        value = run.info.get(name)
        value = engine[name] if value is None else value
        if type(value) is not int or not 1 <= value < 2**31:
            raise InputError(f"run {run.name}: run.json: {name} = {value!r} is no count: mend it")
        limits.append(value)
    memory_bytes = device(run.configuration.hardware)["memory_bytes"] * engine["memory_share"]
    free_bytes = memory_bytes * run.configuration.tensor_parallel - architecture(run)["w_bytes"]
    return np.array([*limits, max(int(free_bytes // law_of(run).kv_bytes), 0)], dtype=np.int64)


def ledger(steps: pd.DataFrame, kv_bytes: float, begin_s: float, n_bins: int) -> pd.DataFrame:
    """Book the work of steps into bins of 0.25 s."""
    dt_s = float(DT)
    ends_s = begin_s + dt_s * np.arange(1, n_bins + 1)
    length_s = (steps["end_s"] - steps["start_s"]).to_numpy()

    def spread(amount: np.ndarray) -> np.ndarray:
        return amount_in_bins(steps, np.asarray(amount), ends_s, dt_s)

    at = np.floor((steps["end_s"].to_numpy() - begin_s) / dt_s).astype(np.int64)
    inside = (at >= 0) & (at < n_bins)
    decoded = steps["decode_kv_bytes"].to_numpy()
    decoded = np.bincount(at[inside], decoded[inside], n_bins)
    return pd.DataFrame(
        {
            "busy": np.minimum(spread(length_s) / dt_s, 1.0),
            "batch": spread(steps["batch"] * length_s) / dt_s,
            "flop": spread(steps["flop"]),
            "weight_bytes": spread(steps["weight_bytes"]),
            "kv_bytes": spread(steps["decode_kv_bytes"] + steps["prefill_kv_bytes"]),
            "cache_bytes": decoded + kv_bytes * spread(steps["prefill_tokens"]),
            "steps": np.bincount(at[inside], minlength=n_bins),
        }
    )


def gpu_power_w(run: Run, work: pd.DataFrame, idle_w: float | None = None) -> np.ndarray:
    """Map the work in bins to the power of one GPU."""
    fits, arch = coefficients(), architecture(run)
    hardware, gpus = run.configuration.hardware, run.configuration.tensor_parallel
    sparse = arch["moe_frac"] > 0
    values = (
        _sparse_values(fits, hardware, gpus, idle_w) if sparse else dict(fits["dense"][hardware])
    )
    if idle_w is not None:
        values["idle"] = idle_w
    gpu = device(hardware)
    held = min(arch["w_bytes"] / (gpus * gpu["memory_bytes"]), 1.0)
    terms = _sparse_terms(work, gpu, gpus) if sparse else _dense_terms(work, gpu, gpus, held)
    power_w = sum(value * terms[name] for name, value in values.items())
    response = fits["response"][hardware]
    late = round(response["delay_s"]["moe" if sparse else "dense"] / float(DT))
    power_w = np.concatenate([np.repeat(power_w[:1], late), power_w])[: power_w.size]
    window = max(round(response["mean_s"] / float(DT)), 1)
    return pd.Series(power_w).rolling(window, min_periods=1).mean().to_numpy()


def _dense_terms(work: pd.DataFrame, gpu: dict, gpus: int, held: float) -> dict:
    """Give what the coefficients of a dense model multiply; held: memory full of weights."""
    second_bytes = (work["weight_bytes"] + work["kv_bytes"]).to_numpy() / float(DT)
    used = second_bytes / (gpus * gpu["bandwidth_bytes_s"])
    busy = work["busy"].to_numpy()
    return {
        "idle": np.ones(len(work)),
        "weights": busy * held,
        "compute": work["flop"].to_numpy() / float(DT) / (gpus * gpu["peak_flop_s"]),
        "memory": np.sqrt(busy * used),
    }


def _sparse_terms(work: pd.DataFrame, gpu: dict, gpus: int) -> dict:
    """Give what the coefficients of a model with experts multiply."""
    second_bytes = (work["weight_bytes"] + work["cache_bytes"]).to_numpy() / float(DT)
    used = second_bytes / (gpus * gpu["bandwidth_bytes_s"])
    computing = work["flop"].to_numpy() / float(DT) / (gpus * gpu["peak_flop_s"])
    return {
        "idle": np.ones(len(work)),
        "several": np.full(len(work), float(gpus > 1)),
        "memory": np.concatenate([used[:1], used[:-1]]),
        "compute": np.sqrt(work["busy"].to_numpy() * computing),
        "iterations": work["steps"].to_numpy() / float(DT) / 1000,
        "batch": np.log1p(work["batch"].to_numpy()),
    }


def _sparse_values(fits: dict, hardware: str, gpus: int, idle_w: float | None) -> dict:
    """Coefficients of gpt-oss, carried over to another GPU type where the idle power is known."""
    models, source = fits["moe"]["models"].values(), fits["moe"]["hardware"]
    values = next(dict(m["coefficients"]) for m in models if gpus in m["tensor_parallel"])
    if idle_w is not None and hardware != source:
        for name, peak in (("memory", "bandwidth_bytes_s"), ("compute", "peak_flop_s")):
            here, there = fits["dense"][hardware][name], fits["dense"][source][name]
            values[name] *= here / device(hardware)[peak] / (there / device(source)[peak])
    return values


def predict(run: Run, *, idle_w: float | None = None) -> PowerTrace:
    """Predict a run's power from its requests with the published coefficients."""
    if idle_w is not None and not 0 < idle_w < np.inf:
        raise InputError(f"idle_w: {idle_w!r} is no power: give watts above zero or leave it out")
    steps, _ = serve(run)
    times = run.samples["time_s"]
    start_s = float(times.iloc[0]) - float(run.dt)
    n_bins = int(np.ceil((float(times.iloc[-1]) - start_s) / float(DT) - 1e-6))
    begin_s = start_s - float(run.requests["arrival_s"].iloc[0])
    work = ledger(steps, law_of(run).kv_bytes, begin_s, n_bins)
    gpus = run.configuration.tensor_parallel
    gpu_idle_w = None if idle_w is None else idle_w / gpus
    return PowerTrace(start_s, DT, gpus * gpu_power_w(run, work, gpu_idle_w))
