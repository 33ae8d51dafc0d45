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

# draws that judge a kind, and what is not chosen within one that is judged
DRAWS, QUICK = 3, {"timeline": {}, "states": {"transitions": "logit", "n_states": 10}}
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
        Measured runs with power and requests, of one configuration and step. For the kind
        ``timeline`` others of the first one's GPU type may tell more of its meter and prefill.
    seed : int
        Seed of all that is drawn while fitting.
    kind : {"auto", "states", "timeline"}
        The paper's way, ours, or the better one in cross-validation within the runs. The options
        below are those of ``states``: giving one means that kind.
    transitions : str
        ``markov``, ``logit``, ``trees``, or ``auto``: the best free run of these in
        cross-validation; or ``bigru``, the paper's net, which needs torch to be trained.
    n_states : int, optional
        Number of states; by default the best free-run KS over 8 to 16.
    emissions : str
        ``gaussian``, ``ar1``, ``ar1_deviation`` or ``empirical``.
    columns : tuple of str, optional
        Activity columns that drive the transitions; by default all, for ``bigru`` the paper's two.
    checkpoint : Path or str, optional
        For ``bigru``: file from which training goes on, and to which it is saved on the way.
    start_s, stop_s : float, optional
        Cut, seconds after the first request of each run.

    Returns
    -------
    StatesModel or TimelineModel
        Its provenance holds what was chosen and why, the misfit, and what stands by default.

    Raises
    ------
    InputError
        If the runs do not fit together or are too short, or the kind has no such option.

    Examples
    --------
    >>> import sitetrace
    >>> run = sitetrace.testbed.run("poisson", seed=1)
    >>> model = sitetrace.fit([run], seed=1, transitions="logit", n_states=8)
    >>> model.mixture.n_states
    8
    """
    from sitetrace import __version__

    if kind not in ("auto", *QUICK):
        raise InputError(f"kind {kind!r}: give auto, timeline or states")
    options = {
        "--transitions": transitions != "auto",
        "--states (n_states)": n_states is not None,
        "emissions": emissions != "gaussian",
        "columns": columns is not None,
        "--checkpoint": checkpoint is not None,
    }
    given = ", ".join(name for name, is_given in options.items() if is_given)
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
    # without dates and paths: the same fit gives the same bytes
    provenance = {
        "data": "testbed" if runs[0].configuration.hardware == "testbed" else "measured",
        "runs": [{"name": run.name, "sha256": run.digest} for run in runs],
        "from_s": start_s,
        "to_s": stop_s,
        "seed": seed,
        "sitetrace": __version__,
        "selection": {},
    }
    if kind == "auto":
        kind, table, because = choose_kind(runs, seed)
        provenance |= {"selection": {"kind": table}, "kind_because": because}
    if kind == "timeline":
        return fit_timeline(runs, provenance)
    how = {"emissions": emissions, "columns": columns, "seed": seed, "checkpoint": checkpoint}
    return fit_states(runs, provenance, transitions, n_states, **how)


def _check_runs(runs: list[Run], kind: str) -> None:
    """Refuse runs that cannot be fitted together."""
    if not runs:
        raise InputError("runs: there is none: give one or more")
    first = runs[0].configuration
    for run in runs:
        own, why = run.configuration, None
        if run.requests is None:
            why = "requests.csv is missing: a fit needs requests"
        elif kind == "states" and own != first:
            why = f"{own.name} is not {first.name}: fit one configuration, or --kind timeline"
        elif own.hardware != first.hardware:
            why = f"{own.hardware} is not {first.hardware}: fit runs of one GPU type together"
        elif own == first and run.dt != runs[0].dt:
            why = f"samples every {float(run.dt):g} s, not {float(runs[0].dt):g} s: fit them apart"
        if why:
            raise InputError(f"run {run.name}: {why}")


def choose_kind(runs: list[Run], seed: int) -> tuple[str, list[dict], str]:
    """Fit both kinds on one half of the runs' time and judge them on the other, both ways.

    Gives the better kind, the scores (medians over runs and draws) and loss of each, the reason.
    """
    rows = []
    try:
        halved = [_halves(run) for run in runs]
        models = {
            kind: [
                fit(list(side), seed=0, kind=kind, **options) for side in zip(*halved, strict=True)
            ]
            for kind, options in QUICK.items()
        }
    except InputError as error:
        return "timeline", [], f"timeline: too little to fit both kinds on halves ({error})"
    for kind in QUICK:
        scored = [score for run in runs for score in _scores(models[kind], run, seed)]
        row = {name: float(np.median([score[name] for score in scored])) for name in scored[0]}
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
    """Middle of the arrivals that have samples, seconds after the first arrival."""
    arrivals, times = run.requests["arrival_s"], run.samples["time_s"]
    inside = arrivals[arrivals.between(times.iloc[0], times.iloc[-1])]
    return float(inside.median() - arrivals.iloc[0])


def _halves(run: Run) -> list[Run]:
    """Cut a run in two, but keep the samples before the load: idle power is no secret."""
    idle = run.samples[run.samples["time_s"] < run.requests["arrival_s"].iloc[0]]
    middle_s = _middle_s(run)
    halves = cut_run(run, 0.0, middle_s), cut_run(run, middle_s, None)
    samples = [pd.concat([idle, half.samples], ignore_index=True) for half in halves]
    return [
        replace(half, samples=each, published=None)
        for half, each in zip(halves, samples, strict=True)
    ]


def _scores(
    models: list[StatesModel | TimelineModel], run: Run, seed: int
) -> list[dict[str, float]]:
    """Score draws over a whole run, each half of it by the model that has not seen it."""
    early, late = (
        as_metered(model, run, DRAWS, np.random.default_rng(seed)) for model in reversed(models)
    )
    found, turn_s = [], float(run.requests["arrival_s"].iloc[0]) + _middle_s(run)
    for before, after in zip(early, late, strict=True):
        turn = int((turn_s - before.start_s) / before.dt_s)
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
    options = {"reading": "meter"} if isinstance(model, TimelineModel) else {}
    given = (None, lead_s, tail_s, run.idle_before_load_w())
    return [model.draw(timeline, each, *given, **options) for each in rng.spawn(draws)]
