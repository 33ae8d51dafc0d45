"""Fit of the kind `timeline`: engine, surface and meter, then noise and afterglow."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pandas as pd

from sitetrace.core.files import InputError
from sitetrace.core.registry import device
from sitetrace.core.types import Configuration, Run
from sitetrace.meter import Meter, Residual
from sitetrace.power.idle import Idle, fit_idle
from sitetrace.power.load import busiest_rate, most_at_once
from sitetrace.power.states.labels import prepare
from sitetrace.power.timeline.model import TimelineModel
from sitetrace.power.timeline.readings_fit import (
    Scales,
    Seen,
    best_law,
    fit_reading,
    observe_power,
    power_of,
    shares,
)
from sitetrace.power.timeline.surface import LIMITLESS_W, Surface, left_warmth, since_work_s
from sitetrace.serving.calibration import calibrate, failures, judged, observe, rounded
from sitetrace.serving.engine import Server

# extra power just after work by experience: watts a GPU, seconds, and how sure that is
AFTER_W, AFTER_S, AFTER_SPREAD, AFTER_NOISE_W = 5.0, 0.25, 0.5, 1.0
# what a warm board idles above a cold one by experience, watts a GPU
WARM_IDLE_W, WARM_IDLE_SD_W = 7.0, 2.0
LONGEST_AFTER_S = 60.0
PHI_MAX = 0.95
DT = Fraction(1, 4)
# a further sequence lengthens a decode step by about so much of it
DECODE_SHARE = 0.03
SIMPLEX = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]])


def fit_residual(
    seen: list[Seen], meter: Meter, scales: Scales, law: np.ndarray, idle_sd_w: float
) -> Residual:
    """Take the noise by regime, and how long it lasts while decoding."""
    before, after = [], []
    for each in seen:
        share = shares(each, meter, scales)
        own = each.law(law, seen[0].idle_w)
        left = (each.power_w - power_of(share, own, each.idle_w).mean(axis=1)) / each.gpus
        calm = (share[0].min(axis=1) > 0.98) & (share[3].max(axis=1) < 0.05)
        pairs = calm[1:] & calm[:-1] & (np.diff(each.times_s) < 1.5 * meter.dt_s)
        before.append(left[:-1][pairs])
        after.append(left[1:][pairs])
    before, after = np.concatenate(before), np.concatenate(after)
    limit = 4 * np.exp(law[4])
    kept = (np.abs(before) < limit) & (np.abs(after) < limit)
    phi = 0.0
    if kept.sum() >= 20:
        phi = float(np.clip(np.corrcoef(before[kept], after[kept])[0, 1], 0.0, PHI_MAX))
    return Residual(idle_sd_w, float(np.exp(law[4])), phi)


def judged_power(
    seen: list[Seen], meter: Meter, scales: Scales, law: np.ndarray, converged: bool
) -> dict:
    """Say how far the readings are from the mean of what the surface makes the meter print."""
    left, power_w = [], np.concatenate([each.power_w for each in seen])
    for each in seen:
        own = each.law(law, seen[0].idle_w)
        expected_w = power_of(shares(each, meter, scales), own, each.idle_w).mean(axis=1)
        left.append(expected_w - each.power_w)
    left = np.concatenate(left) / power_w.mean()
    numbers = rounded({"mean_error": np.abs(left).mean(), "energy_error": left.mean()})
    found = {"power": numbers | {"points": left.size}}
    stopped = [] if converged else ["the search of the surface stopped before it converged"]
    return {"misfit": found, "converged": converged, "failed": failures(found) + stopped}


def fit_afterglow(
    runs: list[Run], seen: list[Seen], band_w: float, meter: Meter, gpus: int
) -> tuple[float, float, float, bool]:
    """Learn the extra power just after work, how fast it goes, and what a warm board keeps."""
    from scipy.optimize import least_squares

    parts = [_after_work(run, each, band_w, meter) for run, each in zip(runs, seen, strict=True)]
    since_s, warm, extra_w = np.concatenate(parts, axis=1)

    def errors(point: np.ndarray) -> np.ndarray:
        after_w, log_s, warm_w = point
        left = after_w * np.exp(-since_s / np.exp(log_s)) + warm_w * warm - extra_w
        prior = [(after_w / gpus - AFTER_W) / AFTER_W, (log_s - np.log(AFTER_S)) / AFTER_SPREAD]
        prior.append((warm_w / gpus - WARM_IDLE_W) / WARM_IDLE_SD_W)
        return np.concatenate([left / AFTER_NOISE_W, prior])

    start = [AFTER_W * gpus, np.log(AFTER_S), WARM_IDLE_W * gpus]
    limits = ([0.0, -2.5, 0.0], [60.0 * gpus, 3.0, 30.0 * gpus])
    found = least_squares(errors, start, bounds=limits)
    after_w, log_s, warm_w = found.x
    return float(after_w), float(np.exp(log_s)), float(warm_w), bool(found.success)


def _after_work(run: Run, seen: Seen, band_w: float, meter: Meter) -> np.ndarray:
    """Time since work, warmth and power above idle of the readings that saw none, shape (3, n)."""
    times_s = run.samples["time_s"].to_numpy() - float(run.requests["arrival_s"].iloc[0])
    power_w = run.samples["power_w"].to_numpy()
    since_s = since_work_s(seen.timeline, times_s - meter.lag_s)
    clear_s = since_s - meter.update_s - meter.window_s
    starts = seen.timeline.segments["start_s"].to_numpy()
    ended = np.searchsorted(seen.timeline.segments["end_s"], times_s - meter.lag_s, side="right")
    quiet = np.searchsorted(starts, times_s - meter.lag_s, side="right") == ended
    rows = quiet & (clear_s >= 0) & (clear_s < LONGEST_AFTER_S) & (power_w <= band_w)
    warm = left_warmth(seen.timeline, times_s)
    return np.array([since_s[rows], warm[rows], power_w[rows] - seen.idle_w])


def fit_timeline(runs: list[Run], provenance: dict) -> TimelineModel:
    """Fit engine, surface, meter and noise."""
    home = [run for run in runs if run.configuration == runs[0].configuration]
    server, told = _engine_of(home)
    model = fit_power(home, server, provenance | told)
    if len(home) == len(runs):
        return model
    return _with_others(model, home, runs)


def _engine_of(runs: list[Run]) -> tuple[Server, dict]:
    """Calibrate the engine of runs of one configuration; as `calibrate` gives it."""
    server, told = calibrate(runs)
    if any(run.engine is not None for run in runs):
        return server, told
    server, calibration = learn_decode(runs, server), told["calibration"]
    again = judged([observe(run) for run in runs], server, calibration["at_bound"])
    return server, told | {"calibration": calibration | again}


def _with_others(model: TimelineModel, home: list[Run], runs: list[Run]) -> TimelineModel:
    """Fit the first configuration again: others of its GPU type share meter, warmth and prefill."""
    gpus = home[0].configuration.tensor_parallel
    seen = _seen_by(home, model.server, _idle_of(home, model.server)[1])
    provenance = model.provenance
    failed, defaults = list(provenance["calibration"]["failed"]), dict(provenance["defaults"])
    ended = provenance["power"]["converged"]
    for configuration in dict.fromkeys(run.configuration for run in runs):
        if configuration == home[0].configuration:
            continue
        group = [run for run in runs if run.configuration == configuration]
        server, told = _engine_of(group)
        alone = fit_power(group, server, provenance | told)
        for part in ("calibration", "power"):
            failed += [f"{configuration.name}: {why}" for why in alone.provenance[part]["failed"]]
        defaults |= {f"{configuration.name}: {n}": why for n, why in told["defaults"].items()}
        own = alone.surface
        other = {
            "gpus": configuration.tensor_parallel / gpus,
            "decode": (own.decode_w, own.per_sequence_w, own.batch_scale),
        }
        found = _seen_by(group, alone.server, alone.idle)
        seen += [replace(each, **other) for each in found]
    _, meter, scales, law, converged, tried = fit_reading(seen, gpus)
    tables = provenance["selection"] | {"meter": tried}
    warm_idle_w = model.surface.warm_idle_w
    surface = _surface_of(law, scales, model.idle.mean_w, warm_idle_w, model.configuration)
    return replace(
        model,
        surface=surface,
        meter=meter,
        residual=fit_residual(seen, meter, scales, law, model.residual.idle_w),
        fitted=_reach(runs, seen),
        provenance=provenance
        | {
            "selection": tables,
            "calibration": provenance["calibration"] | {"failed": failed},
            "defaults": defaults,
            "power": judged_power(seen, meter, scales, law, converged and ended),
        },
    )


def fit_power(runs: list[Run], server: Server, provenance: dict) -> TimelineModel:
    """Fit surface, meter and noise behind a calibrated engine."""
    configuration = runs[0].configuration
    gpus = configuration.tensor_parallel
    frame, idle = _idle_of(runs, server)
    power_w = frame["power_w"].to_numpy()
    seen = _seen_by(runs, server, idle)
    if not any(len(each.times_s) for each in seen):
        raise InputError(f"run {runs[0].name}: no sample while requests run: check both clocks")
    _, meter, scales, law, converged, tried = fit_reading(seen, gpus)
    active_w, decay_s, warm_idle_w, ended = fit_afterglow(runs, seen, idle.band_w, meter, gpus)
    surface = _surface_of(law, scales, idle.mean_w, warm_idle_w, configuration)
    defaults = dict(provenance.get("defaults", {}))
    if surface.limit_w == LIMITLESS_W:
        defaults["limit_w"] = f"unknown GPU {configuration.hardware!r}"
    residual = fit_residual(seen, meter, scales, law, float(np.std(idle.deviation_w)))
    return TimelineModel(
        configuration=configuration,
        dt=DT,
        server=server,
        idle=replace(idle, active_w=active_w),
        decay_s=decay_s,
        surface=surface,
        meter=meter,
        residual=residual,
        power_range_w=(float(power_w.min()), float(power_w.max())),
        fitted=_reach(runs, seen),
        provenance=provenance
        | {
            "selection": provenance["selection"] | {"meter": tried},
            "defaults": defaults,
            "power": judged_power(seen, meter, scales, law, converged and ended),
        },
    )


def learn_decode(runs: list[Run], server: Server) -> Server:
    """Learn the time of decode steps from power, where no counter tells it."""
    from scipy.optimize import minimize

    gpus = runs[0].configuration.tensor_parallel
    _, idle = _idle_of(runs, server)
    first = server

    def changed(point: np.ndarray) -> Server:
        c0_s, c1_s = first.c0_s * np.exp(point[0]), DECODE_SHARE * first.c0_s * np.exp(point[1])
        overhead_s = max(first.overhead_s + first.c0_s - c0_s, 0.0)
        return replace(first, c0_s=float(c0_s), c1_s=float(c1_s), overhead_s=float(overhead_s))

    point = np.array([-0.3, 0.0])
    for reach in (0.4, 0.15):
        seen = _seen_by(runs, changed(point), idle)
        _, meter, scales, law, *_ = fit_reading(seen, gpus)
        point = minimize(
            lambda at: best_law(
                _seen_by(runs, changed(at), idle),
                meter,
                scales,
                law,
                gpus,  # noqa: B023
            )[0],
            point,
            method="Nelder-Mead",
            options={"initial_simplex": point + reach * SIMPLEX, "maxfev": 40, "xatol": 0.01},
        ).x
    return changed(point)


def _idle_of(runs: list[Run], server: Server) -> tuple[pd.DataFrame, Idle]:
    """Prepare the samples of the runs, and take the idle power from them."""
    frame = prepare(runs, server, runs[0].dt)
    columns = (frame[name].to_numpy() for name in ("power_w", "before_load", "quiet_for_s"))
    return frame, fit_idle(*columns)


def _seen_by(runs: list[Run], server: Server, idle: Idle) -> list[Seen]:
    """Put readings beside their work; a board that never idles takes the others' idle power."""
    boards_w = [run.idle_before_load_w() or idle.mean_w for run in runs]
    return [observe_power(run, server, idle_w) for run, idle_w in zip(runs, boards_w, strict=True)]


def _reach(runs: list[Run], seen: list[Seen]) -> dict[str, float]:
    """Note what the fit has seen, so that generating can warn outside of it."""
    reach = {
        name: int(max(run.requests[name].max() for run in runs))
        for name in ("input_tokens", "output_tokens")
    }
    reach["active"] = max(most_at_once(each.timeline.requests) for each in seen)
    rates = [busiest_rate(run.requests["arrival_s"].to_numpy()) for run in runs]
    reach["requests_per_s"] = round(max(rates), 3)
    reach["context_tokens"] = int(max(each.timeline.segments["context"].max() for each in seen))
    return reach


def _surface_of(
    law: np.ndarray,
    scales: Scales,
    idle_w: float,
    warm_idle_w: float,
    configuration: Configuration,
) -> Surface:
    """Make the surface, with its limit at the design power of all its GPUs, where it is known."""
    try:
        limit_w = device(configuration.hardware)["tdp_w"] * configuration.tensor_parallel
    except InputError:
        limit_w = LIMITLESS_W
    law = [float(value) for value in law]
    return Surface(
        idle_w, *law[:3], scales.tokens, law[3], scales.batch, limit_w, warm_idle_w=warm_idle_w
    )
