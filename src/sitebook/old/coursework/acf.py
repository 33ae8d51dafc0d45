"""Exercises on autocorrelation: a lag, a score without memory, where a good score comes from."""

from __future__ import annotations

import numpy as np

from sitebook.old.coursework.exercise import Exercise, busy_power, is_busy, power
from sitetrace.evaluate.metrics import acf, acf_r2, acf_r2_white

LAGS, ONE_SECOND, SHUFFLES = 50, 4, 20


def _one_second(seed: int) -> tuple[float, dict[str, float]]:
    whole = acf(power("poisson_low", seed), LAGS)
    busy = acf(busy_power("poisson_low", seed), LAGS)
    return busy[ONE_SECOND - 1], {
        "that is one sample, a quarter of a second: one second is four": busy[0],
        "acf() leaves lag 0 out, so its entry 0 is lag 1": busy[ONE_SECOND],
        "idle and busy alternating is in that: take the busy seconds alone": whole[ONE_SECOND - 1],
    }


def _without_memory(seed: int) -> tuple[float, dict[str, float]]:
    whole_w, busy_w = power("poisson_low", seed), busy_power("poisson_low", seed)
    with_zero = np.r_[1.0, acf(whole_w, LAGS)]
    spread = ((with_zero - with_zero.mean()) ** 2).sum()
    return acf_r2_white(whole_w, LAGS), {
        "lag 0 is in that: both series have 1 there, which explains nothing": 1
        - (with_zero[1:] ** 2).sum() / spread,
        "that is over the busy seconds; take the whole recording": acf_r2_white(busy_w, LAGS),
        "that is over 60 lags; at 0.25 s the score takes 50": acf_r2_white(whole_w, 60),
    }


def _shuffled(seed: int) -> tuple[float, dict[str, float]]:
    watts, busy = power("poisson", seed), is_busy("poisson", seed)
    rng = np.random.default_rng(seed)
    scored = []
    for _ in range(SHUFFLES):
        mixed = watts.copy()
        mixed[busy] = rng.permutation(watts[busy])
        scored.append(acf_r2(watts, mixed, LAGS))
    everything = acf_r2(watts, rng.permutation(watts), LAGS)
    inside = acf_r2(watts[busy], rng.permutation(watts[busy]), LAGS)
    return float(np.median(scored)), {
        "the idle ends are shuffled too in that: shuffle the busy samples alone": everything,
        "that is judged on the busy seconds: judge the whole recording": inside,
    }


EXERCISES = {
    "acf-1": Exercise(_one_second, 0.01, ""),
    "acf-2": Exercise(_without_memory, 0.02, ""),
    "acf-3": Exercise(_shuffled, 0.03, ""),
}
