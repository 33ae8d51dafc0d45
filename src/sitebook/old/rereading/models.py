"""A second look at the published parameters: states, features, surrogates."""

from __future__ import annotations

import pandas as pd

from sitebook.old.rereading.printed import counted
from sitetrace.core.registry import read_paper_table

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
