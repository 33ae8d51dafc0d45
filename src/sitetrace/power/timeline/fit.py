"""Fit of the kind `timeline`: engine, surface and meter, then noise and afterglow."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np

from sitetrace.core.files import InputError
from sitetrace.core.registry import device
from sitetrace.core.types import Configuration, Run
from sitetrace.meter import Meter, PowerNoise
from sitetrace.power.idle import Idle
from sitetrace.power.load import busiest_rate, longest_requests, most_at_once
from sitetrace.power.states.labels import idle_of, prepare
from sitetrace.power.timeline.model import TimelineModel
from sitetrace.power.timeline.readings_fit import (
    Reading,
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

DT = Fraction(1, 4)
# extra power just after work by experience: watts a GPU, seconds, and how sure that is
AFTER_W, AFTER_S, AFTER_SPREAD, AFTER_NOISE_W = 5.0, 0.25, 0.5, 1.0
# what a warm board idles above a cold one by experience, watts a GPU
WARM_IDLE_W, WARM_IDLE_SD_W = 7.0, 2.0
LONGEST_AFTER_S = 60.0
PHI_MAX = 0.95
# a further sequence lengthens a decode step by about so much of it
DECODE_SHARE = 0.03
# first corners of a search of two decode times, as logarithms
SIMPLEX = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]])


def fit_timeline(runs: list[Run], provenance: dict) -> TimelineModel:
    """Fit engine, surface, meter and noise of the first run's configuration."""
    # Runs of other configurations of its GPU type add to its meter, warming up and prefill.
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


def learn_decode(runs: list[Run], server: Server) -> Server:
    """Learn the time of decode steps from power, where no counter tells it."""
    from scipy.optimize import minimize

    # Times to first token know nothing of decode; a power that rises with the batch and falls when
    # the last request ends does. What is taken from a step is added to what a client waits for
    # besides, so that times to first token stay what they were.
    gpus = runs[0].configuration.tensor_parallel
    idle = idle_of(prepare(runs, server, runs[0].dt))

    def changed(point: np.ndarray) -> Server:
        c0_s = server.c0_s * np.exp(point[0])
        c1_s = DECODE_SHARE * server.c0_s * np.exp(point[1])
        overhead_s = max(server.overhead_s + server.c0_s - c0_s, 0.0)
        return replace(server, c0_s=float(c0_s), c1_s=float(c1_s), overhead_s=float(overhead_s))

    point = np.array([-0.3, 0.0])
    for reach in (0.4, 0.15):
        found, _ = fit_reading(_seen_by(runs, changed(point), idle), gpus)
        held = (found.meter, found.scales, found.law, gpus)
        point = minimize(
            lambda at: best_law(_seen_by(runs, changed(at), idle), *held)[0],  # noqa: B023
            point,
            method="Nelder-Mead",
            options={"initial_simplex": point + reach * SIMPLEX, "maxfev": 40, "xatol": 0.01},
        ).x
    return changed(point)


def fit_power(runs: list[Run], server: Server, provenance: dict) -> TimelineModel:
    """Fit surface, meter and noise of one configuration behind a calibrated engine."""
    configuration = runs[0].configuration
    gpus = configuration.tensor_parallel
    frame = prepare(runs, server, runs[0].dt)
    idle = idle_of(frame)
    power_w = frame["power_w"].to_numpy()
    seen = _seen_by(runs, server, idle)
    if not any(len(each.times_s) for each in seen):
        raise InputError(f"run {runs[0].name}: no sample while requests run: check both clocks")
    found, tried = fit_reading(seen, gpus)
    afterglow = fit_afterglow(runs, seen, idle.band_w, found.meter, gpus)
    active_w, decay_s, warm_idle_w, ended = afterglow
    surface = _surface_of(found, idle.mean_w, warm_idle_w, configuration)
    defaults = dict(provenance.get("defaults", {}))
    if surface.limit_w == LIMITLESS_W:
        defaults["limit_w"] = f"unknown GPU {configuration.hardware!r}"
    residual, misfit = fit_residual(seen, found, float(np.std(idle.deviation_w)), ended)
    return TimelineModel(
        configuration=configuration,
        dt=DT,
        server=server,
        idle=replace(idle, active_w=active_w),
        decay_s=decay_s,
        surface=surface,
        meter=found.meter,
        residual=residual,
        power_range_w=(float(power_w.min()), float(power_w.max())),
        fitted=_reach(runs, seen),
        provenance=provenance
        | {
            "selection": provenance["selection"] | {"meter": tried},
            "defaults": defaults,
            "power": misfit,
        },
    )


