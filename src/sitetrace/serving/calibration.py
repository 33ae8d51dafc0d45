"""The step law of an engine: least costs by its architecture, the rest so that it meets a run."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import scipy  # its parts are loaded when they are first named

from sitetrace.core.files import InputError, require
from sitetrace.core.registry import device
from sitetrace.core.types import Configuration, Run, Timeline
from sitetrace.serving.activity import amount_in_bins
from sitetrace.serving.engine import Server, counted, simulate
from sitetrace.serving.steps import LINEAR

# Fields of `arch` in run.json: what is held in memory, and what a roofline needs besides.
HELD = ("d_model", "n_layers", "n_kv", "head_dim", "w_bytes")
ROOFLINE = (*HELD, "n_active")
MEMORY_SHARE, ELEMENT_BYTES = 0.9, 2.0  # what vLLM takes of a GPU; keys and values of 16 bit
ATTENTION_EFFICIENCY = 0.5  # share of the peak rate at which it computes
EXPERTS_BATCH = 4.0  # sequences at which one more costs half, in a mixture of experts
COUNTERS = ["time_s", "running", "prompt_tokens", "generation_tokens"]
WEIGHTS = {"ttft": 0.1}  # a rough guide: when within a step a request comes is chance
C3_ABOVE_FLOOR = 0.3  # first guess of c3 above the least that the memory allows, as its share
FARTHEST, LEAST_POINTS = 4.0, 8  # end of the search of logarithms, begun at 1; points of a line
PARTS = ("calibration", "power")  # of a fit's provenance, that hold a misfit
# What is judged, and the errors above which a fit has failed. Ten runs are missed by at most 14%,
# 12%, 0.34 s, 9% and 1.3%; one with a prefix cache, which our engine lacks, by 446%, 54%, 1.8 s.
MOST = {
    "ttft": ("times to first token", {"median_error": 0.3}),
    "running": ("running requests", {"mean_error": 0.3}),
    "tokens": ("token counter", {"mean_error_s": 1.0}),
    "power": ("power readings", {"mean_error": 0.25, "energy_error": 0.05}),
}
MEND = "do not rely on it, check that all files are one recording on one clock, no prefix cache"


def from_architecture(run: Run, largest_request: int) -> tuple[Server, dict[str, str]]:
    """Limits of an engine, its least c3, c4 and KV space; and why some of these are defaults."""
    where, info, gpus = f"run {run.name}", run.info, run.configuration.tensor_parallel
    place, gpu = f"{where}: run.json: ", known_device(run.configuration.hardware)
    limits = {"max_num_seqs": 256, "max_num_batched_tokens": 8192}
    limits = {name: int(_number(place, info, name, usual, 1)) for name, usual in limits.items()}
    # the largest request served did fit, whatever the sum says
    server = Server(**limits, kv_tokens=max(Server.kv_tokens, largest_request))
    lacking = ", ".join(sorted(name for name in HELD if _arch(info).get(name) is None))
    if lacking or gpu is None:
        why = f"run.json: arch lacks {lacking}" if _arch(info) else "no arch in run.json"
        why = why if lacking else f"unknown GPU {run.configuration.hardware!r}"
        return server, dict.fromkeys(("c3_s", "c4_s", "kv_tokens", "batch_scale"), why)
    arch = read_architecture(where, info, HELD, ("n_experts", "swa_global_ratio"))
    share = min(_number(place, info, "gpu_memory_utilization", MEMORY_SHARE, 0.01), 1.0)
    tokens = max(room_for_tokens(where, arch, run.configuration, share), largest_request)
    # of a token of context keys and values are read, of a pair of tokens attention is computed
    c3_s = arch["read_bytes"] / (gpus * gpu["bandwidth_bytes_s"])
    pair_flop = 4 * arch["d_model"] * arch["n_layers"]
    c4_s = pair_flop / (gpus * gpu["peak_flop_s"] * ATTENTION_EFFICIENCY)
    scale = EXPERTS_BATCH if arch["n_experts"] > 1 else Server.batch_scale
    return replace(server, c3_s=c3_s, c4_s=c4_s, kv_tokens=tokens, batch_scale=scale), {}


def known_device(hardware: str) -> dict | None:
    """Datasheet of a GPU type, if there is one."""
    try:
        return device(hardware)
    except InputError:
        return None


def read_architecture(where: str, info: dict, needed: tuple, optional: tuple = ()) -> dict:
    """Read fields of the served model's architecture; optional ones are 0 where not told."""
    table, place = _arch(info), f"{where}: run.json: arch."
    arch = {name: _number(place, table, name, 0.0, 0.0) for name in optional}
    arch |= {name: _number(place, table, name, None, 1.0) for name in needed}
    if set(HELD) <= set(needed):
        # of a token, in all layers; with sliding windows one in so many reads all that is held
        arch["held_bytes"] = 2 * ELEMENT_BYTES * arch["n_layers"] * arch["n_kv"] * arch["head_dim"]
        arch["read_bytes"] = arch["held_bytes"] / (1 + arch.get("swa_global_ratio", 0.0))
    return arch


