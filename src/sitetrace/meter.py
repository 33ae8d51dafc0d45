"""A power meter such as nvidia-smi: how it reads a power trace, and what it prints of an engine.

A reading is the mean power over a window that ended some time ago; how long ago is chance, between
two renewals of the meter. `expected_w` gives a model's mean over these chances, `drawn_w` a draw.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numba import njit

from sitetrace.core.types import PowerTrace, Timeline
from sitetrace.serving.activity import amount_in_bins

__all__ = ["Meter"]

EDGE_S = 1000.0  # by which a trace is continued at both ends
AGES, FINE_AGES = 9, 25  # of a reading: those that are averaged, those that one is drawn from


@dataclass(frozen=True)
class Meter:
    """A power meter that is read at intervals, as nvidia-smi is."""

    dt_s: float = 0.25  # distance of samples
    window_s: float = 0.25  # time over which a sample averages
    lag_s: float = 0.0  # age of the window's end when the sample is printed
    update_s: float = 0.0  # between its renewals: a reading may be older than `lag_s` by as much
    jitter_s: float = 0.0  # deviation of sample times around their grid, cut at a quarter step
    noise_w: float = 0.0  # standard deviation of the noise of a sample
    quantum_w: float = 0.01  # step of the printed values; 0 for none

    def read(self, trace: PowerTrace, rng: np.random.Generator) -> pd.DataFrame:
        """Read a trace of true power: ``time_s``, ``power_w`` from one step after its begin on."""
        count = int(trace.power_w.size * trace.dt_s / self.dt_s + 1e-9)
        times = np.arange(1, count + 1) * self.dt_s
        times += rng.normal(0.0, self.jitter_s, count).clip(-self.dt_s / 4, self.dt_s / 4)
        ends = times - self.lag_s
        if self.update_s > 0:
            phase_s = rng.uniform(0.0, self.update_s)
            ends = np.floor((ends - phase_s) / self.update_s) * self.update_s + phase_s
        # before the begin and past the end power is taken to be that of the first and the last bin
        before_j, after_j = EDGE_S * trace.power_w[[0, -1]]
        energy_j = np.r_[0.0, np.cumsum(trace.power_w) * trace.dt_s]
        energy_j = np.r_[-before_j, energy_j, energy_j[-1] + after_j]
        knots = np.arange(trace.power_w.size + 1) * trace.dt_s
        knots = np.r_[-EDGE_S, knots, knots[-1] + EDGE_S]
        first_j, last_j = np.interp([ends - self.window_s, ends], knots, energy_j)
        power_w = (last_j - first_j) / self.window_s + rng.normal(0.0, self.noise_w, count)
        return pd.DataFrame({"time_s": trace.start_s + times, "power_w": self.printed_w(power_w)})

    def printed_w(self, power_w: np.ndarray) -> np.ndarray:
        """Round watts to the printed values, none below zero."""
        if self.quantum_w > 0:
            power_w = np.round(power_w / self.quantum_w) * self.quantum_w
        return np.maximum(power_w, 0.0)


@dataclass(frozen=True)
class PowerNoise:
    """What is left over of the power when all else is said, by regime."""

    idle_w: float  # standard deviation without work, and at work
    decode_w: float
    phi: float  # autocorrelation from one bin of 0.25 s to the next


Readings = tuple[np.ndarray, np.ndarray]  # watts, and the share of their time at work


def expected_w(timeline: Timeline, model, times_s: np.ndarray) -> Readings:
    """Expect a reading, its age and the phase of the sampling clock unknown."""
    ages = ages_s(model.meter, _step_s(times_s, model.meter))[:, None]
    power_w, busy = seen_w(timeline, model, times_s - ages)
    return power_w.mean(axis=0), busy.mean(axis=0)


def drawn_w(timeline: Timeline, model, times_s: np.ndarray, rng: np.random.Generator) -> Readings:
    """Draw readings, each at an age of its own and with autocorrelated noise."""
    # what a glimpse sees hangs on the phase of the sampling clock, which is as unknown as the age
    meter, noise, step_s = model.meter, model.residual, _step_s(times_s, model.meter)
    phase_s = step_s if meter.window_s < step_s else 0.0
    age_s = rng.choice(ages_s(meter, phase_s, FINE_AGES), times_s.size)
    power_w, share = seen_w(timeline, model, times_s - age_s)
    drawn = remembered(rng.standard_normal(times_s.size), noise.phi)
    return power_w + (noise.idle_w + (noise.decode_w - noise.idle_w) * share) * drawn, share


def seen_w(timeline: Timeline, model, ends_s: np.ndarray) -> Readings:
    """Mean power over the meter's windows that end at these times."""
    work, window_s = timeline.segments, model.meter.window_s
    length_s = (work["end_s"] - work["start_s"]).to_numpy()
    above, busy = (
        amount_in_bins(work, each, ends_s.ravel(), window_s).reshape(ends_s.shape) / window_s
        for each in (model.surface.above_idle_w(work) * length_s, length_s)
    )
    return model.surface.idle_w + above, np.minimum(busy, 1.0)


def _step_s(times_s: np.ndarray, meter: Meter) -> float:
    # of the grid on which readings are wanted, which need not be the one of the meter
    steps = times_s.size - 1
    return round(float(times_s[-1] - times_s[0]) / steps, 6) if steps > 0 else meter.dt_s


def ages_s(meter: Meter, more_s: float = 0.0, count: int = AGES) -> np.ndarray:
    """Ages that a reading may have, each as likely as the others: from its window to its print."""
    # more_s: how far, in all, the clock of the readings may be from the grid they are printed on
    middle = (np.arange(count) + 0.5) / count - 0.5
    return meter.lag_s + 0.5 * meter.update_s + (meter.update_s + more_s) * middle


@njit(cache=True)
def remembered(normals, phi):
    """Stationary AR(1) noise of unit variance: each holds the share phi of the one before it."""
    noise, fresh = normals.copy(), np.sqrt(1.0 - phi * phi)
    for i in range(1, noise.size):
        noise[i] = phi * noise[i - 1] + fresh * normals[i]
    return noise
