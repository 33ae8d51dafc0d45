"""The model of kind `states`: activity gives each bin its state, the state its power."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd

from sitetrace.core import types
from sitetrace.core.files import require
from sitetrace.core.types import LEAD_S, SEGMENT, TAIL_S, Configuration, PowerTrace
from sitetrace.power.idle import Idle, check_idle
from sitetrace.power.states.mixture import Emissions, Mixture
from sitetrace.power.states.transitions import Separable, Table, Trees
from sitetrace.serving.activity import ROW, activity_columns, activity_table, as_segments
from sitetrace.serving.engine import Server, simulate
from sitetrace.serving.surrogates import ConstantRate, LogNormalTTFT
from sitetrace.workload.table import check_stream

CLIP_SHARE = 0.05
DRAWS = 64  # that stand for an expectation where transitions give no probabilities at once
# what was printed is all that this kind has learnt, so that a meter's reading is its power
READINGS = ("power", "expected", "meter")


@dataclass(frozen=True)
class StatesModel:
    """A fitted power model of one configuration, the paper's way."""

    # what was served on which GPUs, the engine, the board and the parts that activity goes through
    configuration: Configuration
    dt: Fraction  # step of the samples that it was fitted on, seconds
    server: Server | ConstantRate | LogNormalTTFT
    idle: Idle | None  # None where the mixture holds idle too
    mixture: Mixture
    transitions: Separable | Trees
    emissions: Emissions
    power_range_w: tuple[float, float]  # generated power stays within 5% of the range seen
    fitted: dict  # greatest values met while fitting
    provenance: dict

    def generate(self, requests: pd.DataFrame, *, rng, **how: Any) -> PowerTrace:
        """Generate a power trace for a stream of requests, as `TimelineModel.generate` does."""
        check_stream(requests)
        return self.draw(simulate(requests, self.server, rng), rng, **how)

    def draw(
        self, timeline, rng, dt_s=None, lead_s=LEAD_S, tail_s=TAIL_S, idle_w=None, reading="power"
    ) -> PowerTrace:
        """Draw one power trace for a simulated timeline; ``expected`` is the mean of all draws."""
        mend = f"give {', '.join(READINGS)}"
        require(reading in READINGS, f"reading {reading!r}", "there is none such", mend)
        clock = (self.dt, dt_s, lead_s, tail_s)
        start_s, step, n_bins = types.trace_clock(types.span_of(timeline), *clock)
        if reading == "expected":
            table = activity_table(timeline, self.bin_ends(start_s, n_bins), float(self.dt))
            power_w = self.expected_w(table, rng)
        else:
            names, segments = ("arrival_s", "end_s"), as_segments(timeline.segments)
            events = tuple(np.sort(timeline.requests[name].to_numpy()) for name in names)
            power_w, _ = advance(self, begin(self, True), segments, events, start_s, n_bins, rng)
        if idle_w is not None:
            power_w = self.rebase(power_w, idle_w)
        return PowerTrace(start_s, self.dt, power_w).resample(step)

    @property
    def hold_s(self) -> float:
        """Time after the last work from which bins are idle for sure."""
        return np.nan if self.idle is None else self.idle.hold_s

    def bin_ends(self, begin_s: float, n_bins: int) -> np.ndarray:
        """Lay the model's bins from a second on: their ends."""
        return begin_s + np.arange(1.0, n_bins + 1) * self.dt.numerator / self.dt.denominator

    def draw_states(self, table: Table, uniform: np.ndarray, start: int = 0) -> np.ndarray:
        """Turn numbers from 0 to 1 into states (0 is idle), `start` the one before the first."""
        # before the bins of the numbers the table may hold earlier ones
        quiet_for_s = np.asarray(table["quiet_for_s"])[len(table["quiet_for_s"]) - uniform.size :]
        return self.transitions.path(table, quiet_for_s >= self.hold_s, uniform, start)

    def draw_power(self, states: np.ndarray, table: Table, rng: np.random.Generator) -> np.ndarray:
        """Draw the watts of each bin given its state, on the board that the model was fitted on."""
        # random numbers are drawn for the bins that need them alone
        place, noise, working = np.zeros(states.size), np.zeros(states.size), states > 0
        if self.idle is not None:
            spread = self.idle.deviation_w.size
            place = (rng.integers(spread, size=states.size) + 0.5) / spread
        draw = rng.random if self.emissions.kind == "empirical" else rng.standard_normal
        noise[working] = draw(working.sum())
        return self.power_of(states, np.asarray(table["quiet_for_s"]), place, noise)[0]

    def power_of(self, states, quiet_for_s, uniform, noise, last=np.nan):
        """Turn random numbers, two a bin, into watts, and what the next bin goes on from."""
        power_w, last = self.emissions.power_of(states - 1, self.mixture, noise, last)
        idle = np.flatnonzero(states == 0)
        own = (quiet_for_s[idle], uniform[idle])
        power_w[idle] = 0.0 if self.idle is None else self.idle.power_w(*own)
        return self.within_range(power_w), last

    def expected_w(self, table: pd.DataFrame, rng: np.random.Generator) -> np.ndarray:
        """Mean watts of each bin over all draws; with trees over some draws."""
        n_bins, quiet_for_s = len(table), table["quiet_for_s"].to_numpy()
        if isinstance(self.transitions, Trees):
            draws = (self.draw_states(table, rng.random(n_bins)) for _ in range(DRAWS))
            return sum(self.draw_power(states, table, rng) for states in draws) / DRAWS
        # the others' deviations have no mean, whatever the state before
        phi = self.emissions.memory() * (self.emissions.kind == "ar1")
        state_w = self.emissions.mean_w(self.mixture)
        power_w, idle = self.transitions.expected_w(table, quiet_for_s >= self.hold_s, state_w, phi)
        if self.idle is not None:
            power_w += idle * self.idle.expected_w(quiet_for_s)
        return self.within_range(power_w)

    def within_range(self, power_w: np.ndarray) -> np.ndarray:
        """Keep power near the range that was seen: at most 5% of it outside, nothing below 0."""
        low, high = self.power_range_w
        margin = CLIP_SHARE * (high - low)
        return np.clip(power_w, max(low - margin, 0.0), high + margin)

    def rebase(self, power_w: np.ndarray, idle_w: float) -> np.ndarray:
        """Carry power over to a board of another idle power, watts."""
        require(self.idle is not None, "idle", "is one of this model's states", "leave idle_w out")
        top = max(self.power_range_w[1], self.idle.mean_w + 1.0)
        check_idle(idle_w, top)
        # in full at idle, nothing at the greatest power seen, where the board's limit rules
        load = np.clip((power_w - self.idle.mean_w) / (top - self.idle.mean_w), 0.0, 1.0)
        # the meter's noise around an idle power of nearly nothing must not fall below nothing
        return np.maximum(power_w + (idle_w - self.idle.mean_w) * (1.0 - load), 0.0)


