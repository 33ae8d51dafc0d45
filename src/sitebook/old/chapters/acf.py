"""The chapter on autocorrelation: how much memory each model keeps, and where it comes from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from sitebook.old.judging.comparison import COMPOSED, TESTBED, open_run
from sitebook.old.judging.splits import Part, Split
from sitebook.old.ledger.records import record
from sitetrace.core.registry import data_dir
from sitetrace.core.types import PowerTrace, Run, cut_run
from sitetrace.evaluate.judge import baselines, evaluate
from sitetrace.evaluate.metrics import acf, acf_lags
from sitetrace.power.fitting import as_metered
from sitetrace.power.modelfile import load_model
from sitetrace.power.states.fit import fit_parts
from sitetrace.power.states.labels import prepare
from sitetrace.power.states.model import StatesModel
from sitetrace.power.states.transitions import KINDS, Independent
from sitetrace.serving.activity import COLUMNS, activity_table
from sitetrace.serving.engine import simulate

ON_OFF = "on-off"
INDEPENDENT = "independent states"
SAME_KIND = {
    "llama-3.1-70b_h100_tp4_poisson_r4": "fidelity_by_configuration:llama-3-70b_H100_tp4:"
    "acf_r2_median"
}


def methods(model: StatesModel, parts: Split, run: Run, draws: int, seed: int) -> dict[str, list]:
    """Traces for a recording's requests by every model, from most to least knowledge."""
    part = parts.fit[0]
    fitting = cut_run(open_run(part.run), part.start_s, part.stop_s)
    frame = prepare([fitting], model.server, model.dt)
    everything = np.ones(len(frame), dtype=bool)
    kind = type(model.transitions).__name__.lower()
    models = {COMPOSED: model}
    for other in KINDS:
        if other != kind:
            fixed = (model.idle, model.mixture, other, model.emissions.kind, COLUMNS, everything)
            models[f"states, {other}"] = replace(model, transitions=fit_parts(frame, *fixed)[0])
    net = data_dir() / "models" / f"{parts.name}_bigru.json"
    if net.is_file():
        models["states, bigru"] = load_model(net)
    models[INDEPENDENT] = replace(model, transitions=Independent(model.mixture.weight))
    found = {
        name: as_metered(each, run, draws, np.random.default_rng(seed))
        for name, each in models.items()
    }
    first = found[COMPOSED][0]
    rng = np.random.default_rng(seed)
    found[ON_OFF] = [on_off(model, frame, run, first, each) for each in rng.spawn(draws)]
    simple = baselines(
        fitting, model.server, run.requests, first.start_s, model.dt, first.power_w.size
    )
    return found | {name: [simple[name]] for name in ("phase look-up", "static replay")}


def on_off(
    model: StatesModel, frame: pd.DataFrame, run: Run, clock: PowerTrace, rng: np.random.Generator
) -> PowerTrace:
    """Power that knows only whether the engine works: no states, no transitions, no memory."""
    ends_s = clock.time_s + clock.dt_s
    works = activity_table(simulate(run.requests, model.server), ends_s, clock.dt_s)["busy_share"]
    power_w, working = frame["power_w"].to_numpy(), frame["busy_share"].to_numpy() > 0
    drawn = np.where(
        works.to_numpy() > 0,
        rng.choice(power_w[working], len(works)),
        rng.choice(power_w[~working], len(works)),
    )
    return PowerTrace(clock.start_s, clock.dt, drawn)


def score(run: Run, part: Part, found: dict[str, list]) -> pd.DataFrame:
    """ACF R² of each model on the judged seconds."""
    rows = []
    cut = {"start_s": part.start_s, "stop_s": part.stop_s}
    for name, traces in found.items():
        result = evaluate(run, traces, **cut)
        each = [evaluate(run, trace, **cut)["native"]["whole"]["acf_r2"] for trace in traces]
        rows.append(_row(name, result, "acf_r2") | {"low": min(each), "high": max(each)})
    floor = {clock: result["noise_floor"][clock] for clock in ("native", "1s")}
    rows.append(_row("floor: no memory", floor, "acf_r2_white"))
    return pd.DataFrame(rows).assign(judged=part.run.removeprefix(TESTBED))


