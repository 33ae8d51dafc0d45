"""`fit`: a model of either kind from runs, and the choice between the kinds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from sitetrace.core.files import InputError
from sitetrace.core.types import PowerTrace, Run, cut_run
from sitetrace.evaluate.judge import evaluate
from sitetrace.power.states.bigru import require_torch
from sitetrace.power.states.fit import ACF_UNIT, ENERGY_UNIT_PCT, KS_UNIT, fit_states
from sitetrace.power.states.model import StatesModel
from sitetrace.power.timeline.fit import fit_timeline
from sitetrace.power.timeline.model import TimelineModel
from sitetrace.serving.engine import simulate

MODEL_KINDS = ("timeline", "states")
# draws that judge a kind, and its number of states when it is compared
DRAWS, QUICK_STATES = 3, 10
# one unit of loss, beside those of `states.fit`
NRMSE_UNIT = 0.06
MARGIN_S = 2.0


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
) -> StatesModel | TimelineModel:
    """Fit a model on runs of one configuration.

    Parameters
    ----------
    runs : list of Run
        Measured runs with power and requests, all of one configuration and step.
    seed : int
        Seed of all that is drawn while fitting.
    kind : {"states", "timeline", "auto"}
        The paper's way, ours, or the better one in cross-validation within the runs. The options
        below are those of ``states``: giving one means that kind.
    transitions : str
        ``markov``, ``logit``, ``trees``, or ``auto``: the best free run of these in
        cross-validation; or ``bigru``, the paper's net, which needs torch to be trained.
    n_states : int, optional
        Number of states K; by default the best free-run KS over 8 to 16 (for ``bigru`` and
        ``auto`` with ``logit`` transitions, which take no minutes).
    emissions : str
        ``gaussian``, ``ar1``, ``ar1_deviation`` or ``empirical``.
    columns : tuple of str, optional
        Activity columns that drive the transitions; by default all, but for ``bigru`` the
        paper's two features.
    checkpoint : Path or str, optional
        For ``bigru``: file from which training goes on, and to which it is saved on the way.
    start_s, stop_s : float, optional
        Cut, seconds after the first request of each run.

    Returns
    -------
    StatesModel or TimelineModel
        The fitted model; its provenance holds the selection tables, how far its engine is from
        the measured one and whether that calibration failed, and what stands by default.

    Raises
    ------
    InputError
        If the runs are of several configurations, lack requests, or are too short, torch is
        missing where it is needed, or an option is given that the kind does not have.

    Examples
    --------
    >>> import sitetrace
    >>> run = sitetrace.testbed.run("poisson", seed=1)
    >>> model = sitetrace.fit([run], seed=1, transitions="logit", n_states=8)
    >>> model.mixture.n_states
    8
    """
    if kind not in ("auto", *MODEL_KINDS):
        raise InputError(f"kind {kind!r}: give auto, timeline or states")
    given = {
        "--transitions": transitions != "auto",
        "--states (n_states)": n_states is not None,
        "emissions": emissions != "gaussian",
        "columns": columns is not None,
        "--checkpoint": checkpoint is not None,
    }
    given = ", ".join(name for name, is_given in given.items() if is_given)
    if given and kind == "timeline":
        raise InputError(f"{given}: belongs to --kind states: leave it out, or give that kind")
    if given:
        kind = "states"
    if checkpoint is not None and transitions != "bigru":
        raise InputError("--checkpoint: only transitions bigru trains step by step: leave it out")
    if transitions == "bigru":
        require_torch()
    _check_runs(runs, kind)
    runs = [cut_run(run, start_s, stop_s) for run in runs]
    if kind == "auto" and any(run.configuration != runs[0].configuration for run in runs):
        kind = "timeline"
    provenance = _provenance(runs, seed, start_s, stop_s)
    if kind == "auto":
        kind, table, because = choose_kind(runs, seed)
        provenance |= {"selection": {"kind": table}, "kind_because": because}
    if kind == "timeline":
        return fit_timeline(runs, provenance)
    return fit_states(
        runs,
        provenance,
        transitions,
        n_states,
        emissions=emissions,
        columns=columns,
        seed=seed,
        checkpoint=checkpoint,
    )


def _check_runs(runs: list[Run], kind: str) -> None:
    """Refuse runs that cannot be fitted together."""
    if not runs:
        raise InputError("runs: there is none: give one or more")
    first = runs[0]
    for run in runs:
        if run.requests is None:
            raise InputError(f"run {run.name}: requests.csv is missing: a fit needs requests")
        if kind == "states" and run.configuration != first.configuration:
            raise InputError(
                f"run {run.name}: {run.configuration.name} is not {first.configuration.name}: "
                "fit one configuration at a time, or --kind timeline"
            )
        if run.configuration.hardware != first.configuration.hardware:
            raise InputError(
                f"run {run.name}: {run.configuration.hardware} is not "
                f"{first.configuration.hardware}: fit runs of one GPU type together"
            )
        if run.configuration == first.configuration and run.dt != first.dt:
            raise InputError(
                f"run {run.name}: samples every {float(run.dt):g} s, not {float(first.dt):g} s: "
                "fit runs of one step together"
            )


def _provenance(runs: list[Run], seed: int, start_s: float | None, stop_s: float | None) -> dict:
    """Say what is fitted, without dates and paths: the same fit gives the same bytes."""
    from sitetrace import __version__

    simulated = runs[0].configuration.hardware == "testbed"
    return {
        "data": "testbed" if simulated else "measured",
        "runs": [{"name": run.name, "sha256": run.digest} for run in runs],
        "from_s": start_s,
        "to_s": stop_s,
        "seed": seed,
        "sitetrace": __version__,
        "selection": {},
    }


def choose_kind(runs: list[Run], seed: int) -> tuple[str, list[dict], str]:
    """Fit both kinds on one half of the runs' time and judge them on the other, both ways."""
    # Gives the better kind, the scores (medians over runs and draws) and loss of each, the reason.
    # nothing is chosen within a kind
    quick = {"timeline": {}, "states": {"transitions": "logit", "n_states": QUICK_STATES}}
    middles = [_middle_s(run) for run in runs]
    try:
        sides = [
            [_part(run, *cut) for run, cut in zip(runs, cuts, strict=True)]
            for cuts in ([(0.0, m) for m in middles], [(m, None) for m in middles])
        ]
        models = {
            kind: [fit(side, seed=0, kind=kind, **quick[kind]) for side in sides]
            for kind in MODEL_KINDS
        }
    except InputError as error:
        return "timeline", [], f"timeline: too little to fit both kinds on halves ({error})"
    rows = []
    for kind in MODEL_KINDS:
        scored = [
            score
            for run, middle in zip(runs, middles, strict=True)
            for score in _scores(models[kind], run, middle, seed)
        ]
        row = {name: float(np.median([score[name] for score in scored])) for name in scored[0]}
        row = {"kind": kind, **row}
        row["loss"] = (
            row["ks"] / KS_UNIT
            + (1 - row["acf_r2"]) / ACF_UNIT
            + row["energy_error_pct"] / ENERGY_UNIT_PCT
            + row["nrmse"] / NRMSE_UNIT
        )
        rows.append(row)
    better, worse = sorted(rows, key=lambda row: row["loss"])
    because = (
        f"{better['kind']}, not {worse['kind']}: each fitted on half of the seconds and judged on "
        f"the other half, KS {better['ks']:.2f} against {worse['ks']:.2f}, NRMSE at 1 s "
        f"{better['nrmse']:.3f} against {worse['nrmse']:.3f}, energy error "
        f"{better['energy_error_pct']:.1f} against {worse['energy_error_pct']:.1f}%"
    )
    return better["kind"], rows, because


