"""The chapter transfer: what carries, what does not, and that nothing judged was fitted."""

import pandas as pd
import pytest

from sitebook.old.chapters import transfer
from sitebook.old.judging.splits import split


@pytest.fixture(scope="module")
def traffic():
    return transfer.across_traffic(["testbed"], 1, 1)


def test_every_judged_part_of_a_split_is_scored_once(traffic):
    assert traffic["judged"].tolist() == [part.run for part in split("testbed").judge]
    assert traffic["energy_error_pct"].lt(10).all()
    assert traffic["ks"].between(0, 1).all()


def test_the_judged_boards_idle_power_helps_where_it_differs():
    boards = transfer.across_boards(["testbed"], 1, 1)
    assert {"judged", "idle_w", "kept", "own"} == set(boards)
    assert boards["idle_w"].abs().lt(5).all()


def test_a_curve_fitted_on_low_batches_saturates_where_a_line_does_not(measured):
    limits = transfer.saturated(measured / "mlenergy_h100")
    judged = limits[limits["judged"]]
    off = {
        form: (judged[f"{form}_w"] / judged["mean_w"] - 1).abs().median()
        for form in ("line", "surface")
    }
    assert off["surface"] < 0.15 < off["line"]
    for _, part in limits.groupby("model"):
        fitted = part.loc[~part["judged"], "batch_limit"].max()
        assert fitted < part.loc[part["judged"], "batch_limit"].min()


def test_a_fitted_model_beats_a_carried_one_and_the_later_one_at_home(measured):
    names = ["qwen3-8b_h100_cut", "llama-3.1-70b_h100_cut"]
    table = transfer.across_machines(names, 1, 1)
    assert len(table) == 6
    for _, part in table.groupby("to"):
        error = part.set_index("changed")["energy_error_pct"]
        assert error["fitted"] < error.drop("fitted").min()
    rows = transfer.found(transfer.across_traffic(names, 1, 1), table, pd.DataFrame(), "measured")
    assert {row["data"] for row in rows} == {"measured"}
    assert any("changed: model, GPUs" in row["name"] for row in rows)
