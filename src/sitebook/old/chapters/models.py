"""The chapter on models: all of them on the same seconds, what they score and what they cost."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from sitebook.judging import open_part
from sitebook.looks import labelled
from sitebook.old.judging import powertrace_v1
from sitebook.old.judging.comparison import (
    activity_at,
    generated,
    known_of,
    open_run,
    timeline_model,
)
from sitebook.old.judging.costs import floors, generation, numbers
from sitebook.old.judging.intervals import bootstrap_interval
from sitebook.old.judging.ranking import (
    COLUMNS,
    FLOOR,
    MAIN,
    RANKED,
    losses,
    ranks,
    steady,
    winners,
)
from sitebook.old.judging.splits import Split
from sitebook.old.ledger.claims import claim
from sitebook.old.ledger.records import record
from sitetrace.core.files import InputError
from sitetrace.core.registry import shipped_model
from sitetrace.core.types import PowerTrace, Run, cut_run
from sitetrace.evaluate.judge import CLOCKS, PHASES, SPANS, evaluate, pair
from sitetrace.evaluate.metrics import (
    SCORES,
    acf_lags,
    acf_r2,
    energy_error_pct,
    ks_distance,
    nrmse,
)
from sitetrace.power.modelfile import load_model
from sitetrace.power.states.fit import FITS
from sitetrace.power.states.model import StatesModel
from sitetrace.power.states.transitions import KINDS
from sitetrace.power.timeline.model import TimelineModel
from sitetrace.serving import activity
from sitetrace.workload.streams import poisson

TIMELINE, LATER = "timeline", "powertrace_v1"
MEAN_POWER = "timeline, mean power"
HALVES, REGRESSION = FLOOR + "two halves", FLOOR + "regression"
RATE_PER_S = 2.0
# gates of the later model's authors, and the scores that they ask for
GATES = {"energy": "energy_error_pct_1s", "acf_r2": "acf_r2_1s", "nrmse": "nrmse_1s"}
# recording whose model is a row of the later model's published table
PUBLISHED = {"llama-3.1-70b_h100_tp4_poisson_r4": "Llama 70B"}


def candidates(model: StatesModel, parts: Split) -> dict[str, StatesModel]:
    """Models that differ in their transitions alone, fitted on the same seconds."""
    steps = labelled(model, open_part(parts.fit[0]))
    models = {kind: replace(model, transitions=FITS[kind](steps, activity.COLUMNS)) for kind in KINDS}
    net = load_model(shipped_model(f"{parts.name}_bigru"))
    return models | {"bigru": replace(model, transitions=net.transitions)}


def models(parts: Split) -> dict[str, StatesModel | TimelineModel]:
    """All models that are fitted on a split's fitting seconds."""
    states = load_model(shipped_model(parts.name))
    kinds = candidates(states, parts)
    return {f"states, {kind}": model for kind, model in kinds.items()} | {
        TIMELINE: timeline_model(parts.name)
    }


def chosen(name: str) -> str:
    """Name the transitions that cross-validation chose for a split."""
    kind = type(load_model(shipped_model(name)).transitions).__name__.lower()
    return f"states, {kind}"


def later(run: Run, fitted: StatesModel) -> PowerTrace:
    """Let the authors' later model predict, with the idle power that the others are given."""
    return powertrace_v1.predict(run, idle_w=run.idle_before_load_w() or fitted.idle.mean_w)


def score(
    found: dict[str, StatesModel | TimelineModel], parts: Split, draws: int, seed: int
) -> tuple[pd.DataFrame, list[str]]:
    """Score all models and baselines on the judged parts of a split."""
    rows, left_out = [], []
    states = next(iter(found.values()))
    for judged, run, traces in generated(found, parts, draws, seed):
        try:
            traces = _after(traces, TIMELINE, {LATER: [later(run, states)]})
        except InputError as error:
            left_out.append(str(error))
        known, cut = known_of(parts, judged), {"start_s": judged.start_s, "stop_s": judged.stop_s}
        for method, each in traces.items():
            for draw, trace in enumerate(each):
                result = evaluate(run, trace, **cut)
                rows.append(known | {"method": method, "draw": draw} | _flat(result))
        told = evaluate(run, each[0], **cut, activity=activity_at(states, run))["noise_floor"]
        for method, ending in ((HALVES, "_halves"), (REGRESSION, "_regression")):
            rows.append(known | {"method": method, "draw": 0} | _flat(told, ending))
    table = pd.DataFrame(rows, columns=[*known, "method", "draw", *COLUMNS])
    return table.astype(dict.fromkeys(COLUMNS, float)), left_out


