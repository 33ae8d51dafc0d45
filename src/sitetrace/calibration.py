"""The step law of an engine, learned from a run's times to first token and its counters."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from sitetrace.activity import amount_in_bins
from sitetrace.files import InputError
from sitetrace.serving import Server, Timeline, simulate
from sitetrace.trace import Run

# Vendors' data sheets: bytes a second of the memory, dense 16-bit FLOP a second.
BANDWIDTH = {"A100": 2.0e12, "H100": 3.35e12}
PEAK_FLOP_S = {"A100": 3.12e14, "H100": 9.89e14}
GPU_BYTES = 80e9
MEMORY_SHARE = 0.9
ATTENTION_EFFICIENCY = 0.5
# When a request meets the engine within a step is chance, which makes TTFT a rough guide.
TTFT_WEIGHT = 0.1
C3_ABOVE_FLOOR = 0.3
FREE = ("c0_s", "c1_s", "c2_s", "c3_s", "overhead_s")
# Time to first token knows nothing of decode: what a sequence and its context add stays as it is.
FREE_BY_TTFT_ALONE = ("c0_s", "c2_s")
ARCHITECTURE = ("d_model", "n_layers", "n_kv", "head_dim", "w_bytes")


@dataclass(frozen=True)
class Observed:
    """What a run tells about its engine, on the clock of its first arrival.

    Parameters
    ----------
    requests : pandas.DataFrame
        Arrivals from 0 s and tokens.
    ttft_s : numpy.ndarray
        Measured time to first token of each request, seconds; NaN where there is none.
    times_s, running, prompted, generated : numpy.ndarray
        Counters from the first arrival on: seconds, running requests, tokens prefilled and
        generated since the first of these rows (start-up and test requests were counted before);
        empty without.
    """

    requests: pd.DataFrame
    ttft_s: np.ndarray
    times_s: np.ndarray
    running: np.ndarray
    prompted: np.ndarray
    generated: np.ndarray


def calibrate(runs: list[Run] | Run) -> Server:
    """Learn the engine that makes a run's requests meet what they met.

    Simulates the run's requests and moves the step law until the number of running requests, the
    tokens generated and the times to first token agree with the measured ones. ``c3`` stays above
    the time to read a token's keys and values, and ``c4`` is the arithmetic of attention, both
    from the architecture in ``run.json`` where it is given: short chats identify neither.

    Parameters
    ----------
    runs : list of Run or Run
        Recordings of one configuration, with requests and ``ttft_s`` or engine counters. With
        times to first token alone only ``c0``, ``c2`` are learned: ``c1`` and the overhead keep
        the defaults of `Server`, ``c3`` its floor. Without these times the overhead keeps its
        default.

    Returns
    -------
    Server
        Step law, overhead and limits.

    Raises
    ------
    InputError
        If a run lacks what is needed, or ``run.json`` holds an impossible value.
    """
    runs = [runs] if isinstance(runs, Run) else runs
    seen = [_observe(run) for run in runs]
    free = FREE
    if not any(each.times_s.size for each in seen):
        free = FREE_BY_TTFT_ALONE
    elif all(np.isnan(each.ttft_s).all() for each in seen):
        free = FREE[:-1]
    floor = _from_architecture(runs[0], max(_largest_request(each.requests) for each in seen))
    return _fit(seen, _first_guess(seen, floor), floor.c3_s if _known(runs[0]) else 0.0, free)


def residuals(seen: Observed, server: Server) -> np.ndarray:
    """How far a simulated engine is from a measured run, point by point.

    Parameters
    ----------
    seen : Observed
        Measured run.
    server : Server
        Engine to be judged.

    Returns
    -------
    numpy.ndarray
        Errors of the running count over its mean, lead of the token counter (seconds) and a tenth
        of the errors of ln(TTFT), each divided by how many there are, so that the sum of
        magnitudes is the sum of the three mean absolute errors; shape (n,).
    """
    timeline = simulate(seen.requests, server)
    fate, parts = timeline.requests, []
    known = ~np.isnan(seen.ttft_s)
    if known.any():
        ttft_s = (fate["first_token_s"] - fate["arrival_s"]).to_numpy() + server.overhead_s
        parts.append(TTFT_WEIGHT * np.log(ttft_s[known] / seen.ttft_s[known]))
    if seen.times_s.size:
        rate = seen.generated[-1] / (seen.times_s[-1] - seen.times_s[0])
        running = printed_count(timeline, seen.times_s)
        parts.append((running - seen.running) / seen.running.mean())
        parts.append((_generated(timeline, seen.times_s) - seen.generated) / rate)
    return np.concatenate([part / part.size for part in parts])


def printed_count(timeline: Timeline, times_s: np.ndarray) -> np.ndarray:
    """Count running requests as an engine's own counter prints them.

    vLLM renews its counters after each step, so a request appears with its first token; while
    its prompt is computed the counter still shows the step before.

    Parameters
    ----------
    timeline : Timeline
        Result of `sitetrace.serving.simulate`.
    times_s : numpy.ndarray
        Times on the clock of the requests, seconds, shape (n,).

    Returns
    -------
    numpy.ndarray
        Requests with ``first_token_s <= t < end_s``, shape (n,).
    """
    first, end = (np.sort(timeline.requests[name]) for name in ("first_token_s", "end_s"))
    after = [np.searchsorted(each, times_s, side="right") for each in (first, end)]
    return after[0] - after[1]


def _generated(timeline: Timeline, times_s: np.ndarray) -> np.ndarray:
    """Tokens generated since the first of some times."""
    decode = timeline.segments["decode_tokens"].to_numpy()
    since_s = times_s - times_s[0]
    first = np.searchsorted(np.sort(timeline.requests["first_token_s"]), times_s, side="right")
    return amount_in_bins(timeline.segments, decode, times_s, since_s) + first - first[0]


def _observe(run: Run) -> Observed:
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


def _known(run: Run) -> bool:
    """Whether architecture and GPU type are known well enough for a floor of c3."""
    architecture = run.info.get("arch")
    return (
        isinstance(architecture, dict)
        and all(name in architecture for name in ARCHITECTURE)
        and run.configuration.hardware in BANDWIDTH
    )


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


def _from_architecture(run: Run, largest_request: int) -> Server:
    """Limits from ``run.json``; c3 (its floor), c4 and KV space where the architecture is known."""
    server = Server(
        max_num_seqs=int(_number(run, run.info, "max_num_seqs", 256, 1)),
        max_num_batched_tokens=int(_number(run, run.info, "max_num_batched_tokens", 8192, 1)),
        kv_tokens=max(Server.kv_tokens, largest_request),
    )
    if not _known(run):
        return server
    arch = {name: _number(run, run.info["arch"], name, 1.0, 1) for name in ARCHITECTURE}
    # With sliding windows only one layer in so many reads the whole context.
    windowed = _number(run, run.info["arch"], "swa_global_ratio", 0.0, 0.0)
    gpus, hardware = run.configuration.tensor_parallel, run.configuration.hardware
    token_bytes = 4 * arch["n_layers"] * arch["n_kv"] * arch["head_dim"]
    free_bytes = GPU_BYTES * MEMORY_SHARE * gpus - arch["w_bytes"]
    return replace(
        server,
        c3_s=token_bytes / (1 + windowed) / (gpus * BANDWIDTH[hardware]),
        c4_s=4
        * arch["d_model"]
        * arch["n_layers"]
        / (gpus * PEAK_FLOP_S[hardware] * ATTENTION_EFFICIENCY),
        # What the run has served did fit, whatever the sum says.
        kv_tokens=max(int(free_bytes / token_bytes), largest_request),
    )


def _largest_request(requests: pd.DataFrame) -> int:
    return int((requests["input_tokens"] + requests["output_tokens"]).max())


def _first_guess(seen: list[Observed], server: Server) -> Server:
    """Regress step times on the batch, and TTFT on the prompt, without any queueing."""
    guess = {}
    batch = np.concatenate([each.running[1:] for each in seen])
    changes = [np.diff([each.running, each.prompted]).any(axis=0) for each in seen]
    made = np.concatenate([np.diff(each.generated) for each in seen])
    elapsed_s = np.concatenate([np.diff(each.times_s) for each in seen])
    # Between two rows with the same sequences and no prompt the engine did nothing but decode.
    use = ~np.concatenate(changes) & (batch > 0) & (made > 0)
    if use.sum() >= 8:
        step_s = batch[use] * elapsed_s[use] / made[use]
        guess["c0_s"], slope_s = _line(batch[use], step_s)
        # The slope holds what a sequence adds by its context, which the law counts in c3.
        context_s = (1 + C3_ABOVE_FLOOR) * server.c3_s * _mean_context(seen)
        guess["c1_s"] = max(slope_s - context_s, 0.2 * slope_s)
    ttft_s = np.concatenate([each.ttft_s for each in seen])
    prompt = np.concatenate([each.requests["input_tokens"] for each in seen])
    known = ~np.isnan(ttft_s)
    if known.sum() >= 8:
        base_s, guess["c2_s"] = _line(prompt[known], ttft_s[known])
        guess.setdefault("c0_s", 0.5 * base_s)
    # A regression that finds nothing leaves the default.
    return replace(server, **{name: float(value) for name, value in guess.items() if value > 1e-7})


def _mean_context(seen: list[Observed]) -> float:
    """Tokens that a decoding sequence attends to, mean over decode steps."""
    requests = pd.concat([each.requests for each in seen])
    prompt, output = requests["input_tokens"], requests["output_tokens"]
    return float(np.average(prompt + output / 2, weights=output))


def _line(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Intercept and slope, neither negative, of relative errors with few large ones among them."""
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


