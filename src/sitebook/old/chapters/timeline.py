"""The chapter on the kind timeline: steps, meter, surface, and what each part of them buys."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from sitebook.old.judging import powertrace_v1
from sitebook.old.judging.comparison import TESTBED, open_run, timeline_model
from sitebook.old.judging.parts_off import FULL, SCORED, SHOWN, in_turn, mean_batch, without
from sitebook.old.judging.reported import reported
from sitebook.old.judging.splits import Part
from sitebook.old.judging.splits import split as split_named
from sitebook.old.ledger.records import record
from sitebook.old.looks.counters import counter_errors, counters
from sitebook.old.looks.left_over import busy_memory, by_regime, left_over
from sitebook.old.looks.meter_study import middle_age_s
from sitetrace.core.registry import read_paper_table, shipped_model
from sitetrace.core.types import PowerTrace, Run, Timeline
from sitetrace.evaluate.judge import evaluate
from sitetrace.meter import Meter
from sitetrace.power.fitting import as_metered
from sitetrace.power.modelfile import load_model
from sitetrace.power.timeline.model import TimelineModel
from sitetrace.power.timeline.surface import WARM_S
from sitetrace.serving.engine import simulate

DAY_S = 86400.0
WARM_LIMIT_W = 15.0
LAGS_S = 5.0
AFTER_S = (10.0, 60.0, 600.0, 3600.0, DAY_S)
GLIMPSE, SECOND = "qwen3-8b_a100_from_r4_timeline", "llama-3.1-70b_h100_cut_timeline"


class Case(NamedTuple):
    """A split's model and the recording that it is judged on."""

    split: str
    model: TimelineModel
    board: TimelineModel
    fitting: Run
    run: Run
    part: Part
    timeline: Timeline

    @property
    def begin_s(self) -> float:
        """Begin of the judged seconds, on the recording's clock."""
        return float(self.run.requests["arrival_s"].iloc[0]) + (self.part.start_s or 0.0)

    @property
    def gpus(self) -> int:
        """GPUs of the server."""
        return self.model.configuration.tensor_parallel


def opened(split: str, judged: str = "") -> Case:
    """Open a split's shipped timeline model and a recording that it is judged on."""
    parts = split_named(split)
    part = next(each for each in parts.judge if judged in ("", each.run))
    model, run = timeline_model(split), open_run(part.run)
    idle_w = run.idle_before_load_w()
    board = model if idle_w is None else model.on_board(idle_w)
    fitting = open_run(parts.fit[0].run)
    return Case(split, model, board, fitting, run, part, simulate(run.requests, model.server))


def other_meter(model: TimelineModel) -> Meter:
    """Meter of the other kind, of a glimpse or of a second, from the measured models."""
    glimpses = model.meter.window_s < model.meter.dt_s
    return load_model(shipped_model(SECOND if glimpses else GLIMPSE)).meter


def warming(case: Case) -> pd.DataFrame:
    """Tell what work without a pause adds to the power of decoding, and to idle after it."""
    start_s = np.arange(0.0, DAY_S)
    batch = np.full(start_s.size, round(mean_batch(case.timeline)), dtype=float)
    surface = case.model.surface
    work = pd.DataFrame({"start_s": start_s, "end_s": start_s + 1.0, "batch": batch})
    power_w = surface.idle_w + surface.above_idle_w(work)
    cold_w = surface.step_power_w(batch[:1], np.zeros(1))[0]
    rows = [
        {
            "after [s]": after,
            "added [W a GPU]": (power_w[int(after) - 1] - cold_w) / case.gpus,
            "added to idle [W a GPU]": -surface.warm_idle_w * np.expm1(-after / WARM_S) / case.gpus,
        }
        for after in AFTER_S
    ]
    return pd.DataFrame(rows).assign(split=case.split)


def minute(case: Case, trace: PowerTrace, seconds: tuple[float, float]) -> pd.DataFrame:
    """Put measured readings of some seconds beside a draw of them."""
    samples = case.run.samples
    time_s = samples["time_s"].to_numpy() - case.begin_s
    kept = (time_s >= seconds[0]) & (time_s < seconds[1])
    middle_s = samples["time_s"].to_numpy()[kept] - trace.dt_s / 2
    place = ((middle_s - trace.start_s) / trace.dt_s).astype(int)
    columns = {"measured": samples["power_w"].to_numpy()[kept], "generated": trace.power_w[place]}
    return pd.DataFrame({"time_s": time_s[kept]} | columns)


def parts(case: Case, draws: int, seed: int) -> dict[str, list[PowerTrace]]:
    """Draw from a model and from the same with each part switched off."""
    batch = mean_batch(simulate(case.fitting.requests, case.model.server))
    models = without(case.model, batch, other_meter(case.model))
    return in_turn(models, case.run, draws, seed)


def remainder(
    case: Case, trace: PowerTrace, source: str
) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """Subtract the expected reading from the recording's readings and from drawn ones."""
    samples, meter = case.run.samples, case.model.meter
    readings = {
        source: (samples["time_s"].to_numpy(), samples["power_w"].to_numpy(), 0.0),
        "generated": (
            trace.time_s + trace.dt_s,
            trace.power_w,
            meter.dt_s if meter.window_s < meter.dt_s else 0.0,
        ),
    }
    tables, memory = [], {}
    for power, told in readings.items():
        left = left_over(case.board, case.timeline, *told)
        if case.part.start_s is not None:
            left = left[left["time_s"] > case.begin_s]
        tables.append(by_regime(left).assign(split=case.split, power=power))
        memory[power] = busy_memory(left, round(LAGS_S / trace.dt_s))
    return pd.concat(tables, ignore_index=True), memory


