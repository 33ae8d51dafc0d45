"""The model of kind `states`: activity gives each bin its state, the state its power."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import pandas as pd

from sitetrace.core.files import InputError
from sitetrace.core.types import (
    LEAD_S,
    TAIL_S,
    Configuration,
    PowerTrace,
    Timeline,
    span_of,
    trace_clock,
)
from sitetrace.power.idle import Idle, check_idle
from sitetrace.power.states.mixture import Emissions, Mixture
from sitetrace.power.states.transitions import Transitions, walk
from sitetrace.serving.activity import activity_table
from sitetrace.serving.engine import Server, simulate
from sitetrace.serving.surrogates import ConstantRate, LogNormalTTFT
from sitetrace.workload.table import check_stream

CLIP_SHARE = 0.05


@dataclass(frozen=True)
class StatesModel:
    """A fitted power model of one configuration, the paper's way.

    Parameters
    ----------
    configuration : Configuration
        Model, GPU type, tensor parallelism.
    dt : fractions.Fraction
        Step of the samples that it was fitted on, seconds.
    server : Server, ConstantRate or LogNormalTTFT
        How requests become work.
    idle : Idle or None
        The board's idle power; None where the mixture holds idle too.
    mixture : Mixture
        Power states above idle.
    transitions : Markov, Logit, Trees, BiGRU, Coupled or Independent
        Which state comes next.
    emissions : Emissions
        Power within a state.
    power_range_w : tuple of float
        Least and greatest power seen, watts; generated power stays within 5% of the range.
    fitted : dict
        Greatest values met while fitting: ``active``, ``input_tokens``, ``output_tokens``.
    provenance : dict
        Runs, digests, cut, seed, package version, selection tables.
    """

    configuration: Configuration
    dt: Fraction
    server: Server | ConstantRate | LogNormalTTFT
    idle: Idle | None
    mixture: Mixture
    transitions: Transitions
    emissions: Emissions
    power_range_w: tuple[float, float]
    fitted: dict
    provenance: dict

    def draw_states(
        self, table: pd.DataFrame, rng: np.random.Generator, start: int = 0
    ) -> np.ndarray:
        """Draw the state of each bin (0 is idle) from its activity, going on from a state."""
        quiet = np.zeros(len(table), dtype=bool)
        if self.idle is not None:
            quiet = table["quiet_for_s"].to_numpy() >= self.idle.hold_s
        return walk(self.transitions, table, quiet, rng.random(len(table)), start)

    def draw_power(
        self, states: np.ndarray, table: pd.DataFrame, rng: np.random.Generator
    ) -> np.ndarray:
        """Draw the watts of each bin given its state, on the board that the model was fitted on."""
        power_w = np.zeros(states.size)
        if self.idle is not None:
            power_w = self.idle.sample(table["quiet_for_s"].to_numpy(), rng)
        working = states > 0
        power_w[working] = self.emissions.sample(states[working] - 1, self.mixture, rng)
        return self.within_range(power_w)

    def within_range(self, power_w: np.ndarray) -> np.ndarray:
        """Keep power near the range that was seen: at most 5% of it outside, nothing below 0."""
        low, high = self.power_range_w
        margin = CLIP_SHARE * (high - low)
        return np.clip(power_w, max(low - margin, 0.0), high + margin)

    def rebase(self, power_w: np.ndarray, idle_w: float) -> np.ndarray:
        """Carry power over to a board of another idle power, watts."""
        if self.idle is None:
            raise InputError("idle is one of this model's states: leave idle_w out")
        top = max(self.power_range_w[1], self.idle.mean_w + 1.0)
        check_idle(idle_w, top)
        # the difference in full at idle, falling in a straight line to nothing at the greatest
        # power seen while fitting, where the board's limit rules and not its leakage
        load = np.clip((power_w - self.idle.mean_w) / (top - self.idle.mean_w), 0.0, 1.0)
        # the meter's noise around an idle power of nearly nothing must not fall below nothing
        return np.maximum(power_w + (idle_w - self.idle.mean_w) * (1.0 - load), 0.0)

    def generate(
        self,
        requests: pd.DataFrame,
        *,
        rng: np.random.Generator,
        dt_s: float | None = None,
        lead_s: float = LEAD_S,
        tail_s: float = TAIL_S,
        idle_w: float | None = None,
    ) -> PowerTrace:
        """Generate a power trace for a stream of requests, as `TimelineModel.generate` does.

        Mean power of the bins only; `rebase` says what another idle power means.
        """
        check_stream(requests)
        timeline = simulate(requests, self.server, rng)
        return self.draw(timeline, rng, dt_s, lead_s, tail_s, idle_w)

    def draw(
        self,
        timeline: Timeline,
        rng: np.random.Generator,
        dt_s: float | None = None,
        lead_s: float = LEAD_S,
        tail_s: float = TAIL_S,
        idle_w: float | None = None,
    ) -> PowerTrace:
        """Draw one power trace for a simulated timeline; other arguments as `generate`."""
        start_s, step, n_bins = trace_clock(span_of(timeline), self.dt, dt_s, lead_s, tail_s)
        ticks = np.arange(1, n_bins + 1, dtype=np.int64) * self.dt.numerator
        ends = start_s + ticks / self.dt.denominator
        table = activity_table(timeline, ends, float(self.dt))
        power_w = self.draw_power(self.draw_states(table, rng), table, rng)
        if idle_w is not None:
            power_w = self.rebase(power_w, idle_w)
        return PowerTrace(start_s, self.dt, power_w).resample(step)

    def with_server(self, server: Server | ConstantRate | LogNormalTTFT) -> StatesModel:
        """Put the same power behind another way of serving, such as a surrogate of the paper."""
        return replace(self, server=server)
