"""What a model costs: numbers that a fit decided, and time in units that any machine has."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pandas as pd

from sitetrace.power.states.bigru import WEIGHTS, BiGRU
from sitetrace.power.states.model import StatesModel
from sitetrace.power.states.transitions import Logit, Markov, Separable, Trees
from sitetrace.power.timeline.model import TimelineModel
from sitetrace.serving.engine import simulate

REPEATS = 3
# what `sitetrace.power.timeline.fit` decides beside the engine and the idle power
SURFACE = ("decode_w", "per_sequence_w", "prefill_w", "scale_tokens", "warm_w", "batch_scale")
METER = ("window_s", "lag_s", "update_s")
NOISE = ("decode_w", "phi")
AFTER_WORK = ("active_w", "decay_s")


def numbers(model: StatesModel | TimelineModel) -> int:
    """Count the numbers that a fit decided, without engine and idle power, which kinds share."""
    if isinstance(model, TimelineModel):
        return len(SURFACE) + len(METER) + len(NOISE) + len(AFTER_WORK)
    n_states = model.mixture.n_states
    emissions = {"gaussian": 0, "empirical": model.emissions.quantile_w.size}
    mixture = 3 * n_states - 1
    return mixture + emissions.get(model.emissions.kind, n_states) + _learnt(model.transitions)


def _learnt(transitions: Separable | Trees) -> int:
    """Count the numbers of learnt transitions."""
    if isinstance(transitions, Markov):
        levels, before, n_states = transitions.probability.shape
        return transitions.edges.size + levels * before * (n_states - 1)
    if isinstance(transitions, Logit):
        # the scores of all states may be shifted alike
        rows, features = transitions.weight.shape
        return (rows - 1) * (features + 1 + transitions.lag.shape[0])
    if isinstance(transitions, Trees):
        leaves = int((transitions.feature < 0).sum())
        return transitions.prior.size - 1 + leaves + 2 * (transitions.feature.size - leaves)
    if isinstance(transitions, BiGRU):
        return sum(getattr(transitions, name).size for name in WEIGHTS)
    return transitions.weight.size - 1


def best_s(work: Callable[[], object]) -> float:
    """Take the shortest of a few repeats: what the machine can do when nothing else runs."""
    times = []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return min(times)


def floors(work: Callable[[], object], samples: int, rng: np.random.Generator) -> float:
    """Time something as a multiple of drawing as many normal numbers in the same process."""
    work()
    return best_s(work) / best_s(lambda: rng.standard_normal(samples))


def generation(
    model: StatesModel | TimelineModel,
    requests: pd.DataFrame,
    rng: np.random.Generator,
    **reading: str,
) -> dict[str, float]:
    """Time the generation of one trace in floors."""
    timeline = simulate(requests, model.server)
    samples = model.draw(timeline, rng, **reading).power_w.size
    serving = floors(lambda: simulate(requests, model.server), samples, rng)
    power = floors(lambda: model.draw(timeline, rng, **reading), samples, rng)
    return {"serving": serving, "power": power, "both": serving + power}
