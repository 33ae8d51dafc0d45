"""The chapter on energy errors: by run, by method, and by both ways of putting runs together."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from sitebook.old.judging.comparison import COMPOSED, over_draws
from sitebook.old.ledger.claims import claim, claims
from sitebook.old.ledger.records import record

# the abstract's limit, and our run of the paper's own kind of configuration with its name there
LIMIT_PCT = 5.0
KINDS = {"llama-3.1-70b_h100_tp4_poisson_r4": "llama-3-70b_H100_tp4"}
FORMS = {"median_pct": "median over runs", "pooled_pct": "runs pooled"}
COLUMN = {"median_pct": "delta_energy_pct_median", "pooled_pct": "delta_energy_pct_all_heldout"}
# the paper's names of scores where they are not ours, and of the methods of its node study
SCORE = {"ks_stat": "ks", "delta_energy_pct": "energy_error_pct"}
NODE_STUDY = {
    "pooled/tdp": "nameplate",
    "pooled/mean": "mean",
    "pooled/ours": COMPOSED,
    "replay/ours": COMPOSED,
}


def forms(table: pd.DataFrame) -> pd.DataFrame:
    """Put the judged parts of each split together in both of the paper's ways."""
    keys = ["split", "method"]
    parts = over_draws(table).groupby(keys, sort=False)["energy_error_pct"]
    missed_kwh = table["energy_kwh"] * table["energy_error_signed_pct"] / 100
    drawn = table.assign(missed_kwh=missed_kwh, absolute_kwh=missed_kwh.abs())
    drawn = drawn.groupby([*keys, "draw"], sort=False)[["energy_kwh", "missed_kwh", "absolute_kwh"]]
    total = drawn.sum()
    pooled = 100 * total[["missed_kwh", "absolute_kwh"]].abs().div(total["energy_kwh"], axis=0)
    pooled = pooled.groupby(keys, sort=False).median()
    names = {"missed_kwh": "pooled_pct", "absolute_kwh": "uncancelled_pct"}
    joined = parts.agg(parts="size", median_pct="median").join(pooled.rename(columns=names))
    return joined.reset_index()


def published_forms(paper: pd.DataFrame) -> pd.DataFrame:
    """Energy errors of the paper's configurations in both forms."""
    names = {column: form for form, column in COLUMN.items()} | {"num_test_traces": "runs"}
    return paper.rename(columns=names)[["config", "runs", *FORMS]].sort_values("median_pct")


def conclusion(paper: pd.DataFrame) -> str:
    """Say how the paper's count fares in both forms."""
    below = published_forms(paper)[[*FORMS]] < LIMIT_PCT
    lines = [f"{below[form].sum()}, {name}" for form, name in FORMS.items()]
    lines.append(f"{below.all(axis=1).sum()}, both at once")
    return f"the paper: of {len(paper)} configurations below 5%\n" + "\n".join(lines)


def share_below(errors_pct: pd.Series) -> tuple[float, tuple[float, float]]:
    """Share of errors below the abstract's limit, with Wilson's 95% interval."""
    from scipy.stats import binomtest

    below = int((errors_pct < LIMIT_PCT).sum())
    ends = binomtest(below, len(errors_pct)).proportion_ci(method="wilson")
    return below / len(errors_pct), (float(ends.low), float(ends.high))


def resampled(values: np.ndarray, statistic: Callable, seed: int) -> tuple[float, float] | None:
    """Find the 95% interval of a statistic by drawing values with replacement."""
    from scipy.stats import bootstrap

    if len(values) < 2:
        return None
    rng = np.random.default_rng(seed)
    drawn = bootstrap((np.asarray(values),), statistic, method="percentile", rng=rng)
    return tuple(float(end) for end in drawn.confidence_interval)


def found(table: pd.DataFrame, paper: pd.DataFrame, dataset: str, seed: int) -> list[dict]:
    """Record energy errors by part, by method and by form, and the paper's in both forms."""
    medians = over_draws(table)
    ours = medians[medians["method"] == COMPOSED]
    return [
        *_shares(ours, paper, dataset, seed),
        *_parts(ours, dataset),
        *_both_forms(forms(table), paper, dataset, seed),
        *_methods(medians, dataset),
        *_nearest(medians[medians["judged"].isin(KINDS)], dataset),
    ]


def _shares(ours: pd.DataFrame, paper: pd.DataFrame, dataset: str, seed: int) -> list[dict]:
    """Judge our parts against the abstract's limit and the paper's count."""
    given = {"data": dataset, "dataset": f"{len(ours)} judged parts"}
    errors_pct, published = ours["energy_error_pct"], paper[COLUMN["median_pct"]]
    share, ends = share_below(errors_pct)
    scale = len(paper)
    middle, around = float(errors_pct.median()), resampled(errors_pct, np.median, seed)
    return [
        record("share of judged parts with an energy error below 5%, Wilson's interval", share, "",
               interval=ends, paper=float((published < LIMIT_PCT).mean()), better="higher",
               **given),
        record("the same share of as many as the paper has", scale * share, "configurations",
               interval=(scale * ends[0], scale * ends[1]),
               claim="headline:energy_below_5pct_configs:value", **given),
        record("median absolute energy error over judged parts", middle, "%", interval=around,
               paper=float(published.median()), better="lower", **given),
        record("the same against the abstract's limit", middle, "%", interval=around,
               claim="headline:energy_error_limit:value", **given),
    ]  # fmt: skip


