"""Saturated servers: traces by batch limit, and power continued to batches that were not fitted."""

import numpy as np
import pandas as pd
import pytest

from sitebook.mlenergy import by_batch_limit, continued, list_traces, read_trace, states_by_bic
from sitetrace.core.files import InputError


@pytest.fixture
def folder(tmp_path):
    rng, rows = np.random.default_rng(1), []
    for limit, watts in ((16, 800.0), (8, 600.0)):
        power_w = watts + 0.0125 * watts * rng.standard_normal(600) * (1 if limit == 16 else 2 / 3)
        columns = {"relative_time_s": 0.1 * np.arange(600), "power_total_W": power_w}
        pd.DataFrame(columns).to_csv(tmp_path / f"model_{limit}.csv", index=False)
        file = f"traces/model_{limit}.csv"
        rows.append({"model_label": "m", "num_gpus": 2, "max_num_seqs": limit, "trace_file": file})
    pd.DataFrame(rows).to_csv(tmp_path / "traces_summary.csv", index=False)
    return tmp_path


def test_traces_are_described_a_gpu_by_batch_limit(folder):
    limits = by_batch_limit(folder)
    assert limits["batch_limit"].to_list() == [8, 16]
    assert limits["mean_w"].to_numpy() == pytest.approx([300.0, 400.0], rel=0.01)
    assert limits["sd_w"].to_numpy() == pytest.approx([2.5, 5.0], rel=0.1)
    assert read_trace(limits["path"][0]).dt_s == 0.1
    assert states_by_bic(limits["path"][0], 1) == 1


def test_a_file_that_is_not_one_is_named(folder):
    trace = folder / "model_8.csv"
    pd.DataFrame({"relative_time_s": [0.0, 0.1, 0.9], "power_total_W": 1.0}).to_csv(trace)
    with pytest.raises(InputError, match="no even step"):
        read_trace(trace)
    trace.unlink()
    with pytest.raises(InputError, match="named in traces_summary.csv but not there"):
        list_traces(folder)


def test_a_line_goes_on_where_the_surface_is_held_to_the_design_power():
    batch = np.array([1.0, 2.0, 4.0, 8.0, 1000.0])
    limits = pd.DataFrame({"model": "m", "batch_limit": batch, "mean_w": 200.0 + 10.0 * batch})
    told = continued(limits)
    assert told["judged"].to_list() == [False, False, False, True, True]
    assert told["line_w"].to_numpy() == pytest.approx(limits["mean_w"].to_numpy())
    assert told["surface_w"].iloc[3] == pytest.approx(280.0, rel=0.01)
    assert told["surface_w"].iloc[4] == 700.0


def test_a_curve_fitted_on_low_batches_saturates_where_a_line_does_not(measured):
    limits = by_batch_limit(measured / "mlenergy_h100")
    told = pd.concat([continued(part) for _, part in limits.groupby("model")]).query("judged")
    off = {
        form: (told[f"{form}_w"] / told["mean_w"] - 1).abs().median()
        for form in ("line", "surface")
    }
    assert off["surface"] < 0.15 < off["line"]
