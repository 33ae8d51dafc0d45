"""Fit of the kind `timeline`: engine, surface and meter, then noise and afterglow."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np

from sitetrace.core.files import InputError
from sitetrace.core.types import Run
from sitetrace.meter import Meter, PowerNoise
from sitetrace.power.idle import Idle
from sitetrace.power.load import busiest_rate, most_at_once
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
from sitetrace.serving.architecture import known_device
from sitetrace.serving.calibration import (
    PARTS,
    calibrate,
    descended,
    failures,
    judged,
    observe,
    rounded,
)
from sitetrace.serving.engine import Server

DT = Fraction(1, 4)
# By experience, extra power just after work (watts a GPU), the logarithm of the seconds it lasts,
# what a warm board idles above a cold one (watts a GPU); how sure that is, and between what limits.
USUAL, SPREAD = np.array([5.0, np.log(0.25), 7.0]), np.array([5.0, 0.5, 2.0])
LEAST, MOST = np.array([0.0, -2.5, 0.0]), np.array([60.0, 3.0, 30.0])
AFTER_NOISE_W, LONGEST_AFTER_S = 1.0, 60.0
PHI_MAX = 0.95
# a further sequence lengthens a decode step by about so much of it
DECODE_SHARE = 0.03


def fit_timeline(runs: list[Run], provenance: dict) -> TimelineModel:
    """Fit engine, surface, meter and noise of the first run's configuration."""
    groups = {run.configuration: [] for run in runs}
    for run in runs:
        groups[run.configuration].append(run)
    home, *others = [
        fit_power(group, server, provenance | told)
        for group in groups.values()
        for server, told in [_engine_of(group)]
    ]
    if not others:
        return home
    # Other configurations of its GPU type add to its meter, warming up and prefill.
    told = home.provenance
    failed, defaults, seen = list(told["calibration"]["failed"]), dict(told["defaults"]), []
    for other in others:
        name, gpus = other.configuration.name, other.configuration.tensor_parallel
        why = [each for part in PARTS for each in other.provenance[part]["failed"]]
        failed += [f"{name}: {each}" for each in why]
        defaults |= {f"{name}: {what}": why for what, why in other.provenance["defaults"].items()}
        own, share = other.surface, gpus / home.configuration.tensor_parallel
        decode = (own.decode_w, own.per_sequence_w, own.batch_scale)
        theirs = _seen_by(groups[other.configuration], other.server, other.idle)
        seen += [replace(each, gpus=share, decode=decode) for each in theirs]
    provenance = told | {
        "calibration": told["calibration"] | {"failed": failed},
        "defaults": defaults,
    }
    return fit_power(groups[home.configuration], home.server, provenance, home, seen)


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
        point, _ = descended(
            lambda at: best_law(_seen_by(runs, changed(at), idle), found, gpus).loss,  # noqa: B023
            point,
            reach * np.diag([1.0, 2.0]),
            maxfev=40,
            xatol=0.01,
        )
    return changed(point)


