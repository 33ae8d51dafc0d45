"""Fitting a model of kind `timeline` on measured runs."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np

from sitetrace.calibration import calibrate
from sitetrace.files import InputError
from sitetrace.generator import busiest_rate, most_at_once
from sitetrace.idle import fit_idle
from sitetrace.serving import Server
from sitetrace.timeline_fit import (
    Seen,
    fit_afterglow,
    fit_reading,
    fit_residual,
    observe_power,
    surface_of,
)
from sitetrace.timeline_model import TimelineModel
from sitetrace.trace import Run
from sitetrace.training import prepare

DT = Fraction(1, 4)


def fit_timeline(runs: list[Run], provenance: dict) -> TimelineModel:
    """Fit engine, surface, meter and noise on runs of one configuration.

    Parameters
    ----------
    runs : list of Run
        Cut and checked.
    provenance : dict
        As in `TimelineModel`; what was tried is added.

    Returns
    -------
    TimelineModel
        The fitted model.

    Raises
    ------
    InputError
        If the readings do not rise above idle.
    """
    server = calibrate(runs)
    return fit_power(runs, server, provenance)


def fit_power(runs: list[Run], server: Server, provenance: dict) -> TimelineModel:
    """Fit surface, meter and noise behind a calibrated engine.

    Parameters
    ----------
    runs : list of Run
        Cut and checked, of one configuration.
    server : Server
        Calibrated engine.
    provenance : dict
        As in `TimelineModel`; what was tried is added.

    Returns
    -------
    TimelineModel
        The fitted model.

    Raises
    ------
    InputError
        If the readings do not rise above idle.
    """
    configuration = runs[0].configuration
    gpus = configuration.tensor_parallel
    frame = prepare(runs, server, runs[0].dt)
    power_w = frame["power_w"].to_numpy()
    idle = fit_idle(power_w, frame["before_load"].to_numpy(), frame["quiet_for_s"].to_numpy())
    # each board has its own idle power; a recording without any takes the others'
    boards_w = [run.idle_before_load_w() or idle.mean_w for run in runs]
    seen = [observe_power(*pair) for pair in zip(runs, [server] * len(runs), boards_w, strict=True)]
    if not any(len(each.times_s) for each in seen):
        raise InputError(f"run {runs[0].name}: no sample while requests run: check both clocks")
    meter, scale, law, tried = fit_reading(seen, gpus)
    active_w, decay_s = fit_afterglow(frame, idle, meter, gpus)
    residual = fit_residual(seen, meter, scale, law, float(np.std(idle.deviation_w)))
    return TimelineModel(
        configuration=configuration,
        dt=DT,
        server=server,
        idle=replace(idle, active_w=active_w),
        decay_s=decay_s,
        surface=surface_of(law, scale, idle.mean_w, configuration.hardware, gpus),
        meter=meter,
        residual=residual,
        power_range_w=(float(power_w.min()), float(power_w.max())),
        fitted=_reach(runs, seen),
        provenance=provenance | {"selection": provenance["selection"] | {"meter": tried}},
    )


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