def _row(name: str, result: dict, key: str) -> dict:
    spans = {"whole": ("native", "whole"), "busy": ("native", "busy")}
    spans |= {"whole, 1 s": ("1s", "whole"), "busy, 1 s": ("1s", "busy")}
    return {"model": name} | {
        column: result[clock][span][key] for column, (clock, span) in spans.items()
    }


def acf_bands(power: pd.DataFrame, dt_s: float) -> pd.DataFrame:
    """Measured autocorrelation with its confidence band, and the range of the draws."""
    from statsmodels.tsa.stattools import acf as with_interval

    lags = min(acf_lags(dt_s), len(power) - 1)
    told = with_interval(power["measured"], nlags=lags, alpha=0.05, result_object=True)
    draws = np.array([acf(power[k].to_numpy(), lags) for k in power.columns[1:]])
    white = np.full(lags, 1.96 / np.sqrt(len(power)))
    columns = {"measured": told.acf[1:], "low": told.confint[1:, 0], "high": told.confint[1:, 1]}
    columns |= {"white": white, "draws_low": draws.min(axis=0), "draws_high": draws.max(axis=0)}
    return pd.DataFrame(columns, index=pd.Index(np.arange(1, lags + 1) * dt_s, name="lag_s"))


def found(
    table: pd.DataFrame,
    alternating: pd.DataFrame,
    effect: pd.DataFrame,
    paper: pd.DataFrame,
    dataset: str,
    run: str,
) -> list[dict]:
    """Record how much memory is kept, and how much of it is idle and busy alternating."""
    rows = []
    for row in table[table["model"] == COMPOSED].itertuples():
        own = {"claim": SAME_KIND.get(row.judged), "same_kind": row.judged in SAME_KIND}
        rows.append(
            record("ACF R², whole recording", row.whole, "", data=dataset, dataset=row.judged,
                   interval=(row.low, row.high), **own)
        )  # fmt: skip
        if pd.notna(row.busy):
            rows.append(
                record("ACF R², busy seconds", row.busy, "", data=dataset, dataset=row.judged)
            )
    over = {"data": dataset, "dataset": f"{table['judged'].nunique()} judged parts"}
    for name, part in table.groupby("model", sort=False):
        published = float(paper["acf_r2_median"].median()) if name == COMPOSED else None
        ends = (float(part["whole"].min()), float(part["whole"].max()))
        rows.append(
            record(f"median ACF R², whole recording, {name}", float(part["whole"].median()), "",
                   interval=ends, paper=published, better="higher", **over)
        )  # fmt: skip
    for row in alternating.itertuples():
        given = {"data": dataset, "dataset": row.judged}
        rows += [
            record("idle share of the judged seconds", row.idle_share, "", **given),
            record("share of the variance between idle and busy", row.between, "", **given),
            record("ACF R² of two levels, idle and busy", row.two_levels, "", **given),
            record("ACF R² with busy seconds shuffled", row.shuffled, "",
                   interval=(row.low, row.high), **given),
            record("ACF R² with idle removed", row.no_idle, "", **given),
            record("ACF R², complete recording, fitting seconds included", row.uncut, "", **given),
        ]  # fmt: skip
    for row in (effect.iloc[0], effect.iloc[-1]):
        name = f"ACF R² without memory in busy seconds, idle share {row['idle_share']:.0%}"
        ends = (row["low"], row["high"])
        rows.append(record(name, row["acf_r2"], "", data=dataset, dataset=run, interval=ends))
    return rows


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Median and range of ACF R² over the judged recordings, by model."""
    by_model = table.astype({"whole": float, "busy": float}).groupby("model", sort=False)
    parts = {
        f"{span}, {name}": getattr(by_model[span], how)()
        for span in ("whole", "busy")
        for name, how in (("median", "median"), ("least", "min"), ("greatest", "max"))
    }
    return pd.DataFrame(parts).reset_index()


def conclusion(table: pd.DataFrame, effect: pd.DataFrame) -> str:
    """Say what the scores come from."""
    median = summary(table).set_index("model")["whole, median"]
    none, some = effect.iloc[0], effect[effect["idle_share"] >= 0.1].iloc[0]
    return (
        f"median ACF R² over whole recordings: {median[COMPOSED]:.2f} with states, "
        f"{median[ON_OFF]:.2f} with on-off power alone\n"
        f"a recording without memory in its busy seconds scores {none['acf_r2']:.1f} without idle "
        f"and {some['acf_r2']:.1f} when {some['idle_share']:.0%} of it is idle"
    )
