"""A second look at the published scores of servers."""

from __future__ import annotations

from sitebook.old.rereading.printed import counted
from sitetrace.core.registry import read_paper_table

MODELS_IN_BOTH = ("llama-405b", "deepseek-70b", "llama-70b", "deepseek-8b", "llama-8b")

TABLES = "node_baselines + configurations + mixtures + settings"


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
