"""What a row shed, how fast, and what it cost: a run with control beside the one without."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sitetrace.studies.modulation import Lever, Outcome, Row, Stream, held, run

TTFT_BOUND_S, PART_S, MEANS_S = 10.0, 10, 5
STEP_SETTLED_S = (60, 120)


def compared(arm: Outcome, usual: Outcome, from_s: float, to_s: float) -> dict[str, float]:
    """Compare a run with the uncontrolled one on the same stream, over a span of time."""
    span = slice(int(from_s / arm.tick_s), int(to_s / arm.tick_s))
    power_w, usual_w = arm.power_w[span].mean(), usual.power_w[span].mean()
    inside = (arm.arrival_s >= from_s) & (arm.arrival_s < to_s)
    told = {"power_w": power_w, "shed_pct": 100 * (1 - power_w / usual_w)}
    levels = [np.quantile(each.ttft_s[inside], (0.5, 0.95)) for each in (arm, usual)]
    for name, waited_s, usual_s in zip(("p50", "p95"), *levels, strict=True):
        told |= {f"ttft_{name}_s": waited_s, f"ttft_{name}_ratio": waited_s / usual_s}
    mine_s, usual_s = arm.tpot_s[inside], usual.tpot_s[inside]
    both = ~np.isnan(mine_s) & ~np.isnan(usual_s)
    told["tpot_ratio"] = mine_s[both].mean() / usual_s[both].mean() if both.any() else np.nan
    told["ended_pct"] = 100 * (~np.isnan(arm.times_s[inside, 1])).mean()
    return told


def step(
    row: Row, streams: list[Stream], lever: Lever, place: float, at_s: float
) -> tuple[np.ndarray, np.ndarray]:
    """Move a lever once, and see what is shed from then on."""
    first = int(at_s / row.tick_s)
    shed_w = [
        (run(row, each).power_w - held(row, each, lever, place, at_s).power_w)[first:]
        for each in streams
    ]
    return row.tick_s * np.arange(1, len(shed_w[0]) + 1), np.array(shed_w)


def reached_s(after_s: np.ndarray, shed_w: np.ndarray, share: float = 0.9) -> float:
    """Tell when a share of the watts that are shed in the end is reached first."""
    mean_w = shed_w.mean(axis=0)
    settled = (after_s > STEP_SETTLED_S[0]) & (after_s <= STEP_SETTLED_S[1])
    return float(after_s[np.argmax(mean_w >= share * mean_w[settled].mean())])


def called(arm: Outcome, usual: Outcome, setpoint_w: np.ndarray) -> dict[str, float]:
    """Judge a run in which less power was asked for during one stretch of time."""
    tick_s, asked = arm.tick_s, np.flatnonzero(~np.isnan(setpoint_w))
    begin, end = asked[0], asked[-1] + 1
    span, after = slice(begin, end), slice(end, None)
    told = compared(arm, usual, begin * tick_s, end * tick_s)
    less_w = usual.power_w - arm.power_w
    told["shed_kwh"] = less_w[span].sum() * tick_s / 3.6e6
    block = int(MEANS_S / tick_s)
    over_w = _means(arm.power_w[span] - setpoint_w[span], block)
    told["missed_kwh"] = np.maximum(over_w, 0).sum() * MEANS_S / 3.6e6
    told["above_pct"] = 100 * (over_w > 0.01 * setpoint_w[begin]).mean()
    edges_s = np.arange(begin * tick_s, end * tick_s, PART_S)
    waits = np.split(arm.ttft_s, np.searchsorted(arm.arrival_s, [*edges_s, end * tick_s]))[1:-1]
    slow = [part.size > 0 and np.median(part) > TTFT_BOUND_S for part in waits]
    told["lasted"] = not any(slow)
    told["holds_s"] = PART_S * slow.index(True) if any(slow) else len(asked) * tick_s
    told["mean_over_pct"] = 100 * (arm.power_w[span].mean() / setpoint_w[span].mean() - 1)
    base_w = usual.power_w.mean()
    told["rebound_pct"] = -100 * _means(less_w[after], int(15 / tick_s)).min() / base_w
    returned = -less_w[after].sum() / max(less_w[span].sum(), 1e-9)
    told["returned_pct"] = 100 * returned
    return told


def _means(values: np.ndarray, block: int) -> np.ndarray:
    """Means of successive blocks; what is left at the end is dropped."""
    whole = values.size // block * block
    return values[:whole].reshape(-1, block).mean(axis=1)


def tracking_pct(arm: Outcome, setpoint_w: np.ndarray) -> float:
    """Tell how far power was from a moving set-point."""
    asked = ~np.isnan(setpoint_w)
    error_w = _means((arm.power_w - setpoint_w)[asked], int(MEANS_S / arm.tick_s))
    return float(100 * np.sqrt((error_w**2).mean()) / np.ptp(setpoint_w[asked]))


def greatest_rise_pct(power_w: np.ndarray, tick_s: float, spans_s: tuple[int, ...]) -> dict:
    """Tell the greatest rise of power within some seconds."""
    lags = {span: int(round(span / tick_s)) for span in spans_s}
    return {s: 100 * (power_w[n:] - power_w[:-n]).max() / power_w.mean() for s, n in lags.items()}


def interval(
    values: np.ndarray, statistic: Callable[[np.ndarray], float] = np.mean, seed: int = 0
) -> tuple[float, float]:
    """Bootstrap interval over streams."""
    from scipy.stats import bootstrap

    values = np.asarray(values, dtype=float)
    if np.ptp(values, axis=0).max() == 0:
        return (float(statistic(values)),) * 2
    how = {"n_resamples": 400, "method": "percentile", "rng": np.random.default_rng(seed)}
    if values.ndim == 1:
        found = bootstrap((values,), statistic, **how)
    else:
        numbers = (np.arange(len(values)),)
        found = bootstrap(numbers, lambda n: statistic(values[n]), vectorized=False, **how)
    return float(found.confidence_interval.low), float(found.confidence_interval.high)
