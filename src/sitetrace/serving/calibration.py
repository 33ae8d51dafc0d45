"""The step law of an engine: least costs by its architecture, the rest from what a run tells.

A simulated engine serves the run's requests, and its law is moved until it meets the run's times to
first token and its counters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd

from sitetrace.core.files import InputError
from sitetrace.core.registry import device
from sitetrace.core.types import Configuration, Run, Timeline
from sitetrace.serving.activity import amount_in_bins
from sitetrace.serving.engine import Server, counted, simulate
from sitetrace.serving.steps import LINEAR

# Fields of `arch` in run.json: what is held in memory, and what a roofline needs besides.
HELD = ("d_model", "n_layers", "n_kv", "head_dim", "w_bytes")
ROOFLINE = (*HELD, "n_active")
MEMORY_SHARE, ELEMENT_BYTES = 0.9, 2.0  # what vLLM takes of a GPU; keys and values of 16 bit
# share of the peak rate at which attention computes; sequences at which one more costs half the
# time of the first in a mixture of experts
ATTENTION_EFFICIENCY, EXPERTS_BATCH = 0.5, 4.0
COUNTERS = ["time_s", "running", "prompt_tokens", "generation_tokens"]
# When a request meets the engine within a step is chance, which makes TTFT a rough guide.
TTFT_WEIGHT = 0.1
# first guess of c3 above the least that the memory allows, as a share of that
C3_ABOVE_FLOOR = 0.3
# the search of logarithms begins at 1, the first guess, and ends at; a line takes so many points
FARTHEST, LEAST_POINTS = 4.0, 8
# parts of a fit whose misfit the provenance holds
PARTS = ("calibration", "power")
# What is judged, and the errors above which a fit has failed. Fits of the testbed and of ten runs
# miss TTFT by at most 14%, the running count by 12%, the token counter by 0.34 s; those of the
# splits miss the readings by 9%, the energy by 1.3%. A run whose prompts come from a prefix cache,
# which an engine without one cannot follow, is missed by 446%, 54% and 1.8 s.
MOST = {
    "ttft": ("times to first token", {"median_error": 0.3}),
    "running": ("running requests", {"mean_error": 0.3}),
    "tokens": ("token counter", {"mean_error_s": 1.0}),
    "power": ("power readings", {"mean_error": 0.25, "energy_error": 0.05}),
}
MEND = (
    "do not rely on this model, check that requests.csv, engine.csv and power.csv are one "
    "recording on one clock, without a prefix cache"
)


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
    lacking = sorted(name for name in HELD if _arch(info).get(name) is None)
    if lacking or gpu is None:
        why = f"run.json: arch lacks {', '.join(lacking)}" if _arch(info) else "no arch in run.json"
        why = why if lacking else f"unknown GPU {run.configuration.hardware!r}"
        return server, dict.fromkeys(("c3_s", "c4_s", "kv_tokens", "batch_scale"), why)
    arch = read_architecture(where, info, HELD, ("n_experts", "swa_global_ratio"))
    share = min(_number(place, info, "gpu_memory_utilization", MEMORY_SHARE, 0.01), 1.0)
    pair_flop = 4 * arch["d_model"] * arch["n_layers"]
    known = replace(
        server,
        # of a token of context keys and values are read, of a pair of tokens attention is computed
        c3_s=arch["read_bytes"] / (gpus * gpu["bandwidth_bytes_s"]),
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
    arch = {name: _number(place, table, name, 0.0, least) for name, least in lowest.items()}
    if set(HELD) <= set(needed):
        # Keys and values of a token: in all layers, for within its window a layer holds it too;
        # with sliding windows only one layer in so many reads the whole context.
        arch["held_bytes"] = 2 * ELEMENT_BYTES * arch["n_layers"] * arch["n_kv"] * arch["head_dim"]
        arch["read_bytes"] = arch["held_bytes"] / (1 + arch.get("swa_global_ratio", 0.0))
    return arch


def _arch(info: dict) -> dict:
    return info["arch"] if isinstance(info.get("arch"), dict) else {}


def _number(place: str, table: dict, name: str, default: float, lowest: float) -> float:
    """One number of ``run.json``, or its default where there is none."""
    value = default if table.get(name) is None else table[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not lowest <= value < 1e18:
        raise InputError(f"{place}{name} = {value!r} is no sensible number: mend it")
    return float(value)


def room_for_tokens(
    where: str, arch: dict[str, float], configuration: Configuration, share: float = MEMORY_SHARE
) -> int:
    """Tokens whose keys and values find room beside the weights in a share of the memory."""
    gpus, hardware = configuration.tensor_parallel, configuration.hardware
    memory_bytes = share * (device(hardware)["memory_bytes"] * gpus)
    tokens = int((memory_bytes - arch["w_bytes"]) / arch["held_bytes"])
    if tokens < 1:
        raise InputError(
            f"{where}: run.json: arch.w_bytes = {arch['w_bytes']:g} leaves no room for keys and "
            f"values in {memory_bytes:g} bytes of {gpus} {hardware}: raise tensor_parallel, mend "
            "w_bytes, or state gpu_memory_utilization"
        )
    return tokens


def calibrate(runs: list[Run]) -> tuple[Server, dict]:
    """Learn the engine that makes runs' requests meet what they met; and tell how well.

    What is told goes into a model's provenance: ``calibration``, see `judged`, and ``defaults``.
    """
    from scipy.optimize import least_squares

    seen = [observe(run) for run in runs]
    # c3 stays above the time to read a token's keys and values, and c4 is the arithmetic of
    # attention, both by the architecture: short chats identify neither.
    totals = [each.requests["input_tokens"] + each.requests["output_tokens"] for each in seen]
    least, defaults = from_architecture(runs[0], max(int(each.max()) for each in totals))
    # Time to first token knows nothing of decode: what a sequence and its context add stays as it
    # is. Nothing else tells the overhead.
    free = ["c0_s", "c2_s"]
    if not all(each.counters.empty for each in seen):
        free = ["c0_s", "c1_s", "c2_s", "c3_s"]
        free += ["overhead_s"] * any(np.isfinite(each.ttft_s).any() for each in seen)
        free += ["batch_scale"] * (least.batch_scale < LINEAR)
    guess, c3_floor_s = _first_guess(seen, least), 0.0 if defaults else least.c3_s
    start = np.array([getattr(guess, name) for name in free])
    start[[name == "c3_s" for name in free]] *= C3_ABOVE_FLOOR

    def server(point: np.ndarray) -> Server:
        law = dict(zip(free, (start * np.exp(point - 1.0)).tolist(), strict=True))
        if "c3_s" in law:
            law["c3_s"] += c3_floor_s
        return replace(guess, **law)

    def errors(point: np.ndarray) -> np.ndarray:
        told = [part for each in seen for part in _errors(each, server(point)).items()]
        weights = [TTFT_WEIGHT if name == "ttft" else 1.0 for name, _ in told]
        return np.concatenate([w * e / e.size for w, (_, e) in zip(weights, told, strict=True)])

    # The sum of mean absolute errors is minimised. It has steps: squares with a wide difference
    # find the valley, magnitudes its floor.
    point = np.ones(start.size)
    scale = np.sqrt(np.mean(errors(point) ** 2))
    limits, wide = (-FARTHEST, FARTHEST), {"diff_step": 0.05, "max_nfev": 30}
    point = least_squares(lambda at: errors(at) / scale, point, bounds=limits, **wide).x
    how = {"maxfev": 60 * point.size, "xatol": 1e-3, "fatol": 1e-5}
    for edge in (0.4, 0.2, 0.1):
        edges = edge * np.eye(point.size)
        point, converged = descended(lambda at: np.abs(errors(at)).sum(), point, edges, **how)
    # A coefficient at the lower end costs nothing, one at the upper end ran away; the overhead,
    # which moves nothing in the engine, may be as long as a client's network makes it. The last
    # search may use up its steps at a good fit: whether it converged is told, not judged.
    far = [free[k] for k in np.flatnonzero(point >= FARTHEST) if free[k] != "overhead_s"]
    calibration = judged(seen, server(point), far) | {"converged": converged}
    return server(point), {"calibration": calibration, "defaults": defaults}


class Observed(NamedTuple):
    """What a run tells about its engine, on the clock of its first arrival."""

    requests: pd.DataFrame
    ttft_s: np.ndarray  # by request; NaN where there is none
    counters: pd.DataFrame  # COUNTERS, no row without; tokens generated since the first row


def observe(run: Run) -> Observed:
    """Put a run on the clock of its first arrival."""
    origin_s = float(run.requests["arrival_s"].iloc[0])
    requests = run.requests.assign(arrival_s=run.requests["arrival_s"] - origin_s)
    ttft_s = requests["ttft_s"].to_numpy() if "ttft_s" in requests else np.zeros(len(requests))
    ttft_s = np.where(ttft_s > 0, ttft_s, np.nan)
    counters = pd.DataFrame(columns=COUNTERS, dtype=float)
    if run.engine is not None:
        rows = run.engine.loc[run.engine["time_s"] >= origin_s, COUNTERS].astype(float)
        rows["time_s"] -= origin_s
        # start-up and test requests were counted before
        rows["generation_tokens"] -= rows["generation_tokens"].iloc[:1].sum()
        # Counters that never move tell nothing.
        if rows["generation_tokens"].iloc[-1:].sum() > 0 and (rows["running"] > 0).any():
            counters = rows
    if np.isnan(ttft_s).all() and counters.empty:
        raise InputError(
            f"run {run.name}: neither ttft_s in requests.csv nor engine.csv rows at work: "
            "calibration needs one of them"
        )
    return Observed(requests, ttft_s, counters)


def _first_guess(seen: list[Observed], server: Server) -> Server:
    """Regress step times on the batch, and TTFT on the prompt, without any queueing."""
    guess, requests = {}, pd.concat([each.requests for each in seen])
    prompt, answer = requests["input_tokens"].to_numpy(), requests["output_tokens"].to_numpy()
    batch = np.concatenate([each.counters["running"].iloc[1:] for each in seen])
    changes = np.concatenate([np.diff(each.counters, axis=0) for each in seen])
    elapsed_s, change, prompted, made = changes.T
    # Between two rows with the same sequences and no prompt the engine did nothing but decode.
    use = (change == 0) & (prompted == 0) & (batch > 0) & (made > 0)
    if use.sum() >= LEAST_POINTS:
        step_s = batch[use] * elapsed_s[use] / made[use]
        guess["c0_s"], slope_s = _line(counted(batch[use], server.batch_scale), step_s)
        # The slope holds what a sequence adds by its context, which the law counts in c3; a
        # sequence attends to its prompt and, in the mean, to half of its answer.
        context = float(np.average(prompt + answer / 2, weights=answer))
        context_s = (1 + C3_ABOVE_FLOOR) * server.c3_s * context
        guess["c1_s"] = max(slope_s - context_s, 0.2 * slope_s)
    ttft_s = np.concatenate([each.ttft_s for each in seen])
    known = ~np.isnan(ttft_s)
    if known.sum() >= LEAST_POINTS:
        base_s, guess["c2_s"] = _line(prompt[known], ttft_s[known])
        guess.setdefault("c0_s", 0.5 * base_s)
    # A regression that finds nothing leaves the default.
    return replace(server, **{name: float(value) for name, value in guess.items() if value > 1e-7})


def _line(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Intercept and slope, neither negative: by relative errors, of which a few may be large."""
    from scipy.optimize import least_squares

    start = np.median(y)
    scale = np.array([start, start / x.mean()])
    robust = {"bounds": (0.0, np.inf), "loss": "cauchy", "f_scale": 0.02}
    found = least_squares(
        lambda line: (scale[0] * line[0] + scale[1] * line[1] * x) / y - 1.0, [0.9, 0.1], **robust
    )
    return tuple(scale * found.x)


