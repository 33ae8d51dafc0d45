"""Traces of servers that are kept full: what is put in comes out, and bad files are named."""

import numpy as np
import pandas as pd
import pytest

from sitebook.old.looks.mlenergy import by_batch_limit, list_traces, read_trace
from sitetrace.core.files import InputError


@pytest.fixture
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
    assert limits["batch_limit"].to_list() == [8, 16]
    assert limits["mean_w"].to_numpy() == pytest.approx([300.0, 400.0], rel=0.01)
    assert limits["sd_w"].to_numpy() == pytest.approx([2.5, 5.0], rel=0.1)
    assert read_trace(limits["path"][0]).dt_s == 0.1


def test_a_benchmark_file_that_is_not_one_is_named(benchmark):
    trace = next(benchmark.glob("model*"))
    pd.DataFrame({"relative_time_s": [0.0, 0.1, 0.9], "power_total_W": 1.0}).to_csv(trace)
    with pytest.raises(InputError, match="no even step"):
        read_trace(trace)
    trace.unlink()
    with pytest.raises(InputError, match=trace.name):
        list_traces(benchmark)