def begin(model: StatesModel, whole: bool = False) -> dict[str, np.ndarray]:
    """Begin with a server that was never at work before; `whole` if all comes in one stretch."""
    mend = "sites take models with markov, logit, trees, coupled or independent transitions"
    what = "a bidirectional net needs the whole day"
    require(whole or model.transitions.reach is not None, "transitions", what, mend)
    events = {"arrivals_s": np.empty(0), "ends_s": np.empty(0), "segments": np.empty(0, SEGMENT)}
    last = {"worked_s": np.array([-np.inf]), "state": np.array([0]), "emitted": np.array([np.nan])}
    return events | last | {"activity": np.empty((len(ROW), 0))}


def advance(
    model: StatesModel, carried: dict, segments, events, begin_s: float, n_bins: int, rng
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Draw the watts of a server's bins in a stretch of time, and what the next goes on from."""
    # segments begin in the stretch, later arrivals and ends are kept; three random numbers a bin
    uniform = rng.random((2, n_bins))
    noise = uniform[1] if model.emissions.kind == "empirical" else rng.standard_normal(n_bins)
    ends = model.bin_ends(begin_s, n_bins)
    segments = np.concatenate([carried["segments"], segments])
    arrivals_s = np.concatenate([carried["arrivals_s"], events[0]])
    ends_s = np.concatenate([carried["ends_s"], events[1]])
    before = (carried["activity"], float(carried["worked_s"][0]))
    seen = activity_columns(segments, (arrivals_s, ends_s), ends, float(model.dt), *before)
    table = dict(zip(ROW, seen, strict=True))
    states = model.draw_states(table, uniform[0], int(carried["state"][0]))
    given = (seen[-1, -n_bins:], uniform[1], noise, float(carried["emitted"][0]))
    power_w, emitted = model.power_of(states, *given)
    begun = np.searchsorted(segments["start_s"], ends[-1], side="left")
    return power_w, {
        "segments": segments[segments["end_s"] > ends[-1]],
        "arrivals_s": arrivals_s[arrivals_s > ends[-1]],
        "ends_s": ends_s[ends_s > ends[-1]],
        "activity": seen[:, -max(model.transitions.reach or 0, 1) :].copy(),
        "worked_s": np.array([segments["end_s"][begun - 1] if begun else before[1]]),
        "state": states[-1:].copy(),
        "emitted": np.array([float(emitted)]),
    }