def _arch(info: dict) -> dict:
    return info["arch"] if isinstance(info.get("arch"), dict) else {}


def _number(place: str, table: dict, name: str, default: float | None, lowest: float) -> float:
    value = default if table.get(name) is None else table[name]
    what = "is missing" if value is None else f"{value!r} is no sensible number"
    sound = type(value) in (int, float) and lowest <= value < 1e18
    require(sound, place + name, what, "mend it")
    return float(value)


def room_for_tokens(where, arch: dict, configuration: Configuration, share=MEMORY_SHARE) -> int:
    """Tokens whose keys and values find room beside the weights in a share of the memory."""
    gpus, hardware = configuration.tensor_parallel, configuration.hardware
    memory_bytes = share * (device(hardware)["memory_bytes"] * gpus)
    tokens = int((memory_bytes - arch["w_bytes"]) / arch["held_bytes"])
    what = f"{arch['w_bytes']:g} leaves no room in {memory_bytes:g} bytes of {gpus} {hardware}"
    mend = "raise tensor_parallel, mend w_bytes, or state gpu_memory_utilization"
    require(tokens >= 1, f"{where}: run.json: arch.w_bytes", what, mend)
    return tokens


def calibrate(runs: list[Run]) -> tuple[Server, dict]:
    """Learn the engine that makes runs' requests meet what they met; and tell how well."""
    seen = [observe(run) for run in runs]
    # by the architecture, for short chats identify neither: the floor of c3, and c4
    totals = [each.requests["input_tokens"] + each.requests["output_tokens"] for each in seen]
    least, defaults = from_architecture(runs[0], max(int(each.max()) for each in totals))
    free = ["c0_s", "c2_s"]  # time to first token knows nothing of decode
    if any(len(each.engine) for each in seen):
        free = ["c0_s", "c1_s", "c2_s", "c3_s"]
        free += ["overhead_s"] * any(each.requests["ttft_s"].notna().any() for each in seen)
        free += ["batch_scale"] * (least.batch_scale < LINEAR)
    guess, is_c3 = _first_guess(seen, least), np.array(free) == "c3_s"
    start = np.array([getattr(guess, name) for name in free]) * np.where(is_c3, C3_ABOVE_FLOOR, 1.0)
    floor = np.where(is_c3 & (not defaults), least.c3_s, 0.0)

    def server(point: np.ndarray) -> Server:
        law = floor + start * np.exp(point - 1.0)
        return replace(guess, **dict(zip(free, law.tolist(), strict=True)))

    def errors(point: np.ndarray) -> np.ndarray:
        told = [part for each in seen for part in _errors(each, server(point)).items()]
        return np.concatenate([WEIGHTS.get(name, 1.0) * e / e.size for name, e in told])

    # the sum of mean absolute errors has steps: squares find the valley, magnitudes its floor
    point = np.ones(start.size)
    scale = np.sqrt(np.mean(errors(point) ** 2))
    wide = {"bounds": (-FARTHEST, FARTHEST), "diff_step": 0.05, "max_nfev": 30}
    point = scipy.optimize.least_squares(lambda at: errors(at) / scale, point, **wide).x
    how = {"maxfev": 60 * point.size, "xatol": 1e-3, "fatol": 1e-5}
    for edge in (0.4, 0.2, 0.1):
        edges = edge * np.eye(point.size)
        point, converged = descended(lambda at: np.abs(errors(at)).sum(), point, edges, **how)
    # A coefficient at the upper end ran away, but not the overhead: a client's network may be slow.
    # The last search may use up its steps at a good fit: that is told, not judged.
    far = [free[k] for k in np.flatnonzero(point >= FARTHEST) if free[k] != "overhead_s"]
    calibration = judged(runs, server(point), far) | {"converged": converged}
    return server(point), {"calibration": calibration, "defaults": defaults}


