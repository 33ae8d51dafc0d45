"""All methods on the same seconds: the model and its baselines, judged over a split."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import pandas as pd

from sitebook.old.judging.splits import Part, Split, split, splits
from sitetrace import testbed
from sitetrace.core.files import InputError
from sitetrace.core.registry import data_dir, dataset_path, shipped_model
from sitetrace.core.types import PowerTrace, Run, cut_run
from sitetrace.evaluate.judge import baselines, evaluate
from sitetrace.evaluate.metrics import SCORES
from sitetrace.measured.rundir import read_run
from sitetrace.power.fitting import as_metered, fit
from sitetrace.power.modelfile import load_model
from sitetrace.power.states.fit import cross_validate
from sitetrace.power.states.model import StatesModel
from sitetrace.power.timeline.model import TimelineModel
from sitetrace.serving.activity import activity_table
from sitetrace.serving.engine import simulate

TESTBED = "testbed/"
TESTBED_SEED = 1
COMPOSED = "states"
ENDS = {"low": "min", "high": "max"}


def open_run(name: str) -> Run:
    """Open a run by its name in a split."""
    if name.startswith(TESTBED):
        return testbed.run(name.removeprefix(TESTBED), TESTBED_SEED)
    return read_run(dataset_path(name))


def runs_of(dataset: str) -> list[Run]:
    """Open all runs that splits name, of one kind of data."""
    simulated = dataset == "testbed"
    parts = [part for entry in splits().values() for part in (*entry.fit, *entry.judge)]
    names = dict.fromkeys(part.run for part in parts)
    return [open_run(name) for name in names if name.startswith(TESTBED) == simulated]


def split_model(name: str, n_states: int | None, seed: int) -> StatesModel:
    """Take the shipped model of a split, or fit one where none is shipped."""
    part = split(name).fit[0]
    run = open_run(part.run)
    path = data_dir() / "models" / f"{name}.json"
    if part.run.startswith(TESTBED):
        return _fitted_on_testbed(name, n_states, seed)
    if not path.is_file():
        return _fitted(run, part, n_states, seed)
    model = load_model(path)
    if model.provenance["runs"] != [{"name": run.name, "sha256": run.digest}]:
        raise InputError(f"{path}: fitted on other files than those of {run.name}: make it anew")
    return model


@lru_cache
def _fitted_on_testbed(name: str, n_states: int | None, seed: int) -> StatesModel:
    """Fit once for all cells of a page: runs of the testbed are the same each time."""
    part = split(name).fit[0]
    return _fitted(open_run(part.run), part, n_states, seed)


def _fitted(run: Run, part: Part, n_states: int | None, seed: int) -> StatesModel:
    """Fit the kind `states` on one part of a run."""
    kind = "logit" if n_states else "auto"
    cut = {"start_s": part.start_s, "stop_s": part.stop_s}
    return fit([run], seed=seed, kind="states", transitions=kind, n_states=n_states, **cut)


def timeline_model(name: str) -> TimelineModel:
    """Take the shipped timeline model of a split, after a look at what it was fitted on."""
    run = open_run(split(name).fit[0].run)
    model = load_model(shipped_model(f"{name}_timeline"))
    if model.provenance["runs"][0]["sha256"] != run.digest:
        raise InputError(f"{name}_timeline: fitted on other files than those of {run.name}")
    return model


def compare(model: StatesModel, parts: Split, draws: int, seed: int) -> pd.DataFrame:
    """Score the model and all baselines on the judged seconds of a split."""
    rows = []
    for judged, run, found in generated({COMPOSED: model}, parts, draws, seed):
        mean_w = float(cut_run(run, judged.start_s, judged.stop_s).samples["power_w"].mean())
        known = known_of(parts, judged)
        for name, candidates in found.items():
            for draw, trace in enumerate(candidates):
                scored = evaluate(run, trace, start_s=judged.start_s, stop_s=judged.stop_s)
                whole, busy_ks = scored["native"]["whole"], scored["native"]["busy"]["ks"]
                energy_kwh = mean_w * whole["n_samples"] * scored["native_dt_s"] / 3.6e6
                rows.append(
                    known
                    | {"method": name, "draw": draw, "ks_busy": busy_ks, "energy_kwh": energy_kwh}
                    | {key: whole[key] for key in SCORES}
                )
    # a score without meaning is None, and a column of None alone must be one of numbers
    return pd.DataFrame(rows).astype(dict.fromkeys((*SCORES, "ks_busy"), float))


def generated(
    models: dict[str, StatesModel | TimelineModel], parts: Split, draws: int, seed: int
) -> Iterator[tuple[Part, Run, dict[str, list[PowerTrace]]]]:
    """Generate power for each judged part of a split by models and by all baselines."""
    part = parts.fit[0]
    fitting = cut_run(open_run(part.run), part.start_s, part.stop_s)
    first = next(iter(models))
    for judged in parts.judge:
        run = open_run(judged.run)
        found = {
            name: as_metered(model, run, draws, np.random.default_rng(seed))
            for name, model in models.items()
        }
        clock = (found[first][0].start_s, models[first].dt, found[first][0].power_w.size)
        simple = baselines(fitting, models[first].server, run.requests, *clock)
        yield judged, run, found | {name: [trace] for name, trace in simple.items()}


def known_of(parts: Split, judged: Part) -> dict[str, str]:
    """Say which part of which split a row is about."""
    known = {"split": parts.name, "fitted": parts.fit[0].run, "judged": judged.run}
    return known | {"new": ", ".join(judged.new)}


def over_draws(table: pd.DataFrame, scores: tuple[str, ...] = SCORES) -> pd.DataFrame:
    """Medians over the draws of each judged part and method."""
    by_part = table.groupby(["split", "fitted", "judged", "new", "method"], sort=False)
    ends = [by_part[list(scores)].agg(how).add_suffix(f"_{name}") for name, how in ENDS.items()]
    return by_part.median(numeric_only=True).join(ends).drop(columns="draw").reset_index()


def labels(table: pd.DataFrame) -> pd.Series:
    """Name each judged part, so that one run judged in two splits is told apart."""
    # configuration and case of names such as qwen3-8b_a100_tp1_poisson_r4
    name = r"^(.*_tp\d+)_(.*)$"
    fitted = table["fitted"].str.removeprefix(TESTBED)
    judged = table["judged"].str.removeprefix(TESTBED)
    before, after = (column.str.replace(name, r"\2", regex=True) for column in (fitted, judged))
    server = judged.str.replace(name, r"\1", regex=True).str.replace("_", " ")
    crossed = before + " → " + after
    crossed = crossed.where(before == fitted, server + ": " + crossed)
    return (server + ": first part → rest").where(fitted == judged, crossed)


def candidate_scores(
    frame: pd.DataFrame, model: StatesModel, seed: int, candidates: list[dict]
) -> pd.DataFrame:
    """Cross-validate other kinds of transitions or numbers of states than the model's."""
    options = {"emissions": model.emissions.kind, "columns": None, "seed": seed}
    rows = [
        candidate
        | cross_validate(
            frame, model.idle, model.dt, candidate["kind"], candidate["n_states"], **options
        )
        for candidate in candidates
    ]
    return pd.DataFrame(rows)


def activity_at(model: StatesModel, run: Run) -> pd.DataFrame:
    """Simulate the activity in the bins of a recording's samples."""
    timeline = simulate(run.requests, model.server)
    return activity_table(timeline, run.samples["time_s"].to_numpy(), float(run.dt))


def score_table(result: dict) -> pd.DataFrame:
    """Lay scores and noise floors of `sitetrace.evaluate` side by side."""
    columns = [(clock, span) for clock in ("native", "1s") for span in ("whole", "busy")]

    def row(name: str, key: str, values: dict) -> dict:
        return {"score": name} | {f"{c}, {s}": values[c][s].get(key) for c, s in columns}

    scored = [key for key in result["native"]["whole"] if not key.endswith("_spread")]
    floors = result["noise_floor"]
    rows = [row(key, key, result) for key in scored]
    rows += [row(f"floor: {key}", key, floors) for key in floors["native"]["whole"]]
    return pd.DataFrame(rows).astype({f"{c}, {s}": float for c, s in columns})