def descended(
    loss: Callable[[np.ndarray], float], point: np.ndarray, edges: np.ndarray, **options: float
) -> tuple[np.ndarray, bool]:
    """Descend without gradients from a point and a simplex's edges; and whether that converged."""
    from scipy.optimize import minimize

    options["initial_simplex"] = np.vstack([point, point + edges])
    found = minimize(loss, point, method="Nelder-Mead", options=options)
    return found.x, bool(found.success)


def _errors(seen: Observed, server: Server) -> dict[str, np.ndarray]:
    """Errors of ln(TTFT), of the running count over its mean, lead of the token counter (s)."""
    timeline = simulate(seen.requests, server)
    fate, parts = timeline.requests, {}
    known = ~np.isnan(seen.ttft_s)
    if known.any():
        ttft_s = (fate["first_token_s"] - fate["arrival_s"]).to_numpy() + server.overhead_s
        parts["ttft"] = np.log(ttft_s[known] / seen.ttft_s[known])
    if not seen.counters.empty:
        times_s, running, _, generated = seen.counters.to_numpy().T
        running_so, generated_so = printed(timeline, times_s)
        parts["running"] = (running_so - running) / running.mean()
        parts["tokens"] = (generated_so - generated) / (generated[-1] / np.ptp(times_s))
    return parts


