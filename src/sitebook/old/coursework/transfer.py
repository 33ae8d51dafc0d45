"""Exercises on transfer: other traffic, another board, and a second GPU."""

from __future__ import annotations

import numpy as np

from sitebook.old.coursework.exercise import Exercise, recording, shipped
from sitetrace.core.types import Configuration
from sitetrace.evaluate.judge import evaluate
from sitetrace.power.fitting import as_metered
from sitetrace.power.timeline.model import TimelineModel
from sitetrace.serving.engine import simulate
from sitetrace.studies.carry import Machine, carried, machine

RUN, HIGHER_W = "poisson_low", 10.0
# a dense model of eight thousand million parameters, two bytes each: invented, as the testbed is
ARCH = {
    "d_model": 4096,
    "n_layers": 32,
    "n_kv": 8,
    "head_dim": 128,
    "n_active": 8e9,
    "w_bytes": 16e9,
}


def on_gpus(count: int) -> Machine:
    """Put the testbed's language model on GPUs of the testbed."""
    return machine(Configuration("testbed-8b", "testbed", count), {"arch": ARCH})


def _other_traffic(seed: int) -> tuple[float, dict[str, float]]:
    def judged(name: str) -> dict:
        run = recording(name, seed)
        traces = as_metered(shipped("testbed_timeline"), run, 1, np.random.default_rng(seed))
        return evaluate(run, traces)["native"]

    whole_pct, busy_pct = (
        judged("poisson_low")[span]["energy_error_signed_pct"] for span in ("whole", "busy")
    )
    return whole_pct, {
        "that is over the busy seconds: take the whole recording": busy_pct,
        "that is of the fitting run's traffic: take poisson_low": judged("poisson")["whole"][
            "energy_error_signed_pct"
        ],
        "that divides by the generated energy: divide by the recorded": 100
        * (1 - 1 / (1 + whole_pct / 100)),
    }


def _other_board(seed: int) -> tuple[float, dict[str, float]]:
    model, requests = shipped("testbed_timeline"), recording(RUN, seed).requests

    def rise(measure: str, **ends: float) -> float:
        here, there = (
            model.generate(requests, rng=np.random.default_rng(seed), idle_w=idle_w, **ends)
            for idle_w in (None, model.idle.mean_w + HIGHER_W)
        )
        return float(np.mean(getattr(there, measure) - getattr(here, measure)))

    bare = {"lead_s": 0.0, "tail_s": 0.0}
    right = rise("power_w", **bare)
    return right, {
        "that holds for an idle board; under load less of it arrives": HIGHER_W,
        "idle ends are in that: give lead_s=0 and tail_s=0": rise("power_w"),
        "that is energy in Wh: mean power is asked": rise("energy_j", **bare) / 3600,
        "that is what does not arrive": HIGHER_W - right,
    }


def _second_gpu(seed: int) -> tuple[float, dict[str, float]]:
    model, one, two = shipped("testbed_timeline"), on_gpus(1), on_gpus(2)
    batch = simulate(recording(RUN, seed).requests, model.server).segments["batch"].max()

    def step(served: TimelineModel) -> np.ndarray:
        """Watts and seconds of a step."""
        power_w = float(served.surface.step_power_w(batch, 0))
        return np.array([power_w, served.server.decode_s(batch)])

    def guess(idle_w: float) -> TimelineModel:
        return carried(model, one, two, idle_w, model.meter)

    here = step(model)
    power, time = step(guess(2 * model.idle.mean_w)) / here
    right = power * time
    return right, {
        "that is the ratio of powers: times the ratio of times": power,
        "that is the ratio of times: times the ratio of powers": time,
        "that is the inverse: two GPUs go on top": 1 / right,
        "two boards idle at twice the power: that has one": np.prod(
            step(guess(model.idle.mean_w)) / here
        ),
        "twice the power for half the time would leave it as it is: compute both": 1.0,
    }


EXERCISES = {
    "transfer-1": Exercise(_other_traffic, 0.05, "%"),
    "transfer-2": Exercise(_other_board, 0.1, "W"),
    "transfer-3": Exercise(_second_gpu, 0.01, ""),
}
