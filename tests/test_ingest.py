"""Foreign recordings become runs on one clock; samples/README.md says where the files are from."""

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sitetrace.core.files import InputError
from sitetrace.measured import ingestion
from sitetrace.measured.ingestion import ingest, read_meter, read_vllm_requests
from sitetrace.measured.rundir import read_run

SAMPLES = Path(__file__).parent / "samples"
REQUESTS, ENGINE = SAMPLES / "vllm_bench_serve.json", SAMPLES / "vllm_metrics.csv"
SMI = SAMPLES / "nvidia_smi_units_in_header.csv"
START_S = 1_750_000_000.0
POWER = {
    "nvidia_smi_units_in_cells.csv": (2, 19800.0),
    "nvidia_smi_units_in_header.csv": (1, -14400.0),
    "dcgmi_dmon.txt": (2, None),
    "dcgm.csv": (2, None),
    "zeus.csv": (2, None),
}


def info(gpus):
    return {"model": "example/model", "hardware": "A100", "tensor_parallel": gpus}


@pytest.mark.parametrize(("name", "gpus", "offset_s"), [(n, *v) for n, v in POWER.items()])
def test_every_tool_tells_the_same_run(tmp_path, name, gpus, offset_s):
    notes = ingest(SAMPLES / name, REQUESTS, ENGINE, info=info(gpus), out=tmp_path / "run")
    run = read_run(tmp_path / "run")
    seconds = run.samples["time_s"] - START_S
    busy = seconds.between(5, 12.9)
    assert abs(seconds.iloc[0]) < 0.001
    assert run.samples.loc[busy, "power_w"].min() > 280 * gpus
    assert run.samples.loc[~seconds.between(4.9, 13.1), "power_w"].max() < 75 * gpus
    assert run.info["utc_offset_s"] == offset_s
    assert any("UTC" in note for note in notes) == (offset_s is not None)
    assert len(run.requests) == 5
    assert run.engine["running"].max() == 3


def test_rows_of_one_sweep_get_its_first_time_and_lost_samples_are_left_out_and_said():
    table, _, notes = read_meter(SAMPLES / "nvidia_smi_units_in_cells.csv")
    assert np.allclose(np.diff(np.unique(table["time_s"])), 0.25)
    assert table.groupby("time_s").size().value_counts().to_dict() == {2: 70, 1: 2}
    assert notes[1:] == ["nvidia_smi_units_in_cells.csv: 2 samples without power left out"]


def test_a_lost_row_does_not_join_two_sweeps(tmp_path):
    rows = ["timestamp, index, power.draw [W]"]
    for k, gpu in set(np.ndindex(40, 2)) - {(7, 1), (8, 0)}:
        rows.append(f"2025/06/15 10:00:{k / 4:06.3f}, {gpu}, {100 + gpu:.2f} W")
    path = tmp_path / "smi.csv"
    path.write_text("\n".join(rows[:1] + sorted(rows[1:])))
    assert np.allclose(np.diff(np.unique(read_meter(path)[0]["time_s"])), 0.25)


def test_a_request_ends_after_its_last_token_and_failed_ones_are_left_out():
    table, notes = read_vllm_requests(REQUESTS)
    assert table["arrival_s"].is_monotonic_increasing
    assert "1 failed requests left out" in notes[0] and "sorted by arrival" in notes[1]
    first = table.iloc[0]
    assert first["end_s"] - first["arrival_s"] == pytest.approx(0.05 + 119 * 0.03, abs=1e-6)


NOT_KNOWN = [
    ({"start_times": None}, "arrivals are not known"),
    ({"start_times": [12.5 + k for k in range(6)]}, "no epoch second"),
    ({"errors": ["x"] * 6}, "no request succeeded"),
    ({"output_lens": [1, 2, 3, 4, "five", 6]}, r"output_lens\[4\]"),
    ({"itls": [[0.1, None]] * 6}, r"itls\[0\]"),
]


@pytest.mark.parametrize(("fields", "why"), NOT_KNOWN)
def test_arrivals_and_lengths_are_never_invented(tmp_path, fields, why):
    content = json.loads(REQUESTS.read_text()) | fields
    path = tmp_path / "result.json"
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))
    with pytest.raises(InputError, match=why):
        read_vllm_requests(path)


def test_clocks_that_do_not_meet_are_refused_and_leave_nothing_behind(tmp_path):
    times = [line.split(",")[0] for line in SMI.read_text().splitlines()[1:]]
    flat = tmp_path / "flat.csv"
    flat.write_text("timestamp, power.draw [W]\n" + "".join(f"{time}, 70\n" for time in times))
    for power, gpus, offset_s, why in (
        (SMI, 1, 0.0, "vllm_bench_serve.json: arrival_s: all requests"),
        (SAMPLES / "zeus.csv", 2, 0.0, "leave the UTC offset out"),
        (flat, 1, None, "--utc-offset"),
    ):
        with pytest.raises(InputError, match=why):
            ingest(power, REQUESTS, info=info(gpus), utc_offset_s=offset_s, out=tmp_path / "run")
    assert [path.name for path in tmp_path.iterdir()] == ["flat.csv"]


def test_the_excerpts_of_the_tools_own_files_agree_with_the_run(measured):
    formats = Path(os.environ["SITETRACE_DATA"]) / "formats"
    run = read_run(measured / "qwen3-8b_a100_tp1_poisson_r4")
    table, *_ = read_meter(formats / "nvidia_smi_power.csv")
    engine = ingestion.read_vllm_metrics(formats / "engine_metrics.csv")
    watts = table.groupby("time_s")["power_w"].sum()
    running = (engine["time_s"].to_numpy(), engine["running"].to_numpy())
    offset_s = ingestion.find_utc_offset(watts, [running], "excerpt")
    assert offset_s == -7 * 3600
    times = table["time_s"] - offset_s
    same = run.samples[run.samples["time_s"].between(times.min() - 0.01, times.max() + 0.01)]
    assert np.abs(same["time_s"].to_numpy() - times.to_numpy()).max() < 1e-3
    assert same["power_w"].tolist() == table["power_w"].tolist()
    part = run.engine[run.engine["time_s"].between(engine["time_s"].min(), engine["time_s"].max())]
    columns = ["time_s", "running", "waiting", "prompt_tokens", "generation_tokens"]
    pd.testing.assert_frame_equal(part[columns].reset_index(drop=True), engine[columns])
