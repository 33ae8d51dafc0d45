"""Models and baselines on the same seconds: splits, and the one loop that judges over them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np
import pandas as pd

from sitebook.page import TESTBED
from sitetrace import testbed
from sitetrace.core.files import InputError, named, read_json
from sitetrace.core.registry import data_dir, dataset_path
from sitetrace.core.types import PowerTrace, Run, cut_run, span_of
from sitetrace.evaluate.judge import CLOCKS, SPANS, baselines, evaluate, pair
from sitetrace.evaluate.metrics import SCORES, coverage, crps
from sitetrace.measured.rundir import read_run
from sitetrace.power.fitting import as_metered, fit
from sitetrace.power.modelfile import load_model
from sitetrace.power.states.model import StatesModel
from sitetrace.power.timeline.model import TimelineModel
from sitetrace.serving.engine import Server, simulate

TESTBED_SEED = 1
PLACED = ("nrmse", "correlation")  # scores of the expected reading
SIMPLE = ("nameplate", "mean", "phase look-up", "static replay")
MARGIN_S = 2.0  # generated before and after a run
SHARES = (0.5, 0.9)  # of the predictive bands whose coverage is counted
BLOCK_S, RESAMPLED = 10.0, 400
Model = StatesModel | TimelineModel
Drawn = tuple[PowerTrace, list[PowerTrace]]  # the expected reading, and drawn ones
Method = Model | Callable[[Run, Run, int, np.random.Generator], Drawn]


@dataclass(frozen=True)
class Part:
    """Seconds of one run, on one side of a split."""

    run: str
    start_s: float | None
    stop_s: float | None
    new: tuple[str, ...]


@dataclass(frozen=True)
class Split:
    """What a model is fitted on and what it is judged on."""

    name: str
    fit: tuple[Part, ...]
    judge: tuple[Part, ...]
    note: str


@cache
def splits() -> dict[str, Split]:
    """All splits by name."""

    def parts(rows: list[dict]) -> tuple[Part, ...]:
        return tuple(
            Part(row["run"], row["start_s"], row["stop_s"], tuple(row.get("new", ())))
            for row in rows
        )

    found = read_json(data_dir() / "splits.json")["splits"]
    return {
        name: Split(name, parts(entry["fit"]), parts(entry["judge"]), entry["note"])
        for name, entry in found.items()
    }


def split(name: str) -> Split:
    """Look a split up."""
    return named("split", name, splits())


def open_run(name: str) -> Run:
    """Open a run by its name in a split."""
    if name.startswith(TESTBED):
        return testbed.run(name.removeprefix(TESTBED), TESTBED_SEED)
    return read_run(dataset_path(name))


def open_part(part: Part) -> Run:
    """Open the seconds of a run that a part names."""
    return cut_run(open_run(part.run), part.start_s, part.stop_s)


def runs_of(dataset: str) -> list[Run]:
    """Open all runs that splits name, of one kind of data."""
    parts = [part for entry in splits().values() for part in (*entry.fit, *entry.judge)]
    names = dict.fromkeys(part.run for part in parts)
    simulated = dataset == "testbed"
    return [open_run(name) for name in names if name.startswith(TESTBED) == simulated]


@cache
def split_model(name: str, n_states: int | None, seed: int) -> StatesModel:
    """Take the shipped model of states of a split, or fit one where none is shipped."""
    part = split(name).fit[0]
    path = data_dir() / "models" / f"{name}.json"
    if part.run.startswith(TESTBED) or not path.is_file():
        kind = "logit" if n_states else "auto"
        cut = {"start_s": part.start_s, "stop_s": part.stop_s, "transitions": kind}
        return fit([open_run(part.run)], seed=seed, kind="states", n_states=n_states, **cut)
    return _of_split(f"{name}")


def timeline_model(name: str) -> TimelineModel:
    """Take the shipped model of kind timeline of a split."""
    return _of_split(f"{name}_timeline", name)


def _of_split(model_name: str, name: str | None = None) -> Model:
    """Load a shipped model after a look at what it was fitted on."""
    model = load_model(data_dir() / "models" / f"{model_name}.json")
    run = open_run(split(name or model_name).fit[0].run)
    if model.provenance["runs"][0]["sha256"] != run.digest:
        raise InputError(f"{model_name}: fitted on other files than those of {run.name}: refit it")
    return model


def expected_and_drawn(
    model: Model, run: Run, draws: int, rng: np.random.Generator
) -> tuple[PowerTrace, list[PowerTrace]]:
    """Generate the expected reading of a run's meter, and drawn ones, on the run's clock.

    The board's idle power before the first request is taken from the run.
    """
    expected = as_metered(model, run, 1, rng, "expected")[0]
    return expected, as_metered(model, run, draws, rng, "meter")


def baselines_with(server: Server) -> dict[str, Method]:
    """Nameplate, mean, phase look-up and static replay of the fitting run, as methods to judge."""

    def method(name: str) -> Callable:
        def generated(fitting: Run, run: Run, draws: int, rng: np.random.Generator) -> Drawn:
            first_s, last_s = run.samples["time_s"].iloc[[0, -1]] + np.array([-MARGIN_S, MARGIN_S])
            size = int((last_s - first_s) / float(run.dt)) + 1
            trace = baselines(fitting, server, run.requests, first_s, run.dt, size)[name]
            return trace, [trace]

        return generated

    return {name: method(name) for name in SIMPLE}


def judge(models: Mapping[str, Method], parts: Split, draws: int, seed: int) -> pd.DataFrame:
    """Score each method on the judged seconds of a split, draw by draw, in one tidy table."""
    # energy, distribution and memory are those of drawn readings; `PLACED` those of the expected
    # one, and CRPS and coverage those of all draws: the same in all rows of a method
    # energy, distribution and memory are those of drawn readings; `PLACED` those of the expected
    # one, and CRPS and coverage those of all draws: the same in all rows of a method
    fitting = open_part(parts.fit[0])
    rows = []
    for part, (method, model) in product(parts.judge, models.items()):
        run, rng = open_run(part.run), np.random.default_rng(seed)
        own = isinstance(model, StatesModel | TimelineModel)
        make = expected_and_drawn if own else model
        expected, drawn = make(*((model,) if own else (fitting,)), run, draws, rng)
        known = {"split": parts.name, "part": part.run, "new": ", ".join(part.new)}
        for row in _scored(run, part, expected, drawn):
            rows.append(known | {"method": method} | row)
    # a score without meaning is None, and a column of None alone must be one of numbers
    return pd.DataFrame(rows).astype(dict.fromkeys(SCORES, float))


def _scored(run: Run, part: Part, expected: PowerTrace, drawn: list[PowerTrace]) -> list[dict]:
    """Rows of one method on one part: a row a clock, a span and a draw."""
    cut = {"start_s": part.start_s, "stop_s": part.stop_s}
    placed = evaluate(run, [expected], **cut)
    predicted = _predicted(run, cut_run(run, **cut).samples, drawn)
    rows = []
    for draw, trace in enumerate(drawn):
        result = evaluate(run, [trace], **cut)
        for clock, span in product(CLOCKS, SPANS):
            row = {"clock": clock, "span": span, "draw": draw} | predicted[clock, span]
            found, floors = result[clock][span], result["noise_floor"][clock][span]
            row |= {key: found[key] for key in SCORES}
            row |= {key: placed[clock][span][key] for key in PLACED}
            rows.append(row | {f"floor_{key}": value for key, value in floors.items()})
    return rows


def _predicted(
    run: Run, samples: pd.DataFrame, drawn: list[PowerTrace]
) -> dict[tuple[str, str], dict[str, float]]:
    """How good the draws are as a predictive distribution, by clock and span; and the energy."""
    # as `evaluate` takes them: without counters the last token is that of a default server
    begin_s, end_s = (run.busy_span() or span_of(simulate(run.requests, Server())))[:2]
    found = {}
    for clock in CLOCKS:
        _, measured_w, generated_w, middle_s, width_s = pair(clock, samples, run.dt, drawn)
        generated_w = np.array(generated_w)
        busy = (middle_s >= begin_s) & (middle_s < end_s)
        for span, kept in zip(SPANS, (np.ones_like(busy), busy), strict=True):
            told = measured_w[kept], generated_w[:, kept]
            energy_kwh, some = told[0].sum() * width_s / 3.6e6, kept.any()
            row = {"energy_kwh": energy_kwh, "crps_w": crps(*told) if some else np.nan}
            for share in SHARES:
                name = f"coverage_{share:.0%}".rstrip("%")
                row[name] = coverage(*told, share) if some else np.nan
            found[clock, span] = row
    return found


def part_name(table: pd.DataFrame) -> pd.Series:
    """Name each judged part for people, so that one run judged in two splits is told apart."""
    # configuration and case of names such as qwen3-8b_a100_tp1_poisson_r4
    name = r"^(.*_tp\d+)_(.*)$"
    fitted = table["split"].map(lambda split_name: split(split_name).fit[0].run)
    fitted, judged = (column.str.removeprefix(TESTBED) for column in (fitted, table["part"]))
    before, after = (column.str.replace(name, r"\2", regex=True) for column in (fitted, judged))
    server = judged.str.replace(name, r"\1", regex=True).str.replace("_", " ")
    crossed = (before + " → " + after).where(
        before == fitted, server + ": " + before + " → " + after
    )
    return (server + ": first part → rest").where(fitted == judged, crossed)


def block_interval(
    measured_w: np.ndarray,
    generated_w: np.ndarray,
    dt_s: float,
    score: Callable[[np.ndarray, np.ndarray], float],
    rng: np.random.Generator,
) -> tuple[float, float]:
    """95 % interval of a score of one pair of series, by a centred block bootstrap over time."""
    # How far the score would move on other seconds of the same run; it knows nothing of other runs.
    # KS and NRMSE of resampled seconds lie higher, since these repeat some and miss the extremes:
    # that is no property of the run, so the interval is moved until its median is the score. The
    # joints break autocorrelation at lags near the block length: give no ACF R² such an interval.
    n = len(measured_w)
    block = min(max(int(BLOCK_S / dt_s + 0.5), 1), n)
    starts = rng.integers(0, n - block + 1, size=(RESAMPLED, -(-n // block)))
    rows = (starts[:, :, None] + np.arange(block)).reshape(RESAMPLED, -1)[:, :n]
    drawn = [score(measured_w[row], generated_w[row]) for row in rows]
    low, middle, high = np.percentile(drawn, [2.5, 50.0, 97.5])
    found = score(measured_w, generated_w)
    return float(found + low - middle), float(found + high - middle)
