"""The step law of an engine, learned from a run's times to first token and its counters."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from sitetrace.architecture import fallen_back, from_architecture
from sitetrace.observed import Observed, failures, misfit, observe, residuals
from sitetrace.serving import LINEAR, Server, counted
from sitetrace.trace import Run

C3_ABOVE_FLOOR = 0.3
FREE = ("c0_s", "c1_s", "c2_s", "c3_s", "overhead_s")
# Time to first token knows nothing of decode: what a sequence and its context add stays as it is.
FREE_BY_TTFT_ALONE = ("c0_s", "c2_s")
# The search of logarithms begins at 1, the first guess, and ends here.
FARTHEST = 4.0


def calibrate(runs: list[Run] | Run) -> tuple[Server, dict]:
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
    server : Server
        Step law, overhead and limits.
    told : dict
        For a model's provenance: ``calibration`` as `judged` gives it, and the ``defaults`` that
        stand for what is not known, with the reason.

    Raises
    ------
    InputError
        If a run lacks what is needed, or ``run.json`` holds an impossible value.
    """
    runs = [runs] if isinstance(runs, Run) else runs
    seen = [observe(run) for run in runs]
    free = FREE
    if not any(each.times_s.size for each in seen):
        free = FREE_BY_TTFT_ALONE
    elif all(np.isnan(each.ttft_s).all() for each in seen):
        free = FREE[:-1]
    largest = max(_largest_request(each.requests) for each in seen)
    server, c3_floor_s = from_architecture(runs[0], largest)
    if server.batch_scale < LINEAR and free != FREE_BY_TTFT_ALONE:
        free = (*free, "batch_scale")
    server, far, converged = _fit(seen, _first_guess(seen, server), c3_floor_s, free)
    calibration = judged(seen, server, far) | {"converged": converged}
    return server, {"calibration": calibration, "defaults": fallen_back(runs[0])}


def judged(seen: list[Observed], server: Server, far: list[str]) -> dict:
    """Say how far an engine is from the runs it was learned from, and whether that has failed."""
    found = misfit(seen, server)
    left = [f"{name} is more than {np.exp(FARTHEST - 1):.0f} times its first guess" for name in far]
    return {"misfit": found, "at_bound": far, "failed": failures(found) + left}


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
        guess["c0_s"], slope_s = _line(counted(batch[use], server.batch_scale), step_s)
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


def _fit(
    seen: list[Observed], guess: Server, c3_floor_s: float, free: tuple[str, ...]
) -> tuple[Server, list[str], bool]:
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
        lambda point: errors(point) / scale,
        point,
        diff_step=reach,
        bounds=(-FARTHEST, FARTHEST),
        max_nfev=30,
    ).x
    for edge in (0.4, 0.2, 0.1):
        found = minimize(
            lambda point: np.abs(errors(point)).sum(),
            point,
            method="Nelder-Mead",
            options={
                "initial_simplex": np.vstack([point, point + edge * np.eye(point.size)]),
                "maxfev": 60 * point.size,
                "xatol": 1e-3,
                "fatol": 1e-5,
            },
        )
        point = found.x
    ends = zip(free, point, strict=True)
    far = [name for name, at in ends if at >= FARTHEST and name != "overhead_s"]
    return server(point), far, bool(found.success)