def _after(traces: dict, name: str, more: dict) -> dict:
    """Put an entry behind another one."""
    place = list(traces).index(name) + 1
    items = list(traces.items())
    return dict([*items[:place], *more.items(), *items[place:]])


def _flat(result: dict, ending: str = "") -> dict:
    """Lay the scores of both clocks and spans into one row."""
    places = [(clock, span, key) for clock in CLOCKS for span in SPANS for key in SCORES[:-1]]
    values = [result[clock][span].get(key + ending) for clock, span, key in places]
    return dict(zip(COLUMNS, values, strict=True))


def gates(medians: pd.DataFrame) -> pd.DataFrame:
    """Count the parts in which a method meets what the later model's authors ask of it."""
    entered = medians[~medians["method"].str.startswith(FLOOR)]
    passed = pd.DataFrame({"method": entered["method"], "parts": 1})
    for gate, column in GATES.items():
        limit = claim(f"later_gates:{gate}:value")["value"]
        value = entered[column]
        passed[gate] = value >= limit if gate == "acf_r2" else value <= limit
    passed["all"] = passed[list(GATES)].all(axis=1)
    return passed.groupby("method", sort=False).sum().reset_index()


def published(judged: list[str], seed: int) -> pd.DataFrame:
    """Put the rebuilt later model beside what its authors printed for runs of the same model."""
    rows = []
    for name in judged:
        if name not in PUBLISHED:
            continue
        run = open_run(name)
        bins = pair("1s", run.samples, run.dt, [powertrace_v1.predict(run)])
        series, width_s, rng = (bins[1], bins[2][0]), bins[4], np.random.default_rng(seed)
        asked = {
            "nrmse_pct": lambda m, g: 100 * nrmse(m, g),
            "ks_agreement": lambda m, g: 1 - ks_distance(m, g),
            "energy_error_pct": lambda m, g: abs(energy_error_pct(m, g)),
        }
        for column, wanted in asked.items():
            low, high = bootstrap_interval(*series, width_s, wanted, rng)
            row = {"value": wanted(*series), "low": low, "high": high}
            rows.append({"run": name, "claim": _claim_of(name, column)} | row)
        kept = acf_r2(*series, acf_lags(width_s))
        rows.append({"run": name, "claim": _claim_of(name, "acf_r2"), "value": kept})
    return pd.DataFrame(rows, columns=["run", "claim", "value", "low", "high"])


def _claim_of(run: str, column: str) -> str:
    return f"later_fidelity:{PUBLISHED[run]}:{column}"


def costs(
    found: dict[str, StatesModel | TimelineModel], parts: Split, hours: float, seed: int
) -> pd.DataFrame:
    """Count fitted numbers, and time the generation in multiples of drawing normal numbers."""
    part = parts.fit[0]
    fitting = cut_run(open_run(part.run), part.start_s, part.stop_s)
    samples = len(fitting.samples)
    rng = np.random.default_rng(seed)
    requests = poisson(RATE_PER_S, 3600.0 * hours, rng)
    rows = []
    for name, model in found.items():
        ways = {TIMELINE: {"reading": "meter"}, MEAN_POWER: {}} if name == TIMELINE else {name: {}}
        for way, reading in ways.items():
            took = generation(model, requests, rng, **reading)
            rows.append({"method": way, "numbers": numbers(model)} | took)
    states = next(iter(found.values()))
    run, bins = open_run(parts.judge[0].run), int(3600.0 * hours / float(powertrace_v1.DT))
    clock = pd.DataFrame(
        {"time_s": float(powertrace_v1.DT) * np.arange(1, bins + 1), "power_w": 0.0}
    )
    whole = replace(run, requests=requests, samples=clock, engine=None, published=None)
    try:
        later(run, states)
        took = floors(lambda: later(whole, states), bins, rng)
        rows.append({"method": LATER, "numbers": 0, "both": took})
    except InputError:
        pass
    simple = {"nameplate": 0, "mean": 1, "phase look-up": len(PHASES), "static replay": samples}
    rows += [{"method": name, "numbers": count} for name, count in simple.items()]
    return pd.DataFrame(rows)


