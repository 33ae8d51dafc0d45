"""Following a power set-point: a row of servers, its levers, and a controller that moves one."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from sitetrace import workload
from sitetrace.clock_rule import RULES, ClockRule, clocked
from sitetrace.lockstep import run_row
from sitetrace.timeline_model import TimelineModel

ALL = 2**31
PLACES, LOWEST_CLOCK = 51, 0.5
SWING, DWELL_S = 0.3, 60.0


@dataclass(frozen=True)
class Row:
    """A row of equal servers that share one stream of requests, and its meter and controller.

    Parameters
    ----------
    model : TimelineModel
        Of each server.
    servers : int
        How many.
    rate_per_server : float
        Mean requests a second and server; the pool's rate switches about it, 30% up and down.
    tick_s : float
        Step of router, meter and controller, seconds: a multiple of the model's step.
    window_s, delay_s : float
        What the controller sees: mean power over a window, so many seconds late.
    """

    model: TimelineModel
    servers: int
    rate_per_server: float
    tick_s: float = 1.0
    window_s: float = 2.0
    delay_s: float = 1.0

    def stream(self, seconds: float, rng: np.random.Generator) -> Stream:
        """Draw requests, the servers they go to, and the noise of power.

        Parameters
        ----------
        seconds : float
            Length.
        rng : numpy.random.Generator
            Source of randomness.

        Returns
        -------
        Stream
            The same for every arm of a comparison.
        """
        mean = self.rate_per_server * self.servers
        rates = (mean * (1 - SWING), mean * (1 + SWING))
        requests = workload.switching(rates, DWELL_S, seconds, rng)
        bins = int(round(seconds / float(self.model.dt)))
        normals = rng.standard_normal((self.servers, bins), dtype=np.float32)
        return Stream(requests, rng.random(len(requests)), normals)


@dataclass(frozen=True)
class Stream:
    """What is the same for every arm of a comparison.

    Parameters
    ----------
    requests : pandas.DataFrame
        Requests of the row in order of arrival.
    chance : numpy.ndarray
        A number from 0 to 1 for each, which chooses its server.
    normals : numpy.ndarray
        Standard normal numbers of the noise, shape (servers, bins).
    """

    requests: pd.DataFrame
    chance: np.ndarray
    normals: np.ndarray


@dataclass(frozen=True)
class Lever:
    """A knob with places from 0 (nothing shed) to 1, and how late it acts.

    Parameters
    ----------
    name : str
        ``admission``, ``parking``, ``batch limit`` or ``clock``.
    dials : numpy.ndarray
        What each place means, as in `sitetrace.lockstep.run_row`.
    laws : tuple of numpy.ndarray
        Times by clock, limits, watts by clock, as there.
    latency_s : float
        From the command to its effect on the servers, seconds.
    rule : ClockRule or None
        The assumed rule, where the clock is the lever.
    """

    name: str
    dials: np.ndarray
    laws: tuple[np.ndarray, np.ndarray, np.ndarray]
    latency_s: float
    rule: ClockRule | None = None

    @property
    def label(self) -> str:
        """Name with rule."""
        return self.name if self.rule is None else f"{self.name} ({self.rule.name})"


@dataclass(frozen=True)
class Outcome:
    """What a run gave.

    Parameters
    ----------
    tick_s : float
        Seconds of a tick.
    power_w, states : numpy.ndarray
        Row power by tick, and states as in `sitetrace.lockstep.run_row`.
    requests : pandas.DataFrame
        The stream's.
    times_s : numpy.ndarray
        First token and end of each request, seconds, NaN if not reached, shape (n, 2).
    """

    tick_s: float
    power_w: np.ndarray
    states: np.ndarray
    requests: pd.DataFrame
    times_s: np.ndarray

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


def levers(
    row: Row, usual: Outcome, clock_latency_s: float, latency_s: float = 1.0,
    rules: tuple[ClockRule, ...] = RULES,
) -> list[Lever]:  # fmt: skip
    """Make the levers of a row, scaled to what it usually does.

    Parameters
    ----------
    row : Row
        The row.
    usual : Outcome
        A run without control: limits begin at the greatest number in service and in a batch.
    clock_latency_s, latency_s : float
        How late a clock, and any other command, acts.
    rules : tuple of ClockRule
        One lever of the clock for each.

    Returns
    -------
    list of Lever
        ``admission``: most requests in service in the row, the others wait at the router;
        ``parking``: new requests go to the first servers only; ``batch limit``: most running
        sequences of each server; ``clock``: share of the full clock, down to a half.
    """
    share = np.linspace(0, 1, PLACES)
    free = np.array([ALL, row.servers, ALL, 0]) * np.ones((PLACES, 1), dtype=np.int64)

    def dials(column: int, values: np.ndarray) -> np.ndarray:
        table = free.copy()
        table[1:, column] = np.round(values[1:])
        return table

    in_service, batch = (1 - share) * usual.states[:, 3].max(), usual.states[:, 4].max()
    places = {
        "admission": dials(0, in_service),
        "parking": dials(1, row.servers - share * (row.servers - 1)),
        "batch limit": dials(2, batch - share * (batch - 1)),
    }
    laws, clock = _laws(row.model, None), dials(3, np.arange(PLACES))
    made = [Lever(name, table, laws, latency_s) for name, table in places.items()]
    clocks = [Lever("clock", clock, _laws(row.model, r), clock_latency_s, r) for r in rules]
    return made + clocks


def run(
    row: Row,
    stream: Stream,
    lever: Lever | None = None,
    plan: np.ndarray | None = None,
    curve: tuple[np.ndarray, np.ndarray] | None = None,
    gain: float = 0.0,
    cut: bool = False,
) -> Outcome:
    """Run a row over a stream.

    Parameters
    ----------
    row : Row
        The row.
    stream : Stream
        Requests and noise.
    lever : Lever or None
        What is moved; None: no control.
    plan : numpy.ndarray or None
        Set-point in watts (NaN: none) and watts to be shed by plan, by tick, shape (ticks, 2).
    curve : tuple of numpy.ndarray or None
        Watts shed at rest (ascending) and places of the lever, see `at_rest`.
    gain : float
        Share of the seen error that the integral corrects in a tick; 0: the plan alone.
    cut : bool
        Whether commands are lost on their way.

    Returns
    -------
    Outcome
        Of the whole stream.
    """
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


def _laws(
    model: TimelineModel, rule: ClockRule | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tell times, limits and watts at each clock of a lever; without a rule at the full one."""
    pairs = [(model.server, model.surface)]
    if rule is not None:
        clocks = 1 - np.linspace(0, 1, PLACES) * (1 - LOWEST_CLOCK)
        pairs = [clocked(model.server, model.surface, phi, rule) for phi in clocks]
    times = np.array([astuple(server)[:6] for server, _ in pairs])
    watts = np.array([astuple(surface) for _, surface in pairs])
    return times, np.array(astuple(model.server)[7:], dtype=np.int64), watts