def printed(timeline: Timeline, times_s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Count running requests, and tokens since the first time, as an engine's counters do."""
    # vLLM renews its counters after each step, so a request appears with its first token; while
    # its prompt is computed the counter still shows the step before.
    answered, ended = (
        np.searchsorted(np.sort(timeline.requests[name]), times_s, side="right")
        for name in ("first_token_s", "end_s")
    )
    decode = timeline.segments["decode_tokens"].to_numpy()
    decoded = amount_in_bins(timeline.segments, decode, times_s, times_s - times_s[0])
    return answered - ended, decoded + answered - answered[0]


def judged(seen: list[Observed], server: Server, far: list[str]) -> dict:
    """Say how far an engine is from the runs it was learned from, and whether that has failed."""
    # far: the coefficients that the fit left at the upper end of its search
    errors, found = [_errors(each, server) for each in seen], {}
    for name in ("ttft", "running", "tokens"):
        error = np.concatenate([each.get(name, []) for each in errors])
        if error.size == 0:
            continue
        size = np.abs(np.expm1(error) if name == "ttft" else error)
        told = {
            "ttft": {"median_error": np.median(size)},
            "running": {"mean_error": size.mean()},
            "tokens": {"mean_error_s": size.mean(), "mean_lead_s": error.mean()},
        }
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
    table, reasons = {}, {}
    for part in (part for part in PARTS if part in provenance):
        said = []
        for name, numbers in provenance[part]["misfit"].items():
            sizes = [_said(key, value) for key, value in numbers.items() if key != "points"]
            said.append(f"{MOST[name][0]}: {', '.join(sizes)} ({numbers['points']} points)")
        table[part] = "; ".join(said)
    if failed := failed_parts(provenance):
        table["failed"] = f"{'; '.join(failed)}: {MEND}"
    for name, why in provenance.get("defaults", {}).items():
        reasons.setdefault(why, []).append(name)
    if reasons:
        table["by default"] = "; ".join(
            f"{', '.join(what)} ({why})" for why, what in reasons.items()
        )
    return [f"{title:15}{line}" for title, line in table.items()]


def _said(key: str, value: float) -> str:
    """Name and size of an error, such as ``mean error 3.2%``."""
    return f"{key.removesuffix('_s').replace('_', ' ')} {_amount(key, value)}"


def _amount(key: str, value: float) -> str:
    return f"{value:.2f} s" if key.endswith("_s") else f"{100 * value:.1f}%"
