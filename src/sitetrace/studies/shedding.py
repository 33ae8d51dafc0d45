"""Trials of a row's levers on streams drawn for them: watts against waiting, speed, tracking.

A lever's curve at rest is measured on streams on which nothing is judged.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product

import numpy as np
import pandas as pd

from sitetrace.control.row import Outcome
from sitetrace.core.registry import device
from sitetrace.studies.setpoint import (
    LATENCY_S,
    MEANS_S,
    STEP_SETTLED_S,
    Curve,
    Lever,
    Row,
    Stream,
    called,
    compared,
    gain_of,
    held,
    interval,
    levers,
    means_of,
    plan_of,
    reached_s,
    run,
    step,
    tracking_pct,
)

CALIBRATING, JUDGED = 0, 1  # streams that levers are scaled on, and others that they are judged on
CURVE_PLACES = (0.1, 0.25, 0.4, 0.55, 0.7, 0.85, 1.0)
WARM_S, CALM_S, SPANS_S = 30.0, 60.0, (2, 5, 40)
FEW_PCT = 1.0  # of power: what sheds less is no step, what is above by no more is delivered
PERIODS_S, WAVES = (30.0, 300.0), 8  # of a signal like that of regulation
POLICIES, NO_CONTROL = ("followed", "fixed"), ("no control", "", "")


@dataclass(frozen=True)
class Trial:
    """A row, streams, and what it does over each of them without control."""

    row: Row
    streams: list[Stream]
    usual: list[Outcome]

    @cached_property
    def base_w(self) -> float:
        """Mean power of the row, watts."""
        return float(np.mean([each.power_w[int(WARM_S / each.tick_s) :] for each in self.usual]))

    @cached_property
    def high_w(self) -> float:
        """What means of some seconds exceed in a twentieth of the time, watts."""
        warm, block = int(WARM_S / self.row.tick_s), int(MEANS_S / self.row.tick_s)
        return float(np.quantile([means_of(r.power_w[warm:], block) for r in self.usual], 0.95))

    def described(self) -> dict[str, float]:
        """Power of the row, its greatest rises, its batches and its latency."""
        runs, gpus = self.usual, self.row.model.configuration
        design_w = self.row.servers * gpus.tensor_parallel * device(gpus.hardware)["tdp_w"]
        told = {"requests_per_s_a_server": self.row.rate_per_server, "mean_kw": self.base_w / 1e3}
        told["of_design_pct"] = 100 * self.base_w / design_w
        calm_w = [r.power_w[int(CALM_S / r.tick_s) :] for r in runs]
        for span_s in SPANS_S:
            n = int(span_s / self.row.tick_s)
            rises = [(each[n:] - each[:-n]).max() / each.mean() for each in calm_w]
            told[f"rise_within_{span_s}_s_pct"] = 100 * max(rises)
        told["in_service_a_server"] = np.mean([(r.running + r.queued).mean() for r in runs])
        told["greatest_batch"] = max(r.running.max() for r in runs)
        told["batch_fitted_up_to"] = self.row.model.fitted["active"]
        told["ttft_p50_s"] = np.mean([np.median(r.ttft_s) for r in runs])
        return told | {"tpot_ms": 1e3 * np.mean([np.nanmean(r.tpot_s) for r in runs])}


def trial(row: Row, seconds: float, count: int, seed: int, use: int = JUDGED) -> Trial:
    """Draw streams and run a row over them without control."""
    streams = [row.stream(seconds, np.random.default_rng([seed, use, n])) for n in range(count)]
    return Trial(row, streams, [run(row, each) for each in streams])


def calibrated(row: Row, seed: int, places: Sequence[float] = CURVE_PLACES) -> list[Lever]:
    """Make the levers of a row with their curves at rest, on streams that judge nothing."""
    calm = trial(row, 6 * CALM_S, 2, seed, CALIBRATING)
    made = levers(row, calm.usual[0], LATENCY_S)
    return [replace(lever, curve=at_rest(calm, lever, places)) for lever in made]


def at_rest(calm: Trial, lever: Lever, places: Sequence[float]) -> Curve:
    """Measure the curve of a lever at rest, as the controller knows it."""

    def mean_w(runs: list[Outcome]) -> float:
        return np.mean([each.power_w[int(CALM_S / each.tick_s) :].mean() for each in runs])

    shed_w = [
        mean_w(calm.usual) - mean_w([held(calm.row, each, lever, place) for each in calm.streams])
        for place in places
    ]
    # where a place sheds less than one before it, the earlier counts
    rising = np.maximum.accumulate([0.0, *shed_w])
    kept = np.concatenate([[True], np.diff(rising) > 0])
    return rising[kept], np.array([0.0, *places])[kept]


def at_places(judged: Trial, made: list[Lever], places: Sequence[float]) -> pd.DataFrame:
    """Hold levers at places: what each sheds and what requests pay, a row a stream."""
    rows = []
    for lever, place in product(made, places):
        known = {"lever": lever.name, "rule": lever.label, "place": place}
        for stream, usual in zip(judged.streams, judged.usual, strict=True):
            arm, seconds = held(judged.row, stream, lever, place), stream.seconds
            rows.append(known | compared(arm, usual, seconds / 4, 7 * seconds / 8))
    return pd.DataFrame(rows)


def cost_at(table: pd.DataFrame, cost: str, shed_pct: np.ndarray) -> dict[str, pd.DataFrame]:
    """Read off what shedding so much costs with each lever; NaN where it is out of reach."""
    # medians over streams, on straight lines between the places
    found = {}
    medians = table.groupby(["lever", "rule", "place"], sort=False)[["shed_pct", cost]].median()
    for key, line in medians.groupby(["lever", "rule"], sort=False):
        rising = np.maximum.accumulate([0.0, *line["shed_pct"]])
        read = np.interp(shed_pct, rising, [1.0, *line[cost]], right=np.nan)
        found[key] = pd.Series(read, index=shed_pct)
    return _bands(found)


def _bands(lines: dict[tuple[str, str], pd.Series]) -> dict[str, pd.DataFrame]:
    """Put lines by lever and rule together: median of the rules, and both ends."""
    # NaN where one rule has it: the others alone would make a step
    by = pd.DataFrame(lines).T.groupby(level=0, sort=False)
    bands = {k: (np.quantile(part, (0.5, 0.0, 1.0), axis=0).T, part.columns) for k, part in by}
    return {k: pd.DataFrame(*band, ["value", "low", "high"]) for k, band in bands.items()}


def followed(
    judged: Trial, made: list[Lever], setpoint_w: np.ndarray, policies: tuple[str, ...] = POLICIES
) -> dict[tuple[str, str, str], list[Outcome]]:
    """Follow a set-point with each lever over all streams: runs by lever, rule and policy."""
    # "fixed" holds the one place that should keep high usual power below the set-point too
    runs = {NO_CONTROL: judged.usual}
    for lever, policy in product(made, policies):
        usual_w, gain = judged.base_w, gain_of(judged.row, lever)
        if policy == "fixed":
            usual_w, gain = judged.high_w, 0.0
        plan = plan_of(setpoint_w, usual_w, lever)
        arms = [run(judged.row, stream, lever, plan, gain) for stream in judged.streams]
        runs[lever.name, lever.label, policy] = arms
    return runs


def signals(time_s: np.ndarray, period_s: float, rng: np.random.Generator) -> dict:
    """Make two signals between -1 and 1 for a row to follow."""
    periods = np.geomspace(*PERIODS_S, WAVES)[:, None]
    phases = rng.uniform(0, 2 * np.pi, (WAVES, 1))
    fast = np.sin(2 * np.pi * time_s / periods + phases).sum(axis=0)
    slow = np.sin(2 * np.pi * time_s / period_s)
    return {"slow sinusoid": slow, "regulation-like": fast / np.abs(fast).max()}


def stepped(
    judged: Trial, made: list[Lever], share: float, at_s: float
) -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
    """Command a shed once with each lever: how much and how fast, and percent shed by second."""
    table, courses = {}, {}
    for lever in made:
        key, place = (lever.name, lever.label), np.interp(share * judged.base_w, *lever.curve)
        after_s, shed_w = step(judged.row, judged.streams, lever, float(place), at_s)
        settled = (after_s > STEP_SETTLED_S[0]) & (after_s <= STEP_SETTLED_S[1])
        table[key] = {"shed_pct": 100 * shed_w[:, settled].mean() / judged.base_w}
        if table[key]["shed_pct"] >= FEW_PCT:
            value = reached_s(after_s, shed_w)
            ends = interval(shed_w, lambda rows, after_s=after_s: reached_s(after_s, rows))
            low, high = min(ends[0], value), max(ends[1], value)
            table[key] |= {"reached_s": value, "low_s": low, "high_s": high}
        courses[key] = pd.Series(100 * shed_w.mean(axis=0) / judged.base_w, index=after_s)
    table = pd.DataFrame.from_dict(table, "index").rename_axis(["lever", "rule"])
    return table, _bands(courses)


def scored(runs: dict[tuple[str, str, str], list[Outcome]], setpoint_w: np.ndarray) -> pd.DataFrame:
    """Judge the runs of `followed`, a row a stream: as `called`, and the error of a signal."""
    tables, moves = {}, np.nanmax(setpoint_w) > np.nanmin(setpoint_w)
    for key, arms in runs.items():
        pairs = zip(arms, runs[NO_CONTROL], strict=True)
        table = pd.DataFrame([called(arm, usual, setpoint_w) for arm, usual in pairs])
        errors = [tracking_pct(arm, setpoint_w) if moves else np.nan for arm in arms]
        tables[key] = table.assign(error_pct=errors)
    return pd.concat(tables, names=["lever", "rule", "policy"]).reset_index([0, 1, 2])


def verdicts(table: pd.DataFrame) -> pd.DataFrame:
    """Say which lever delivers which share, and for which the first token comes in time."""
    by = ["lever", "asked_pct"]
    rules = table.groupby([*by, "rule"], sort=False)
    down = (rules["mean_over_pct"].median() <= FEW_PCT).groupby(by, sort=False)
    lasts = (rules["lasted"].mean() > 0.5).groupby(by, sort=False)
    found = pd.DataFrame({"delivers": down.mean(), "keeps_first_token": lasts.mean()})
    # a share of the rules; that of a lever without a rule is 0 or 1
    words = {0.0: "no", 1.0: "yes"}
    return found.map(lambda share: words.get(share, "depends on the clock rule"))


def over_rules(table: pd.DataFrame, by: list[str], column: str) -> pd.DataFrame:
    """Mean over streams and rules, and the outermost ends of the rules' intervals."""
    rules = table.groupby([*by, "rule"], sort=False)[column].apply(np.asarray)
    told = [(each.mean(), *interval(each)) for each in rules]
    found = pd.DataFrame(told, rules.index, ["value", "low", "high"])
    return found.groupby(by, sort=False).agg({"value": "mean", "low": "min", "high": "max"})


def course_kw(power_w: np.ndarray, tick_s: float) -> pd.Series:
    """Means of some seconds of power, by the minute at which they end."""
    means_w = means_of(power_w, int(MEANS_S / tick_s))
    return pd.Series(means_w / 1e3, index=MEANS_S / 60 * np.arange(1, means_w.size + 1))
