"""The chapter on transfer: a model judged further and further from where it was fitted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from sitebook.old.judging.comparison import open_run, timeline_model
from sitebook.old.judging.powertrace_v1 import predict
from sitebook.old.judging.splits import split
from sitebook.old.ledger.records import record
from sitebook.old.looks.mlenergy import by_batch_limit
from sitetrace.core.files import InputError
from sitetrace.core.registry import device
from sitetrace.core.types import PowerTrace, Run
from sitetrace.evaluate.judge import evaluate
from sitetrace.power.fitting import as_metered
from sitetrace.power.timeline.fit import TRIED
from sitetrace.power.timeline.model import TimelineModel
from sitetrace.serving.engine import counted
from sitetrace.studies.carry import carried, machine

CLAIMS = {
    ("qwen3-30b-a3b_h100_tp2_poisson_r2", "carried"): "qwen3_30b_h100_energy_error_raw",
    ("qwen3-8b_a100_tp1_burstgpt", "traffic"): "burstgpt_energy_error_greatest",
}
AT_1_S = {"nrmse": "NRMSE, 1 s", "acf_r2": "ACF R², 1 s", "correlation": "correlation, 1 s"}
LOW_SHARE = 0.5


def _scores(run: Run, draws: list[PowerTrace], start_s: float | None) -> dict[str, float]:
    """Scores of the transfer tables: energy and KS at the native step, the rest at 1 s."""
    result = evaluate(run, draws, start_s=start_s)
    native, second = result["native"]["whole"], result["1s"]["whole"]
    return {
        "energy_error_signed_pct": native["energy_error_signed_pct"],
        "energy_error_pct": native["energy_error_pct"],
        "ks": native["ks"],
        "nrmse": second["nrmse"],
        "acf_r2": second["acf_r2"],
        "correlation": second["correlation"],
    }


def across_traffic(splits: list[str], draws: int, seed: int) -> pd.DataFrame:
    """Judge shipped models on other rates, arrival patterns and prompts of the same server."""
    rows = []
    for name in splits:
        model = timeline_model(name)
        for part in split(name).judge:
            run = open_run(part.run)
            traces = as_metered(model, run, draws, np.random.default_rng(seed))
            told = {"split": name, "judged": part.run, "new": ", ".join(part.new)}
            rows.append(told | _scores(run, traces, part.start_s))
    return pd.DataFrame(rows)


def across_boards(splits: list[str], draws: int, seed: int) -> pd.DataFrame:
    """Judge with the fitted board's idle power and with the judged board's own."""
    rows = []
    for name in splits:
        model = timeline_model(name)
        for part in split(name).judge:
            run = open_run(part.run)
            idle_w = run.idle_before_load_w()
            if idle_w is None:
                continue
            row = {"judged": part.run, "idle_w": idle_w - model.idle.mean_w}
            for label, given in (("kept", None), ("own", idle_w)):
                found = [
                    model.generate(
                        run.requests, rng=rng, idle_w=given, reading="meter", **_margins(run)
                    )
                    for rng in np.random.default_rng(seed).spawn(draws)
                ]
                row[label] = _scores(run, found, part.start_s)["energy_error_signed_pct"]
            rows.append(row)
    return pd.DataFrame(rows)


def _margins(run: Run) -> dict[str, float]:
    """Seconds before and after the requests that cover the samples."""
    times, arrivals = run.samples["time_s"], run.requests["arrival_s"]
    before_s = float(arrivals.iloc[0] - times.iloc[0]) + 2.0
    return {"lead_s": max(before_s, 2.0), "tail_s": float(times.iloc[-1] - arrivals.iloc[-1]) + 2.0}


def across_machines(splits: list[str], draws: int, seed: int) -> pd.DataFrame:
    """Carry each split's model over to the server of each other split, by roofline terms."""
    models = {name: timeline_model(name) for name in splits}
    runs = {name: open_run(split(name).fit[0].run) for name in splits}
    machines = {name: machine(run.configuration, run.info) for name, run in runs.items()}
    rows = []
    for target, run in runs.items():
        for source, model in models.items():
            guess = model
            if source != target:
                like = _of_type(models, model, run.configuration.hardware)
                board = models[target].idle
                guess = carried(model, machines[source], machines[target], board, like)
            traces = as_metered(guess, run, draws, np.random.default_rng(seed))
            ends = (model.configuration, run.configuration)
            told = {"from": ends[0].name, "to": ends[1].name, "judged": run.name}
            rows.append(told | {"changed": _changed(*ends)} | _scores(run, traces, None))
        try:
            later = predict(run, idle_w=models[target].idle.mean_w)
        except InputError:
            continue
        told = {"from": "later model", "to": run.configuration.name, "judged": run.name}
        rows.append(told | {"changed": "later model"} | _scores(run, [later], None))
    return pd.DataFrame(rows)


