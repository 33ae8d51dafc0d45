"""Which kind of model suits some runs: cross-validation within the fitting runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd

from sitetrace.evaluation import evaluate
from sitetrace.files import InputError
from sitetrace.generator import StatesModel
from sitetrace.selection import ACF_UNIT, ENERGY_UNIT_PCT, KS_UNIT
from sitetrace.serving import simulate
from sitetrace.timeline_model import TimelineModel
from sitetrace.trace import PowerTrace, Run
from sitetrace.training import cut_run

MODEL_KINDS = ("timeline", "states")
DRAWS = 3
NRMSE_UNIT = 0.06
MARGIN_S = 2.0


def choose_kind(
    runs: list[Run], fit_half: Callable[[list[Run], str], StatesModel | TimelineModel], seed: int
) -> tuple[str, list[dict], str]:
    """Fit both kinds on one half of the runs' time and judge them on the other, both ways."""
    middles = [_middle_s(run) for run in runs]
    try:
        sides = [
            [_part(run, *cut) for run, cut in zip(runs, cuts, strict=True)]
            for cuts in ([(0.0, m) for m in middles], [(m, None) for m in middles])
        ]
        models = {kind: [fit_half(side, kind) for side in sides] for kind in MODEL_KINDS}
    except InputError as error:
        return "timeline", [], f"timeline: too little to fit both kinds on halves ({error})"
    rows = []
    for kind in MODEL_KINDS:
        scored = [
            score
            for run, middle in zip(runs, middles, strict=True)
            for score in _scores(models[kind], run, middle, seed)
        ]
        row = {name: float(np.median([score[name] for score in scored])) for name in scored[0]}
        row = {"kind": kind, **row}
        row["loss"] = (
            row["ks"] / KS_UNIT
            + (1 - row["acf_r2"]) / ACF_UNIT
            + row["energy_error_pct"] / ENERGY_UNIT_PCT
            + row["nrmse"] / NRMSE_UNIT
        )
        rows.append(row)
    better, worse = sorted(rows, key=lambda row: row["loss"])
    because = (
        f"{better['kind']}, not {worse['kind']}: each fitted on half of the seconds and judged on "
        f"the other half, KS {better['ks']:.2f} against {worse['ks']:.2f}, NRMSE at 1 s "
        f"{better['nrmse']:.3f} against {worse['nrmse']:.3f}, energy error "
        f"{better['energy_error_pct']:.1f} against {worse['energy_error_pct']:.1f}%"
    )
    return better["kind"], rows, because


def _part(run: Run, start_s: float, stop_s: float | None) -> Run:
    """Cut a run, but keep the samples before the load: the board's idle power is no secret."""
    part = cut_run(run, start_s, stop_s)
    idle = run.samples[run.samples["time_s"] < run.requests["arrival_s"].iloc[0]]
    return replace(part, samples=pd.concat([idle, part.samples], ignore_index=True), published=None)


def _middle_s(run: Run) -> float:
    """Middle of the arrivals that have samples, seconds after the first arrival."""
    arrivals, times = run.requests["arrival_s"], run.samples["time_s"]
    inside = arrivals[arrivals.between(times.iloc[0], times.iloc[-1])]
    return float(inside.median() - arrivals.iloc[0])


def _scores(
    models: list[StatesModel | TimelineModel], run: Run, middle_s: float, seed: int
) -> list[dict[str, float]]:
    """Score draws over a whole run, each half of it by the model that has not seen it."""
    early, late = (
        printed(model, run, DRAWS, np.random.default_rng(seed)) for model in reversed(models)
    )
    found = []
    for before, after in zip(early, late, strict=True):
        arrival_s = float(run.requests["arrival_s"].iloc[0])
        turn = int((arrival_s + middle_s - before.start_s) / before.dt_s)
        power_w = np.concatenate([before.power_w[:turn], after.power_w[turn:]])
        result = evaluate(run, PowerTrace(before.start_s, before.dt, power_w))
        whole = result["native"]["whole"]
        row = {name: whole[name] for name in ("ks", "acf_r2", "energy_error_pct")}
        found.append(row | {"nrmse": result["1s"]["whole"]["nrmse"]})
    return found


def printed(
    model: StatesModel | TimelineModel, run: Run, draws: int, rng: np.random.Generator
) -> list[PowerTrace]:
    """Generate what a run's meter would print, on the run's clock and with its idle power."""
    times, arrivals = run.samples["time_s"], run.requests["arrival_s"]
    timeline = simulate(run.requests, model.server, rng)
    lead_s = max(float(arrivals.iloc[0] - times.iloc[0]) + MARGIN_S, MARGIN_S)
    tail_s = max(float(times.iloc[-1] - timeline.requests["end_s"].max()) + MARGIN_S, MARGIN_S)
    idle_w = run.idle_before_load_w()
    options = {"reading": "meter"} if isinstance(model, TimelineModel) else {}
    return [
        model.draw(timeline, each, None, lead_s, tail_s, idle_w, **options)
        for each in rng.spawn(draws)
    ]
