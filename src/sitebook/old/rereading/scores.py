"""A second look at the published scores of servers."""

from __future__ import annotations

from sitebook.old.ledger.claims import claim
from sitebook.old.rereading.models import published_means
from sitebook.old.rereading.printed import counted, derived
from sitetrace.core.registry import read_paper_table

MODELS_IN_BOTH = ("llama-405b", "deepseek-70b", "llama-70b", "deepseek-8b", "llama-8b")
TABLES = "node_baselines + configurations + mixtures + settings"


def below_limit() -> list[dict]:
    """Count the configurations whose energy error is below the abstract's limit."""
    table = read_paper_table("fidelity_by_configuration")
    limit_pct = claim("headline:energy_error_limit:value")["value"]
    unit, name = "configurations", "fidelity_by_configuration"
    below = {
        form: (table[f"delta_energy_pct_{form}"] < limit_pct).sum()
        for form in ("median", "all_heldout")
    }
    headline = "headline:energy_below_5pct_configs:value"
    return [
        counted("energy error below the limit", below["median"], unit, name, headline),
        counted("configurations judged", len(table), unit, name, "headline:configurations:value"),
        counted("the same, test runs pooled", below["all_heldout"], unit, name),
    ]


def ar1_effect() -> list[dict]:
    """Compare the scores with AR(1) within states to those of independent draws."""
    drawn = read_paper_table("fidelity_by_configuration").set_index("config")
    ar1 = read_paper_table("fidelity_ar1").set_index("config").loc[drawn.index]
    fall = drawn["acf_r2_median"] - ar1["acf_r2"]
    rise = ar1["delta_energy_pct"] - drawn["delta_energy_pct_median"]
    tables = "fidelity_ar1 + fidelity_by_configuration"
    rows = [
        counted("ACF R² lower with AR(1)", (fall > 0).sum(), "configurations", tables),
        counted("energy error greater with AR(1)", (rise > 0).sum(), "configurations", tables),
        counted("fall of ACF R², median", fall.median(), "", tables),
        counted("rise of the energy error, median", rise.median(), "%", tables),
    ]
    better = rise[rise <= 0]
    return rows + [
        counted(f"change of the energy error, {config}", change, "%", tables)
        for config, change in better.items()
    ]


def march_files() -> list[dict]:
    """Compare the two fidelity files of March, model by model and score by score."""
    units = {"ks": "", "acf_r2": "", "nrmse": "", "energy_signed_pct": "%"}
    rows = [
        derived(
            f"{score.removesuffix('_pct').replace('_', ' ')}, {model}, second file less first",
            lambda second, first: second - first,
            [
                f"march_fidelity:{file}/{model}:{score}"
                for file in ("node_level_summary", "trace_fidelity_table")
            ],
            unit,
        )
        for model in MODELS_IN_BOTH
        for score, unit in units.items()
    ]
    agreeing = sum(row["interval"][0] <= 0 <= row["interval"][1] for row in rows)
    return [
        counted("scores of the two files compared", len(rows), "scores", "march_fidelity"),
        counted("of these agreeing within rounding", agreeing, "scores", "march_fidelity"),
        *rows,
    ]


def pruning() -> list[dict]:
    """Undo the removal of the worst run in the decomposition."""
    table = read_paper_table("decomposition")
    gain = table["delta_energy_pct_noprune"] - table["delta_energy_pct"]
    lower = table["acf_r2"] < table["acf_r2_noprune"]
    share_pct = 100 * gain / table["delta_energy_pct_noprune"]
    known = table.loc[table["strategy"] == "oracle", "delta_energy_pct_noprune"]
    by_strategy = table.pivot(index="config", columns="strategy", values="delta_energy_pct_noprune")
    beaten = by_strategy["predicted"] > by_strategy["marginal"]
    name = "decomposition"
    return [
        counted("energy error with states known, all runs, greatest", known.max(), "%", name),
        counted("predicted worse than drawn by weight", beaten.sum(), "configurations", name),
        counted("cells of configuration and strategy", len(table), "cells", name),
        counted("energy error less without the worst run", (gain > 0).sum(), "cells", name),
        counted("ACF R² lower without the worst run", lower.sum(), "cells", name),
        *(
            counted(f"share of the energy error removed, {strategy}, median", median, "%", name)
            for strategy, median in share_pct.groupby(table["strategy"], sort=False)
            .median()
            .items()
        ),
    ]


def node_nameplate() -> list[dict]:
    """Find which nameplate the energy errors of the node baselines imply.

    A mean off by m was judged on power mean/(1 + m); a nameplate off by e is (1 + e) of that.
    """
    means = published_means().loc["llama-3-70b_A100_tp4"]
    eight_chips_w = 8 * claim("settings:chip_tdp_a100:value")["value"]
    older_w = claim("settings:tdp_8_a100:value")["value"]
    errors = [f"node_baselines:pooled/{method}:delta_energy_pct" for method in ("tdp", "mean")]
    rows = []
    for source in ("normalisation", "mixture"):  # which training mean it used is open
        # bound as a default: each source has its own mean
        def implied_w(tdp: float, mean: float, mean_w: float = means[f"{source}_w"]) -> float:
            return mean_w * (1 + tdp / 100) / (1 + mean / 100)

        said = f"training mean of the {source}"
        rows.append(derived(f"nameplate implied, {said}", implied_w, errors, "W"))
        watts = rows[-1]["value"]
        rows += [
            counted(f"above eight chips, {said}", 100 * (watts / eight_chips_w - 1), "%", TABLES),
            counted(f"above the older study's, {said}", 100 * (watts / older_w - 1), "%", TABLES),
        ]
    return rows


def generation_modes() -> list[dict]:
    """See how mixture-of-experts models were generated in March and in the archive."""
    table = read_paper_table("fidelity_by_configuration")
    experts = table["config"].str.startswith("gpt-oss")
    independent = table["generation_mode"] == "iid"
    march = read_paper_table("march_fidelity")
    march = march[march["model"].str.startswith("gpt-oss")]
    now = table.loc[experts, "delta_energy_pct_median"]
    unit, name = "configurations", "fidelity_by_configuration"
    signed = march.set_index("model")["energy_signed_pct"]
    return [
        counted("archive: independent draws", independent.sum(), unit, name),
        counted("of these mixture-of-experts", (independent & experts).sum(), unit, name),
        counted("archive: mixture-of-experts, mean absolute energy error", now.mean(), "%", name),
        *(
            counted(
                f"March, AR(1): mean signed energy error, {model}", error, "%", "march_fidelity"
            )
            for model, error in signed.items()
        ),
    ]
