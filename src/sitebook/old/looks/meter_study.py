"""How well readings tell what the meter that printed them is like."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pandas as pd

from sitetrace.core.types import PowerTrace, Run, Timeline
from sitetrace.meter import Meter, ages_s, seen_w
from sitetrace.power.timeline.fit import fit_reading, observe_power
from sitetrace.power.timeline.model import TimelineModel
from sitetrace.serving.engine import simulate

FINE = Fraction(1, 200)
BEFORE_S, AFTER_S, PLANTED_S = 20.0, 8.0, 90.0
SETTINGS = ["window_s", "lag_s", "update_s", "tokens", "batch"]


def profile(tried: list[dict], names: list[str]) -> pd.DataFrame:
    """Loss of a fit by some of its settings, all others held."""
    table = pd.DataFrame(tried).sort_values("loss").drop_duplicates(SETTINGS)
    held = [name for name in SETTINGS if name not in names]
    sets = [rows for _, rows in table.groupby(held)]
    best = min(sets, key=lambda rows: (-len(rows), rows["loss"].min()))
    best = best.assign(above=best["loss"] - best["loss"].min())
    return best.sort_values(names)[[*names, "above"]].reset_index(drop=True)


def middle_age_s(meter: Meter) -> float:
    """Age of the middle of what a reading saw, mean over its possible ages, seconds."""
    return meter.lag_s + 0.5 * (meter.update_s + meter.window_s)


def described(name: str, meter: Meter) -> dict:
    """Put a meter into a row of a table."""
    row = {"meter": name, "window [s]": meter.window_s, "lag [s]": meter.lag_s}
    return row | {"renewal [s]": meter.update_s, "middle age [s]": middle_age_s(meter)}


def planted(model: TimelineModel, run: Run, meters: list[Meter], seed: int) -> pd.DataFrame:
    """Print a server's power through meters that are known, and look for them."""
    first_s = float(run.requests["arrival_s"].iloc[0])
    requests = run.requests[run.requests["arrival_s"] < first_s + PLANTED_S]
    timeline, start_s = simulate(requests, model.server), first_s - BEFORE_S
    span_s = float(timeline.requests["end_s"].max()) + AFTER_S - start_s
    ends_s = start_s + np.arange(1, int(span_s / FINE) + 1) * float(FINE)
    power = PowerTrace(start_s, FINE, model.surface.mean_power_w(timeline, ends_s, float(FINE)))
    rng, rows = np.random.default_rng(seed), []
    for meter in meters:
        noisy = replace(meter, noise_w=model.residual.decode_w)
        samples = noisy.read(power, rng)
        recorded = replace(run, requests=requests, samples=samples, dt=model.dt, published=None)
        seen = observe_power(recorded, model.server, model.surface.idle_w)
        found, _ = fit_reading([seen], model.configuration.tensor_parallel)
        rows += [described("planted", meter), described("found", found.meter)]
    return pd.DataFrame(rows)


def microscope(
    model: TimelineModel, timeline: Timeline, begin_s: float, end_s: float
) -> pd.DataFrame:
    """Power of some seconds in steps of 5 ms, and what a meter may print of it."""
    ends_s = np.arange(begin_s, end_s, float(FINE)) + float(FINE)
    power_w = model.surface.mean_power_w(timeline, ends_s, float(FINE))
    may_w = np.array([seen_w(timeline, model, ends_s - age)[0] for age in ages_s(model.meter)])
    columns = {"time_s": ends_s - begin_s, "power_w": power_w, "mean_w": may_w.mean(axis=0)}
    return pd.DataFrame(columns | {"low_w": may_w.min(axis=0), "high_w": may_w.max(axis=0)})
