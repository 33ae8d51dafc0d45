"""`fit`: a model of either kind from runs, and the choice between the kinds."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from sitetrace.core.files import InputError, require
from sitetrace.core.types import PowerTrace, Run, cut_run
from sitetrace.evaluate.judge import evaluate
from sitetrace.power.states.bigru import require_torch
from sitetrace.power.states.fit import ACF_UNIT, ENERGY_UNIT_PCT, KS_UNIT, SCORED, fit_states
from sitetrace.power.states.model import StatesModel
from sitetrace.power.timeline.fit import fit_timeline
from sitetrace.power.timeline.model import TimelineModel
from sitetrace.serving.engine import simulate

# what is not chosen within a kind that is judged; one unit of loss, beside those of `states.fit`
QUICK = {"timeline": {}, "states": {"transitions": "logit", "n_states": 10}}
USUAL = {"transitions": "auto", "emissions": "gaussian"}  # of the options of `states`
DRAWS, NRMSE_UNIT, MARGIN_S = 3, 0.06, 2.0
Model = StatesModel | TimelineModel


def fit(
    runs: list[Run],
    *,
    seed: int,
    kind: str = "auto",
    transitions: str = "auto",
    n_states: int | None = None,
    emissions: str = "gaussian",
    columns: tuple[str, ...] | None = None,
    checkpoint: Path | str | None = None,
    start_s: float | None = None,
    stop_s: float | None = None,
) -> Model:
    """Fit a model on runs of one configuration.

    Parameters
    ----------
    runs : list of Run
        Of one configuration; to ``timeline`` others on its GPU type tell more of the meter.
    seed : int
        Seed of all that is drawn while fitting.
    kind : {"auto", "states", "timeline"}
        The paper's way, ours, or the better in cross-validation; the next five mean ``states``.
    transitions : str
        ``markov``, ``logit``, ``trees``, ``auto`` (the best of these) or the paper's net ``bigru``.
    n_states : int, optional
        Number of states; by default the best free-run KS over 8 to 16.
    emissions : str
        ``gaussian``, ``ar1``, ``ar1_deviation`` or ``empirical``.
    columns : tuple of str, optional
        Activity that drives the transitions; by default all, for ``bigru`` the paper's two.
    checkpoint : Path or str, optional
        For ``bigru``: file in which training is saved, and from which it goes on.
    start_s, stop_s : float, optional
        Cut, seconds after the first request of each run.

    Returns
    -------
    StatesModel or TimelineModel
        Its provenance holds what was chosen and why, the misfit, and what stands by default.

    Examples
    --------
    >>> import sitetrace
    >>> run = sitetrace.testbed.run("poisson", seed=1)
    >>> model = sitetrace.fit([run], seed=1, transitions="logit", n_states=8)
    >>> model.mixture.n_states
    8
    """
    from sitetrace import __version__

    require(kind in ("auto", *QUICK), f"kind {kind!r}", "unknown", "give auto, timeline or states")
    how = {"transitions": transitions, "n_states": n_states, "emissions": emissions}
    how |= {"columns": columns, "checkpoint": checkpoint}
    if given := ", ".join(name for name in how if how[name] != USUAL.get(name)):
        mend = "leave it out, or give that kind"
        require(kind != "timeline", given, "belongs to --kind states", mend)
        kind = "states"
    what = "only transitions bigru trains step by step"
    require(checkpoint is None or transitions == "bigru", "--checkpoint", what, "leave it out")
    if transitions == "bigru":
        require_torch()
    _check_runs(runs, kind)
    runs = [cut_run(run, start_s, stop_s) for run in runs]
    if kind == "auto" and any(run.configuration != runs[0].configuration for run in runs):
        kind = "timeline"
    # without dates and paths: the same fit gives the same bytes
    data = "testbed" if runs[0].configuration.hardware == "testbed" else "measured"
    sources = [{"name": run.name, "sha256": run.digest} for run in runs]
    provenance = {"data": data, "runs": sources, "from_s": start_s, "to_s": stop_s, "seed": seed}
    provenance |= {"sitetrace": __version__, "selection": {}}
    if kind == "auto":
        kind, table, because = choose_kind(runs, seed)
        provenance |= {"selection": {"kind": table}, "kind_because": because}
    if kind == "timeline":
        return fit_timeline(runs, provenance)
    return fit_states(runs, provenance, seed=seed, **how)


def _check_runs(runs: list[Run], kind: str) -> None:
    require(runs, "runs", "there is none", "give one or more")
    first, dt = runs[0].configuration, runs[0].dt
    for run in runs:
        where, own = f"run {run.name}", run.configuration
        require(run.requests is not None, where, "requests.csv is missing", "a fit needs requests")
        what, mend = f"{own.name} is not {first.name}", "fit one configuration, or --kind timeline"
        require(own == first or kind != "states", where, what, mend)
        require(own.hardware == first.hardware, where, what, "fit one GPU type at a time")
        what = f"samples every {float(run.dt):g} s, not {float(dt):g} s"
        require(own != first or run.dt == dt, where, what, "fit them apart")


def choose_kind(runs: list[Run], seed: int) -> tuple[str, list[dict], str]:
    """Fit both kinds on one half of the runs' time and judge them on the other, both ways."""
    # gives the better kind, the scores (medians over runs and draws) and loss of each, the reason
    rows, models = [], {}
    try:
        sides = list(zip(*map(_halves, runs), strict=True))
        for kind, options in QUICK.items():
            models[kind] = [fit(list(side), seed=0, kind=kind, **options) for side in sides]
    except InputError as error:
        return "timeline", [], f"timeline: too little to fit both kinds on halves ({error})"
    for kind, halves in models.items():
        scored = pd.DataFrame([each for run in runs for each in _scores(halves, run, seed)])
        row = scored.median(skipna=False).to_dict()
        loss = row["ks"] / KS_UNIT + (1 - row["acf_r2"]) / ACF_UNIT
        loss += row["energy_error_pct"] / ENERGY_UNIT_PCT + row["nrmse"] / NRMSE_UNIT
        rows.append({"kind": kind, **row, "loss": loss})
    better, worse = sorted(rows, key=lambda row: row["loss"])
    because = (
        f"{better['kind']}, not {worse['kind']}: each fitted on half of the seconds and judged on "
        f"the other half, KS {better['ks']:.2f} against {worse['ks']:.2f}, NRMSE at 1 s "
        f"{better['nrmse']:.3f} against {worse['nrmse']:.3f}, energy error "
        f"{better['energy_error_pct']:.1f} against {worse['energy_error_pct']:.1f}%"
    )
    return better["kind"], rows, because


