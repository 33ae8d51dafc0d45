"""The paper's states as published: its mixtures by nameplate, its BIC by number of states."""

from __future__ import annotations

import pandas as pd

from sitetrace.core.registry import device, read_paper_table


def published_bic() -> pd.DataFrame:
    """List the BIC that the paper's repository prints."""
    table = read_paper_table("run_summary").set_index("config")
    long = table.filter(regex="^bic_k").rename(columns=lambda name: int(name[5:]))
    rows = long.rename_axis(columns="n_states").stack().rename("bic").reset_index()
    return rows.assign(samples=rows["config"].map(table["num_train_points"]))


def published_states() -> pd.DataFrame:
    """List all published states in units of their nameplate."""
    known = read_paper_table("configurations").set_index("config")
    tdp_w = known["gpu"].map(lambda gpu: device(gpu)["tdp_w"]) * known["tensor_parallel"]
    table = read_paper_table("mixtures")
    nameplate_w = table["config"].map(tdp_w)
    return table.assign(
        gpu=table["config"].map(known["gpu"]),
        mean=table["mean_w"] / nameplate_w,
        sigma=table["sigma_w"] / nameplate_w,
    )[["config", "gpu", "state", "mean", "sigma", "weight"]]
