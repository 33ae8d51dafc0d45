"""What a meter prints of an engine's timeline: ages of readings, expected and drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd

from sitetrace.activity import amount_in_bins
from sitetrace.meter import Meter
from sitetrace.placing import placed_w
from sitetrace.rendering import STATES, warmth
from sitetrace.surface import WARM_S
from sitetrace.timeline import Timeline

AGES, FINE_AGES = 9, 25
# a score of single seconds does not tell when they begin
AROUND_S = 1.0


class Surface(Protocol):
    """What a meter must know of power: watts of an idle server, and of work above them."""

    idle_w: float

    def above_idle_w(self, segments: pd.DataFrame) -> np.ndarray:
        """Watts of each segment of work above an idle server, shape (segments,)."""
        ...


@dataclass(frozen=True)
class Residual:
    """What is left over of the power when all else is said, by regime.

    Parameters
    ----------
    idle_w, decode_w : float
        Standard deviation without work and at work, watts.
    phi : float
        Autocorrelation from one bin of 0.25 s to the next.
    """

    idle_w: float
    decode_w: float
    phi: float


def ages_s(meter: Meter, more_s: float = 0.0, count: int = AGES) -> np.ndarray:
    """Ages that a reading may have, each as likely as the others."""
    reach_s = meter.update_s + more_s
    middle = (np.arange(count) + 0.5) / count - 0.5
    return meter.lag_s + 0.5 * meter.update_s + reach_s * middle


def expected_w(
    timeline: Timeline, surface: Surface, meter: Meter, times_s: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Expect a reading when neither its age nor the phase of the sampling clock is known.

    Parameters
    ----------
    timeline : Timeline
        What the engine does.
    surface : Surface
        Its power.
    meter : Meter
        The meter.
    times_s : numpy.ndarray
        Grid on which the readings are printed, seconds, shape (n,).

    Returns
    -------
    expected_w : numpy.ndarray
        Mean over all ages and phases, watts, shape (n,).
    busy : numpy.ndarray
        Share of the time at work, 0 to 1, shape (n,).
    """
    seen = [seen_w(timeline, surface, meter, times_s - age) for age in ages_s(meter, meter.dt_s)]
    return tuple(np.mean([part[i] for part in seen], axis=0) for i in range(2))


def seen_w(
    timeline: Timeline, surface: Surface, meter: Meter, ends_s: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Average power over the meter's window."""
    segments = timeline.segments
    length_s = (segments["end_s"] - segments["start_s"]).to_numpy()
    above_w = surface.above_idle_w(segments)
    above, busy = (
        amount_in_bins(segments, amount * length_s, ends_s, meter.window_s) / meter.window_s
        for amount in (above_w, 1.0)
    )
    return surface.idle_w + above, np.minimum(busy, 1.0)


def since_work_s(timeline: Timeline, times_s: np.ndarray) -> np.ndarray:
    """Time since the last work that ended."""
    ends = timeline.segments["end_s"].to_numpy()
    last = np.searchsorted(ends, times_s, side="right") - 1
    return np.where(last >= 0, times_s - ends[np.maximum(last, 0)], np.inf)


def left_warmth(timeline: Timeline, times_s: np.ndarray) -> np.ndarray:
    """How warm the last work that ended has left the board, from 0 to 1."""
    start, end = (timeline.segments[name].to_numpy() for name in ("start_s", "end_s"))
    length = (end - start) / WARM_S
    fading = length * np.exp(-length) / -np.expm1(-length)
    at_end = 1.0 - (1.0 - warmth(start, end, WARM_S, np.zeros(STATES))) * fading
    last = np.maximum(np.searchsorted(end, times_s, side="right") - 1, 0)
    return at_end[last] * np.exp(-since_work_s(timeline, times_s) / WARM_S)


def drawn_w(
    timeline: Timeline,
    surface: Surface,
    meter: Meter,
    residual: Residual,
    times_s: np.ndarray,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw readings and place them where they are most likely.

    A short window sees a prefill or misses it, by chance. Drawing these chances one by one gives
    the right distribution at the wrong seconds; the expectation is right about the seconds and
    has no spikes. So the drawn readings are put in an order that the expected ones prescribe (see
    `placed_w`; weather forecasting calls it ensemble copula coupling).

    Parameters
    ----------
    timeline, surface, meter : Timeline, Surface, Meter
        As in `expected_w`.
    residual : Residual
        Noise of a reading.
    times_s : numpy.ndarray
        Grid on which the readings are printed, seconds, shape (n,).
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    power_w, busy : numpy.ndarray
        Watts, and the expected share of work, 0 to 1, shape (n,).
    """
    expected, busy = expected_w(timeline, surface, meter, times_s)
    power_w = chanced_w(timeline, surface, meter, residual, times_s, rng)
    working = np.flatnonzero(busy > 0)
    # a window longer than a bin has no chances: there the order alone decides
    reach = round(AROUND_S / meter.dt_s) if meter.window_s < meter.dt_s else 1
    power_w[working] = placed_w(power_w[working], expected[working], working, reach)
    return power_w, busy


def chanced_w(
    timeline: Timeline,
    surface: Surface,
    meter: Meter,
    residual: Residual,
    times_s: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Draw readings each at an age of its own, where chance puts them."""
    from scipy.signal import lfilter

    # what a glimpse sees hangs on the phase of the sampling clock, which is as unknown as the age
    phase_s = meter.dt_s if meter.window_s < meter.dt_s else 0.0
    age_s = rng.choice(ages_s(meter, phase_s, FINE_AGES), times_s.size)
    power_w, share = seen_w(timeline, surface, meter, times_s - age_s)
    normals = rng.standard_normal(times_s.size) * np.sqrt(1.0 - residual.phi**2)
    noise = lfilter([1.0], [1.0, -residual.phi], normals)
    return power_w + (residual.idle_w + (residual.decode_w - residual.idle_w) * share) * noise