def _part(run: Run, start_s: float, stop_s: float | None) -> Run:
    """Cut a run, but keep the samples before the load: the board's idle power is no secret."""
    part = cut_run(run, start_s, stop_s)
    idle = run.samples[run.samples["time_s"] < run.requests["arrival_s"].iloc[0]]
    return replace(part, samples=pd.concat([idle, part.samples], ignore_index=True), published=None)


def _middle_s(run: Run) -> float:
    """Middle of the arrivals that have samples, seconds after the first arrival."""
    arrivals, times = run.requests["arrival_s"], run.samples["time_s"]
    inside = arrivals[arrivals.between(times.iloc[0], times.iloc[-1])]
    return float(inside.median() - arrivals.iloc[0])


def _scores(
    models: list[StatesModel | TimelineModel], run: Run, middle_s: float, seed: int
) -> list[dict[str, float]]:
    """Score draws over a whole run, each half of it by the model that has not seen it."""
    early, late = (
        as_metered(model, run, DRAWS, np.random.default_rng(seed)) for model in reversed(models)
    )
    found = []
    for before, after in zip(early, late, strict=True):
        arrival_s = float(run.requests["arrival_s"].iloc[0])
        turn = int((arrival_s + middle_s - before.start_s) / before.dt_s)
        power_w = np.concatenate([before.power_w[:turn], after.power_w[turn:]])
        result = evaluate(run, PowerTrace(before.start_s, before.dt, power_w))
        whole = result["native"]["whole"]
        row = {name: whole[name] for name in ("ks", "acf_r2", "energy_error_pct")}
        found.append(row | {"nrmse": result["1s"]["whole"]["nrmse"]})
    return found


def as_metered(
    model: StatesModel | TimelineModel, run: Run, draws: int, rng: np.random.Generator
) -> list[PowerTrace]:
    """Generate what a run's meter would print, on the run's clock and with its idle power."""
    times, arrivals = run.samples["time_s"], run.requests["arrival_s"]
    timeline = simulate(run.requests, model.server, rng)
    lead_s = max(float(arrivals.iloc[0] - times.iloc[0]) + MARGIN_S, MARGIN_S)
    tail_s = max(float(times.iloc[-1] - timeline.requests["end_s"].max()) + MARGIN_S, MARGIN_S)
    idle_w = run.idle_before_load_w()
    options = {"reading": "meter"} if isinstance(model, TimelineModel) else {}
    return [
        model.draw(timeline, each, None, lead_s, tail_s, idle_w, **options)
        for each in rng.spawn(draws)
    ]