def _of_type(
    models: dict[str, TimelineModel], model: TimelineModel, hardware: str
) -> TimelineModel:
    """Take a model whose meter is that of a GPU type: the model itself if it can."""
    if model.configuration.hardware == hardware:
        return model
    return next(each for each in models.values() if each.configuration.hardware == hardware)


def _changed(source: object, target: object) -> str:
    """Name what differs between two configurations."""
    names = {"model": "model", "hardware": "GPU", "tensor_parallel": "GPUs"}
    differ = [
        word for name, word in names.items() if getattr(source, name) != getattr(target, name)
    ]
    return ", ".join(differ) or "fitted"


def saturated(folder: Path | str) -> pd.DataFrame:
    """Fit power against the batch on the lower half of batch limits, and judge on the upper.

    A saturated server (ML.ENERGY benchmark) decodes as many sequences as its limit allows.
    """
    table = by_batch_limit(folder)
    return pd.concat([_saturated(part) for _, part in table.groupby("model", sort=False)])


def _saturated(part: pd.DataFrame) -> pd.DataFrame:
    """Fit a straight line and the surface's saturating form for one model."""
    batch, power_w = (part[name].to_numpy(dtype=float) for name in ("batch_limit", "mean_w"))
    seen = np.arange(batch.size) < np.ceil(LOW_SHARE * batch.size)

    def fitted(form: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        line = np.polynomial.Polynomial.fit(form(batch[seen]), power_w[seen], 1)
        return line(form(batch))

    curves = [fitted(lambda b, scale=scale: counted(b, scale)) for scale in TRIED["batch"]]
    best = np.argmin([((curve - power_w)[seen] ** 2).sum() for curve in curves])
    told = {"line_w": fitted(lambda b: b), "judged": ~seen}
    told["surface_w"] = np.minimum(curves[best], device("H100")["tdp_w"])
    return part[["model", "batch_limit", "mean_w"]].assign(**told)


def found(
    traffic: pd.DataFrame, machines: pd.DataFrame, limits: pd.DataFrame, dataset: str
) -> list[dict]:
    """Record how far a model carries."""
    rows = []
    for row in traffic.itertuples():
        given = {"data": dataset, "dataset": f"{row.split}: {row.judged}"}
        claim = CLAIMS.get((row.judged, "traffic"))
        name = None if claim is None else f"later_results:{claim}:value"
        rows.append(
            record("energy error, other traffic", row.energy_error_pct, "%", claim=name, **given)
        )
        rows.append(record("KS, other traffic", row.ks, "", **given))
        rows.append(record("NRMSE at 1 s, other traffic", row.nrmse, "", **given))
    for changed, part in machines.groupby("changed", sort=False) if len(machines) else ():
        errors = part["energy_error_pct"]
        ends = (float(errors.min()), float(errors.max()))
        pairs = f"{len(part)} pairs of servers"
        name = f"median energy error, changed: {changed}"
        rows.append(
            record(name, float(errors.median()), "%", interval=ends, data=dataset, dataset=pairs)
        )
    for row in machines.itertuples() if len(machines) else ():
        claim = CLAIMS.get((row.judged, "carried"))
        if claim is not None and row.changed not in ("fitted", "later model"):
            name = f"energy error, carried over from {row._1}"
            rows.append(
                record(name, row.energy_error_pct, "%", data=dataset, dataset=row.judged,
                       same_kind=True, claim=f"later_results:{claim}:value")
            )  # fmt: skip
    for form in ("line", "surface") if len(limits) else ():
        judged = limits[limits["judged"]]
        off = 100 * (judged[f"{form}_w"] / judged["mean_w"] - 1).abs()
        name = f"error of saturated power beyond the fitted batch limits, {form}"
        ends = (float(off.min()), float(off.max()))
        pairs = f"{len(judged)} traces of ML.ENERGY"
        rows.append(
            record(name, float(off.median()), "%", interval=ends, data=dataset, dataset=pairs)
        )
    return rows


def conclusion(traffic: pd.DataFrame, machines: pd.DataFrame) -> str:
    """Say how far a model carries."""
    lines = [
        f"other traffic: energy within {traffic['energy_error_pct'].max():.1f}% at worst, "
        f"{traffic['energy_error_pct'].median():.1f}% in the median"
    ]
    if len(machines):
        median = machines.groupby("changed")["energy_error_pct"].median()
        carried_over = machines[~machines["changed"].isin(["fitted", "later model"])]
        lines.append(
            f"other servers: {median['fitted']:.1f}% where fitted, "
            f"{carried_over['energy_error_pct'].median():.1f}% carried over, the later model "
            f"{median['later model']:.1f}%"
        )
    return "\n".join(lines)
