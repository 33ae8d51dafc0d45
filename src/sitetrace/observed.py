"""What a run tells about its engine, and how far a simulated engine is from it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from sitetrace.activity import amount_in_bins
from sitetrace.files import InputError
from sitetrace.serving import Server, simulate
from sitetrace.timeline import Timeline
from sitetrace.trace import Run

# When a request meets the engine within a step is chance, which makes TTFT a rough guide.
TTFT_WEIGHT = 0.1
# A fit that misses by more than this has failed. Fits of the testbed and of ten measured runs miss
# TTFT by at most 14%, the running count by 12%, the token counter by 0.34 s; those of the splits
# miss the readings by 9%, the energy by 1.3%. A run whose prompts come from a prefix cache, which
# an engine without one cannot follow, is missed by 446%, 54% and 1.8 s.
MOST = {
    "ttft": {"median_error": 0.3},
    "running": {"mean_error": 0.3},
    "tokens": {"mean_error_s": 1.0},
    "power": {"mean_error": 0.25, "energy_error": 0.05},
}
WORDS = {
    "ttft": "times to first token",
    "running": "running requests",
    "tokens": "token counter",
    "power": "power readings",
}
MEND = (
    "do not rely on this model, check that requests.csv, engine.csv and power.csv are one "
    "recording on one clock, without a prefix cache"
)


@dataclass(frozen=True)
class Observed:
    """What a run tells about its engine, on the clock of its first arrival."""

    requests: pd.DataFrame
    ttft_s: np.ndarray
    times_s: np.ndarray
    running: np.ndarray
    prompted: np.ndarray
    generated: np.ndarray


def residuals(seen: Observed, server: Server) -> np.ndarray:
    """How far a simulated engine is from a measured run, point by point."""
    parts = _errors(seen, server)
    if "ttft" in parts:
        parts["ttft"] = TTFT_WEIGHT * parts["ttft"]
    return np.concatenate([part / part.size for part in parts.values()])


def _errors(seen: Observed, server: Server) -> dict[str, np.ndarray]:
    """Errors of ln(TTFT), of the running count over its mean, lead of the token counter (s)."""
    timeline = simulate(seen.requests, server)
    fate, parts = timeline.requests, {}
    known = ~np.isnan(seen.ttft_s)
    if known.any():
        ttft_s = (fate["first_token_s"] - fate["arrival_s"]).to_numpy() + server.overhead_s
        parts["ttft"] = np.log(ttft_s[known] / seen.ttft_s[known])
    if seen.times_s.size:
        rate = seen.generated[-1] / (seen.times_s[-1] - seen.times_s[0])
        running = printed_count(timeline, seen.times_s)
        parts["running"] = (running - seen.running) / seen.running.mean()
        parts["tokens"] = (_generated(timeline, seen.times_s) - seen.generated) / rate
    return parts


def misfit(seen: list[Observed], server: Server) -> dict[str, dict[str, float]]:
    """How far a simulated engine is from measured runs, in plain words."""
    errors = [_errors(each, server) for each in seen]
    pooled = {
        name: np.concatenate([each[name] for each in errors if name in each])
        for name in ("ttft", "running", "tokens")
        if any(name in each for each in errors)
    }
    found = {}
    for name, error in pooled.items():
        if name == "ttft":
            numbers = {"median_error": np.median(np.abs(np.expm1(error)))}
        elif name == "running":
            numbers = {"mean_error": np.abs(error).mean()}
        else:
            numbers = {"mean_error_s": np.abs(error).mean(), "mean_lead_s": error.mean()}
        found[name] = rounded(numbers) | {"points": error.size}
    return found


def rounded(numbers: dict[str, float]) -> dict[str, float]:
    """Keep six digits, so that the same fit gives the same bytes."""
    return {name: float(f"{value:.6g}") for name, value in numbers.items()}


def failures(found: dict[str, dict[str, float]]) -> list[str]:
    """Say where a fit misses by more than a fit does that has worked."""
    return [
        f"{WORDS[name]}: {_said(key, found[name][key])}, more than {_amount(key, limit)}"
        for name in found
        for key, limit in MOST[name].items()
        if not abs(found[name][key]) <= limit
    ]


def fit_lines(provenance: dict) -> list[str]:
    """Tell how well a model was fitted: its misfit, whether it failed, what stands by default."""
    lines, failed = [], []
    for part in ("calibration", "power"):
        if part not in provenance:
            continue
        said = [
            f"{WORDS[name]}: "
            + ", ".join(_said(key, value) for key, value in numbers.items() if key != "points")
            + f" ({numbers['points']} points)"
            for name, numbers in provenance[part]["misfit"].items()
        ]
        lines.append(f"{part:15}{'; '.join(said)}")
        failed += provenance[part]["failed"]
    if failed:
        lines.append(f"{'failed':15}{'; '.join(failed)}: {MEND}")
    reasons = {}
    for name, why in provenance.get("defaults", {}).items():
        reasons.setdefault(why, []).append(name)
    if reasons:
        said = [f"{', '.join(names)} ({why})" for why, names in reasons.items()]
        lines.append(f"{'by default':15}{'; '.join(said)}")
    return lines


def _said(key: str, value: float) -> str:
    return f"{key.removesuffix('_s').replace('_', ' ')} {_amount(key, value)}"


def _amount(key: str, value: float) -> str:
    return f"{value:.2f} s" if key.endswith("_s") else f"{100 * value:.1f}%"


def printed_count(timeline: Timeline, times_s: np.ndarray) -> np.ndarray:
    """Count running requests as an engine's own counter prints them."""
    first, end = (np.sort(timeline.requests[name]) for name in ("first_token_s", "end_s"))
    after = [np.searchsorted(each, times_s, side="right") for each in (first, end)]
    return after[0] - after[1]


def _generated(timeline: Timeline, times_s: np.ndarray) -> np.ndarray:
    """Tokens generated since the first of some times."""
    decode = timeline.segments["decode_tokens"].to_numpy()
    since_s = times_s - times_s[0]
    first = np.searchsorted(np.sort(timeline.requests["first_token_s"]), times_s, side="right")
    return amount_in_bins(timeline.segments, decode, times_s, since_s) + first - first[0]


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
    times_s = running = prompted = generated = np.empty(0)
    if run.engine is not None:
        engine = run.engine[run.engine["time_s"] >= origin_s]
        tokens = engine["generation_tokens"].to_numpy(dtype=float)
        # Counters that never move tell nothing.
        if tokens.size > 1 and tokens[-1] > tokens[0] and (engine["running"] > 0).any():
            times_s = engine["time_s"].to_numpy() - origin_s
            running = engine["running"].to_numpy(dtype=float)
            prompted = engine["prompt_tokens"].to_numpy(dtype=float)
            generated = tokens - tokens[0]
    if np.isnan(ttft_s).all() and not times_s.size:
        raise InputError(
            f"run {run.name}: neither ttft_s in requests.csv nor engine.csv rows at work: "
            "calibration needs one of them"
        )
    return Observed(requests, ttft_s, times_s, running, prompted, generated)
