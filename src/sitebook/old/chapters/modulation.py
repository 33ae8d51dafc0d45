"""What the page on power modulation computes: watts against waiting, speed, duration, tracking."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from sitetrace import load_model, shipped_model
from sitetrace.core.registry import device
from sitetrace.studies import setpoint
from sitetrace.studies.setpoint import Lever, Outcome, Row, Stream

CALIBRATING, JUDGED = 0, 1
CURVE_PLACES = np.array([0.1, 0.25, 0.4, 0.55, 0.7, 0.85, 1.0])
SPANS_S = (2, 5, 40)
FEW = 1.0


def open_row(name: str, servers: int, rate_per_server: float) -> Row:
    """Make a row of equal servers from a shipped model."""
    return Row(load_model(shipped_model(name)), servers, rate_per_server)


def streams_of(row: Row, seconds: float, count: int, seed: int, use: int = JUDGED) -> list[Stream]:
    """Draw streams, those to calibrate on apart from those to be judged on."""
    return [row.stream(seconds, np.random.default_rng([seed, use, i])) for i in range(count)]


def levers_of(row: Row, seed: int, clock_latency_s: float) -> list[Lever]:
    """Make the levers of a row, scaled on calibrating streams."""
    stream = streams_of(row, 600.0, 1, seed, CALIBRATING)[0]
    return setpoint.levers(row, setpoint.run(row, stream), clock_latency_s)


def usual(rows: list[Row], seconds: float, count: int, seed: int) -> pd.DataFrame:
    """Describe rows without control: power, its greatest rises, and latency."""
    table = []
    for row in rows:
        runs = [setpoint.run(row, stream) for stream in streams_of(row, seconds, count, seed)]
        used = row.model.configuration
        gpus_w = row.servers * used.tensor_parallel * device(used.hardware)["tdp_w"]
        power_w = np.mean([each.power_w.mean() for each in runs])
        told = {"requests_per_s_a_server": row.rate_per_server, "mean_kw": power_w / 1e3}
        told["of_design_pct"] = 100 * power_w / gpus_w
        rises = [setpoint.greatest_rise_pct(r.power_w[60:], row.tick_s, SPANS_S) for r in runs]
        for span in SPANS_S:
            told[f"rise_{span}_s_pct"] = max(rise[span] for rise in rises)
        told["in_service_a_server"] = np.mean([(r.running + r.queued).mean() for r in runs])
        told["greatest_batch"] = max(r.running.max() for r in runs)
        told["fitted_up_to"] = row.model.fitted["active"]
        told["ttft_p50_s"] = np.mean([np.median(r.ttft_s) for r in runs])
        told["tpot_ms"] = 1e3 * np.mean([np.nanmean(r.tpot_s) for r in runs])
        table.append(told)
    return pd.DataFrame(table)


def curves(
    rows: list[Row], places: list[float], seconds: float, count: int, seed: int, warm_s: float
) -> pd.DataFrame:
    """Hold each lever at several places, for each load."""
    table = []
    for row in rows:
        streams = streams_of(row, seconds, count, seed)
        runs = [setpoint.run(row, stream) for stream in streams]
        for lever in levers_of(row, seed, 1.0):
            for place in places:
                arms = [setpoint.held(row, stream, lever, place) for stream in streams]
                pairs = zip(arms, runs, strict=True)
                found = pd.DataFrame(
                    [
                        setpoint.compared(arm, run, warm_s, seconds - warm_s / 2)
                        for arm, run in pairs
                    ]
                )
                low, high = setpoint.interval(found["shed_pct"])
                known = {"rate": row.rate_per_server, "lever": lever.name, "label": lever.label}
                known |= {"place": place, "batch": max(arm.running.max() for arm in arms)}
                known |= {"shed_low": low, "shed_high": high}
                table.append(
                    known | found.median().to_dict() | {"shed_pct": found["shed_pct"].mean()}
                )
    return pd.DataFrame(table)


def prepared(
    row: Row, seed: int, clock_latency_s: float
) -> list[tuple[Lever, tuple[np.ndarray, np.ndarray]]]:
    """Give each lever its static curve, from calibrating streams."""
    streams = streams_of(row, 360.0, 2, seed, CALIBRATING)
    made = levers_of(row, seed, clock_latency_s)
    return [(lever, setpoint.at_rest(row, streams, lever, CURVE_PLACES, 60.0)) for lever in made]


def steps(
    row: Row, levers: list, share: float, late_s: float, count: int, seed: int
) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """Command a shed once with each lever, and time it."""
    streams = streams_of(row, 240.0, count, seed)
    base_w = np.mean([setpoint.run(row, each).power_w[60:].mean() for each in streams])
    clock = next((lever, curve) for lever, curve in levers if lever.rule is not None)
    late = (replace(clock[0], latency_s=late_s), clock[1])
    table, courses = [], {}
    for lever, curve in [*levers, late]:
        place = float(np.interp(share * base_w, *curve))
        after_s, shed_w = setpoint.step(row, streams, lever, place, 90.0)
        reached_s = setpoint.reached_s(after_s, shed_w)
        low, high = setpoint.interval(shed_w, lambda rows: setpoint.reached_s(after_s, rows))
        settled = (after_s > setpoint.STEP_SETTLED_S[0]) & (after_s <= setpoint.STEP_SETTLED_S[1])
        shed_pct = 100 * shed_w[:, settled].mean() / base_w
        if shed_pct < FEW:
            reached_s = low = high = np.nan
        told = {"lever": lever.name, "label": lever.label, "latency_s": lever.latency_s}
        told |= {"shed_pct": shed_pct, "reached_s": reached_s}
        told |= {"low_s": np.fmin(low, reached_s), "high_s": np.fmax(high, reached_s)}
        table.append(told | {"known_s": reached_s + row.telemetry.window_s + row.telemetry.delay_s})
        courses[f"{lever.label}, {lever.latency_s:g} s"] = 100 * shed_w.mean(axis=0) / base_w
    return pd.DataFrame(table), courses


def calls(
    row: Row, levers: list, shares: list[float], times_s: tuple[float, float, float],
    count: int, seed: int,
) -> tuple[pd.DataFrame, dict]:  # fmt: skip
    """Ask the row for less power for a while, with each lever and by two policies."""
    streams = streams_of(row, sum(times_s), count, seed)
    runs = [setpoint.run(row, stream) for stream in streams]
    base_w = np.mean([each.power_w[30:].mean() for each in runs])
    high_w = np.quantile([_means_of_5(each) for each in runs], 0.95)
    begin, end = (int(t / row.tick_s) for t in (times_s[0], times_s[0] + times_s[1]))
    table, courses = [], {}
    for lever, curve in levers:
        for share in shares:
            setpoint_w = np.full(len(runs[0].power_w), np.nan)
            setpoint_w[begin:end] = (1 - share) * base_w
            told = {"lever": lever.name, "label": lever.label, "rule": lever.rule}
            arms = {
                "followed": (
                    setpoint.plan_of(setpoint_w, base_w, curve),
                    setpoint.gain_of(row, lever),
                ),
                "fixed": (setpoint.plan_of(setpoint_w, high_w, curve), 0.0),
            }
            for name, (plan, gain) in arms.items():
                for stream, run in zip(streams, runs, strict=True):
                    arm = setpoint.run(row, stream, lever, plan, curve, gain)
                    known = told | {"asked_pct": 100 * share, "arm": name}
                    known["asked_kwh"] = share * base_w * times_s[1] / 3.6e6
                    known["queue"] = (arm.held + arm.queued.sum(axis=1))[begin:end].max()
                    known["batch"] = arm.running.max()
                    table.append(known | setpoint.called(arm, run, setpoint_w))
                    if stream is streams[0]:
                        key = (lever.label, share)
                        courses.setdefault(key, {"usual": run, "setpoint_w": setpoint_w})
                        courses[key][name] = arm
    return pd.DataFrame(table), courses


def _means_of_5(run: Outcome) -> np.ndarray:
    """Means of 5 s of a run's power, its first half minute left out."""
    block = int(setpoint.MEANS_S / run.tick_s)
    power_w = run.power_w[6 * block :]
    return power_w[: power_w.size // block * block].reshape(-1, block).mean(axis=1)


def binding_pct(courses: dict) -> pd.DataFrame:
    """How often usual power is above the set-point: a limit that never binds tests nothing."""
    found = {}
    for (_, share), course in courses.items():
        asked = ~np.isnan(course["setpoint_w"])
        above = course["usual"].power_w[asked] > course["setpoint_w"][asked]
        found[100 * share] = 100 * above.mean()
    return pd.DataFrame(found.items(), columns=["asked_pct", "binds_pct"])


def cut_is_nothing(row: Row, levers: list, seconds: float, count: int, seed: int) -> bool:
    """Tell whether each controller whose commands are lost leaves the row as it was, to the bit."""
    for stream in streams_of(row, seconds, count, seed):
        free = setpoint.run(row, stream)
        half_w = np.full(len(free.power_w), 0.5 * free.power_w.mean())
        for lever, curve in levers:
            plan = setpoint.plan_of(half_w, free.power_w.mean(), curve)
            arm = setpoint.run(
                row, stream, lever, plan, curve, setpoint.gain_of(row, lever), cut=True
            )
            if not np.array_equal(arm.power_w, free.power_w):
                return False
            if not np.array_equal(arm.times_s, free.times_s, equal_nan=True):
                return False
    return True