def beside(cases: list[Case], draws: int, seed: int) -> pd.DataFrame:
    """Our scores beside those of the paper's models and of its authors' later one."""
    rows = []
    for case in cases:
        for part in split_named(case.split).judge:
            run = open_run(part.run)
            traces = as_metered(case.model, run, draws, np.random.default_rng(seed))
            rows.append(_row("timeline", run, part, traces))
            if "arch" in run.info:
                idle_w = run.idle_before_load_w()
                later = powertrace_v1.predict(run, idle_w=idle_w)
                rows.append(_row("later model, rebuilt", run, part, [later]))
    return pd.concat([pd.DataFrame(rows), reported()], ignore_index=True)


def _row(name: str, run: Run, part: Part, traces: list[PowerTrace]) -> dict:
    result = evaluate(run, traces, start_s=part.start_s, stop_s=part.stop_s)
    row = {"model": name, "judged": part.run.removeprefix(TESTBED)}
    row |= {"energy error [%]": result["native"]["whole"]["energy_error_pct"]}
    row |= {"KS of halves": result["noise_floor"]["native"]["whole"]["ks_halves"]}
    return row | {
        f"{title}, {step}": result[clock]["whole"][key]
        for clock, step in (("native", "0.25 s"), ("1s", "1 s"))
        for title, key in (("KS", "ks"), ("NRMSE", "nrmse"), ("ACF R²", "acf_r2"))
    }


def found(
    cases: list[Case],
    lines: dict[str, pd.DataFrame],
    scored: pd.DataFrame,
    compared: pd.DataFrame,
    dataset: str,
) -> list[dict]:
    """Record engine, meter, warming, what each part buys, and what is left over."""
    rows = []
    for case in cases:
        rows += _engine_and_meter(case, dataset)
    of = {"data": dataset, "dataset": cases[0].split}
    for number, (true, seen) in enumerate(_pairs(lines["planted"]), start=1):
        name = f"planted meter {number} of {true['window [s]']:g} s: "
        rows.append(record(name + "window found", seen["window [s]"], "s", **of))
        off_s = seen["middle age [s]"] - true["middle age [s]"]
        rows.append(record(name + "error of the middle age", off_s, "s", **of))
    for row in lines["warming"].to_dict("records"):
        if row["after [s]"] == DAY_S:
            name, of = "added by a day of work", {"data": dataset, "dataset": row["split"]}
            rows.append(record(name, row["added [W a GPU]"], "W a GPU", **of))
    for row in scored.to_dict("records"):
        of = {"data": dataset, "dataset": row["judged"]}
        # of a model with a part switched off, what the figure shows
        for title in SCORED if row["part"] == FULL else SHOWN:
            span, unit = (row[f"{title}_low"], row[f"{title}_high"]), "%" * title.endswith("[%]")
            name = f"{title.removesuffix(' [%]')}, {row['part']}"
            rows.append(record(name, row[title], unit, interval=span, **of))
    for row in lines["left"].dropna().to_dict("records"):
        of = {"data": dataset, "dataset": row["split"]}
        name = f"left over of {row['power']} power, {row['regime']}"
        rows.append(record(f"{name}: standard deviation", row["sd [W]"], "W", **of))
        rows.append(record(f"{name}: autocorrelation of 0.25 s", row["autocorrelation"], "", **of))
    ours = compared[compared["model"] == "timeline"]
    for row in ours.to_dict("records"):
        of = {"data": dataset, "dataset": row["judged"]}
        rows.append(record("NRMSE, 0.25 s, timeline", row["NRMSE, 0.25 s"], "", **of))
    return rows


def _engine_and_meter(case: Case, dataset: str) -> list[dict]:
    """Record the engine's errors and the meter found."""
    off, meter = counter_errors(counters(case.run, case.model.server)), case.model.meter
    at = {"data": dataset, "dataset": case.part.run}
    of = {"data": dataset, "dataset": case.split}
    return [
        record("running requests, mean absolute error", off["requests"], "requests", **at),
        record("generated tokens, mean absolute lead", off["token_lead_s"], "s", **at),
        record("meter: window", meter.window_s, "s", **of),
        record("meter: lag", meter.lag_s, "s", **of),
        record("meter: renewal", meter.update_s, "s", **of),
        record("meter: middle age", middle_age_s(meter), "s", **of),
    ]


def _pairs(planted: pd.DataFrame) -> list[tuple[dict, dict]]:
    rows = planted.to_dict("records")
    return list(zip(rows[::2], rows[1::2], strict=True))


def conclusion(scored: pd.DataFrame, warm: pd.DataFrame, compared: pd.DataFrame) -> str:
    """Say whether seconds and distribution are both kept, and what they cost."""
    full = scored[scored["part"] == FULL]
    ours = compared.loc[compared["model"] == "timeline", "NRMSE, 0.25 s"]
    paper = read_paper_table("fidelity_by_configuration")["nrmse_median"]
    day_w = warm.loc[warm["after [s]"] == DAY_S, "added [W a GPU]"].max()
    bound = "below" if day_w < WARM_LIMIT_W else "not below"
    return (
        f"recordings shown: correlation of busy seconds {full['correlation, 1 s, busy'].min():.1f} "
        f"or more, KS {full['KS'].max():.1f} or less\n"
        f"NRMSE at 0.25 s, median of {ours.size} recordings: {ours.median():.2f}\n"
        f"the same of the paper's {paper.size} configurations: {paper.median():.2f}\n"
        f"a day of work adds {day_w:.0f} W a GPU, {bound} {WARM_LIMIT_W:.0f} W"
    )
