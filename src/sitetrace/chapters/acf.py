"""The chapter on autocorrelation: how much memory each model keeps, and where it comes from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from sitetrace.activity import COLUMNS, activity_table
from sitetrace.alignment import aligned
from sitetrace.baselines import baselines
from sitetrace.comparison import TESTBED, draw_traces, open_run
from sitetrace.coupling import Independent
from sitetrace.datasets import data_dir
from sitetrace.evaluation import evaluate
from sitetrace.generator import StatesModel
from sitetrace.metrics import acf, acf_lags, acf_r2
from sitetrace.modelfile import load_model
from sitetrace.records import record
from sitetrace.serving import simulate
from sitetrace.splits import Part, Split
from sitetrace.trace import PowerTrace, Run
from sitetrace.training import cut_run, fit_parts, prepare
from sitetrace.transitions import KINDS

COMPOSED = "states"
ON_OFF = "on-off"
INDEPENDENT = "independent states"
SAME_KIND = {
    "llama-3.1-70b_h100_tp4_poisson_r4": "fidelity_by_configuration:llama-3-70b_H100_tp4:"
    "acf_r2_median"
}


def methods(model: StatesModel, parts: Split, run: Run, draws: int, seed: int) -> dict[str, list]:
    """Traces for a recording's requests by every model, from most to least knowledge.

    Parameters
    ----------
    model : StatesModel
        Fitted on the split's fitting seconds.
    parts : Split
        What was fitted.
    run : Run
        Recording to be judged on.
    draws : int
        Draws of each model that draws.
    seed : int
        Seed of the draws, the same for each model.

    Returns
    -------
    dict of str to list of PowerTrace
        ``states``, the model as it is; ``states, <kind>``: the same states with each other kind
        of transitions (``bigru``: the shipped net); ``independent states``: drawn from the
        mixture's weights in every bin with work; ``on-off`` (see `on_off`); phase look-up, replay.
    """
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
        name: draw_traces(each, run, draws, np.random.default_rng(seed))
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
    """Power that knows only whether the engine works: no states, no transitions, no memory.

    Parameters
    ----------
    model : StatesModel
        Its server tells in which bins the engine works.
    frame : pandas.DataFrame
        Prepared samples of the fitting run.
    run : Run
        Recording whose requests are served.
    clock : PowerTrace
        Trace on whose bins power is wanted.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    PowerTrace
        Each bin drawn by itself from the fitting samples with, or without, work.
    """
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
    """ACF R² of each model on the judged seconds.

    Parameters
    ----------
    run : Run
        The recording.
    part : Part
        Which of its seconds are judged.
    found : dict of str to list of PowerTrace
        From `methods`.

    Returns
    -------
    pandas.DataFrame
        A row a model: ``judged``, ``model``, ACF R² over ``whole`` and ``busy`` at the native
        step and at 1 s, medians over draws, ``low`` and ``high`` of ``whole`` over the draws; the
        last row is the floor, a trace without memory.
    """
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


def judged_power(run: Run, part: Part, traces: list[PowerTrace]) -> tuple[pd.DataFrame, np.ndarray]:
    """Measured and generated power of the judged bins, and which of them are busy.

    Parameters
    ----------
    run : Run
        The recording.
    part : Part
        Which of its seconds.
    traces : list of PowerTrace
        Draws.

    Returns
    -------
    power : pandas.DataFrame
        ``measured`` and one column a draw, watts.
    busy : numpy.ndarray
        Booleans, from the first arrival to the last token.
    """
    cut = cut_run(run, part.start_s, part.stop_s)
    pairs = [aligned(cut, trace) for trace in traces]
    power = pd.DataFrame({"measured": pairs[0][0]} | {k: p[1] for k, p in enumerate(pairs)})
    time_s = cut.samples["time_s"].to_numpy()[: len(power)]
    begin_s, end_s, _ = run.busy_span() or (time_s[0], time_s[-1], "")
    return power, (time_s > begin_s) & (time_s <= end_s)


def shuffled(power_w: np.ndarray, busy: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Take the memory out of the busy seconds and leave all else as it is.

    Parameters
    ----------
    power_w : numpy.ndarray
        Measured power, watts, shape (n,).
    busy : numpy.ndarray
        Busy bins, booleans, shape (n,).
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    numpy.ndarray
        The busy samples in random order among themselves: the same energy and distribution.
    """
    mixed = power_w.copy()
    mixed[busy] = rng.permutation(power_w[busy])
    return mixed


