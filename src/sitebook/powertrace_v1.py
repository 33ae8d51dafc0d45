"""powertrace_v1, the deterministic model that followed the paper's: requests, work, power.

Rebuilt from its published equations and coefficients (grantwilkins/powertrace-sim), to compare
with. It serves the requests step by step, books FLOP and bytes into bins of 0.25 s, and maps each
bin to power; nothing is fitted here.
"""

from fractions import Fraction
from typing import NamedTuple

import numpy as np
import pandas as pd
from numba import njit

from sitetrace.core.files import read_json, require
from sitetrace.core.registry import data_dir, device
from sitetrace.core.types import PowerTrace, Run
from sitetrace.serving.activity import amount_in_bins
from sitetrace.serving.calibration import ROOFLINE, read_architecture

DT = Fraction(1, 4)
LIMITS = ("max_num_seqs", "max_num_batched_tokens")
STEP_COLUMNS = (
    "start_s", "end_s", "batch", "prefill_tokens", "flop", "weight_bytes", "decode_kv_bytes",
    "prefill_kv_bytes",
)  # fmt: skip
EXPERTS = ("n_experts", "top_k")
PARTS = (
    "transformer_active_params", "transformer_weight_bytes", "output_head_params",
    "output_head_weight_bytes", "input_embedding_params", "input_embedding_weight_bytes",
)  # fmt: skip
MAY_BE_ZERO = ("moe_frac", "fp8", "fp8_flop_frac", "swa_window", "n_linear_layers")


class Law(NamedTuple):
    """What a step costs: all GPUs of the engine together."""

    launch_s: float  # of a step, and of sampling for each sequence
    sample_s: float
    flop_rate: float  # a second; of bytes also where FP8 weights are streamed
    byte_rate: float
    stream_rate: float
    token_flop: float  # of a token in the layers, in the output head, and of a pair in attention
    head_flop: float
    pair_flop: float
    weight_bytes: float  # of the layers, the output head, and a row of the embedding
    head_bytes: float
    row_bytes: float
    expert_share: float  # of the weights; and of the experts what a token leaves untouched
    untouched_share: float
    kv_bytes: float  # of a token
    window: float  # tokens that half of the layers see; 0: all


def coefficients() -> dict:
    """Read the published coefficients."""
    return read_json(data_dir() / "paper" / "powertrace_v1.json")


def architecture(run: Run) -> dict[str, float]:
    """Read the served model's architecture from a run."""
    where = f"run {run.name}"
    arch = read_architecture(where, run.info, (), MAY_BE_ZERO)
    arch |= read_architecture(where, run.info, ROOFLINE + EXPERTS * (arch["moe_frac"] > 0))
    what, mend = "run.json: arch.n_linear_layers is above zero", "all must keep keys and values"
    require(arch["n_linear_layers"] == 0, where, what, mend)
    whole = PARTS if all(run.info["arch"].get(name) is not None for name in PARTS) else ()
    return arch | read_architecture(where, run.info, whole)


def law_of(run: Run) -> Law:
    """Cost of a step of the engine that served a run."""
    arch, fit = architecture(run), serving_fit(run)
    gpu, gpus = device(run.configuration.hardware), run.configuration.tensor_parallel
    fp8 = arch["fp8_flop_frac"] or float(arch["fp8"] > 0)
    known, where = arch["fp8"] == 0 or "fp8_stream_scale" in fit, f"run {run.name}: run.json"
    what = f"powertrace_v1 has no FP8 coefficient for {run.configuration.hardware}"
    require(known, f"{where}: arch.fp8", what, "take an H100 run")
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
    fit = fits.get(configuration.hardware, {"message_s": {}})
    what = f"powertrace_v1 has no coefficients for {configuration.name}"
    mend = f"it knows {' and '.join(fits)} at tensor parallelism 1, 2, 4 and 8"
    known = str(configuration.tensor_parallel) in fit["message_s"]
    require(known, f"run {run.name}", what, mend)
    return fit


