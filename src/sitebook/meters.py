"""What a meter prints of an engine's steps: counters, planted meters, parts off, what is left."""

from dataclasses import replace
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import pandas as pd

from sitebook import judging
from sitetrace.core.types import PowerTrace, Run, Timeline
from sitetrace.meter import Meter, PowerNoise, ages_s, seen_w
from sitetrace.power.fitting import as_metered
from sitetrace.power.timeline.fit import LEAST_SD_W, fit_reading, observe_power
from sitetrace.power.timeline.model import TimelineModel
from sitetrace.serving.activity import amount_in_bins
from sitetrace.serving.calibration import observe, printed
from sitetrace.serving.engine import Server, counted, simulate

FINE = Fraction(1, 200)
BEFORE_S, AFTER_S, PLANTED_S = 20.0, 8.0, 90.0
SETTINGS = ["window_s", "lag_s", "update_s", "tokens", "batch"]
REGIMES = ("idle", "edge", "decode", "prefill")
FULL_SHARE, LITTLE_PREFILL = 0.98, 0.05
LEAST, OUTLIER_SD = 20, 4.0


class Case(NamedTuple):
    """A split's model of kind timeline, on the board of the first run that judges it."""

    model: TimelineModel
    board: TimelineModel
    run: Run
    part: judging.Part
    served: Timeline
    begin_s: float  # of the judged seconds

    @property
    def readings(self) -> pd.Series:
        """What was recorded, watts, by the seconds since the judged ones began."""
        samples = self.run.samples
        return pd.Series(samples["power_w"].to_numpy(), samples["time_s"] - self.begin_s)


def opened(name: str) -> Case:
    """Open a split's model and the first part that judges it."""
    model, part = judging.timeline_model(name), judging.split(name).judge[0]
    run = judging.open_run(part.run)
    begin_s = float(run.requests["arrival_s"].iloc[0]) + (part.start_s or 0.0)
    board = model.on_board(run.idle_before_load_w() or model.idle.mean_w)
    return Case(model, board, run, part, simulate(run.requests, model.server), begin_s)


def counters(run: Run, server: Server) -> pd.DataFrame:
    """Put the simulated engine beside the counters of a recording, by its seconds."""
    seen = observe(run)
    table = seen.engine.rename(columns={"generation_tokens": "tokens"})
    table = table.set_index("time_s")[["running", "tokens"]]
    running, tokens = printed(simulate(seen.requests, server), table.index.to_numpy())
    return table.assign(running_simulated=running, tokens_simulated=tokens)


def profile(tried: list[dict], names: list[str]) -> pd.DataFrame:
    """Loss of a fit above the least by some of its settings, all others held."""
    table = pd.DataFrame(tried).sort_values("loss").drop_duplicates(SETTINGS)
    held = [name for name in SETTINGS if name not in names]
    sets = [rows for _, rows in table.groupby(held)]
    best = min(sets, key=lambda rows: (-len(rows), rows["loss"].min()))
    best = best.assign(above=best["loss"] - best["loss"].min())
    return best.sort_values(names)[[*names, "above"]].reset_index(drop=True)


def described(meter: Meter) -> dict[str, float]:
    """Numbers of a meter, and the mean age of the middle of what its readings saw."""
    row = {"window_s": meter.window_s, "lag_s": meter.lag_s, "renewal_s": meter.update_s}
    return row | {"middle_age_s": meter.lag_s + 0.5 * (meter.update_s + meter.window_s)}


def planted(model: TimelineModel, run: Run, meters: list[Meter], seed: int) -> pd.DataFrame:
    """Print a server's power through meters that are known, and look for them."""
    first_s = float(run.requests["arrival_s"].iloc[0])
    requests = run.requests[run.requests["arrival_s"] < first_s + PLANTED_S]
    timeline, start_s = simulate(requests, model.server), first_s - BEFORE_S
    span_s = float(timeline.requests["end_s"].max()) + AFTER_S - start_s
    ends_s = start_s + np.arange(1, int(span_s / FINE) + 1) * float(FINE)
    power = PowerTrace(start_s, FINE, model.surface.mean_power_w(timeline, ends_s, float(FINE)))
    rng, rows = np.random.default_rng(seed), []
    for number, meter in enumerate(meters, start=1):
        samples = replace(meter, noise_w=model.residual.decode_w).read(power, rng)
        recorded = replace(run, requests=requests, samples=samples, dt=model.dt, published=None)
        seen = observe_power(recorded, model.server, model.surface.idle_w)
        found, _ = fit_reading([seen], model.configuration.tensor_parallel)
        for name, each in (("planted", meter), ("found", found.meter)):
            rows.append({"meter": f"{number}, {name}"} | described(each))
    return pd.DataFrame(rows)