def fit_power(
    runs: list[Run],
    server: Server,
    provenance: dict,
    alone: TimelineModel | None = None,
    others: list[Seen] = (),
) -> TimelineModel:
    """Fit surface, meter and noise of one configuration behind a calibrated engine.

    Readings of others may be added to its own; what these alone have told after work is kept.
    """
    configuration, gpus = runs[0].configuration, runs[0].configuration.tensor_parallel
    idle = idle_of(prepare(runs, server, runs[0].dt))
    seen = _seen_by(runs, server, idle) + list(others)
    if not any(len(each.times_s) for each in seen):
        raise InputError(f"run {runs[0].name}: no sample while requests run: check both clocks")
    found, tried = fit_reading(seen, gpus)
    if alone is None:
        after, ended = fit_afterglow(runs, seen, idle.band_w, found.meter, gpus)
    else:
        after = (alone.idle.active_w, alone.decay_s, alone.surface.warm_idle_w)
        ended = alone.provenance["power"]["converged"]
    active_w, decay_s, warm_idle_w = after
    residual, misfit = fit_residual(seen, found, float(np.std(idle.deviation_w)), ended)
    gpu, defaults = known_device(configuration.hardware), {}
    if gpu is None:
        defaults["limit_w"] = f"unknown GPU {configuration.hardware!r}"
    decode_w, per_sequence_w, prefill_w, warm_w = (float(value) for value in found.law[:4])
    surface = Surface(
        idle_w=idle.mean_w,
        decode_w=decode_w,
        per_sequence_w=per_sequence_w,
        prefill_w=prefill_w,
        scale_tokens=found.setting["tokens"],
        warm_w=warm_w,
        batch_scale=found.setting["batch"],
        limit_w=gpu["tdp_w"] * gpus if gpu else LIMITLESS_W,
        warm_idle_w=warm_idle_w,
    )
    power_w = np.concatenate([run.samples["power_w"] for run in runs])
    requests = [each.timeline.requests for each in seen]
    rates = [busiest_rate(each["arrival_s"].to_numpy()) for each in requests]
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
        # what the fit has seen, so that generating can warn outside of it
        fitted={
            "input_tokens": int(max(each["input_tokens"].max() for each in requests)),
            "output_tokens": int(max(each["output_tokens"].max() for each in requests)),
            "active": max(most_at_once(each) for each in requests),
            "requests_per_s": round(max(rates), 3),
            "context_tokens": int(max(each.timeline.segments["context"].max() for each in seen)),
        },
        provenance=provenance
        | {
            "selection": provenance["selection"] | {"meter": tried},
            "defaults": provenance.get("defaults", {}) | defaults,
            "power": misfit,
        },
    )


def _seen_by(runs: list[Run], server: Server, idle: Idle) -> list[Seen]:
    """Put readings beside their work; a board that never idles takes the others' idle power."""
    boards_w = [run.idle_before_load_w() or idle.mean_w for run in runs]
    return [observe_power(run, server, idle_w) for run, idle_w in zip(runs, boards_w, strict=True)]


def fit_residual(
    seen: list[Seen], found: Reading, idle_sd_w: float, ended: bool
) -> tuple[PowerNoise, dict]:
    """Take the noise that readings have around the expected ones, and say how far these are off."""
    # The misfit is relative to the mean reading; `ended` says if the other searches converged.
    before, after, errors = [], [], []
    for each in seen:
        share = shares(each, found)
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
) -> tuple[tuple[float, float, float], bool]:
    """Learn what is left after work: extra watts, the seconds they last, watts of a warm board."""
    # The fewer the readings, the nearer to what experience says. The last says if it converged.
    from scipy.optimize import least_squares

    parts = []
    for run, each in zip(runs, seen, strict=True):
        times_s = run.samples["time_s"].to_numpy() - float(run.requests["arrival_s"].iloc[0])
        power_w, work = run.samples["power_w"].to_numpy(), each.timeline.segments
        since_s = since_work_s(each.timeline, times_s - meter.lag_s)
        # a reading counts from when its window, however old, holds no work
        clear_s = since_s - meter.update_s - meter.window_s
        begun, ended = (
            np.searchsorted(work[name], times_s - meter.lag_s, side="right")
            for name in ("start_s", "end_s")
        )
        rows = (begun == ended) & (clear_s >= 0) & (clear_s < LONGEST_AFTER_S) & (power_w <= band_w)
        warm = left_warmth(each.timeline, times_s)
        parts.append([since_s[rows], warm[rows], power_w[rows] - each.idle_w])
    since_s, warm, extra_w = np.concatenate(parts, axis=1)
    scale = np.array([gpus, 1.0, gpus])

    def errors(point: np.ndarray) -> np.ndarray:
        after_w, log_s, warm_w = point
        left = after_w * np.exp(-since_s / np.exp(log_s)) + warm_w * warm - extra_w
        return np.concatenate([left / AFTER_NOISE_W, (point / scale - USUAL) / SPREAD])

    found = least_squares(errors, USUAL * scale, bounds=(LEAST * scale, MOST * scale))
    after_w, log_s, warm_w = found.x
    return (float(after_w), float(np.exp(log_s)), float(warm_w)), bool(found.success)