@njit(cache=True)
def seen_tokens(context, window):
    """Tokens that a layer reads on average; with a window, half of the layers have it."""
    return 0.5 * (context + min(context, window)) if window > 0.0 else context


@njit(cache=True)
def step_cost(law, batch, context, prefill, sampled, pairs, streamed):
    """Work and duration of one step."""
    tokens = batch + prefill
    body_flop, head_flop = law.token_flop * tokens, law.head_flop * (batch + sampled)
    if law.expert_share > 0.0:
        read = 1.0 - law.expert_share * law.untouched_share**tokens
        weight_bytes = law.weight_bytes * read
        gemm_s = max((body_flop + head_flop) / law.flop_rate, weight_bytes / law.byte_rate)
    else:
        head_bytes = law.head_bytes if batch + sampled > 0 else 0.0
        row_bytes = law.row_bytes * tokens
        weight_bytes = law.weight_bytes + head_bytes + row_bytes
        gemm_s = max(body_flop / law.flop_rate, law.weight_bytes / law.stream_rate)
        gemm_s += max(head_flop / law.flop_rate, head_bytes / law.byte_rate)
        gemm_s += row_bytes / law.byte_rate
    seen = seen_tokens(context, law.window)
    attention_flop = law.pair_flop * (batch * seen + pairs)
    decode_bytes, prefill_bytes = law.kv_bytes * batch * (seen + 1.0), law.kv_bytes * streamed
    read_s = (decode_bytes + prefill_bytes) / law.byte_rate
    attention_s = max(attention_flop / law.flop_rate, read_s)
    flop = body_flop + head_flop + attention_flop
    seconds = law.launch_s + gemm_s + attention_s + law.sample_s * batch
    return flop, weight_bytes, decode_bytes, prefill_bytes, seconds


@njit(cache=True)
def _admit(clock, limits, arrival, tokens, running, n_running, coming):
    """Let those in who have arrived, first come first, while there are seats and KV space."""
    used = 0
    for i in range(n_running):
        row = running[i]
        used += max(tokens[row, 2] + tokens[row, 3], tokens[row, 0]) + 1
    while coming < arrival.size and arrival[coming] <= clock and n_running < limits[0]:
        used += tokens[coming, 0] + 1
        if used > limits[2]:
            break
        running[n_running] = coming
        n_running += 1
        coming += 1
    return n_running, coming


@njit(cache=True)
def _step(step, law, budget, clock, tokens, running, n_running, times):
    """Do one step: each sequence with a whole prompt decodes, the rest of the budget prefills."""
    batch, context = 0, 0
    for i in range(n_running):
        row = running[i]
        if tokens[row, 3] > 0:
            batch += 1
            context += tokens[row, 2] + tokens[row, 3]
    left, sampled, pairs, streamed = budget - batch, 0, 0.0, 0.0
    for i in range(n_running):
        row = running[i]
        if tokens[row, 3] > 0:
            tokens[row, 3] += 1
        elif left > 0:
            chunk = min(left, tokens[row, 0] - tokens[row, 2])
            seen = seen_tokens(tokens[row, 2] + 0.5 * chunk, law.window)
            pairs += chunk * seen
            streamed += seen + chunk
            left -= chunk
            tokens[row, 2] += chunk
            if tokens[row, 2] == tokens[row, 0]:
                tokens[row, 3] = 1
                sampled += 1
                times[row, 0] = -1.0
    mean = context / batch if batch > 0 else 0.0
    prefill = max(budget - batch, 0) - max(left, 0)
    cost = step_cost(law, batch, mean, prefill, sampled, pairs, streamed)
    step[:] = np.array([clock, clock + cost[4], batch, prefill, *cost[:4]])
    return step[1]


