"""What the authors report of the fidelity of their models, beside which ours is put."""

from __future__ import annotations

import pandas as pd

from sitetrace.core.registry import read_paper_table


def reported() -> pd.DataFrame:
    """Gather what the authors report: the paper's models at 0.25 s, the later one at 1 s."""
    paper = read_paper_table("fidelity_by_configuration")
    later = read_paper_table("later_fidelity")
    of_paper = {
        "energy error [%]": paper["delta_energy_pct_median"],
        "KS, 0.25 s": paper["ks_stat_median"],
        "NRMSE, 0.25 s": paper["nrmse_median"],
        "ACF R², 0.25 s": paper["acf_r2_median"],
    }
    of_later = {
        "energy error [%]": later["energy_error_pct"],
        "KS, 1 s": 1.0 - later["ks_agreement"],
        "NRMSE, 1 s": later["nrmse_pct"] / 100.0,
        "ACF R², 1 s": later["acf_r2"],
    }
    rows = []
    for name, columns in (("the paper's, reported", of_paper), ("later, reported", of_later)):
        count = f"{len(columns['energy error [%]'])} configurations or models"
        rows += [
            {"model": f"{name}: {how}", "judged": count} | pd.DataFrame(columns).agg(how).to_dict()
            for how in ("median", "min", "max")
        ]
    return pd.DataFrame(rows)
