"""A row of servers asked for less power: what its levers shed, how fast, and what requests pay.

A row shares one stream of requests and its controller moves one lever: it admits fewer requests,
parks servers, limits the batch, or lowers the clock. The lever goes where its curve at rest says,
trimmed by an integral of the error that the row's late meter shows. Each run is held against one
without control on the same stream. Assumed: what a clock does (`sitetrace.control.clock`), how late
commands act, and that requests never give up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple, dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from sitetrace.control.clock import RULES, ClockRule, clocked
from sitetrace.control.row import run_row
from sitetrace.power.timeline.model import TimelineModel
from sitetrace.workload.streams import switching

ALL = 2**31
PLACES, LOWEST_CLOCK = 51, 0.5  # of a lever
LATENCY_S = 1.0  # of all levers but the clock
SWING, DWELL_S = 0.3, 60.0  # of a stream: the rate switches so far about its mean, after so long
# A call lasts while the median TTFT of each part of it is bounded; power is judged by means.
TTFT_BOUND_S, PART_S, MEANS_S = 10.0, 10, 5
STEP_SETTLED_S = (60, 120)  # after a command


@dataclass(frozen=True)
class Row:
    """A row of equal servers that share one stream of requests, and its meter and controller."""

    model: TimelineModel
    servers: int
    rate_per_server: float
    tick_s: float = 1.0  # of router, meter and controller: a multiple of the model's step
    window_s: float = 2.0  # the controller sees mean power over a window, so late
    delay_s: float = 1.0

    def stream(self, seconds: float, rng: np.random.Generator) -> Stream:
        """Draw requests, the servers they go to, and the noise of power."""
        mean = self.rate_per_server * self.servers
        rates = (mean * (1 - SWING), mean * (1 + SWING))
        requests = switching(rates, DWELL_S, seconds, rng)
        bins = int(round(seconds / float(self.model.dt)))
        normals = rng.standard_normal((self.servers, bins), dtype=np.float32)
        return Stream(requests, rng.random(len(requests)), normals)


@dataclass(frozen=True)
class Stream:
    """What is the same for every arm of a comparison."""

    requests: pd.DataFrame
    chance: np.ndarray  # of each request, 0 to 1: chooses its server
    normals: np.ndarray  # of the noise of power, shape (servers, bins)


@dataclass(frozen=True)
class Lever:
    """A knob with places from 0 (nothing shed) to 1, and how late it acts."""

    name: str
    dials: np.ndarray  # what each place means, as in `run_row`
    laws: tuple[np.ndarray, np.ndarray, np.ndarray]  # laws, limits and surfaces by clock
    latency_s: float
    rule: ClockRule | None = None

    @property
    def label(self) -> str:
        """Name with rule."""
        return self.name if self.rule is None else f"{self.name} ({self.rule.name})"


@dataclass(frozen=True)
class Outcome:
    """What a run gave, by tick and by request."""

    tick_s: float
    power_w: np.ndarray
    states: np.ndarray  # as in `run_row`
    requests: pd.DataFrame
    times_s: np.ndarray  # first token and end, NaN if not reached, shape (n, 2)

    @cached_property
    def arrival_s(self) -> np.ndarray:
        """When each request arrives, seconds."""
        return self.requests["arrival_s"].to_numpy()

    @cached_property
    def ttft_s(self) -> np.ndarray:
        """Time to first token of each request; its age at the end where none has come."""
        end_s = self.tick_s * len(self.power_w)
        first_s = self.times_s[:, 0]
        return np.where(np.isnan(first_s), end_s, first_s) - self.arrival_s

    @cached_property
    def tpot_s(self) -> np.ndarray:
        """Time per further output token of each request that has ended, else NaN."""
        more = self.requests["output_tokens"].to_numpy() - 1.0
        return (self.times_s[:, 1] - self.times_s[:, 0]) / np.where(more > 0, more, np.nan)


def levers(row: Row, usual: Outcome, clock_latency_s: float) -> list[Lever]:
    """Make the levers of a row, scaled to what it usually has in service and in a batch."""
    share = np.linspace(0, 1, PLACES)
    free = np.array([ALL, row.servers, ALL, 0]) * np.ones((PLACES, 1), dtype=np.int64)

    def dials(column: int, values: np.ndarray) -> np.ndarray:
        table = free.copy()
        table[1:, column] = np.round(values[1:])
        return table

    in_service, batch = (1 - share) * usual.states[:, 3].max(), usual.states[:, 4].max()
    places = {
        "admission": dials(0, in_service),  # the other requests wait at the router
        "parking": dials(1, row.servers - share * (row.servers - 1)),  # of servers for new requests
        "batch limit": dials(2, batch - share * (batch - 1)),
    }
    laws, clock = _laws(row.model, None), dials(3, np.arange(PLACES))
    made = [Lever(name, table, laws, LATENCY_S) for name, table in places.items()]
    clocks = [Lever("clock", clock, _laws(row.model, r), clock_latency_s, r) for r in RULES]
    return made + clocks


def _laws(
    model: TimelineModel, rule: ClockRule | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tell times, limits and watts at each clock of a lever; without a rule at the full one."""
    pairs = [(model.server, model.surface)]
    if rule is not None:
        clocks = 1 - np.linspace(0, 1, PLACES) * (1 - LOWEST_CLOCK)
        pairs = [clocked(model.server, model.surface, phi, rule) for phi in clocks]
    times = np.array([server.law for server, _ in pairs])
    watts = np.array([astuple(surface) for _, surface in pairs])
    return times, model.server.limits, watts


