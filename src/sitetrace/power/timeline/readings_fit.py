"""Surface, meter and noise of a server, learned from what its meter printed.

What a reading saw is known but for its age: the meter renews its value now and then, and between
two renewals it prints the same. So the likelihood of a reading is the mean over all ages that it
may have of a normal density around the surface's power at that age. The product over all readings
is maximised: over the surface and its noise by gradients, over the meter's window, lag and renewal
and over the scales of saturation by trying values in turn.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from sitetrace.core.files import InputError
from sitetrace.core.types import Run, Timeline
from sitetrace.meter import Meter, ages_s
from sitetrace.power.timeline.surface import STATE_SIZE, WARM_S, warmth
from sitetrace.serving.activity import amount_in_bins
from sitetrace.serving.engine import Server, counted, simulate
from sitetrace.serving.steps import LINEAR

SCALES_BATCH = (0.5, 2.0, 8.0, 32.0, LINEAR)
# What is tried of a meter, and of where power saturates (prompt tokens of a step; sequences); where
# that begins, and in which turns it goes on.
TRIED = {
    "window_s": (0.025, 0.05, 0.1, 0.25, 0.5, 1.0),
    "lag_s": (-0.05, 0.0, 0.05, 0.1),
    "update_s": (0.05, 0.1, 0.15, 0.2),
    "tokens": (60.0, 120.0, 200.0, 300.0, 450.0, 700.0, 1100.0),
    "batch": SCALES_BATCH,
}
FIRST = {"window_s": 0.05, "lag_s": 0.0, "update_s": 0.1, "tokens": 300.0, "batch": 8.0}
TURNS = [["window_s"], *2 * [["lag_s", "update_s"], ["window_s"], ["tokens"], ["batch"]]]
# readings count from so long before the load to so long after it; more than so many are thinned
EDGE_S, MOST_READINGS = 2.0, 5000
# what a board gains while it warms up, by experience: watts a GPU, and how sure that is
WARM_W, WARM_SD_W, WARM_MAX_W = 8.0, 3.0, 14.0
# how sure the prefill scale is to be near its usual value, as a logarithm
SCALE_SPREAD = 0.5
# readings that nothing explains, and the relative error that mean power may have
OUTLIER_SHARE, ENERGY_SHARE = 0.02, 0.003
LEAST_SD_W, MOST_LOG_SD = 0.3, 9.0


@dataclass(frozen=True)
class Seen:
    """Readings of one run while it works, and the work that they saw."""

    timeline: Timeline  # as all times, on the clock of the first arrival
    times_s: np.ndarray
    power_w: np.ndarray
    idle_w: float
    # a reading is the mean over printings so long before it: 0 alone, or the quarters of a second
    parts_s: np.ndarray
    # A run of another configuration teaches the meter, warming up and prefill alone: its GPUs as a
    # multiple of those of the fitted one, and its own decode_w, per_sequence_w and batch scale.
    gpus: float = 1.0
    decode: tuple[float, float, float] | None = None

    def law(self, law: np.ndarray, home_w: float) -> np.ndarray:
        """Give the law of the fitted configuration, idle at `home_w`, the size of this run's."""
        if self.decode is None:
            return law
        prefill_w = self.idle_w + self.gpus * (law[2] - home_w)
        noise = law[4:] + np.log(self.gpus)
        return np.array([*self.decode[:2], prefill_w, self.gpus * law[3], *noise])


class Reading(NamedTuple):
    """What readings tell of the surface, the meter and the noise."""

    loss: float  # negative log-likelihood with priors
    setting: dict[str, float]  # one of those TRIED
    # decode_w, per_sequence_w, prefill_w, warm_w (watts, as in `Surface`), and logarithms of the
    # noise's standard deviation (watts) while decoding and in saturated prefill
    law: np.ndarray
    converged: bool

    @property
    def meter(self) -> Meter:
        """The meter of the setting."""
        return Meter(**{name: self.setting[name] for name in ("window_s", "lag_s", "update_s")})


def observe_power(run: Run, server: Server, idle_w: float) -> Seen:
    """Put a run's readings beside the work that its requests make."""
    origin_s = float(run.requests["arrival_s"].iloc[0])
    requests = run.requests.assign(arrival_s=run.requests["arrival_s"] - origin_s)
    timeline = simulate(requests, server)
    times = run.samples["time_s"].to_numpy() - origin_s
    last_s = float(timeline.segments["end_s"].iloc[-1])
    near = (times > -EDGE_S) & (times < last_s + EDGE_S)
    whole_seconds = run.dt == 1 and run.published is not None
    parts_s = np.arange(4) / 4 if whole_seconds else np.zeros(1)
    return Seen(timeline, times[near], run.samples["power_w"].to_numpy()[near], idle_w, parts_s)