def _fit(seen: list[Observed], guess: Server, c3_floor_s: float, free: tuple[str, ...]) -> Server:
    """Minimise the mean absolute errors over logarithms of the free coefficients."""
    from scipy.optimize import least_squares, minimize

    start = np.array([getattr(guess, name) for name in free])
    start[[name == "c3_s" for name in free]] *= C3_ABOVE_FLOOR

    def server(point: np.ndarray) -> Server:
        law = dict(zip(free, (start * np.exp(point - 1.0)).tolist(), strict=True))
        if "c3_s" in law:
            law["c3_s"] += c3_floor_s
        return replace(guess, **law)

    def errors(point: np.ndarray) -> np.ndarray:
        return np.concatenate([residuals(each, server(point)) for each in seen])

    # The errors have steps: squares with a wide difference find the valley, magnitudes its floor.
    point = np.ones(start.size)
    reach = 0.05
    scale = np.sqrt(np.mean(errors(point) ** 2))
    point = least_squares(
        lambda point: errors(point) / scale, point, diff_step=reach, bounds=(-4.0, 4.0), max_nfev=30
    ).x
    for edge in (0.4, 0.2, 0.1):
        point = minimize(
            lambda point: np.abs(errors(point)).sum(),
            point,
            method="Nelder-Mead",
            options={
                "initial_simplex": np.vstack([point, point + edge * np.eye(point.size)]),
                "maxfev": 60 * point.size,
                "xatol": 1e-3,
                "fatol": 1e-5,
            },
        ).x
    return server(point)