@njit(cache=True)
def _retire(clock, tokens, running, n_running, times):
    """Note first tokens, and take those that have all their tokens out."""
    kept = 0
    for i in range(n_running):
        row = running[i]
        if times[row, 0] < 0.0:
            times[row, 0] = clock
        if tokens[row, 3] > 0 and tokens[row, 3] >= tokens[row, 1]:
            times[row, 1] = clock
        else:
            running[kept] = row
            kept += 1
    return kept


@njit(cache=True)
def serve_steps(law, limits, arrival, asked):
    """Serve requests first come, first served, one step at a time."""
    n = arrival.size
    tokens = np.hstack((asked, np.zeros_like(asked)))  # prompt, output, prefilled, generated
    running, times = np.empty(limits[0], dtype=np.int64), np.zeros((n, 2))
    steps = np.empty((1024, 8))
    done, n_running, coming, clock = 0, 0, 0, 0.0
    while True:
        n_running, coming = _admit(clock, limits, arrival, tokens, running, n_running, coming)
        if n_running == 0:
            if coming == n:
                return steps[:done], times
            clock = max(clock, arrival[coming])
            continue
        if done == len(steps):
            steps = np.concatenate((steps, np.empty_like(steps)))
        clock = _step(steps[done], law, limits[1], clock, tokens, running, n_running, times)
        n_running = _retire(clock, tokens, running, n_running, times)
        done += 1


def serve(run: Run) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Serve a run's requests as powertrace_v1 does."""
    where, mend = f"run {run.name}: requests.csv", "powertrace_v1 serves requests"
    require(run.requests is not None, where, "is missing", mend)
    law, limits = law_of(run), _limits(run)
    arrival = run.requests["arrival_s"].to_numpy(dtype=float)
    arrival = arrival - arrival[0]
    asked = run.requests[["input_tokens", "output_tokens"]].to_numpy(dtype=np.int64)
    longest = asked[:, 0].max()
    what = f"a prompt of {longest} tokens is more than the {limits[2]} that fit beside the weights"
    require(longest < limits[2], where, what, "shorten it or give more GPUs")
    steps, times = serve_steps(law, limits, arrival, asked)
    told = {"ttft_s": times[:, 0] - arrival + serving_fit(run)["first_token_s"]}
    told["decode_s"] = times[:, 1] - times[:, 0]
    return pd.DataFrame(steps, columns=list(STEP_COLUMNS)), pd.DataFrame(told)


def _limits(run: Run) -> np.ndarray:
    """Sequences, tokens a step, and tokens of KV space in what the weights leave free."""
    engine, limits = coefficients()["engine"], []
    for name in LIMITS:
        value = run.info.get(name)
        value = engine[name] if value is None else value
        sound, what = type(value) is int and 1 <= value < 2**31, f"{name} = {value!r} is no count"
        require(sound, f"run {run.name}: run.json", what, "mend it")
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
    work = {"busy": np.minimum(spread(length_s) / dt_s, 1.0)}
    work |= {"batch": spread(steps["batch"] * length_s) / dt_s}
    work |= {name: spread(steps[name]) for name in ("flop", "weight_bytes")}
    work["kv_bytes"] = spread(steps["decode_kv_bytes"] + steps["prefill_kv_bytes"])
    work["cache_bytes"] = decoded + kv_bytes * spread(steps["prefill_tokens"])
    return pd.DataFrame(work | {"steps": np.bincount(at[inside], minlength=n_bins)})


