"""What the papers print, and what follows from it."""

from collections.abc import Callable, Sequence
from itertools import product

import pandas as pd

from sitebook.ledger import answer, claims
from sitetrace.core.registry import read_paper_table as paper_table

__all__ = ["derived", "follow", "paper_table", "printed", "published_means", "ranges"]

Formula = Callable[..., float]


def printed(claim: str) -> float:
    """Look up the number that a claim prints."""
    return float(claims().loc[claim, "value"])


def derived(formula: Formula, *by_order: str, **by_name: str) -> tuple[float, float, float]:
    """Work a formula out on claims' numbers: value, low and high at all corners of rounding."""
    known = claims().loc[[*by_order, *by_name.values()]]
    value, slack = known["value"].to_numpy(), known["rounding"].to_numpy()

    def worked(numbers: Sequence[float]) -> float:
        first = len(by_order)
        return formula(*numbers[:first], **dict(zip(by_name, numbers[first:], strict=True)))

    corners = [worked(c) for c in product(*zip(value - slack, value + slack, strict=True))]
    return worked(value), min(corners), max(corners)


def ranges(formula: Formula, printed: dict[object, Sequence[str]]) -> pd.DataFrame:
    """Tabulate what a formula gives on several sets of printed numbers."""
    rows = {name: derived(formula, *cells) for name, cells in printed.items()}
    return pd.DataFrame(rows, index=["value", "low", "high"]).T


def follow(formula: Formula, printed: dict[str, Sequence[str]]) -> pd.DataFrame:
    """Answer claims by a formula on other printed numbers; their own rounding counts too."""
    rows, told = ranges(formula, printed), claims().loc[[*printed]]
    rows["low"], rows["high"] = rows["low"] - told["rounding"], rows["high"] + told["rounding"]
    for claim, (value, low, high) in rows.iterrows():
        answer(claim, value, (low, high), of="rounding")
    rows.insert(0, "printed", told["value"])
    rows.insert(0, "number", told["what"] + ": " + told["row"])
    rows["follows"] = (
        rows["printed"].between(rows["low"], rows["high"]).map({True: "yes", False: "no"})
    )
    return rows.set_index("number")


def published_means() -> pd.DataFrame:
    """Mean power of each configuration, as its mixture and as its normalisation have it."""
    # EM leaves a mixture with the mean of its samples: the two agree if they stand for the same
    mixtures, known = paper_table("mixtures"), paper_table("configurations").set_index("config")
    mean_w = (mixtures["mean_w"] * mixtures["weight"]).groupby(mixtures["config"]).sum()
    means = {"mixture_w": mean_w[known.index], "normalisation_w": known["power_mean_w"]}
    return pd.DataFrame(means).assign(main=known.index.isin(paper_table("run_summary")["config"]))