def _with_others(model: TimelineModel, home: list[Run], runs: list[Run]) -> TimelineModel:
    """Fit the first configuration again: others of its GPU type share meter, warmth and prefill."""
    gpus = home[0].configuration.tensor_parallel
    idle = idle_of(prepare(home, model.server, home[0].dt))
    seen = _seen_by(home, model.server, idle)
    provenance = model.provenance
    failed, defaults = list(provenance["calibration"]["failed"]), dict(provenance["defaults"])
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
        seen += [replace(each, **other) for each in _seen_by(group, alone.server, alone.idle)]
    found, tried = fit_reading(seen, gpus)
    ended = provenance["power"]["converged"]
    residual, misfit = fit_residual(seen, found, model.residual.idle_w, ended)
    warm_idle_w = model.surface.warm_idle_w
    return replace(
        model,
        surface=_surface_of(found, model.idle.mean_w, warm_idle_w, model.configuration),
        meter=found.meter,
        residual=residual,
        fitted=_reach(runs, seen),
        provenance=provenance
        | {
            "selection": provenance["selection"] | {"meter": tried},
            "calibration": provenance["calibration"] | {"failed": failed},
            "defaults": defaults,
            "power": misfit,
        },
    )


def _seen_by(runs: list[Run], server: Server, idle: Idle) -> list[Seen]:
    """Put readings beside their work; a board that never idles takes the others' idle power."""
    boards_w = [run.idle_before_load_w() or idle.mean_w for run in runs]
    return [observe_power(run, server, idle_w) for run, idle_w in zip(runs, boards_w, strict=True)]


def _surface_of(
    found: Reading, idle_w: float, warm_idle_w: float, configuration: Configuration
) -> Surface:
    """Make the surface, with its limit at the design power of all its GPUs, where it is known."""
    try:
        limit_w = device(configuration.hardware)["tdp_w"] * configuration.tensor_parallel
    except InputError:
        limit_w = LIMITLESS_W
    decode_w, per_sequence_w, prefill_w, warm_w = (float(value) for value in found.law[:4])
    return Surface(
        idle_w=idle_w,
        decode_w=decode_w,
        per_sequence_w=per_sequence_w,
        prefill_w=prefill_w,
        scale_tokens=found.scales.tokens,
        warm_w=warm_w,
        batch_scale=found.scales.batch,
        limit_w=limit_w,
        warm_idle_w=warm_idle_w,
    )


def _reach(runs: list[Run], seen: list[Seen]) -> dict[str, float]:
    """Note what the fit has seen, so that generating can warn outside of it."""
    rates = [busiest_rate(run.requests["arrival_s"].to_numpy()) for run in runs]
    return longest_requests(runs) | {
        "active": max(most_at_once(each.timeline.requests) for each in seen),
        "requests_per_s": round(max(rates), 3),
        "context_tokens": int(max(each.timeline.segments["context"].max() for each in seen)),
    }


def fit_residual(
    seen: list[Seen], found: Reading, idle_sd_w: float, ended: bool
) -> tuple[PowerNoise, dict]:
    """Take the noise that readings have around the expected ones, and say how far these are off."""
    # The misfit is relative to the mean reading; `ended` says if the other searches converged.
    before, after, errors = [], [], []
    for each in seen:
        share = shares(each, found.meter, found.scales)
        own = each.law(found.law, seen[0].idle_w)
        expected_w = power_of(share, own, each.idle_w).mean(axis=1)
        errors.append(expected_w - each.power_w)
        left = (each.power_w - expected_w) / each.gpus
        # how long noise lasts is told by successive readings that saw decoding alone, at any age
        calm = (share[0].min(axis=1) > 0.98) & (share[3].max(axis=1) < 0.05)
        pairs = calm[1:] & calm[:-1] & (np.diff(each.times_s) < 1.5 * found.meter.dt_s)
        before.append(left[:-1][pairs])
        after.append(left[1:][pairs])
    before, after, errors = (np.concatenate(part) for part in (before, after, errors))
    decode_sd_w = np.exp(found.law[4])
    kept = (np.abs(before) < 4 * decode_sd_w) & (np.abs(after) < 4 * decode_sd_w)
    phi = 0.0
    if kept.sum() >= 20:
        phi = float(np.clip(np.corrcoef(before[kept], after[kept])[0, 1], 0.0, PHI_MAX))
    errors = errors / np.concatenate([each.power_w for each in seen]).mean()
    off = rounded({"mean_error": np.abs(errors).mean(), "energy_error": errors.mean()})
    off = {"power": off | {"points": errors.size}}
    converged = found.converged and ended
    stopped = [] if converged else ["the search of the surface stopped before it converged"]
    misfit = {"misfit": off, "converged": converged, "failed": failures(off) + stopped}
    return PowerNoise(idle_sd_w, float(decode_sd_w), phi), misfit


def fit_afterglow(
    runs: list[Run], seen: list[Seen], band_w: float, meter: Meter, gpus: int
) -> tuple[float, float, float, bool]:
    """Learn what is left after work: extra watts, the seconds they last, watts of a warm board."""
    # The fewer the readings, the nearer to what experience says. The last says if it converged.
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
    # a reading counts from when its window, however old, holds no work
    clear_s = since_s - meter.update_s - meter.window_s
    starts = seen.timeline.segments["start_s"].to_numpy()
    ended = np.searchsorted(seen.timeline.segments["end_s"], times_s - meter.lag_s, side="right")
    quiet = np.searchsorted(starts, times_s - meter.lag_s, side="right") == ended
    rows = quiet & (clear_s >= 0) & (clear_s < LONGEST_AFTER_S) & (power_w <= band_w)
    warm = left_warmth(seen.timeline, times_s)
    return np.array([since_s[rows], warm[rows], power_w[rows] - seen.idle_w])