def found(medians: pd.DataFrame, rebuilt: pd.DataFrame, dataset: str) -> list[dict]:
    """Record what each model scores over all parts, and the timeline in each of them."""
    rows = []
    for method, table in medians[~medians["method"].str.startswith(FLOOR)].groupby(
        "method", sort=False
    ):
        given = {"data": dataset, "dataset": f"{len(table)} judged parts"}
        for name, (label, unit, _) in RANKED.items():
            values = table[name].dropna()
            if len(values):
                rows.append(
                    record(f"median {label}, {method}", float(values.median()), unit,
                           interval=(float(values.min()), float(values.max())), **given)
                )  # fmt: skip
    over = {"data": dataset, "dataset": f"{medians['part'].nunique()} judged parts"}
    for row in ranks(medians).itertuples():
        rows.append(record(f"mean rank over scores and parts, {row.method}", row.all, "", **over))
    for row in winners(medians, TIMELINE).itertuples():
        name = f"parts in which the timeline is best, {row.score}"
        rows.append(record(name, float(row.own_times), "parts", **over))
    for part in medians[medians["method"] == TIMELINE].to_dict("records"):
        given = {"data": dataset, "dataset": f"{part['fitted']} → {part['judged']}"}
        for name in MAIN:
            label, unit, _ = RANKED[name]
            ends = (part[f"{name}_low"], part[f"{name}_high"])
            rows.append(record(f"{label}, timeline", part[name], unit, interval=ends, **given))
    for row in gates(medians).itertuples():
        name = f"parts in which all three gates are passed, {row.method}"
        rows.append(record(name, float(row.all), "parts", **over))
    for row in rebuilt.itertuples():
        told = claim(row.claim)
        # the bootstrap of a distance lies above it: two resampled series differ by chance too
        ends = (min(row.low, row.value), max(row.high, row.value)) if pd.notna(row.low) else None
        rows.append(
            record(f"{told['what']}, {LATER} rebuilt", row.value, told["unit"], interval=ends,
                   data=dataset, dataset=row.run, claim=row.claim, same_kind=True)
        )  # fmt: skip
    return rows


def conclusion(medians: pd.DataFrame) -> str:
    """Say who wins by which score, and where the timeline loses."""
    told, ranked = winners(medians, TIMELINE).set_index("score"), ranks(medians)
    lines = []
    for name in MAIN:
        label, unit, _ = RANKED[name]
        row = told.loc[label]
        lines.append(
            f"{label}: best median {row['best']} ({row['median']:.3g}{unit}), most often best "
            f"{row['most_often']} ({row['times']} of {row['parts']} parts); timeline "
            f"{row['own']:.3g}{unit}, best in {row['own_times']}"
        )
    lines.append(
        "mean rank over scores and parts: "
        + ", ".join(f"{row.method} {row.all:.1f}" for row in ranked.head(3).itertuples())
    )
    halves = medians.loc[medians["method"] == HALVES, "ks"].median()
    lines.append(f"two halves of one recording are {halves:.3g} apart by KS, in the median")
    first = ranked["method"].iloc[0]
    moved = [f"{run} ({name})" for run, name in steady(medians).items() if name != first]
    lines.append(f"left out, these recordings change the first place: {'; '.join(moved) or 'none'}")
    lost = losses(medians, TIMELINE)
    for label, rows in lost.groupby("score", observed=True):
        worst = rows.iloc[0]
        lines.append(
            f"the timeline loses on {label} in {len(rows)} of {told.loc[label, 'parts']} parts, "
            f"worst on {worst['part']}: {worst['own']:.3g} against {worst['its_score']:.3g} "
            f"of {worst['best']}"
        )
    return "\n".join(lines)