def _parts(ours: pd.DataFrame, dataset: str) -> list[dict]:
    """Record each judged part by itself, absolute and signed."""
    rows = []
    for part in ours.to_dict("records"):
        given = {"data": dataset, "dataset": f"{part['fitted']} → {part['judged']}"}
        for score, name in (
            ("energy_error_pct", "absolute energy error"),
            ("energy_error_signed_pct", "signed energy error"),
        ):
            own = {"interval": (part[f"{score}_low"], part[f"{score}_high"])}
            rows.append(record(name, part[score], "%", **own, **given))
    return rows


def _both_forms(ours: pd.DataFrame, paper: pd.DataFrame, dataset: str, seed: int) -> list[dict]:
    """Judge splits, and the paper's configurations, in both forms."""
    ours = ours[ours["method"] == COMPOSED]
    rows = []
    for form, name in FORMS.items():
        published = paper[COLUMN[form]]
        below = published < LIMIT_PCT
        share, ends = share_below(ours[form])
        rows += [
            record(f"share of splits below 5%, {name}", share, "", interval=ends, data=dataset,
                   dataset=f"{len(ours)} splits", paper=float(below.mean()), better="higher"),
            record(f"share of the paper's configurations below 5%, {name}, bootstrap",
                   float(below.mean()), "", interval=resampled(below, np.mean, seed),
                   data="paper", dataset="fidelity_by_configuration"),
        ]  # fmt: skip
    gain = paper[COLUMN["median_pct"]] - paper[COLUMN["pooled_pct"]]
    given = {"data": "paper", "dataset": "fidelity_by_configuration"}
    rows += [
        record("configurations of the paper with a smaller error when runs are pooled",
               float((gain > 0).sum()), "configurations", **given),
        record("the paper's energy errors, median over runs less pooled, median", gain.median(),
               "%", interval=resampled(gain, np.median, seed), **given),
    ]  # fmt: skip
    for part in ours[ours["parts"] > 1].to_dict("records"):
        given = {"data": dataset, "dataset": part["split"]}
        names = FORMS | {"uncancelled_pct": "runs pooled, signs left out"}
        rows += [
            record(f"absolute energy error, {name}", part[form], "%", **given)
            for form, name in names.items()
        ]
    return rows


def _methods(medians: pd.DataFrame, dataset: str) -> list[dict]:
    """Judge the baselines over all parts, and by how much they are worse."""
    error_pct = medians.groupby("method", sort=False)["energy_error_pct"].median()
    parts = (medians["method"] == COMPOSED).sum()
    given = {"data": dataset, "dataset": f"{parts} judged parts"}
    published = {
        name: claim(f"node_baselines:{row}:delta_energy_pct")["value"]
        for row, name in NODE_STUDY.items()
        if row.startswith("pooled/")
    }
    rows = []
    for method, value in error_pct.drop(COMPOSED).items():
        rows.append(record(f"median absolute energy error, {method}", value, "%", **given))
        if method in published:
            rows.append(
                record(f"error of {method} over that of {COMPOSED}", value / error_pct[COMPOSED],
                       "", paper=published[method] / published[COMPOSED], better="higher", **given)
            )  # fmt: skip
    return rows


def _nearest(medians: pd.DataFrame, dataset: str) -> list[dict]:
    """Put runs of the paper's kind beside its scores of that kind and of its node study."""
    cells = claims()[claims()["kind"] == "result"]
    table, row = cells["table"], cells["row"]
    rows = []
    for judged, part in medians.groupby("judged"):
        of_kind = (table == "fidelity_by_configuration") & (row == KINDS[judged])
        near = (table == "node_baselines") & row.isin(NODE_STUDY)
        scored = part.set_index("method")
        for name, cell in cells[of_kind | near].iterrows():
            method = NODE_STUDY.get(cell["row"], COMPOSED)
            score = cell["column"].removesuffix("_median").removesuffix("_all_heldout")
            score = SCORE.get(score, score)
            said = f"{cell['what']}, {method}, beside {cell['row'].replace('_', ' ')}"
            ends = (scored.loc[method, f"{score}_low"], scored.loc[method, f"{score}_high"])
            rows.append(
                record(said, scored.loc[method, score], cell["unit"], data=dataset, dataset=judged,
                       interval=ends, claim=name, same_kind=bool(of_kind[name]))
            )  # fmt: skip
    return rows
