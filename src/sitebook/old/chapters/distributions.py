"""The chapter on distributions: power measured and generated, within states and over a run."""

from __future__ import annotations

import numpy as np
import pandas as pd

from sitebook.old.judging.comparison import open_run
from sitebook.old.judging.splits import Part, Split
from sitebook.old.ledger.records import record
from sitebook.old.looks.carryover import rank_agreement
from sitebook.old.looks.idle_ends import spread_errors
from sitebook.old.looks.normality import LEVEL
from sitebook.old.rereading.scores import ar1_effect
from sitetrace.core.types import cut_run
from sitetrace.evaluate.judge import pair
from sitetrace.evaluate.metrics import (
    acf,
    acf_lags,
    energy_error_pct,
    ks_distance,
    noise_floor,
    nrmse,
    scores,
)
from sitetrace.power.fitting import as_metered
from sitetrace.power.states.mixture import PHI_THRESHOLD
from sitetrace.power.states.model import StatesModel

CLOCKS, SPANS = ("native", "1s"), ("whole", "busy")
STRATEGIES = ("oracle", "predicted", "marginal")
# the paper's configurations nearest to ours: of the same kind, or of another GPU or model
SAME_KIND = {"llama-3.1-70b_h100_cut": "llama-3-70b_H100_tp4"}
NEAREST = SAME_KIND | {"qwen3-8b_a100_from_r4": "deepseek-r1-distill-8b_H100_tp1"}
CDF_NEAREST = {
    "llama-3.1-70b_h100_cut": "deepseek-r1-distill-70b_A100_tp4",
    "qwen3-8b_a100_from_r4": "llama-3-8b_H100_tp1",
}
STAY = 0.9
SCORE_NAMES = {
    "ks": "KS",
    "nrmse": "NRMSE",
    "acf_r2": "ACF R²",
    "delta_energy_pct": "energy error",
    "energy_error_pct": "energy error",
}


def judged_power(model: StatesModel, judged: Part, draws: int, seed: int) -> dict:
    """Pair recorded and generated power of a judged part, by clock and span."""
    run = open_run(judged.run)
    traces = as_metered(model, run, draws, np.random.default_rng(seed))
    window = cut_run(run, judged.start_s, judged.stop_s).samples
    begin_s, end_s, _ = run.busy_span()
    found = {}
    for clock in CLOCKS:
        _, measured_w, generated_w, middle_s, width_s = pair(clock, window, run.dt, traces)
        busy = (middle_s >= begin_s) & (middle_s < end_s)
        for span, rows in zip(SPANS, (np.ones_like(busy), busy), strict=True):
            drawn_w = np.array(generated_w)[:, rows]
            found[clock, span] = (measured_w[rows], drawn_w, width_s)
    return found


def score_draws(powers: dict[str, dict]) -> pd.DataFrame:
    """Score every draw of every judged part."""
    rows = []
    for judged, spans in powers.items():
        for (clock, span), (measured_w, generated_w, width_s) in spans.items():
            floor = noise_floor(measured_w, width_s, None)["ks_halves"]
            told = {"judged": judged, "clock": clock, "span": span, "floor": floor}
            rows += [told | scores(measured_w, draw, width_s) for draw in generated_w]
    return pd.DataFrame(rows)


def ks_table(scored: pd.DataFrame) -> pd.DataFrame:
    """Lay out the KS distances beside their floor."""
    grouped = scored.groupby(["judged", "clock", "span"], sort=False)
    table = grouped["ks"].agg(["median", "min", "max"]).add_prefix("ks_")
    return table.assign(floor=grouped["floor"].first()).reset_index()


def pooled_scores(powers: dict[str, dict]) -> pd.DataFrame:
    """Score all judged parts together, as the paper's pooled form does."""
    from sklearn.metrics import r2_score

    parts = [spans["native", "whole"] for spans in powers.values()]
    measured_w = np.concatenate([measured for measured, _, _ in parts])
    rows = []
    for draw in range(len(parts[0][1])):
        generated_w = np.concatenate([generated[draw] for _, generated, _ in parts])
        lags = [(min(acf_lags(width), one.size - 1)) for one, _, width in parts]
        kept = min(lags)
        wanted = np.mean([acf(one, kept) for one, _, _ in parts], axis=0)
        got = np.mean([acf(drawn[draw], kept) for _, drawn, _ in parts], axis=0)
        rows.append(
            {"ks": ks_distance(measured_w, generated_w), "nrmse": nrmse(measured_w, generated_w)}
            | {"acf_r2": r2_score(wanted, got)}
            | {"delta_energy_pct": abs(energy_error_pct(measured_w, generated_w))}
        )
    return pd.DataFrame(rows)


