"""The first chapter: what nameplate power costs, and what the paper claims."""

from __future__ import annotations

import pandas as pd

from sitebook.old.chapters.published import configurations
from sitebook.old.judging.comparison import runs_of
from sitebook.old.ledger.claims import claims
from sitebook.old.ledger.records import record
from sitetrace.core.registry import device, read_paper_table

KW_PER_MW = 1000.0
# chapter that answers, what is claimed, and the claims that its numbers come from: a row * stands
# for the range over all rows
CLAIMS = (
    (
        "states",
        "The power of a server is a mixture of a few Gaussian states ({} for every configuration).",
        ("settings:states:value",),
    ),
    (
        "distributions",
        "The distribution of generated power is like the measured one (KS {}).",
        ("fidelity_by_configuration:*:ks_stat_median",),
    ),
    (
        "distributions",
        "Within a state power is drawn independently; drawn as AR(1), the ACF R² is {}.",
        ("fidelity_ar1:*:acf_r2",),
    ),
    (
        "transitions",
        "The active requests and their change say which state comes next as well as six features "
        "do ({} of what these gain, as printed).",
        ("feature_sufficiency:F2:relative",),
    ),
    (
        "composing",
        "Composed, the parts give power for requests that were never measured, step by step.",
        (),
    ),
    (
        "energy-errors",
        "Most configurations ({} of {}) have a median absolute energy error below {}%.",
        (
            "headline:energy_below_5pct_configs:value",
            "headline:configurations:value",
            "headline:energy_error_limit:value",
        ),
    ),
    (
        "energy-errors",
        "Simpler methods do worse: energy errors of {}% for nameplate, {}% for mean power, {}% for "
        "a look-up table, and {}% for the paper's own, on one configuration.",
        tuple(
            f"node_baselines:pooled/{method}:delta_energy_pct"
            for method in ("tdp", "mean", "splitwise", "ours")
        ),
    ),
    (
        "acf",
        "A generated trace remembers its past as the measured one does (ACF R² {}).",
        ("fidelity_by_configuration:*:acf_r2_median",),
    ),
    (
        "published",
        "Two token rates a configuration stand for serving: the active requests that they give "
        "correlate with the measured ones ({}).",
        ("surrogate_validity:*:correlation",),
    ),
    (
        "site",
        "Servers that serve the same day do not smooth each other out: one varies by {} of its "
        "mean, the sum of {} by {}, where independent ones would by {}.",
        (
            "cov_by_servers:1:cov",
            "settings:servers:value",
            "cov_by_servers:240:cov",
            "cov_by_servers:240:cov_theory",
        ),
    ),
    (
        "site",
        "Resolution hides peaks: peak to average falls from {} at 0.25 s to {} at 15 minutes.",
        ("par_by_resolution:0.25:par", "par_by_resolution:900:par"),
    ),
    (
        "sizing",
        "A site sized on traces needs a transformer of {} MVA, sized on nameplate {} MVA.",
        ("sizing:transformer/ours:value", "sizing:transformer/tdp:value"),
    ),
    (
        "oversubscription",
        "A row holds {} racks by traces and {} by nameplate.",
        ("oversubscription:ours:racks", "oversubscription:tdp:racks"),
    ),
    ("modulation", "Traces show what modulating power would do (no number is published).", ()),
)


def server_shares(dataset: str) -> pd.DataFrame:
    """Compare the power of servers with what their nameplate allows."""
    if dataset == "paper":
        table = configurations().reset_index()
        table = table.rename(
            columns={"config": "server", "power_mean_w": "mean_w", "power_max_w": "max_w"}
        )
    else:
        table = pd.DataFrame(
            {
                "server": run.name,
                "nameplate_w": device(run.configuration.hardware)["tdp_w"]
                * run.configuration.tensor_parallel,
                "mean_w": run.samples["power_w"].mean(),
                "max_w": run.samples["power_w"].max(),
            }
            for run in runs_of(dataset)
        )
    for name in ("mean", "max"):
        table[f"{name}_share"] = table[f"{name}_w"] / table["nameplate_w"]
    columns = ["server", "nameplate_w", "mean_w", "max_w", "mean_share", "max_share"]
    return table[columns]


def site_table() -> pd.DataFrame:
    """Read what the paper's facility study prints for each way of estimating it."""
    table = read_paper_table("sizing")
    table = table.pivot(index="method", columns="quantity", values="value")
    table = table[["mean", "peak", "transformer"]].sort_values("peak", ascending=False)
    table.columns = ["mean_mw", "peak_mw", "transformer_mva"]
    table["unused_share"] = 1 - table["peak_mw"] / table.loc["tdp", "peak_mw"]
    return table.reset_index()


def claim_list(pages: set[str]) -> str:
    """Write what the paper claims as a list, each item with the chapter that answers it."""
    known = claims()
    lines = []
    for number, (chapter, text, names) in enumerate(CLAIMS, start=1):
        said = text.format(*(_printed(known, name) for name in names))
        lines.append(f"{number}. {said} {_answered(chapter, pages)}")
    return "\n".join(lines)


def _printed(known: pd.DataFrame, name: str) -> str:
    table, row, column = name.split(":")
    if row != "*":
        return f"{known.loc[name, 'value']:g}"
    values = known["value"][(known["table"] == table) & (known["column"] == column)]
    return f"{values.min():.3g} to {values.max():.3g} over {len(values)} configurations"


def _answered(chapter: str, pages: set[str]) -> str:
    for page in (chapter, f"{chapter}-testbed"):
        if page in pages:
            return f"→ [{chapter.replace('-', ' ')}]({page})"
    return f"→ later chapter: {chapter}"


def found(table: pd.DataFrame, dataset: str) -> list[dict]:
    """Record what nameplate power costs."""
    given = {"data": dataset, "dataset": f"{len(table)} servers"}
    rows = []
    for name, text in (("mean_share", "mean"), ("max_share", "greatest sample")):
        ends = (table[name].min(), table[name].max())
        rows.append(
            record(f"{text} over nameplate", table[name].median(), "", interval=ends, **given)
        )
    above = int((table["max_share"] > 1).sum())
    rows.append(record("servers with a sample above nameplate", above, "servers", **given))
    if dataset != "paper":
        for row in table.itertuples():
            one = {"data": dataset, "dataset": row.server}
            rows.append(record("mean over nameplate", row.mean_share, "", **one))
            rows.append(record("greatest sample over nameplate", row.max_share, "", **one))
        return rows
    return rows + _site_records()


def _site_records() -> list[dict]:
    """Compute the nameplate of the paper's site from its settings, and what its peak leaves."""
    setting = read_paper_table("settings").set_index("name")["value"]
    server_w = setting["facility_tdp_gpus"] * setting["facility_tdp_gpu"] + setting["overhead"]
    nameplate_kw = setting["servers"] * server_w * setting["pue"] / KW_PER_MW
    unused = site_table().set_index("method")["unused_share"]
    site = {"data": "paper", "dataset": "its facility study"}
    return [
        record("nameplate of the site from its settings", nameplate_kw, "kW",
               claim="facility_constants:B/tdp:power_kw", **site),
        record("share of the site's nameplate that its generated peak leaves unused",
               unused["ours"], "", **site),
    ]  # fmt: skip