def gpu_power_w(run: Run, work: pd.DataFrame, idle_w: float | None = None) -> np.ndarray:
    """Map the work in bins to the power of one GPU."""
    fits, arch = coefficients(), architecture(run)
    hardware, gpus = run.configuration.hardware, run.configuration.tensor_parallel
    sparse, gpu = arch["moe_frac"] > 0, device(hardware)
    values = _sparse_values(fits, hardware, gpus, idle_w) if sparse else fits["dense"][hardware]
    values = values if idle_w is None else values | {"idle": idle_w}
    held = min(arch["w_bytes"] / (gpus * gpu["memory_bytes"]), 1.0)
    terms = _terms(work, gpu, gpus, sparse, held)
    power_w = sum(value * terms[name] for name, value in values.items())
    response = fits["response"][hardware]
    late = round(response["delay_s"]["moe" if sparse else "dense"] / float(DT))
    power_w = np.concatenate([np.repeat(power_w[:1], late), power_w])[: power_w.size]
    window = max(round(response["mean_s"] / float(DT)), 1)
    return pd.Series(power_w).rolling(window, min_periods=1).mean().to_numpy()


def _terms(work: pd.DataFrame, gpu: dict, gpus: int, sparse: bool, held: float) -> dict:
    """Give what the coefficients multiply; held: share of the memory that is full of weights."""
    cache = work["cache_bytes" if sparse else "kv_bytes"]
    per_second = 1 / (float(DT) * gpus)
    used = (work["weight_bytes"] + cache).to_numpy() * per_second / gpu["bandwidth_bytes_s"]
    computing = work["flop"].to_numpy() * per_second / gpu["peak_flop_s"]
    busy, idle = work["busy"].to_numpy(), np.ones(len(work))
    if not sparse:
        memory = np.sqrt(busy * used)
        return {"idle": idle, "weights": busy * held, "compute": computing, "memory": memory}
    terms = {"idle": idle, "several": idle * (gpus > 1), "compute": np.sqrt(busy * computing)}
    terms["memory"] = np.concatenate([used[:1], used[:-1]])  # a bin later
    terms["iterations"] = work["steps"].to_numpy() / float(DT) / 1000
    return terms | {"batch": np.log1p(work["batch"].to_numpy())}


def _sparse_values(fits: dict, hardware: str, gpus: int, idle_w: float | None) -> dict:
    """Coefficients of gpt-oss, carried over to another GPU type where the idle power is known."""
    models, source = fits["moe"]["models"].values(), fits["moe"]["hardware"]
    values = next(dict(m["coefficients"]) for m in models if gpus in m["tensor_parallel"])
    if idle_w is not None and hardware != source:
        for name, peak in (("memory", "bandwidth_bytes_s"), ("compute", "peak_flop_s")):
            here, there = (
                fits["dense"][each][name] / device(each)[peak] for each in (hardware, source)
            )
            values[name] *= here / there
    return values


def predict(run: Run, *, idle_w: float | None = None) -> PowerTrace:
    """Predict a run's power from its requests with the published coefficients."""
    sound = idle_w is None or 0 < idle_w < np.inf
    require(sound, "idle_w", f"{idle_w!r} is no power", "give watts above zero or leave it out")
    steps, _ = serve(run)
    times = run.samples["time_s"]
    start_s = float(times.iloc[0]) - float(run.dt)
    n_bins = int(np.ceil((float(times.iloc[-1]) - start_s) / float(DT) - 1e-6))
    begin_s = start_s - float(run.requests["arrival_s"].iloc[0])
    work = ledger(steps, law_of(run).kv_bytes, begin_s, n_bins)
    gpus = run.configuration.tensor_parallel
    power_w = gpu_power_w(run, work, None if idle_w is None else idle_w / gpus)
    return PowerTrace(start_s, DT, gpus * power_w)


def given_idle_w(run: Run) -> float | None:
    """Watts of the judged board before its first request: recorded, or as its source says."""
    printed_w = run.info.get("calibration", {}).get("target_idle_w_per_gpu", 0.0)
    return run.idle_before_load_w() or printed_w * run.configuration.tensor_parallel or None


def later_model(_fitting: Run, run: Run, _draws: int, _rng) -> tuple[PowerTrace, list[PowerTrace]]:
    """Predict with the judged board's idle power, as a method of `sitebook.judging.judge`."""
    trace = predict(run, idle_w=given_idle_w(run))
    return trace, [trace]