def observe(run: Run) -> Run:
    """Put a run on the clock of its first arrival: its times to first token, and its counters."""
    # ttft_s is NaN where there is none; of the counters there is no row where they tell nothing
    origin_s = float(run.requests["arrival_s"].iloc[0])
    requests = run.requests.assign(arrival_s=run.requests["arrival_s"] - origin_s)
    ttft_s = requests.get("ttft_s", np.nan * requests["arrival_s"])
    requests["ttft_s"] = ttft_s.where(ttft_s > 0)
    engine = pd.DataFrame(columns=COUNTERS) if run.engine is None else run.engine
    rows = engine.loc[engine["time_s"] >= origin_s, COUNTERS].astype(float)
    rows["time_s"] -= origin_s
    # start-up and test requests were counted before
    rows["generation_tokens"] -= rows["generation_tokens"].iloc[:1].sum()
    moved = rows["generation_tokens"].iloc[-1:].sum() > 0 and (rows["running"] > 0).any()
    what = "neither ttft_s in requests.csv nor engine.csv rows at work"
    told = moved or requests["ttft_s"].notna().any()
    require(told, f"run {run.name}", what, "calibration needs one of them")
    return replace(run, requests=requests, engine=rows if moved else rows[:0])


def _first_guess(seen: list[Run], server: Server) -> Server:
    # step times regressed on the batch, and TTFT on the prompt, without any queueing
    guess, columns = {}, ["input_tokens", "output_tokens", "ttft_s"]
    prompt, answer, ttft_s = pd.concat([each.requests[columns] for each in seen]).to_numpy().T
    batch = np.concatenate([each.engine["running"].iloc[1:] for each in seen])
    changes = np.concatenate([np.diff(each.engine, axis=0) for each in seen])
    elapsed_s, change, prompted, made = changes.T
    # between two rows with the same sequences and no prompt the engine only decoded
    use = (change == 0) & (prompted == 0) & (batch > 0) & (made > 0)
    if use.sum() >= LEAST_POINTS:
        step_s = batch[use] * elapsed_s[use] / made[use]
        guess["c0_s"], slope_s = _line(counted(batch[use], server.batch_scale), step_s)
        # less what the law counts in c3: a sequence attends to its prompt and half of its answer
        context = float(np.average(prompt + answer / 2, weights=answer))
        context_s = (1 + C3_ABOVE_FLOOR) * server.c3_s * context
        guess["c1_s"] = max(slope_s - context_s, 0.2 * slope_s)
    known = ~np.isnan(ttft_s)
    if known.sum() >= LEAST_POINTS:
        base_s, guess["c2_s"] = _line(prompt[known], ttft_s[known])
        guess.setdefault("c0_s", 0.5 * base_s)
    # a regression that finds nothing leaves the default
    return replace(server, **{name: float(value) for name, value in guess.items() if value > 1e-7})