def run(
    row: Row,
    stream: Stream,
    lever: Lever | None = None,
    plan: np.ndarray | None = None,
    curve: tuple[np.ndarray, np.ndarray] | None = None,
    gain: float = 0.0,
    cut: bool = False,
) -> Outcome:
    """Run a row over a stream, without control or with a lever that is moved."""
    # plan: as `plan_of` makes it; curve: as `at_rest`; gain: of the integral, 0: the plan alone;
    # cut: commands are lost on their way
    model, dt_s = row.model, float(row.model.dt)
    per_tick = int(round(row.tick_s / dt_s))
    ticks = stream.normals.shape[1] // per_tick
    if lever is None:
        free = np.array([[ALL, row.servers, ALL, 0]])
        lever = Lever("none", free, _laws(model, None), 0.0)
    plan = np.full((ticks, 2), np.nan) if plan is None else plan
    curve = (np.zeros(1), np.zeros(1)) if curve is None else curve
    table = stream.requests
    columns = (table[name].to_numpy() for name in ("arrival_s", "input_tokens", "output_tokens"))
    noise = model.residual
    board = [model.idle.mean_w, model.idle.active_w, model.decay_s]
    board += [noise.idle_w, noise.decode_w, noise.phi, model.surface.warm_idle_w]
    loop = [round(row.window_s / row.tick_s), round(row.delay_s / row.tick_s), gain]
    late = -1 if cut else round(lever.latency_s / row.tick_s)
    power_w, states, times = run_row(
        (*columns, stream.chance),
        lever.laws,
        lever.dials,
        np.array(board),
        (row.tick_s, dt_s),
        stream.normals,
        (plan, curve, np.array(loop), late),
    )
    by_tick = power_w[: ticks * per_tick].reshape(ticks, per_tick).mean(axis=1)
    return Outcome(row.tick_s, by_tick, states, table, times)


def held(row: Row, stream: Stream, lever: Lever, place: float, from_s: float = 0.0) -> Outcome:
    """Run a row with its lever at one place from a time on."""
    ticks = int(stream.normals.shape[1] * float(row.model.dt) / row.tick_s)
    plan = np.full((ticks, 2), np.nan)
    plan[int(from_s / row.tick_s) :] = 0.0
    return run(row, stream, lever, plan, (np.zeros(1), np.array([place])))


