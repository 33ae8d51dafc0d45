"""The model of kind `timeline`: power from the engine's steps, as it is or as a meter prints it."""

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Self

import numpy as np
import pandas as pd

from sitetrace.core import types
from sitetrace.core.files import require
from sitetrace.core.types import LEAD_S, TAIL_S, Configuration, PowerTrace, Timeline
from sitetrace.meter import Meter, PowerNoise, drawn_w, expected_w
from sitetrace.power import running
from sitetrace.power.idle import Idle, check_idle
from sitetrace.power.timeline.surface import Surface, left_warmth, since_work_s
from sitetrace.serving.activity import as_segments
from sitetrace.serving.engine import Engine, Server, simulate
from sitetrace.workload.table import check_stream

READINGS = ("power", "expected", "meter")


@dataclass(frozen=True)
class TimelineModel:
    """A fitted power model of one configuration, from the engine's steps."""

    configuration: Configuration  # model, GPU type, tensor parallelism
    dt: Fraction  # step of its noise and of the meter's readings, seconds
    server: Server  # how requests become steps
    idle: Idle  # the board's idle power
    decay_s: float  # time constant with which the extra power just after work goes away, seconds
    surface: Surface  # watts of a step
    meter: Meter  # what is printed of them
    residual: PowerNoise  # what is left over
    power_range_w: tuple[float, float]  # least and greatest power seen while fitting, watts
    fitted: dict  # greatest values met while fitting, such as ``active`` and ``requests_per_s``
    provenance: dict  # runs, digests, cut, seed, package version, what was tried

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
        reading : {"power", "expected", "meter"}
            Mean power of each bin, or what the meter would print: the mean of draws, or one.

        Returns
        -------
        PowerTrace
            On the clock of the requests.

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
        types.hold_memory()  # mean power needs the steps alone: a day takes milliseconds
        work = Engine(self.server).segments(np.inf, requests)
        first_s = float(requests["arrival_s"].min())
        span = (first_s, first_s + float(work["end_s"][-1]))
        start_s, step, n_bins = types.trace_clock(span, self.dt, dt_s, lead_s, tail_s)
        board = self if idle_w is None else self.on_board(idle_w)
        power_w = board.power_of(work, start_s - first_s, n_bins, rng)
        return PowerTrace(start_s, self.dt, power_w).resample(step)

    def draw(
        self, timeline, rng, dt_s=None, lead_s=LEAD_S, tail_s=TAIL_S, idle_w=None, reading="power"
    ) -> PowerTrace:
        """Draw one power trace for a simulated timeline; other arguments as `generate`."""
        mend = f"give {' or '.join(READINGS)}"
        require(reading in READINGS, f"reading {reading!r}", "there is none such", mend)
        span = types.span_of(timeline)
        start_s, step, n_bins = types.trace_clock(span, self.dt, dt_s, lead_s, tail_s)
        board = self if idle_w is None else self.on_board(idle_w)
        if reading == "power":
            work = as_segments(timeline.segments)
            work["start_s"] -= start_s
            work["end_s"] -= start_s
            power_w = board.power_of(work, 0.0, n_bins, rng)
        else:
            times_s = start_s + np.arange(1, n_bins + 1) * float(self.dt)
            power_w = board._readings(timeline, times_s, rng if reading == "meter" else None)
        return PowerTrace(start_s, self.dt, power_w).resample(step)

    def power_of(self, work: np.ndarray, begin_s: float, n_bins: int, rng) -> np.ndarray:
        """Draw the mean watts of bins: the noise of the process, but nothing of the meter."""
        normals = rng.standard_normal(n_bins, dtype=np.float32)
        power = running.power_law(self, self.surface)
        return running.power_of(work, power, begin_s, float(self.dt), normals)

    def _readings(self, timeline: Timeline, times_s: np.ndarray, rng) -> np.ndarray:
        if rng is None:
            power_w, busy = expected_w(timeline, self, times_s)
            extra_w = self.idle.deviation_w.mean()
        else:
            power_w, busy = drawn_w(timeline, self, times_s, rng)
            extra_w = rng.choice(self.idle.deviation_w, times_s.size)
        # an idle board draws more: it decays in this kind's own time, not in that of `Idle`
        since_s = since_work_s(timeline, times_s - self.meter.lag_s)
        extra_w = extra_w + self.idle.active_w * np.exp(-since_s / self.decay_s)
        extra_w += self.surface.warm_idle_w * left_warmth(timeline, times_s)
        power_w = np.where(busy > 0, power_w + (1.0 - busy) * extra_w, self.idle.mean_w + extra_w)
        return power_w if rng is None else self.meter.printed_w(power_w)

    def on_board(self, idle_w: float) -> Self:
        """Carry the model over to a board of another idle power."""
        old = self.surface
        check_idle(idle_w, min(old.prefill_w, old.limit_w))
        # in full at idle, nothing at the limit of prefill, where the board's limit rules
        share = np.clip((old.prefill_w - old.decode_w) / (old.prefill_w - old.idle_w), 0.0, 1.0)
        decode_w = old.decode_w + (idle_w - old.idle_w) * share
        surface = replace(old, idle_w=idle_w, decode_w=decode_w)
        return replace(self, surface=surface, idle=replace(self.idle, mean_w=idle_w))
