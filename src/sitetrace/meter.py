"""What a meter prints: power averaged over a window, late, sampled with jitter, in steps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from sitetrace.trace import PowerTrace

EDGE_S = 1000.0


@dataclass(frozen=True)
class Meter:
    """A power meter that is read at intervals, as nvidia-smi is.

    Parameters
    ----------
    dt_s : float
        Distance of samples, seconds.
    window_s : float
        Time over which a sample averages, seconds.
    lag_s : float
        Age of the window's end when the sample is printed, seconds.
    update_s : float
        Distance of the meter's own renewals, seconds; between two of them it prints the same. A
        reading is up to that much older than `lag_s`, which of all ages is chance.
    jitter_s : float
        Standard deviation of the sample times around their grid, seconds; cut at a quarter step.
    noise_w : float
        Standard deviation of the noise of a sample, watts.
    quantum_w : float
        Step of the printed values, watts; 0 for none.
    """

    dt_s: float = 0.25
    window_s: float = 0.25
    lag_s: float = 0.0
    update_s: float = 0.0
    jitter_s: float = 0.0
    noise_w: float = 0.0
    quantum_w: float = 0.01

    def read(self, trace: PowerTrace, rng: np.random.Generator) -> pd.DataFrame:
        """Read a power trace.

        Parameters
        ----------
        trace : PowerTrace
            True power; before its begin it is taken to have been the same as in its first bin,
            after its end the same as in its last.
        rng : numpy.random.Generator
            Source of randomness.

        Returns
        -------
        pandas.DataFrame
            ``time_s``, ``power_w``: samples from one step after the trace's begin to its end.
        """
        count = int(trace.power_w.size * trace.dt_s / self.dt_s + 1e-9)
        times = np.arange(1, count + 1) * self.dt_s
        shift = np.clip(rng.normal(0.0, self.jitter_s, count), -self.dt_s / 4, self.dt_s / 4)
        times = times + (shift if self.jitter_s > 0 else 0.0)
        ends = times - self.lag_s
        if self.update_s > 0:
            phase_s = rng.uniform(0.0, self.update_s)
            ends = np.floor((ends - phase_s) / self.update_s) * self.update_s + phase_s
        energy_j = np.concatenate([[0.0], np.cumsum(trace.power_w) * trace.dt_s])
        knots = np.arange(energy_j.size) * trace.dt_s
        # jitter puts a sample past the end, a window reaches before the begin: keep both whole
        knots = np.r_[-EDGE_S, knots, knots[-1] + EDGE_S]
        after_j = energy_j[-1] + EDGE_S * trace.power_w[-1]
        energy_j = np.r_[-EDGE_S * trace.power_w[0], energy_j, after_j]
        spent = np.interp(ends, knots, energy_j) - np.interp(ends - self.window_s, knots, energy_j)
        power_w = spent / self.window_s + rng.normal(0.0, self.noise_w, count)
        if self.quantum_w > 0:
            power_w = np.round(power_w / self.quantum_w) * self.quantum_w
        return pd.DataFrame({"time_s": trace.start_s + times, "power_w": np.maximum(power_w, 0.0)})