def at_rest(
    row: Row, streams: list[Stream], lever: Lever, places: np.ndarray, warm_s: float
) -> tuple[np.ndarray, np.ndarray]:
    """Measure the curve of a lever at rest, as the controller knows it: watts shed, and places."""
    cut = int(warm_s / row.tick_s)
    usual = np.mean([run(row, each).power_w[cut:].mean() for each in streams])
    shed_w = [
        usual - np.mean([held(row, each, lever, place).power_w[cut:].mean() for each in streams])
        for place in places
    ]
    # where a place sheds less than one before it, the earlier counts
    rising = np.maximum.accumulate([0.0, *shed_w])
    kept = np.concatenate([[True], np.diff(rising) > 0])
    return rising[kept], np.concatenate([[0.0], places])[kept]


def gain_of(row: Row, lever: Lever) -> float:
    """Choose how much of an error the integral corrects in a tick: less, the later all is."""
    # 5 s are the servers' own; above 1.5 over all that is late such a loop would oscillate
    late_s = row.window_s / 2 + row.delay_s + lever.latency_s + 5.0
    return 0.3 * row.tick_s / late_s


def plan_of(
    setpoint_w: np.ndarray, base_w: float, curve: tuple[np.ndarray, np.ndarray]
) -> np.ndarray:
    """Lay a set-point out by tick: watts (NaN: none), and what is to be shed of the usual mean."""
    return np.column_stack([setpoint_w, np.clip(base_w - setpoint_w, 0.0, curve[0][-1])])


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
    # As `compared` over the stretch; energy above the set-point and share of means above it by 1%;
    # how long the median TTFT stays bounded; after the release the greatest mean of 15 s above the
    # usual power, and the energy above it as a share of what was shed.
    tick_s, asked = arm.tick_s, np.flatnonzero(~np.isnan(setpoint_w))
    begin, end = asked[0], asked[-1] + 1
    span, after, block = slice(begin, end), slice(end, None), int(MEANS_S / tick_s)
    told = compared(arm, usual, begin * tick_s, end * tick_s)
    less_w = usual.power_w - arm.power_w
    told["shed_kwh"] = less_w[span].sum() * tick_s / 3.6e6
    over_w = _means(arm.power_w[span] - setpoint_w[span], block)
    told["missed_kwh"] = np.maximum(over_w, 0).sum() * MEANS_S / 3.6e6
    told["above_pct"] = 100 * (over_w > 0.01 * setpoint_w[begin]).mean()
    edges_s = np.arange(begin * tick_s, end * tick_s, PART_S)
    waits = np.split(arm.ttft_s, np.searchsorted(arm.arrival_s, [*edges_s, end * tick_s]))[1:-1]
    slow = [part.size > 0 and np.median(part) > TTFT_BOUND_S for part in waits]
    told["lasted"] = not any(slow)
    told["holds_s"] = PART_S * slow.index(True) if any(slow) else len(asked) * tick_s
    told["mean_over_pct"] = 100 * (arm.power_w[span].mean() / setpoint_w[span].mean() - 1)
    least_w = _means(less_w[after], int(15 / tick_s)).min()
    told["rebound_pct"] = -100 * least_w / usual.power_w.mean()
    told["returned_pct"] = 100 * (-less_w[after].sum() / max(less_w[span].sum(), 1e-9))
    return told


def tracking_pct(arm: Outcome, setpoint_w: np.ndarray) -> float:
    """Root mean square error of means from a moving set-point, percent of its range."""
    asked = ~np.isnan(setpoint_w)
    error_w = _means((arm.power_w - setpoint_w)[asked], int(MEANS_S / arm.tick_s))
    return float(100 * np.sqrt((error_w**2).mean()) / np.ptp(setpoint_w[asked]))


def _means(values: np.ndarray, block: int) -> np.ndarray:
    """Means of successive blocks; what is left at the end is dropped."""
    whole = values.size // block * block
    return values[:whole].reshape(-1, block).mean(axis=1)


def greatest_rise_pct(power_w: np.ndarray, tick_s: float, spans_s: tuple[int, ...]) -> dict:
    """Greatest rise of power within some seconds, percent of the mean."""
    lags = {span: int(round(span / tick_s)) for span in spans_s}
    return {s: 100 * (power_w[n:] - power_w[:-n]).max() / power_w.mean() for s, n in lags.items()}


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
