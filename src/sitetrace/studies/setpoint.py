"""A row of servers asked for less power: what its levers shed, how fast, and what requests pay.

A row shares one stream of requests and its controller moves one lever: it admits fewer requests,
parks servers, limits the batch, or lowers the clock. The lever goes where its curve at rest says,
trimmed by an integral of the error that the row's late meter shows. Each run is held against one
without control on the same stream. Assumed: what a clock does (`sitetrace.control.clock`), how late
commands act, and that requests never give up.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.lib.stride_tricks import sliding_window_view

from sitetrace.control import row as control
from sitetrace.control.clock import RULES, ClockRule
from sitetrace.control.row import Outcome
from sitetrace.control.signals import Actuator, Orders, Telemetry, View
from sitetrace.power.timeline.model import TimelineModel
from sitetrace.workload.streams import switching

PLACES, LOWEST_CLOCK = 51, 0.5  # of a lever
LATENCY_S = 1.0  # of all levers but the clock
SWING, DWELL_S = 0.3, 60.0  # of a stream: the rate switches so far about its mean, after so long
# A call lasts while the median TTFT of each part of it is bounded; power is judged by means.
TTFT_BOUND_S, PART_S, MEANS_S = 10.0, 10, 5
STEP_SETTLED_S = (60, 120)  # after a command
Curve = tuple[np.ndarray, np.ndarray]  # watts shed at rest, rising from 0, and at which places
FLAT: Curve = (np.zeros(1), np.zeros(1))


@dataclass(frozen=True)
class Row:
    """A row of equal servers that share one stream of requests, and its meter and controller."""

    model: TimelineModel
    servers: int
    rate_per_server: float
    tick_s: float = 1.0  # of router, meter and controller: a multiple of the model's step
    telemetry: Telemetry = Telemetry()

    def stream(self, seconds: float, rng: np.random.Generator) -> Stream:
        """Draw requests; what else is random is the same in every run over them."""
        mean = self.rate_per_server * self.servers
        rates = (mean * (1 - SWING), mean * (1 + SWING))
        return Stream(switching(rates, DWELL_S, seconds, rng), seconds, copy.deepcopy(rng))


@dataclass(frozen=True)
class Stream:
    """What is the same for every arm of a comparison."""

    requests: pd.DataFrame
    seconds: float
    rng: np.random.Generator  # of a run: to be copied


@dataclass(frozen=True, eq=False)
class Lever:
    """A knob with places from 0 (nothing shed) to 1, how late it acts, and what it sheds."""

    name: str
    orders: tuple[Orders, ...]  # of each place
    latency_s: float
    rule: ClockRule | None = None
    curve: Curve = FLAT

    @property
    def label(self) -> str:
        """Name with rule."""
        return self.name if self.rule is None else f"{self.name} ({self.rule.name})"


@dataclass
class Follower:
    """The policy: where the lever's curve says, trimmed by an integral of the error that is seen.

    The set-point (watts by tick; NaN: none) asks for some watts to be shed of the usual mean.
    """

    row: Row
    lever: Lever
    plan: np.ndarray  # as `plan_of` makes it
    gain: float = 0.0  # share of the error corrected a tick; 0: the plan alone
    trim_w: float = 0.0  # what the integral holds

    def __call__(self, view: View) -> Orders:
        """Decide where the lever is to stand."""
        k, (watts, places) = round(view.time_s / self.row.tick_s), self.lever.curve
        asked_w, shed_w = self.plan[k].tolist()
        if math.isnan(asked_w):
            self.trim_w = 0.0
            return self.lever.orders[0]
        seen_w, late = self._seen_w
        if self.gain > 0.0 and k >= late and not math.isnan(self.plan[k - late, 0]):
            error_w = view.power_w.sum() - seen_w[k - late]
            # no more is held than the lever can do
            trim_w = self.trim_w + self.gain * error_w
            self.trim_w = min(max(trim_w, watts[0] - shed_w), watts[-1] - shed_w)
        place = np.interp(shed_w + self.trim_w, watts, places)
        return self.lever.orders[round(place * (PLACES - 1))]

    @cached_property
    def _seen_w(self) -> tuple[np.ndarray, int]:
        """Set-point as the meter shows it, by the window's first tick, and how old that is."""
        parts = self.row.telemetry.window_s, self.row.telemetry.delay_s
        window, delay = (round(part_s / self.row.tick_s) for part_s in parts)
        return sliding_window_view(self.plan[:, 0], window).mean(axis=1), window + delay