def _line(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    # intercept and slope, neither negative: by relative errors, of which a few may be large
    scale = np.array([np.median(y), np.median(y) / x.mean()])
    robust = {"bounds": (0.0, np.inf), "loss": "cauchy", "f_scale": 0.02}
    found = scipy.optimize.least_squares(
        lambda line: (scale[0] * line[0] + scale[1] * line[1] * x) / y - 1.0, [0.9, 0.1], **robust
    )
    return tuple(scale * found.x)


def descended(loss: Callable, point: np.ndarray, edges, **options: float):
    """Descend without gradients from a point and a simplex's edges; and whether that converged."""
    options["initial_simplex"] = np.vstack([point, point + edges])
    found = scipy.optimize.minimize(loss, point, method="Nelder-Mead", options=options)
    return found.x, bool(found.success)


def _errors(seen: Run, server: Server) -> dict[str, np.ndarray]:
    # of ln(TTFT), of the running count over its mean, lead of the token counter (s)
    timeline, ttft_s = simulate(seen.requests, server), seen.requests["ttft_s"].to_numpy()
    parts, known = {}, ~np.isnan(ttft_s)
    if known.any():
        fate = timeline.requests
        found_s = (fate["first_token_s"] - fate["arrival_s"]).to_numpy() + server.overhead_s
        parts["ttft"] = np.log(found_s[known] / ttft_s[known])
    if not seen.engine.empty:
        times_s, running, _, generated = seen.engine.to_numpy().T
        running_so, generated_so = printed(timeline, times_s)
        parts["running"] = (running_so - running) / running.mean()
        parts["tokens"] = (generated_so - generated) / (generated[-1] / np.ptp(times_s))
    return parts


def printed(timeline: Timeline, times_s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Count running requests, and tokens since the first time, as an engine's counters do."""
    # vLLM renews its counters after each step, so a request appears with its first token
    fates = [np.sort(timeline.requests[name]) for name in ("first_token_s", "end_s")]
    answered, ended = (np.searchsorted(fate, times_s, side="right") for fate in fates)
    decode = timeline.segments["decode_tokens"].to_numpy()
    decoded = amount_in_bins(timeline.segments, decode, times_s, times_s - times_s[0])
    return answered - ended, decoded + answered - answered[0]


def judged(runs: list[Run], server: Server, far: list[str]) -> dict:
    """Say how far an engine is from its runs; and if it failed, `far` left at the search's end."""
    errors, found = [_errors(observe(run), server) for run in runs], {}
    for name in ("ttft", "running", "tokens"):
        error = np.concatenate([each.get(name, []) for each in errors])
        if error.size == 0:
            continue
        told = {"ttft": {"median_error": np.median(np.abs(np.expm1(error)))}}
        told |= {"running": {"mean_error": np.abs(error).mean()}}
        told |= {"tokens": {"mean_error_s": np.abs(error).mean(), "mean_lead_s": error.mean()}}
        found[name] = rounded(told[name]) | {"points": error.size}
    left = [f"{name} is more than {np.exp(FARTHEST - 1):.0f} times its first guess" for name in far]
    return {"misfit": found, "at_bound": far, "failed": failures(found) + left}


def failures(found: dict[str, dict[str, float]]) -> list[str]:
    """Say where a fit misses by more than a fit does that has worked."""
    return [
        f"{MOST[name][0]}: {_said(key, numbers[key])}, more than {_amount(key, limit)}"
        for name, numbers in found.items()
        for key, limit in MOST[name][1].items()
        if not abs(numbers[key]) <= limit
    ]


def rounded(numbers: dict[str, float]) -> dict[str, float]:
    """Keep six digits, so that the same fit gives the same bytes."""
    return {name: float(f"{value:.6g}") for name, value in numbers.items()}


def failed_parts(provenance: dict) -> list[str]:
    """By what the fit of a model has failed: nothing, if it has not."""
    return [each for part in PARTS if part in provenance for each in provenance[part]["failed"]]


def misfit_lines(provenance: dict) -> list[str]:
    """Tell how well a model was fitted: its misfit, whether it failed, what stands by default."""
    lines = []
    for part in filter(provenance.get, PARTS):
        said = []
        for name, numbers in provenance[part]["misfit"].items():
            sizes = [_said(key, value) for key, value in numbers.items() if key != "points"]
            said.append(f"{MOST[name][0]}: {', '.join(sizes)} ({numbers['points']} points)")
        lines.append(f"{part:15}{'; '.join(said)}")
    if failed := failed_parts(provenance):
        lines.append(f"{'failed':15}{'; '.join(failed)}: {MEND}")
    if names := provenance.get("defaults"):
        whys = dict.fromkeys(names.values())
        told = [f"{', '.join(k for k in names if names[k] == why)} ({why})" for why in whys]
        lines.append(f"{'by default':15}{'; '.join(told)}")
    return lines


def _said(key: str, value: float) -> str:
    return f"{key.removesuffix('_s').replace('_', ' ')} {_amount(key, value)}"


def _amount(key: str, value: float) -> str:
    return f"{value:.2f} s" if key.endswith("_s") else f"{100 * value:.1f}%"