def fit_reading(seen: list[Seen], gpus: int) -> tuple[Reading, list[dict]]:
    """Find surface, noise, meter and scales of a server; and all that was tried, with its loss."""
    every = -(-sum(len(each.times_s) for each in seen) // MOST_READINGS)
    seen = [
        replace(each, times_s=each.times_s[::every], power_w=each.power_w[::every]) for each in seen
    ]
    found, tried = Reading(np.inf, FIRST, _first_law(seen, gpus), False), []
    for names in TURNS:
        results = []
        for values in itertools.product(*(TRIED[name] for name in names)):
            setting = found.setting | dict(zip(names, values, strict=True))
            # once a window is found, only its neighbours are tried
            if not tried or 0.3 < setting["window_s"] / found.setting["window_s"] < 3:
                results.append(best_law(seen, Reading(np.inf, setting, found.law, False), gpus))
        tried += [result.setting | {"loss": result.loss} for result in results]
        found = min(results, key=lambda result: result.loss)
    return found, tried


def best_law(seen: list[Seen], start: Reading, gpus: int) -> Reading:
    """Minimise the loss over the surface and the noise, the setting given."""
    from scipy.optimize import minimize

    views = [(each, shares(each, start)) for each in seen]
    unit = np.array([10.0, 1.0, 50.0, 5.0, 0.3, 0.5]) * np.array([gpus, 1, gpus, gpus, 1, 1])
    low = [0.0, 0.0, 0.0, 0.0, np.log(LEAST_SD_W), np.log(LEAST_SD_W)]
    high = [np.inf, np.inf, np.inf, WARM_MAX_W * gpus, MOST_LOG_SD, MOST_LOG_SD]
    found = minimize(
        lambda point: _loss(point * unit, views, gpus),
        start.law / unit,
        method="L-BFGS-B",
        bounds=list(zip(low / unit, high / unit, strict=True)),
        options={"maxiter": 80, "ftol": 1e-7},
    )
    unusual = np.log(start.setting["tokens"] / FIRST["tokens"]) / SCALE_SPREAD
    loss = float(found.fun) + unusual**2 / 2
    return Reading(loss, start.setting, found.x * unit, bool(found.success))


def shares(seen: Seen, reading: Reading) -> np.ndarray:
    """Say what each reading may have seen, for each of its possible ages, shape (6, n, ages)."""
    # The share of the meter's window at work, the batch and the warmth weighted by it; and the same
    # three once more, weighted by how far prefill saturates.
    meter, setting, work = reading.meter, reading.setting, seen.timeline.segments
    start, end = work["start_s"].to_numpy(), work["end_s"].to_numpy()
    length_s = end - start
    batch = counted(work["batch"], setting["batch"] if seen.decode is None else seen.decode[2])
    warm = warmth(start, end, WARM_S, np.zeros(STATE_SIZE))
    full = -np.expm1(-work["prefill_tokens"].to_numpy() / setting["tokens"])
    ends = seen.times_s[:, None, None] - seen.parts_s[:, None] - ages_s(meter)
    plain = (length_s, length_s * batch, length_s * warm)
    columns = [
        amount_in_bins(work, amount, ends.ravel(), meter.window_s).reshape(ends.shape).mean(axis=1)
        for amount in (*plain, *(amount * full for amount in plain))
    ]
    return np.array(columns) / meter.window_s


def power_of(shares_: np.ndarray, law: np.ndarray, idle_w: float) -> np.ndarray:
    """Watts of readings by the surface, shape (n, ages): linear in what `shares` gives."""
    decode_w, per_sequence_w, prefill_w, warm_w = law[:4]
    busy, batch, warm, full, full_batch, full_warm = shares_
    base = (decode_w - idle_w) * busy + per_sequence_w * batch + warm_w * warm
    lifted = (prefill_w - decode_w) * full - per_sequence_w * full_batch - warm_w * full_warm
    return idle_w + base + lifted


def _loss(law: np.ndarray, views: list[tuple[Seen, np.ndarray]], gpus: int) -> float:
    """Negative log-likelihood of the readings, their age unknown, with priors."""
    home_w = views[0][0].idle_w
    total, spent_w, meant_w = 0.0, 0.0, 0.0
    for seen, share in views:
        own = seen.law(law, home_w)
        sd = np.exp(own[4:6])
        power_w = power_of(share, own, seen.idle_w)
        # noise grows with the share of saturated prefill in what was seen
        sigma_w = np.hypot(sd[0], sd[1] * share[3])
        # a normal density around the power at each age (2.507 is the root of 2 pi), the mean over
        # the ages, and a few readings anywhere in their range
        density = np.exp(-0.5 * ((seen.power_w[:, None] - power_w) / sigma_w) ** 2) / sigma_w
        reach_w = np.ptp(seen.power_w) + 1.0
        likely = (1 - OUTLIER_SHARE) * density.mean(axis=1) / 2.507 + OUTLIER_SHARE / reach_w
        total -= np.log(likely).sum()
        spent_w += seen.power_w.sum()
        meant_w += power_w.mean(axis=1).sum()
    total += 0.5 * ((law[3] / gpus - WARM_W) / WARM_SD_W) ** 2
    # modes alone would lose energy: its mean is held to a fraction of a percent
    return total + 0.5 * ((meant_w / spent_w - 1.0) / ENERGY_SHARE) ** 2


def _first_law(seen: list[Seen], gpus: int) -> np.ndarray:
    """Begin at the middle of the readings under load, and prefill at their top."""
    loaded = np.concatenate([each.power_w[each.power_w > 1.3 * each.idle_w] for each in seen])
    if loaded.size == 0:
        raise InputError("the readings never rise above idle while requests run: check the clocks")
    middle, top = np.quantile(loaded, [0.4, 0.99])
    noise = np.log([5.0 * gpus, 20.0 * gpus])
    return np.array([middle, gpus, top + 20.0 * gpus, WARM_W * gpus, *noise])