def levers(row: Row, usual: Outcome, clock_latency_s: float) -> list[Lever]:
    """Make the levers of a row, scaled to what it usually has in service and in a batch."""
    share = np.linspace(0, 1, PLACES)
    in_service = (1 - share) * (usual.running + usual.queued).sum(axis=1).max()
    largest = usual.running.max()
    batch, open_servers = largest - share * (largest - 1), row.servers - share * (row.servers - 1)
    clock = 1 - share * (1 - LOWEST_CLOCK)
    parked = np.arange(row.servers) < np.round(open_servers)[:, None]
    orders = {
        "admission": [Orders(admit=most) for most in np.round(in_service)],  # others wait
        "parking": [Orders(weight=each.astype(float)) for each in parked],  # of new requests
        "batch limit": [Orders(batch=int(most)) for most in np.round(batch)],
    }
    made = [Lever(name, (Orders(), *each[1:]), LATENCY_S) for name, each in orders.items()]
    slower = (Orders(), *(Orders(clock=float(phi)) for phi in clock[1:]))
    return made + [Lever("clock", slower, clock_latency_s, rule) for rule in RULES]


def policies(models: Sequence[TimelineModel]) -> dict[str, Follower]:
    """Make this study's policies for any row: each lever holds 15% less than the servers' mean."""
    usual_w = sum(0.5 * (m.idle.mean_w + m.surface.decode_w) for m in models)
    row, plan = Row(models[0], len(models), 1.0), np.full((100_000, 2), 0.15 * usual_w)
    plan[:, 0] = 0.85 * usual_w
    busy = np.full((1, len(models)), 8)
    usual = Outcome(1.0, busy * 1.0, busy, 0 * busy, np.zeros(1), pd.DataFrame(), np.zeros((0, 2)))
    curve = (np.array([0.0, 0.5 * usual_w]), np.array([0.0, 1.0]))
    made = {lever.name: replace(lever, curve=curve) for lever in levers(row, usual, 2.0)}
    return {name: Follower(row, lever, plan, 0.05) for name, lever in made.items()}


def run(
    row: Row,
    stream: Stream,
    lever: Lever | None = None,
    plan: np.ndarray | None = None,
    gain: float = 0.0,
) -> Outcome:
    """Run a row over a stream, without control or with a lever that follows a plan."""
    models, policy, actuator, rule = [row.model] * row.servers, None, None, RULES[0]
    if lever is not None:
        policy = Follower(row, lever, plan, gain)
        actuator = Actuator(lever.latency_s, replaces=False)
        rule = lever.rule or rule
    return control.run(
        models, stream.requests, policy, seconds=stream.seconds, rng=copy.deepcopy(stream.rng),
        tick_s=row.tick_s, telemetry=row.telemetry, actuator=actuator, rule=rule,
    )  # fmt: skip


def held(row: Row, stream: Stream, lever: Lever, place: float, from_s: float = 0.0) -> Outcome:
    """Run a row with its lever at one place from a time on."""
    plan = np.full((round(stream.seconds / row.tick_s), 2), np.nan)
    plan[int(from_s / row.tick_s) :] = 0.0
    return run(row, stream, replace(lever, curve=(np.zeros(1), np.array([place]))), plan)


def gain_of(row: Row, lever: Lever) -> float:
    """Choose how much of an error the integral corrects in a tick: less, the later all is."""
    # 5 s are the servers' own; above 1.5 over all that is late such a loop would oscillate
    late_s = row.telemetry.window_s / 2 + row.telemetry.delay_s + lever.latency_s + 5.0
    return 0.3 * row.tick_s / late_s


def plan_of(setpoint_w: np.ndarray, base_w: float, lever: Lever) -> np.ndarray:
    """Lay a set-point out by tick: watts (NaN: none), and what is to be shed of the usual mean."""
    return np.column_stack([setpoint_w, np.clip(base_w - setpoint_w, 0.0, lever.curve[0][-1])])


