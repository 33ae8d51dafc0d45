"""The step law of an engine, learned from a run's times to first token and its counters.

A simulated engine serves the run's requests, and its law is moved until it meets what the run met.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd

from sitetrace.core.files import InputError
from sitetrace.core.types import Run, Timeline
from sitetrace.serving.activity import amount_in_bins
from sitetrace.serving.architecture import from_architecture
from sitetrace.serving.engine import Server, counted, simulate
from sitetrace.serving.steps import LINEAR

FREE = ("c0_s", "c1_s", "c2_s", "c3_s", "overhead_s")
# Time to first token knows nothing of decode: what a sequence and its context add stays as it is.
FREE_BY_TTFT_ALONE = ("c0_s", "c2_s")
COUNTERS = ["time_s", "running", "prompt_tokens", "generation_tokens"]
# When a request meets the engine within a step is chance, which makes TTFT a rough guide.
TTFT_WEIGHT = 0.1
# first guess of c3 above the least that the memory allows, as a share of that
C3_ABOVE_FLOOR = 0.3
# The search of logarithms begins at 1, the first guess, and ends here.
FARTHEST = 4.0
LEAST_POINTS = 8  # of a line
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


def calibrate(runs: list[Run] | Run) -> tuple[Server, dict]:
    """Learn the engine that makes a run's requests meet what they met; and tell how well.

    What is told goes into a model's provenance: ``calibration``, see `judged`, and ``defaults``.
    """
    # With times to first token alone c0 and c2 are learned, without them all but the overhead. c3
    # stays above the time to read a token's keys and values, and c4 is the arithmetic of attention,
    # both from the architecture in run.json: short chats identify neither.
    runs = [runs] if isinstance(runs, Run) else runs
    seen = [observe(run) for run in runs]
    free = FREE
    if all(each.counters.empty for each in seen):
        free = FREE_BY_TTFT_ALONE
    elif all(np.isnan(each.ttft_s).all() for each in seen):
        free = FREE[:-1]
    tokens = [each.requests[["input_tokens", "output_tokens"]] for each in seen]
    largest = max(int(each.sum(axis=1).max()) for each in tokens)
    server, defaults = from_architecture(runs[0], largest)
    c3_floor_s = 0.0 if defaults else server.c3_s
    if server.batch_scale < LINEAR and free != FREE_BY_TTFT_ALONE:
        free = (*free, "batch_scale")
    server, far, converged = _fit(seen, _first_guess(seen, server), c3_floor_s, free)
    calibration = judged(seen, server, far) | {"converged": converged}
    return server, {"calibration": calibration, "defaults": defaults}


class Observed(NamedTuple):
    """What a run tells about its engine, on the clock of its first arrival."""

    requests: pd.DataFrame
    ttft_s: np.ndarray  # by request; NaN where there is none
    counters: pd.DataFrame  # COUNTERS, no row without; tokens generated since the first row


def observe(run: Run) -> Observed:
    """Put a run on the clock of its first arrival."""
    if run.requests is None:
        raise InputError(f"run {run.name}: requests.csv is missing: calibration needs requests")
    origin_s = float(run.requests["arrival_s"].iloc[0])
    requests = run.requests[["arrival_s", "input_tokens", "output_tokens"]].copy()
    requests["arrival_s"] -= origin_s
    ttft_s = np.full(len(requests), np.nan)
    if "ttft_s" in run.requests:
        ttft_s = run.requests["ttft_s"].where(run.requests["ttft_s"] > 0).to_numpy()
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
    found = least_squares(
        lambda line: (scale[0] * line[0] + scale[1] * line[1] * x) / y - 1.0,
        [0.9, 0.1],
        bounds=(0.0, np.inf),
        loss="cauchy",
        f_scale=0.02,
    )
    return tuple(scale * found.x)


def _fit(
    seen: list[Observed], guess: Server, c3_floor_s: float, free: tuple[str, ...]
) -> tuple[Server, list[str], bool]:
    """Minimise the sum of mean absolute errors, see `_errors`, over logarithms of coefficients."""
    from scipy.optimize import least_squares

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

    # The errors have steps: squares with a wide difference find the valley, magnitudes its floor.
    point = np.ones(start.size)
    scale = np.sqrt(np.mean(errors(point) ** 2))
    limits, wide = (-FARTHEST, FARTHEST), {"diff_step": 0.05, "max_nfev": 30}
    point = least_squares(lambda at: errors(at) / scale, point, bounds=limits, **wide).x
    for edge in (0.4, 0.2, 0.1):
        point, converged = descended(
            lambda at: np.abs(errors(at)).sum(),
            point,
            edge * np.eye(point.size),
            maxfev=60 * point.size,
            xatol=1e-3,
            fatol=1e-5,
        )
    # A coefficient at the lower end costs nothing, one at the upper end ran away; the overhead,
    # which moves nothing in the engine, may be as long as a client's network makes it. The last
    # search may use up its steps at a good fit: whether it converged is told, not judged.
    ends = zip(free, point, strict=True)
    far = [name for name, at in ends if at >= FARTHEST and name != "overhead_s"]
    return server(point), far, converged


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
    told = [provenance[part]["failed"] for part in PARTS if part in provenance]
    return [each for part in told for each in part]


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
        told = [f"{', '.join(names)} ({why})" for why, names in reasons.items()]
        table["by default"] = "; ".join(told)
    return [f"{title:15}{line}" for title, line in table.items()]


def _said(key: str, value: float) -> str:
    """Name and size of an error, such as ``mean error 3.2%``."""
    return f"{key.removesuffix('_s').replace('_', ' ')} {_amount(key, value)}"


def _amount(key: str, value: float) -> str:
    return f"{value:.2f} s" if key.endswith("_s") else f"{100 * value:.1f}%"
