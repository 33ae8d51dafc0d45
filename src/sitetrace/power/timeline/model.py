"""The model of kind `timeline`: power from the engine's steps, as it is or as a meter prints it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property

import numpy as np
import pandas as pd

from sitetrace.core.files import InputError
from sitetrace.core.types import (
    LEAD_S,
    TAIL_S,
    Configuration,
    PowerTrace,
    Timeline,
    hold_memory,
    span_of,
    trace_clock,
)
from sitetrace.meter import Meter, PowerNoise, drawn_w
from sitetrace.power.idle import Idle, check_idle
from sitetrace.power.timeline.surface import (
    STATE_SIZE,
    WARM_S,
    Surface,
    add_power,
    left_warmth,
    since_work_s,
)
from sitetrace.serving.engine import Engine, Server, simulate
from sitetrace.workload.table import check_stream

READINGS = ("power", "meter")


@dataclass(frozen=True)
class TimelineModel:
    """A fitted power model of one configuration, from the engine's steps.

    Parameters
    ----------
    configuration : Configuration
        Model, GPU type, tensor parallelism.
    dt : fractions.Fraction
        Step of its noise and of the meter's readings, seconds.
    server : Server
        How requests become steps.
    idle : Idle
        The board's idle power.
    decay_s : float
        Time constant with which the extra power just after work goes away, seconds.
    surface : Surface
        Watts of a step.
    meter : Meter
        What is printed of them.
    residual : PowerNoise
        What is left over.
    power_range_w : tuple of float
        Least and greatest power seen while fitting, watts.
    fitted : dict
        Greatest values met while fitting: ``active``, ``input_tokens``, ``output_tokens``,
        ``context_tokens``, ``requests_per_s``.
    provenance : dict
        Runs, digests, cut, seed, package version, what was tried.
    """

    configuration: Configuration
    dt: Fraction
    server: Server
    idle: Idle
    decay_s: float
    surface: Surface
    meter: Meter
    residual: PowerNoise
    power_range_w: tuple[float, float]
    fitted: dict
    provenance: dict

    def generate(
        self,
        requests: pd.DataFrame,
        *,
        rng: np.random.Generator,
        dt_s: float | None = None,
        lead_s: float = LEAD_S,
        tail_s: float = TAIL_S,
        idle_w: float | None = None,
        reading: str = "power",
    ) -> PowerTrace:
        """Generate a power trace for a stream of requests.

        Parameters
        ----------
        requests : pandas.DataFrame
            ``arrival_s``, ``input_tokens``, ``output_tokens``.
        rng : numpy.random.Generator
            Source of randomness.
        dt_s : float, optional
            Step of the trace, seconds: a multiple of the model's own, which is the default.
        lead_s, tail_s : float
            Seconds before the first arrival and after the last token.
        idle_w : float, optional
            Idle power of the board, where it differs from the fitted one.
        reading : {"power", "meter"}
            Mean power of each bin, or what the fitted meter would print at its end.

        Returns
        -------
        PowerTrace
            On the clock of the requests.

        Raises
        ------
        InputError
            If the step is no multiple of the model's, the span is absurd or requests are damaged.

        Examples
        --------
        >>> import numpy as np
        >>> import sitetrace
        >>> run = sitetrace.testbed.run("poisson", seed=1)
        >>> model = sitetrace.fit([run], seed=1, kind="timeline")
        >>> trace = model.generate(run.requests, rng=np.random.default_rng(1), reading="meter")
        >>> trace.dt_s
        0.25
        """
        check_stream(requests)
        if reading != "power":
            timeline = simulate(requests, self.server)
            return self.draw(timeline, rng, dt_s, lead_s, tail_s, idle_w, reading)
        # mean power needs the steps alone: without tables a day takes milliseconds
        hold_memory()
        work = Engine(self.server).run(np.inf, requests)
        first_s = float(requests["arrival_s"].min())
        span = (first_s, first_s + float(work[-1, 1]))
        start_s, step, n_bins = trace_clock(span, self.dt, dt_s, lead_s, tail_s)
        board = self if idle_w is None else self.on_board(idle_w)
        power_w = board.power_of(work[:, [0, 1, 3, 5]].T, first_s - start_s, n_bins, rng)
        return PowerTrace(start_s, self.dt, power_w).resample(step)

    def draw(
        self,
        timeline: Timeline,
        rng: np.random.Generator,
        dt_s: float | None = None,
        lead_s: float = LEAD_S,
        tail_s: float = TAIL_S,
        idle_w: float | None = None,
        reading: str = "power",
    ) -> PowerTrace:
        """Draw one power trace for a simulated timeline; other arguments as `generate`."""
        if reading not in READINGS:
            raise InputError(f"reading {reading!r}: give {' or '.join(READINGS)}")
        start_s, step, n_bins = trace_clock(span_of(timeline), self.dt, dt_s, lead_s, tail_s)
        board = self if idle_w is None else self.on_board(idle_w)
        if reading == "meter":
            power_w = board.draw_readings(timeline, start_s, n_bins, rng)
        else:
            names = ("start_s", "end_s", "batch", "prefill_tokens")
            work = np.array([timeline.segments[name] for name in names], dtype=float)
            work[:2] -= start_s
            power_w = board.power_of(work, 0.0, n_bins, rng)
        return PowerTrace(start_s, self.dt, power_w).resample(step)

    def power_of(
        self, work: np.ndarray, after_s: float, n_bins: int, rng: np.random.Generator
    ) -> np.ndarray:
        """Draw the mean watts of bins: the noise of the process, but nothing of the meter."""
        # Rows of `work` are begin and end of segments (seconds after a zero that lies `after_s`
        # after the begin of the first bin), batch and prompt tokens.
        power_w, clock = np.zeros(n_bins), (-after_s, float(self.dt))
        normals = rng.standard_normal(n_bins, dtype=np.float32)
        law, scales, idle, spread = self.numbers
        state = np.zeros(STATE_SIZE)
        add_power(tuple(work), law, scales, clock, idle, spread, normals, state, power_w)
        return power_w

    @cached_property
    def numbers(self) -> tuple[tuple[float, ...], ...]:
        """Law and scales of the surface, idle power and noise, as `add_power` takes them."""
        noise = self.residual
        idle = (self.idle.mean_w, self.idle.active_w, self.decay_s)
        idle += (self.surface.warm_idle_w, WARM_S)
        return *self.surface.numbers(), idle, (noise.idle_w, noise.decode_w, noise.phi)

    def draw_readings(
        self, timeline: Timeline, start_s: float, n_bins: int, rng: np.random.Generator
    ) -> np.ndarray:
        """Draw what the meter prints at the end of each bin, watts."""
        times_s = start_s + np.arange(1, n_bins + 1) * float(self.dt)
        drawn, busy = drawn_w(timeline, self.surface, self.meter, self.residual, times_s, rng)
        quiet = self.idle.mean_w + rng.choice(self.idle.deviation_w, size=n_bins)
        # the afterglow decays in this kind's own time, not in that of `Idle`
        since_s = since_work_s(timeline, times_s - self.meter.lag_s)
        quiet += self.idle.active_w * np.exp(-since_s / self.decay_s)
        quiet += self.surface.warm_idle_w * left_warmth(timeline, times_s)
        power_w = np.where(busy > 0, drawn + (1.0 - busy) * (quiet - self.idle.mean_w), quiet)
        if self.meter.quantum_w > 0:
            power_w = np.round(power_w / self.meter.quantum_w) * self.meter.quantum_w
        return np.maximum(power_w, 0.0)

    def on_board(self, idle_w: float) -> TimelineModel:
        """Carry the model over to a board of another idle power."""
        old = self.surface
        check_idle(idle_w, min(old.prefill_w, old.limit_w))
        # the difference in full at idle, falling in a straight line to nothing at the limit of
        # prefill, where the board's limit rules and not its leakage
        shift_w = idle_w - old.idle_w
        share = np.clip((old.prefill_w - old.decode_w) / (old.prefill_w - old.idle_w), 0.0, 1.0)
        surface = replace(old, idle_w=idle_w, decode_w=old.decode_w + shift_w * share)
        return replace(self, surface=surface, idle=replace(self.idle, mean_w=idle_w))
