"""Who is best on the same seconds: by which score, in how many judged parts, and by how much."""

from __future__ import annotations

import numpy as np
import pandas as pd

from sitebook.old.judging.comparison import labels, over_draws
from sitetrace.evaluate.judge import CLOCKS, SPANS
from sitetrace.evaluate.metrics import SCORES

FLOOR = "floor: "
COLUMNS = tuple(
    f"{score}{'_1s' if clock == '1s' else ''}{'_busy' if span == 'busy' else ''}"
    for clock in CLOCKS
    for span in SPANS
    for score in SCORES
    if score != "n_samples"
)
# what the models are ranked by: name, unit, and whether more is better
RANKED = {
    "energy_error_pct": ("energy error", "%", False),
    "ks": ("KS", "", False),
    "ks_busy": ("KS, busy", "", False),
    "acf_r2": ("ACF R²", "", True),
    "acf_r2_busy": ("ACF R², busy", "", True),
    "nrmse_1s": ("NRMSE, 1 s", "", False),
    "correlation_1s_busy": ("correlation, 1 s, busy", "", True),
    "p99_error_pct": ("99th percentile error", "%", False),
}
MAIN = ("energy_error_pct", "ks", "nrmse_1s", "acf_r2")


def by_part(table: pd.DataFrame) -> pd.DataFrame:
    """Medians over the draws, with the name of each part."""
    medians = over_draws(table, COLUMNS)
    return medians.assign(part=labels(medians))


def over_parts(medians: pd.DataFrame) -> pd.DataFrame:
    """Medians over all judged parts by method."""
    methods = medians.groupby("method", sort=False)
    table = methods[list(RANKED)].median()
    table.insert(0, "parts", methods.size())
    order = sorted(table.index, key=lambda name: name.startswith(FLOOR))
    return table.loc[order].reset_index()


def contest(medians: pd.DataFrame, name: str) -> pd.DataFrame:
    """Lay one score of all methods side by side, floors left out."""
    entered = medians[~medians["method"].str.startswith(FLOOR)]
    if name.startswith("correlation"):
        entered = entered.fillna({name: 0.0})
    wide = entered.pivot(index=["split", "judged"], columns="method", values=name)
    return (-wide if RANKED[name][2] else wide)[entered["method"].unique()]


def ranks(medians: pd.DataFrame) -> pd.DataFrame:
    """Rank the methods in each part by each score, 1 the best."""
    from scipy.stats import rankdata

    columns = {}
    for name in RANKED:
        wide = contest(medians, name)
        place = rankdata(wide.to_numpy(), axis=1, nan_policy="omit")
        columns[name] = pd.Series(np.nanmean(place, axis=0), index=wide.columns)
    table = pd.DataFrame(columns)
    return table.assign(all=table.mean(axis=1)).sort_values("all", kind="stable").reset_index()


def steady(medians: pd.DataFrame) -> dict[str, str]:
    """See who comes first by `ranks` when one recording is left out.

    Parts of one board and one set of prompts are not independent: no test of significance is made.
    """
    judged = medians["judged"].unique()
    return {
        run: ranks(medians[medians["judged"] != run])["method"].iloc[0]
        for run in judged
        if judged.size > 1
    }


def winners(medians: pd.DataFrame, method: str) -> pd.DataFrame:
    """Say who is best by each score."""
    rows = []
    for name, (label, _, more) in RANKED.items():
        wide = contest(medians, name)
        middle, times = wide.median(), wide.idxmin(axis=1).value_counts()
        best, sign = middle.idxmin(), -1 if more else 1
        rows.append(
            {"score": label, "best": best, "median": sign * middle[best]}
            | {"most_often": " / ".join(sorted(times.index[times == times.max()]))}
            | {"times": int(times.max()), "parts": len(wide)}
            | {"own": sign * middle[method], "own_times": int(times.get(method, 0))}
        )
    return pd.DataFrame(rows)


def duels(medians: pd.DataFrame, method: str) -> pd.DataFrame:
    """Count the parts in which one method is better, against each other method."""
    rows = {}
    for name in RANKED:
        wide = contest(medians, name)
        for other in wide.columns.drop(method):
            met = rows.setdefault(other, {"against": other, "parts": int(wide[other].count())})
            met[name] = int((wide[method] < wide[other]).sum())
    return pd.DataFrame(list(rows.values()))


def losses(medians: pd.DataFrame, method: str) -> pd.DataFrame:
    """Where another method is better than one, beyond what its draws leave open."""
    rows, by_part_ = [], medians.set_index(["split", "judged"])
    own_rows = by_part_[by_part_["method"] == method]
    for name in MAIN:
        wide, (label, _, more) = contest(medians, name), RANKED[name]
        sign = -1 if more else 1
        reach = sign * own_rows[f"{name}_{'high' if more else 'low'}"]
        ahead = wide.lt(reach.loc[wide.index], axis=0)
        for key in wide.index[ahead.any(axis=1)]:
            best, own = wide.loc[key].idxmin(), own_rows.loc[key]
            found = {"score": label, "part": own["part"], "own": own[name], "best": best}
            found |= {"its_score": sign * wide.loc[key, best], "better": int(ahead.loc[key].sum())}
            rows.append(found | {"gap": sign * own[name] - wide.loc[key, best]})
    columns = ["score", "part", "own", "best", "its_score", "better", "gap"]
    table = pd.DataFrame(rows, columns=columns)
    labels_ = [RANKED[name][0] for name in MAIN]
    table["score"] = pd.Categorical(table["score"], labels_, ordered=True)
    table = table.sort_values(["score", "gap"], ascending=[True, False], kind="stable")
    return table.drop(columns="gap").reset_index(drop=True)
