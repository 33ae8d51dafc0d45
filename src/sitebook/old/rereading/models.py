"""A second look at the published parameters: states, features, surrogates."""

from __future__ import annotations

import numpy as np
import pandas as pd

from sitebook.old.rereading.printed import counted, derived
from sitetrace.core.registry import read_paper_table

# a long prompt of the paper's recordings, and a short one
LONG_PROMPT, SHORT_PROMPT = 1020, 100


def states_by_bic() -> list[dict]:
    """Count where BIC is least among the published numbers of states."""
    bic = read_paper_table("run_summary").filter(regex="^bic_k")
    least = bic.idxmin(axis=1).value_counts()
    return [
        counted(f"BIC least at K = {name[5:]}", least.get(name, 0), "configurations", "run_summary")
        for name in bic
    ]


def published_means() -> pd.DataFrame:
    """Mean power of each configuration, as its mixture and as its normalisation have it.

    EM leaves a mixture with the mean of its samples: the two agree if they stand for the same ones.
    """
    mixtures = read_paper_table("mixtures")
    mean_w = (mixtures["mean_w"] * mixtures["weight"]).groupby(mixtures["config"]).sum()
    known = read_paper_table("configurations").set_index("config")
    main = known.index.isin(read_paper_table("run_summary")["config"])
    return pd.DataFrame(
        {"mixture_w": mean_w[known.index], "normalisation_w": known["power_mean_w"], "main": main}
    )


def mixture_means() -> list[dict]:
    """Compare the means of the published mixtures with the published training means."""
    means = published_means()
    excess_pct = 100 * (means["mixture_w"] / means["normalisation_w"] - 1)
    main, older = excess_pct[means["main"]], excess_pct[~means["main"]]
    tables = "mixtures + configurations"
    return [
        counted("mixture mean above training mean, least", main.min(), "%", tables),
        counted("mixture mean above training mean, median", main.median(), "%", tables),
        counted("mixture mean above training mean, greatest", main.max(), "%", tables),
        counted("the same, older fits, greatest", older.max(), "%", tables),
    ]


def feature_study() -> list[dict]:
    """Read the signs of the feature-sufficiency study."""
    table = read_paper_table("feature_sufficiency").set_index("features")
    others = table.drop(index="F6")
    name = "feature_sufficiency"
    worse = (others["relative"] > 1) & (others["ir"] < table.loc["F6", "ir"])
    return [
        counted("feature sets judged", len(table), "sets", name),
        counted("explained share below zero", (table["ir"] < 0).sum(), "sets", name),
        counted("upper end below zero", (table["ir_high"] < 0).sum(), "sets", name),
        counted("ratio above one and worse than F6", worse.sum(), "sets", name),
    ]


def information_criterion() -> list[dict]:
    """Check the estimates behind the criterion that two features inform as well as six.

    Six include the two and can't inform less: an estimate that says so is an estimator's error.
    """
    table = read_paper_table("conditional_information")

    def cells(config: str, *features: str) -> list[str]:
        return [f"conditional_information:{config}/{f}:information_share" for f in features]

    def less(first: float, second: float) -> float:
        return first - second

    rows = []
    for config in dict.fromkeys(table["config"]):
        rows += [
            derived(f"six features less two, {config}", less, cells(config, "F6", "F2")),
            derived(f"two features less the count alone, {config}", less, cells(config, "F2", "A")),
        ]
    return rows


def surrogate_counts() -> list[dict]:
    """Compare the surrogate's active requests with the measured ones."""
    table = read_paper_table("surrogate_validity").dropna().set_index("config")
    rows = [
        derived(
            f"active requests, surrogate over measured, {config}",
            lambda surrogate, measured: surrogate / measured,
            [f"surrogate_validity:{config}:active_{kind}" for kind in ("surrogate", "measured")],
        )
        for config in table.index
    ]
    over = sum(row["interval"][0] > 1 for row in rows)
    worst = table["rmse"].idxmax()
    bias = [f"surrogate_validity:{worst}:active_{kind}" for kind in ("surrogate", "measured")]
    median = float(np.median([row["value"] for row in rows]))
    name = "surrogate_validity"
    return [
        counted("configurations with recorded times", len(rows), "configurations", name),
        counted("overestimated beyond rounding", over, "configurations", name),
        counted("surrogate over measured, median", median, "", name),
        counted(f"greatest RMSE, {worst}", table.loc[worst, "rmse"], "requests", name),
        derived(f"of which bias, {worst}", lambda a, b: a - b, bias, "requests"),
        *rows,
    ]


def surrogate_prefill() -> list[dict]:
    """Compare the two surrogates' prefill: constant token rate against log-normal.

    The rate is tokens over TTFT: where that is mostly overhead, long prompts take far too long.
    """
    table = read_paper_table("serving_surrogate").dropna()
    rows = []
    for tokens in (SHORT_PROMPT, LONG_PROMPT):
        lognormal_s = np.exp(table["alpha"] + table["beta"] * np.log(tokens))
        ratio = tokens / table["lambda_prefill_tok_s"] / lognormal_s
        for word, value in (
            ("least", ratio.min()),
            ("median", ratio.median()),
            ("greatest", ratio.max()),
        ):
            name = f"prefill of {tokens} tokens, constant rate over log-normal, {word}"
            rows.append(counted(name, value, "", "serving_surrogate"))
    return rows