def held(row: Row, stream: Stream, lever: Lever, place: float, from_s: float = 0.0) -> Outcome:
    """Run a row with its lever at one place from a time on.

    Parameters
    ----------
    row : Row
        The row.
    stream : Stream
        Requests and noise.
    lever : Lever
        What is moved.
    place : float
        0 to 1.
    from_s : float
        When the command is given, seconds.

    Returns
    -------
    Outcome
        Of the whole stream.
    """
    ticks = int(stream.normals.shape[1] * float(row.model.dt) / row.tick_s)
    plan = np.full((ticks, 2), np.nan)
    plan[int(from_s / row.tick_s) :] = 0.0
    return run(row, stream, lever, plan, (np.zeros(1), np.array([place])))


def at_rest(
    row: Row, streams: list[Stream], lever: Lever, places: np.ndarray, warm_s: float = 120.0
) -> tuple[np.ndarray, np.ndarray]:
    """Measure the static curve of a lever, as the controller knows it.

    Parameters
    ----------
    row : Row
        The row.
    streams : list of Stream
        Not those that the controller is judged on.
    lever : Lever
        The lever.
    places : numpy.ndarray
        Places above 0, ascending.
    warm_s : float
        Begin of each run that is left out, seconds.

    Returns
    -------
    shed_w, places : numpy.ndarray
        From (0, 0) on; where a place sheds less than one before it, the earlier counts.
    """
    cut = int(warm_s / row.tick_s)
    usual = np.mean([run(row, each).power_w[cut:].mean() for each in streams])
    shed_w = [
        usual - np.mean([held(row, each, lever, place).power_w[cut:].mean() for each in streams])
        for place in places
    ]
    rising = np.maximum.accumulate([0.0, *shed_w])
    kept = np.concatenate([[True], np.diff(rising) > 0])
    return rising[kept], np.concatenate([[0.0], places])[kept]


def gain_of(row: Row, lever: Lever) -> float:
    """Choose how much of an error the integral corrects in a tick: less, the later all is.

    Parameters
    ----------
    row : Row
        Its meter.
    lever : Lever
        Its latency.

    Returns
    -------
    float
        0.3 over all delays and 5 s of the servers' own, times the tick; above 1.5 over the delays
        such a loop would oscillate.
    """
    late_s = row.window_s / 2 + row.delay_s + lever.latency_s + 5.0
    return 0.3 * row.tick_s / late_s


def plan_of(
    setpoint_w: np.ndarray, base_w: float, curve: tuple[np.ndarray, np.ndarray]
) -> np.ndarray:
    """Lay a set-point out for the controller.

    Parameters
    ----------
    setpoint_w : numpy.ndarray
        Watts, NaN where none is, shape (ticks,).
    base_w : float
        Usual mean power of the row.
    curve : tuple of numpy.ndarray
        From `at_rest`: no more is planned than can be shed.

    Returns
    -------
    numpy.ndarray
        Set-point and planned watts, shape (ticks, 2).
    """
    return np.column_stack([setpoint_w, np.clip(base_w - setpoint_w, 0.0, curve[0][-1])])
