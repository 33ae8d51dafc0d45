"""What each part of a timeline model buys: one is switched off at a time, nothing is refitted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from sitebook.old.judging.splits import Part
from sitetrace.core.types import PowerTrace, Run, Timeline
from sitetrace.evaluate.judge import evaluate
from sitetrace.meter import Meter, PowerNoise, drawn_w, expected_w
from sitetrace.power.fitting import as_metered
from sitetrace.power.timeline.model import TimelineModel
from sitetrace.serving.activity import as_segments
from sitetrace.serving.engine import counted, simulate

FULL, MEAN, UNPLACED = "full model", "mean power, no readings", "readings not placed"
SCORED = {
    "energy error [%]": ("native", "whole", "energy_error_pct"),
    "KS": ("native", "whole", "ks"),
    "NRMSE, 1 s": ("1s", "whole", "nrmse"),
    "ACF R²": ("native", "whole", "acf_r2"),
    "correlation, 1 s, busy": ("1s", "busy", "correlation"),
}
SHOWN = ("KS", "NRMSE, 1 s", "correlation, 1 s, busy")


def mean_batch(timeline: Timeline) -> float:
    """Sequences that decode, mean over the time at work."""
    work = timeline.segments
    return float(np.average(work["batch"], weights=work["end_s"] - work["start_s"]))


def without(model: TimelineModel, batch: float, other: Meter) -> dict[str, TimelineModel]:
    """Switch one part of a model off, each in turn."""
    law, idle = model.surface, model.idle
    level_w = law.decode_w + law.per_sequence_w * float(counted(batch, law.batch_scale))
    changed = {
        "no warming": {"surface": replace(law, warm_w=0.0, warm_idle_w=0.0)},
        # a prompt of no length: its steps draw what decoding draws
        "no prefill": {"surface": replace(law, scale_tokens=np.inf)},
        "one power for all batches": {
            "surface": replace(law, decode_w=level_w, per_sequence_w=0.0)
        },
        "no power after work": {"idle": replace(idle, active_w=0.0)},
        "no noise": {
            "residual": PowerNoise(0.0, 0.0, 0.0),
            "idle": replace(idle, deviation_w=np.zeros(1)),
        },
        "the other meter": {"meter": other},
    }
    return {FULL: model} | {name: replace(model, **change) for name, change in changed.items()}


def in_turn(
    models: dict[str, TimelineModel], run: Run, draws: int, seed: int
) -> dict[str, list[PowerTrace]]:
    """Draw what a recording's meter would print, by each model."""
    found = {
        name: as_metered(model, run, draws, np.random.default_rng(seed))
        for name, model in models.items()
    }
    full, idle_w = models[FULL], run.idle_before_load_w()
    board = full if idle_w is None else full.on_board(idle_w)
    timeline = simulate(run.requests, full.server)
    streams = np.random.default_rng(seed).spawn(draws)
    found[MEAN] = [
        mean_power(board, timeline, trace, rng)
        for trace, rng in zip(found[FULL], streams, strict=True)
    ]
    found[UNPLACED] = [
        unplaced(board, timeline, trace, rng)
        for trace, rng in zip(found[FULL], streams, strict=True)
    ]
    return found


def mean_power(
    model: TimelineModel, timeline: Timeline, clock: PowerTrace, rng: np.random.Generator
) -> PowerTrace:
    """Draw mean power of the bins of a trace, not what a meter would print."""
    work = as_segments(timeline.segments)
    work["start_s"] -= clock.start_s
    work["end_s"] -= clock.start_s
    power_w = model.power_of(work, 0.0, clock.power_w.size, rng)
    return PowerTrace(clock.start_s, clock.dt, power_w)


def unplaced(
    model: TimelineModel, timeline: Timeline, placed: PowerTrace, rng: np.random.Generator
) -> PowerTrace:
    """Draw readings each at a random age, and leave them where they fall."""
    times_s = placed.time_s + placed.dt_s
    _, busy = expected_w(timeline, model, times_s)
    chanced, _ = drawn_w(timeline, model, times_s, rng)
    return PowerTrace(placed.start_s, placed.dt, np.where(busy > 0, chanced, placed.power_w))


def score(run: Run, part: Part, found: dict[str, list[PowerTrace]]) -> pd.DataFrame:
    """Score every model on the judged seconds."""
    rows = []
    for name, traces in found.items():
        each = [evaluate(run, trace, start_s=part.start_s, stop_s=part.stop_s) for trace in traces]
        row = {"judged": part.run, "part": name}
        for title, (clock, span, key) in SCORED.items():
            values = np.array([result[clock][span][key] for result in each], dtype=float)
            row |= {title: np.median(values)}
            row |= {f"{title}_low": values.min(), f"{title}_high": values.max()}
        rows.append(row)
    return pd.DataFrame(rows)