def step(
    row: Row, streams: list[Stream], lever: Lever, place: float, at_s: float
) -> tuple[np.ndarray, np.ndarray]:
    """Move a lever once: seconds after the command, and watts shed, shape (streams, ticks)."""
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


def compared(arm: Outcome, usual: Outcome, from_s: float, to_s: float) -> dict[str, float]:
    """Compare a run with the usual one: power, and what the requests of a span waited and took."""
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


def called(arm: Outcome, usual: Outcome, setpoint_w: np.ndarray) -> dict[str, float]:
    """Judge a run in which less power was asked for during one stretch of time."""
    # As `compared` over the stretch; energy above the set-point as a share of what usual power has
    # above it, and share of means above it by 1%; most that wait, and the greatest batch;
    # how long the median TTFT stays bounded; after the release the greatest mean of 15 s above the
    # usual power, and the energy above it as a share of what was shed.
    tick_s, asked = arm.tick_s, np.flatnonzero(~np.isnan(setpoint_w))
    begin, end = asked[0], asked[-1] + 1
    span, after, block = slice(begin, end), slice(end, None), int(MEANS_S / tick_s)
    told = compared(arm, usual, begin * tick_s, end * tick_s)
    less_w = usual.power_w - arm.power_w
    told["shed_kwh"] = less_w[span].sum() * tick_s / 3.6e6
    over_w = means_of(arm.power_w[span] - setpoint_w[span], block)
    usual_over_w = means_of(usual.power_w[span] - setpoint_w[span], block)
    told["missed_pct"] = 100 * np.maximum(over_w, 0).sum() / np.maximum(usual_over_w, 1e-9).sum()
    told["above_pct"] = 100 * (over_w > 0.01 * setpoint_w[begin]).mean()
    edges_s = np.arange(begin * tick_s, end * tick_s, PART_S)
    waits = np.split(arm.ttft_s, np.searchsorted(arm.arrival_s, [*edges_s, end * tick_s]))[1:-1]
    slow = [part.size > 0 and np.median(part) > TTFT_BOUND_S for part in waits]
    told["waiting"] = (arm.held + arm.queued.sum(axis=1))[span].max()
    told["batch"] = arm.running.max()
    told["lasted"] = not any(slow)
    told["holds_s"] = PART_S * slow.index(True) if any(slow) else len(asked) * tick_s
    told["mean_over_pct"] = 100 * (arm.power_w[span].mean() / setpoint_w[span].mean() - 1)
    least_w = means_of(less_w[after], int(15 / tick_s)).min(initial=np.inf)
    told["rebound_pct"] = -100 * least_w / usual.power_w.mean() if end < less_w.size else np.nan
    told["returned_pct"] = 100 * (-less_w[after].sum() / max(less_w[span].sum(), 1e-9))
    return told


def tracking_pct(arm: Outcome, setpoint_w: np.ndarray) -> float:
    """Root mean square error of means from a moving set-point, percent of its range."""
    asked = ~np.isnan(setpoint_w)
    error_w = means_of((arm.power_w - setpoint_w)[asked], int(MEANS_S / arm.tick_s))
    return float(100 * np.sqrt((error_w**2).mean()) / np.ptp(setpoint_w[asked]))


def means_of(values: np.ndarray, block: int) -> np.ndarray:
    """Means of successive blocks; what is left at the end is dropped."""
    whole = values.size // block * block
    return values[:whole].reshape(-1, block).mean(axis=1)


def interval(
    values: np.ndarray, statistic: Callable[[np.ndarray], float] = np.mean
) -> tuple[float, float]:
    """Bootstrap interval (95%, percentiles) of a statistic over streams, one row each."""
    from scipy.stats import bootstrap

    values = np.asarray(values, dtype=float)
    if np.ptp(values, axis=0).max() == 0:
        return (float(statistic(values)),) * 2
    how = {"n_resamples": 400, "method": "percentile", "rng": np.random.default_rng(0)}
    if values.ndim == 1:
        found = bootstrap((values,), statistic, **how)
    else:
        numbers = (np.arange(len(values)),)
        found = bootstrap(numbers, lambda n: statistic(values[n]), vectorized=False, **how)
    return float(found.confidence_interval.low), float(found.confidence_interval.high)
