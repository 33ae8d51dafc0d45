"""Exercises on the timeline: the batch, what a glimpse sees, and a model without prefill."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from sitebook.old.coursework.exercise import Exercise, recording, shipped
from sitetrace.evaluate.judge import evaluate
from sitetrace.power.fitting import as_metered
from sitetrace.power.timeline.model import TimelineModel
from sitetrace.serving.engine import simulate

RUN, WINDOW_S, EVERY_S = "poisson_low", 0.05, 0.25


def _work(seed: int) -> pd.DataFrame:
    requests = recording(RUN, seed).requests
    work = simulate(requests, shipped("testbed_timeline").server).segments
    return work.assign(length_s=work["end_s"] - work["start_s"])


def _mean_batch(seed: int) -> tuple[float, dict[str, float]]:
    work = _work(seed)
    sequence_s = work["batch"] @ work["length_s"]
    span_s = work["end_s"].iloc[-1] - work["start_s"].iloc[0]
    return sequence_s / work["length_s"].sum(), {
        "that counts a short row as much as a long one: weight by duration": work["batch"].mean(),
        "gaps without work are in that: divide by the time at work": sequence_s / span_s,
        "that is the greatest batch; a mean is asked": work["batch"].max(),
    }


def _glimpsed(seed: int) -> tuple[float, dict[str, float]]:
    work = _work(seed)
    length_s = work.loc[work["prefill_tokens"] > 0, "length_s"].to_numpy()
    chance = (length_s + WINDOW_S) / EVERY_S
    seen = 100 * np.minimum(chance, 1).mean()
    return seen, {
        "that is the share that is missed": 100 - seen,
        "the window itself reaches over some time: add its length to the step's": 100
        * np.minimum(length_s / EVERY_S, 1).mean(),
        "no chance is above one: cut before taking the mean": 100 * chance.mean(),
        "that is the share of the window in the interval: a prefill lasts as well": 100
        * WINDOW_S
        / EVERY_S,
    }


def _judged(model: TimelineModel, seed: int) -> dict:
    run = recording(RUN, seed)
    return evaluate(run, as_metered(model, run, 1, np.random.default_rng(seed)))


def _without_prefill(seed: int) -> tuple[float, dict[str, float]]:
    model = shipped("testbed_timeline")
    bare = replace(model, surface=replace(model.surface, scale_tokens=np.inf))
    full, less = _judged(model, seed), _judged(bare, seed)

    def change(clock: str, span: str, score: str) -> float:
        return less[clock][span][score] - full[clock][span][score]

    right = change("1s", "busy", "correlation")
    return right, {
        "that is full less bare: the other way round": -right,
        "that is the change of KS: take the correlation": change("native", "whole", "ks"),
        "idle ends are in that: take the busy seconds": change("1s", "whole", "correlation"),
        "that is at the native step: take one-second means": change(
            "native", "busy", "correlation"
        ),
        "that is the correlation without prefill: take away that of the full model": less["1s"][
            "busy"
        ]["correlation"],
    }


EXERCISES = {
    "timeline-1": Exercise(_mean_batch, 0.02, "sequences"),
    "timeline-2": Exercise(_glimpsed, 0.5, "%"),
    "timeline-3": Exercise(_without_prefill, 0.002, ""),
}
