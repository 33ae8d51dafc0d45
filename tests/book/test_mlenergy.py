<<<<<<< HEAD
"""Traces of servers that are kept full: what is put in comes out, and bad files are named."""
=======
"""Saturated servers: traces by batch limit, and power continued to batches that were not fitted."""
>>>>>>> a2691ee8d8f58f318e92425a1be5a9f9f99b54ba

import numpy as np
import pandas as pd
import pytest

<<<<<<< HEAD
from sitebook.old.looks.mlenergy import by_batch_limit, list_traces, read_trace
=======
from sitebook.mlenergy import by_batch_limit, continued, list_traces, read_trace, states_by_bic
>>>>>>> a2691ee8d8f58f318e92425a1be5a9f9f99b54ba
from sitetrace.core.files import InputError


@pytest.fixture
<<<<<<< HEAD
def benchmark(tmp_path):
    """Write two traces of one model in the benchmark's form; the numbers are ours."""
    rng, rows = np.random.default_rng(8), []
    for limit, level, sigma in ((16, 800.0, 10.0), (8, 600.0, 5.0)):
        name = f"model_num_gpus_2_max_num_seqs_{limit}.csv"
        power_w = rng.normal(level, sigma, 900)
        trace = pd.DataFrame({"relative_time_s": np.arange(900) / 10, "power_total_W": power_w})
        trace.to_csv(tmp_path / name, index=False)
        rows.append(("model", 2, limit, f"traces/{name}"))
    columns = ["model_label", "num_gpus", "max_num_seqs", "trace_file"]
    pd.DataFrame(rows, columns=columns).to_csv(tmp_path / "traces_summary.csv", index=False)
    return tmp_path


def test_benchmark_traces_are_described_a_gpu_by_batch_limit(benchmark):
    limits = by_batch_limit(benchmark)
=======
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
>>>>>>> a2691ee8d8f58f318e92425a1be5a9f9f99b54ba
    assert limits["batch_limit"].to_list() == [8, 16]
    assert limits["mean_w"].to_numpy() == pytest.approx([300.0, 400.0], rel=0.01)
    assert limits["sd_w"].to_numpy() == pytest.approx([2.5, 5.0], rel=0.1)
    assert read_trace(limits["path"][0]).dt_s == 0.1
<<<<<<< HEAD


def test_a_benchmark_file_that_is_not_one_is_named(benchmark):
    trace = next(benchmark.glob("model*"))
=======
    assert states_by_bic(limits["path"][0], 1) == 1


def test_a_file_that_is_not_one_is_named(folder):
    trace = folder / "model_8.csv"
>>>>>>> a2691ee8d8f58f318e92425a1be5a9f9f99b54ba
    pd.DataFrame({"relative_time_s": [0.0, 0.1, 0.9], "power_total_W": 1.0}).to_csv(trace)
    with pytest.raises(InputError, match="no even step"):
        read_trace(trace)
    trace.unlink()
<<<<<<< HEAD
    with pytest.raises(InputError, match=trace.name):
        list_traces(benchmark)
=======
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
>>>>>>> a2691ee8d8f58f318e92425a1be5a9f9f99b54ba