def parts_off(model: TimelineModel, requests: pd.DataFrame, other: Meter) -> dict:
    """Switch one part of a model off, each in turn: methods that `sitebook.judging.judge` takes.

    The one power for all batches is that of the mean batch which the requests make.
    """
    law, idle = model.surface, model.idle
    work = simulate(requests, model.server).segments
    batch = np.average(work["batch"], weights=work["end_s"] - work["start_s"])
    level_w = law.decode_w + law.per_sequence_w * float(counted(batch, law.batch_scale))
    quiet = {"residual": PowerNoise(0.0, 0.0, 0.0)}
    changed = {
        "full model": {},
        "no warming": {"surface": replace(law, warm_w=0.0, warm_idle_w=0.0)},
        # a prompt of no length: its steps draw what decoding draws
        "no prefill": {"surface": replace(law, scale_tokens=np.inf)},
        "one power for all batches": {
            "surface": replace(law, decode_w=level_w, per_sequence_w=0.0)
        },
        "no power after work": {"idle": replace(idle, active_w=0.0)},
        "no noise": quiet | {"idle": replace(idle, deviation_w=np.zeros(1))},
        "the other meter": {"meter": other},
    }
    methods = {name: replace(model, **change) for name, change in changed.items()}

    def mean_power(_fitting, run, draws, rng):
        drawn = as_metered(model, run, draws, rng, "power")
        return drawn[0], drawn

    return methods | {"mean power, no readings": mean_power}


def left_over(case: Case, trace: PowerTrace | None = None) -> pd.DataFrame:
    """Subtract the expected reading from the recorded readings, or from those of a drawn trace."""
    model, meter, work = case.board, case.model.meter, case.served.segments
    time_s, power_w = (case.run.samples[name].to_numpy() for name in ("time_s", "power_w"))
    phase_s = 0.0
    if trace is not None:
        time_s, power_w = trace.time_s + trace.dt_s, trace.power_w
        # the phase of the clock of drawn readings is as unknown as their age
        phase_s = trace.dt_s if meter.window_s < trace.dt_s else 0.0
    ages = ages_s(meter, phase_s)
    seen = np.array([seen_w(case.served, model, time_s - age) for age in ages])
    expected_w, busy = seen[:, 0].mean(axis=0), seen[:, 1]
    length_s = np.where(work["prefill_tokens"] > 0, work["end_s"] - work["start_s"], 0.0)
    prefill_s = [amount_in_bins(work, length_s, time_s - age, meter.window_s) for age in ages]
    kinds = [
        np.mean(prefill_s, axis=0) > LITTLE_PREFILL * meter.window_s,
        busy.max(axis=0) == 0,
        busy.min(axis=0) > FULL_SHARE,
    ]
    regime = np.select(kinds, ["prefill", "idle", "decode"], "edge")
    left = pd.DataFrame({"left_w": power_w - expected_w, "regime": regime})
    return left[time_s > case.begin_s]


def by_regime(left: pd.DataFrame) -> pd.DataFrame:
    """Mean, spread and memory of what is left over in each regime that has readings enough."""
    from scipy.stats import median_abs_deviation

    left_w, rows = left["left_w"].to_numpy(), []
    for name in REGIMES:
        inside = (left["regime"] == name).to_numpy()
        if inside.sum() < LEAST:
            continue
        own_w = left_w[inside]
        middle_sd_w = float(median_abs_deviation(own_w, scale="normal"))
        # an idle meter may print one value alone
        reach_w = OUTLIER_SD * max(middle_sd_w, LEAST_SD_W)
        near = inside & (np.abs(left_w - np.median(own_w)) <= reach_w)
        row = {"regime": name, "readings": int(inside.sum()), "mean_w": own_w.mean()}
        row |= {"sd_w": own_w.std(), "sd_of_the_middle_w": middle_sd_w}
        row |= {"outliers": 1.0 - near.sum() / inside.sum()}
        pairs = near[1:] & near[:-1]
        if pairs.sum() >= LEAST:
            row["autocorrelation"] = np.corrcoef(left_w[:-1][pairs], left_w[1:][pairs])[0, 1]
        rows.append(row)
    return pd.DataFrame(rows)


def averaged(left: pd.DataFrame, counts: list[int], step_s: float) -> pd.Series:
    """Root mean square of what is left over at work, averaged in blocks of so many readings."""
    left_w, rms_w = left.loc[left["regime"] != "idle", "left_w"].to_numpy(), {}
    for count in counts:
        means_w = left_w[: left_w.size // count * count].reshape(-1, count).mean(axis=1)
        rms_w[count * step_s] = np.sqrt((means_w**2).mean())
    return pd.Series(rms_w)