def by_source(drawn: pd.DataFrame, *, pruned: bool) -> pd.DataFrame:
    """Summarise a decomposition over its judged parts, as the paper's table does."""
    rows = []
    for (source, kind), part in drawn.groupby(["source", "emissions"], sort=False):
        typical = part.groupby("judged")["energy_error_pct"].median()
        if pruned and typical.size > 1:
            part = part[part["judged"] != typical.idxmax()]
        medians = part.groupby("draw")[["ks", "acf_r2", "energy_error_pct"]].median()
        rows.append(medians.assign(source=source, emissions=kind))
    return pd.concat(rows).reset_index()


def _spread(values: pd.Series) -> dict:
    """Median over draws with the range over draws as interval."""
    return {"value": float(values.median()), "interval": (values.min(), values.max())}


def _scored_records(parts: Split, scored: pd.DataFrame, pooled: pd.DataFrame, data: str) -> list:
    same, near = SAME_KIND.get(parts.name), CDF_NEAREST.get(parts.name)
    rows = []
    for (judged, clock, span), part in scored.groupby(["judged", "clock", "span"], sort=False):
        given = {"data": data, "dataset": judged, "same_kind": same is not None}
        claimed = same if (clock, span) == ("native", "whole") else None
        columns = {"ks": ("KS", "", "ks_stat_median")}
        if span == "whole" and clock == "native":
            columns |= {"p95_error_pct": ("P95 error", "%", "p95_error_pct_median")}
            columns |= {"p99_error_pct": ("P99 error", "%", "p99_error_pct_median")}
        for key, (what, unit, column) in columns.items():
            claim = f"fidelity_by_configuration:{claimed}:{column}" if claimed else None
            name = f"{what}, {clock}, {span}"
            rows.append(record(name, unit=unit, claim=claim, **_spread(part[key]), **given))
        floor = float(part["floor"].iloc[0])
        rows.append(record(f"KS between halves, {clock}, {span}", floor, "", **given))
    for key in pooled:
        unit = "%" if key.endswith("_pct") else ""
        claim = f"cdf_comparison:{near}:{key}" if near else None
        name = f"{SCORE_NAMES[key]}, judged parts pooled"
        given = {"data": data, "dataset": parts.name}
        rows.append(record(name, unit=unit, claim=claim, **_spread(pooled[key]), **given))
    return rows


def _decomposition_records(name: str, drawn: pd.DataFrame, data: str) -> list[dict]:
    """Answer the decomposition, with the worst part removed and with all."""
    near, rows = NEAREST.get(name), []
    given = {"data": data, "dataset": name, "same_kind": name in SAME_KIND}
    claimed = {"acf_r2": "acf_r2", "energy_error_pct": "delta_energy_pct"}
    for pruned, words, suffix in (
        (True, "worst part removed if several", ""),
        (False, "all parts", "_noprune"),
    ):
        found = by_source(drawn, pruned=pruned)
        plain = found[found["emissions"] == "gaussian"]
        for source, part in plain.groupby("source", sort=False):
            for key, column in claimed.items():
                known = near and source in STRATEGIES
                claim = f"decomposition:{near}/{source}:{column}{suffix}" if known else None
                what, unit = SCORE_NAMES[key], "%" if key.endswith("_pct") else ""
                what = f"{what}, states {source}, {words}"
                rows.append(record(what, unit=unit, claim=claim, **_spread(part[key]), **given))
    return rows


def _ar1_records(name: str, drawn: pd.DataFrame, at_work: bool, data: str) -> list[dict]:
    """Answer the scores with AR(1); there are none where no state remembers enough for it."""
    near = NEAREST.get(name)
    given = {"data": data, "dataset": name, "same_kind": name in SAME_KIND}
    found = by_source(drawn, pruned=False).query("source == 'predicted' and emissions == 'ar1'")
    rows = []
    for key, column in (("acf_r2", "acf_r2"), ("energy_error_pct", "delta_energy_pct")):
        claim = f"fidelity_ar1:{near}:{column}" if near else None
        seen = _spread(found[key]) if at_work else {"value": None}
        unit = "%" if key.endswith("_pct") else ""
        name = f"{SCORE_NAMES[key]} with AR(1) where phi is at least {PHI_THRESHOLD:g}"
        rows.append(record(name, unit=unit, claim=claim, **seen, **given))
    return rows


