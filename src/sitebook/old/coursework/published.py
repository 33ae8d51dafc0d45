"""Exercises on the paper's configurations: a mixture's moments, and states put in order."""

from __future__ import annotations

import numpy as np

from sitebook.old.coursework.exercise import Exercise, recording
from sitetrace.core.registry import read_paper_table
from sitetrace.evaluate.metrics import acf
from sitetrace.power.published import paper_model
from sitetrace.power.states.mixture import Mixture, published_mixture

CONFIG = "llama-3-70b_H100_tp4"


def _mixture() -> Mixture:
    return published_mixture(read_paper_table("mixtures"), CONFIG)


def _mean_w(seed: int) -> tuple[float, dict[str, float]]:
    mixture = _mixture()
    return mixture.weight @ mixture.mean_w, {
        "that gives every state the same weight": mixture.mean_w.mean(),
        "that is the mean of the heaviest state; all of them count": mixture.mean_w[
            mixture.weight.argmax()
        ],
    }


def _sigma_w(seed: int) -> tuple[float, dict[str, float]]:
    mixture = _mixture()
    weight, mean_w, sigma_w = mixture.weight, mixture.mean_w, mixture.sigma_w
    within = weight @ sigma_w**2
    between = weight @ (mean_w - weight @ mean_w) ** 2
    return np.sqrt(within + between), {
        "that is the variance: take its root": within + between,
        "that is the spread within states: their means differ too": np.sqrt(within),
        "that is the spread between states: each has its own as well": np.sqrt(between),
        "that averages the standard deviations: variances add, not deviations": weight @ sigma_w,
    }


def _order(seed: int) -> tuple[float, dict[str, float]]:
    requests = recording("poisson_low", seed).requests
    coupled, independent = (
        acf(
            paper_model(CONFIG, states=states)
            .generate(requests, rng=np.random.default_rng(seed), lead_s=0.0, tail_s=0.0)
            .power_w,
            1,
        )[0]
        for states in ("coupled", "independent")
    )
    return coupled, {"that is the independent model: take the coupled one": independent}


EXERCISES = {
    "published-1": Exercise(_mean_w, 1.0, "W"),
    "published-2": Exercise(_sigma_w, 0.5, "W"),
    "published-3": Exercise(_order, 0.02, ""),
}