def _middle_s(run: Run) -> float:
    # of the arrivals that have samples, seconds after the first arrival
    arrivals, times = run.requests["arrival_s"], run.samples["time_s"]
    inside = arrivals[arrivals.between(times.iloc[0], times.iloc[-1])]
    return float(inside.median() - arrivals.iloc[0])


def _halves(run: Run) -> list[Run]:
    # both keep the samples before the load: idle power is no secret
    idle = run.samples[run.samples["time_s"] < run.requests["arrival_s"].iloc[0]]
    middle_s, halves = _middle_s(run), []
    for half in (cut_run(run, 0.0, middle_s), cut_run(run, middle_s, None)):
        samples = pd.concat([idle, half.samples], ignore_index=True)
        halves.append(replace(half, samples=samples, published=None))
    return halves


def _scores(models: list[Model], run: Run, seed: int) -> list[dict[str, float]]:
    # over a whole run, each half of it by the model that has not seen it
    turn_s = float(run.requests["arrival_s"].iloc[0]) + _middle_s(run)

    def judged(draws: int, reading: str) -> Iterator[dict]:
        made = (
            as_metered(model, run, draws, np.random.default_rng(seed), reading)
            for model in models[::-1]
        )
        for before, after in zip(*made, strict=True):
            turn = int((turn_s - before.start_s) / before.dt_s)
            power_w = np.concatenate([before.power_w[:turn], after.power_w[turn:]])
            yield evaluate(run, PowerTrace(before.start_s, before.dt, power_w))

    # seconds are placed by the expected reading; a draw's own noise says nothing of them
    (expected,) = judged(1, "expected")
    placed = {"nrmse": expected["1s"]["whole"]["nrmse"]}
    drawn = (result["native"]["whole"] for result in judged(DRAWS, "meter"))
    return [{name: scored[name] for name in SCORED} | placed for scored in drawn]


def as_metered(model: Model, run: Run, draws: int, rng, reading: str = "meter") -> list[PowerTrace]:
    """Generate what a run's meter would print, on the run's clock and with its idle power."""
    times, arrivals = run.samples["time_s"], run.requests["arrival_s"]
    timeline = simulate(run.requests, model.server, rng)
    lead_s = max(float(arrivals.iloc[0] - times.iloc[0]) + MARGIN_S, MARGIN_S)
    tail_s = max(float(times.iloc[-1] - timeline.requests["end_s"].max()) + MARGIN_S, MARGIN_S)
    how = (None, lead_s, tail_s, run.idle_before_load_w(), reading)
    return [model.draw(timeline, each, *how) for each in rng.spawn(draws)]