def _few_records(name: str, n_states: int, drawn: pd.DataFrame, data: str) -> list[dict]:
    """Say what AR(1) does to a model of few states, that is of wide ones which remember."""
    found = by_source(drawn, pruned=False)
    rows = []
    for source in STRATEGIES[:2]:
        for kind, part in found[found["source"] == source].groupby("emissions", sort=False):
            for key in ("ks", "acf_r2", "energy_error_pct"):
                what = f"{SCORE_NAMES[key]}, {n_states} states, {source}, {kind}"
                unit = "%" if key.endswith("_pct") else ""
                seen = _spread(part[key])
                rows.append(record(what, unit=unit, data=data, dataset=name, **seen))
    return rows


def split_found(
    parts: Split,
    data: str,
    scored: pd.DataFrame,
    pooled: pd.DataFrame,
    tests: pd.DataFrame,
    memory: pd.DataFrame,
    drawn: pd.DataFrame,
    few: tuple[int, pd.DataFrame],
) -> list[dict]:
    """Record what was found on one split."""
    given = {"data": data, "dataset": parts.name}
    rows = _scored_records(parts, scored, pooled, data)
    counts = {
        "states tested for normality": len(tests),
        "of these rejected at 5% by Shapiro and Wilk": (tests["shapiro"] < LEVEL).sum(),
        "of these rejected beyond what labelling does": (tests["against_null"] < LEVEL).sum(),
        "states whose memory exceeds chance": (memory["phi"] > memory["chance"]).sum(),
    }
    rows += [record(name, float(count), "states", **given) for name, count in counts.items()]
    rows += _decomposition_records(parts.name, drawn, data)
    rows += _ar1_records(parts.name, drawn, bool(memory["phi"].max() >= PHI_THRESHOLD), data)
    return rows + _few_records(parts.name, *few, data)


def paper_found(shifts: pd.DataFrame, ends: pd.DataFrame) -> list[dict]:
    """Record what follows from the paper's own tables."""
    given = {"data": "paper", "dataset": "mixtures + fidelity_ar1"}
    table = rank_agreement(shifts).set_index("stay")
    agreement, every = table.loc[STAY], table["rank_correlation"]
    above = (shifts.loc[shifts["stay"] == STAY, "shift_pct"] > 0).sum()
    label = f"states kept with probability {STAY:g}"
    rows = ar1_effect() + [
        record(f"energy shift of AR(1) above 0, {label}", float(above), "configurations", **given),
        record(f"energy shift of AR(1), median, {label}", agreement["median_pct"], "%", **given),
        record(f"rank correlation of shift and published rise, {label}; interval: other ones",
               agreement["rank_correlation"], "", interval=(every.min(), every.max()), **given),
    ]  # fmt: skip
    main, older = ends[ends["main"]], ends[~ends["main"]]
    given["dataset"] = "mixtures + configurations"
    for key, what, unit in (
        ("gap_pct", "mixture mean above training mean", "%"),
        ("share_pct", "idle share that explains it", "%"),
    ):
        interval = (main[key].min(), main[key].max())
        rows.append(record(f"{what}, median of the main configurations", main[key].median(), unit,
                           interval=interval, **given))  # fmt: skip
    rows.append(record("the same gap, older fits, greatest", older["gap_pct"].max(), "%", **given))
    rows += [
        record(f"error of the standard deviation, {row.explanation}, median", row.median_pct, "%",
               **given)
        for row in spread_errors(main).itertuples()
    ]  # fmt: skip
    return rows


def conclusion(drawn: dict[str, pd.DataFrame], few: dict[str, pd.DataFrame]) -> str:
    """Say in two lines a split what the sources of states and AR(1) did."""
    lines = []
    for name, each in drawn.items():
        plain = by_source(each, pruned=False).query("emissions == 'gaussian'")
        median = plain.groupby("source")["acf_r2"].median()
        wide = by_source(few[name], pruned=False).query("source == 'oracle'")
        ks = wide.groupby("emissions")["ks"].median()
        words = "nearer to" if ks["ar1"] < ks["gaussian"] else "farther from"
        lines += [
            f"{name}: greatest ACF R² with states {median.idxmax()}, least with {median.idxmin()}",
            f"{name}: known, wide states: AR(1) brings the distribution {words} the recording",
        ]
    return "\n".join(lines)