def idle_effect(
    busy_w: np.ndarray, idle_w: np.ndarray, shares: tuple[float, ...], dt_s: float, seed: int
) -> pd.DataFrame:
    """Score a recording without its memory when it has more and more idle at its ends.

    Parameters
    ----------
    busy_w, idle_w : numpy.ndarray
        Measured power of busy and of idle seconds, watts.
    shares : tuple of float
        Idle share of the recording, 0 to below 1.
    dt_s : float
        Step, seconds.
    seed : int
        Seed of the draws.

    Returns
    -------
    pandas.DataFrame
        A row a share: ``idle_share``; ``acf_r2``, ``low``, ``high`` of the recording against
        itself with its busy seconds shuffled (median and range of 20); ``between``, the share of
        the variance that lies between idle and busy.
    """
    rows = []
    for share in shares:
        rng = np.random.default_rng(seed)
        size = round(share / (1 - share) * busy_w.size)
        whole_w = np.concatenate([rng.choice(idle_w, size), busy_w])
        busy = np.arange(whole_w.size) >= size
        scored = [acf_r2(whole_w, shuffled(whole_w, busy, rng), acf_lags(dt_s)) for _ in range(20)]
        rows.append(
            {"idle_share": share, "acf_r2": np.median(scored), "low": min(scored)}
            | {"high": max(scored), "between": between_share(whole_w, busy)}
        )
    return pd.DataFrame(rows)


def between_share(power_w: np.ndarray, busy: np.ndarray) -> float:
    """Share of a recording's variance that lies between its idle and its busy seconds.

    Parameters
    ----------
    power_w : numpy.ndarray
        Power, watts, shape (n,).
    busy : numpy.ndarray
        Busy bins, booleans, shape (n,).

    Returns
    -------
    float
        Between 0 and 1.
    """
    level_w = pd.Series(power_w).groupby(busy).transform("mean")
    return float(level_w.var(ddof=0) / power_w.var())


def acf_bands(power: pd.DataFrame, dt_s: float) -> pd.DataFrame:
    """Measured autocorrelation with its confidence band, and the range of the draws.

    Parameters
    ----------
    power : pandas.DataFrame
        From `judged_power`.
    dt_s : float
        Step, seconds.

    Returns
    -------
    pandas.DataFrame
        Indexed by lag in seconds: ``measured``, ``low``, ``high`` (95%, Bartlett's formula),
        ``white`` (half width of the 95% band of white noise), ``draws_low``, ``draws_high``.
    """
    from statsmodels.tsa.stattools import acf as with_interval

    lags = min(acf_lags(dt_s), len(power) - 1)
    told = with_interval(power["measured"], nlags=lags, alpha=0.05, result_object=True)
    draws = np.array([acf(power[k].to_numpy(), lags) for k in power.columns[1:]])
    white = np.full(lags, 1.96 / np.sqrt(len(power)))
    columns = {"measured": told.acf[1:], "low": told.confint[1:, 0], "high": told.confint[1:, 1]}
    columns |= {"white": white, "draws_low": draws.min(axis=0), "draws_high": draws.max(axis=0)}
    return pd.DataFrame(columns, index=pd.Index(np.arange(1, lags + 1) * dt_s, name="lag_s"))


def found(
    table: pd.DataFrame, effect: pd.DataFrame, paper: pd.DataFrame, dataset: str, run: str
) -> list[dict]:
    """Record how much memory is kept, and how much of it is idle and busy alternating.

    Parameters
    ----------
    table : pandas.DataFrame
        Results of `score`, run below run.
    effect : pandas.DataFrame
        Result of `idle_effect`.
    paper : pandas.DataFrame
        The paper's table ``fidelity_by_configuration``.
    dataset : str
        ``measured`` or ``testbed``.
    run : str
        Recording that `effect` is about.

    Returns
    -------
    list of dict
        Records.
    """
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
    for row in (effect.iloc[0], effect.iloc[-1]):
        name = f"ACF R² without memory in busy seconds, idle share {row['idle_share']:.0%}"
        ends = (row["low"], row["high"])
        rows.append(record(name, row["acf_r2"], "", data=dataset, dataset=run, interval=ends))
    return rows


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Median and range of ACF R² over the judged recordings, by model.

    Parameters
    ----------
    table : pandas.DataFrame
        Results of `score`, run below run.

    Returns
    -------
    pandas.DataFrame
        A row a model, in the order of `methods`: over ``whole`` and ``busy`` the ``median``,
        ``least`` and ``greatest``.
    """
    by_model = table.astype({"whole": float, "busy": float}).groupby("model", sort=False)
    parts = {
        f"{span}, {name}": getattr(by_model[span], how)()
        for span in ("whole", "busy")
        for name, how in (("median", "median"), ("least", "min"), ("greatest", "max"))
    }
    return pd.DataFrame(parts).reset_index()


def conclusion(table: pd.DataFrame, effect: pd.DataFrame) -> str:
    """Say what the scores come from.

    Parameters
    ----------
    table : pandas.DataFrame
        Results of `score`, run below run.
    effect : pandas.DataFrame
        Result of `idle_effect`.

    Returns
    -------
    str
        Two lines.
    """
    median = summary(table).set_index("model")["whole, median"]
    none, some = effect.iloc[0], effect[effect["idle_share"] >= 0.1].iloc[0]
    return (
        f"median ACF R² over whole recordings: {median[COMPOSED]:.2f} with states, "
        f"{median[ON_OFF]:.2f} with on-off power alone\n"
        f"a recording without memory in its busy seconds scores {none['acf_r2']:.1f} without idle "
        f"and {some['acf_r2']:.1f} when {some['idle_share']:.0%} of it is idle"
    )
