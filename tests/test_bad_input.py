"""Damaged input gets one line that names the file; nothing else ever comes out."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sitetrace.core.files import InputError
from sitetrace.measured.ingestion import ingest
from sitetrace.measured.rundir import read_run, write_run

SAMPLES = Path(__file__).parent / "samples"
FILES = {"power": SAMPLES / "zeus.csv", "requests": SAMPLES / "vllm_bench_serve.json"}
FILES |= {"engine": SAMPLES / "vllm_metrics.csv"}
POWER = "time_s,gpu,power_w\n" + "".join(
    f"{1000 + k / 4:.2f},{gpu},{90 + 10 * gpu + (k > 40) * 200}.5\n"
    for k in range(120)
    for gpu in (0, 1)
)
REQUESTS = "arrival_s,input_tokens,output_tokens,ttft_s,end_s\n" + "".join(
    f"{1010 + k},{100 + k},{5 + k},0.05,{1011 + k}\n" for k in range(8)
)
ENGINE = "time_s,running,waiting,prompt_tokens,generation_tokens,steps\n" + "".join(
    f"{1000 + k},{int(k > 9)},0,{10 * k},{20 * k},{20 * k}\n" for k in range(30)
)
INFO = {"model": "example/model", "hardware": "A100", "tensor_parallel": 2}
P, R, E, J = "power.csv", "requests.csv", "engine.csv", "run.json"
GOOD = {P: POWER, R: REQUESTS, E: ENGINE, J: json.dumps(INFO)}


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    for name, text in GOOD.items():
        (folder / name).write_text(text)
    return folder


def line(text, number, new):
    """Return the text with one line (counted from 1) replaced."""
    lines = text.splitlines(keepends=True)
    return "".join([*lines[: number - 1], f"{new}\n", *lines[number:]])


ALTERNATING = "time_s,gpu,power_w\n" + "".join(f"{k / 8},{k % 2},90\n" for k in range(50))
# of a file and its line what is said of it: rows that take its place
ROWS = {
    (P, 9, "power_w"): "1000.75,1,[N/A] 1000.75,1, 1000.75,1,inf 1000.75,1,2e9 1000.75,1,-1",
    (P, 9, "time_s"): "inf,1,90 1000.1,1,90 1000.50,1,90",
    (P, 9, "gpu"): "1000.75,GPU-1,90 1000.75,0.5,90",
    (R, 3, "arrival_s"): "soon,5,5,0.1,1020 -inf,5,5,0.1,1020 9e9,5,5,0.1,9e9",
    (R, 3, "input_tokens"): "1011,nan,5,0.1,1020 1011,5.5,5,0.1,1020 1011,5e9,5,0.1,1020",
    (R, 3, "output_tokens: 0"): "1011,5,0,0.1,1020",
    (R, 3, "end_s"): "1011,5,5,0.1,1000",
    (E, 5, ""): "1000.5,0,0,0,0,0 1003,-1,0,0,0,0",
}
BAD = [
    (P, None, "no such file"),
    (R, "", "is empty"),
    (R, REQUESTS.splitlines()[0] + "\n", "no rows"),
    (P, POWER.replace("power_w", "watts"), "power_w is missing"),
    (P, POWER.replace("gpu", "power_w"), "twice"),
    (P, line(POWER, 9, "1000.75,1,90,4"), "power.csv"),
    (P, "time_s,power_w\n1,0.09\n2,0.4\n3,0.3\n", "kilowatts"),
    (P, line(POWER, 9, "9e9,1,90"), "days"),
    (P, POWER + "1100,0,90\n1100,1,90\n", "no sample for"),
    (P, ALTERNATING, "most instants lack a GPU"),
    (R, REQUESTS.splitlines()[0] + "\n5000,5,5,0.1,5001\n", "lie outside"),
    *((J, text, "no complete JSON") for text in (json.dumps(INFO)[:30], "[" * 100_000)),
    (J, "[1, 2]", "no JSON object"),
    (J, json.dumps(INFO | {"tensor_parallel": 1.5}), "field tensor_parallel"),
    (J, json.dumps(INFO | {"tensor_parallel": 4}), "2 GPUs recorded"),
]
for (name, at, why), rows in ROWS.items():
    BAD += [(name, line(GOOD[name], at, row), f"line {at}.*{why}") for row in rows.split()]


@pytest.mark.parametrize(("name", "content", "why"), BAD, ids=[f"{it[0]}: {it[2]}" for it in BAD])
def test_a_damaged_run_is_refused_in_one_line(run, name, content, why):
    (run / name).unlink()
    if content is not None:
        (run / name).write_text(content)
    with pytest.raises(InputError, match=why) as caught:
        read_run(run)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 600
    assert name in message or name == J and "power.csv" in message


def test_a_run_is_a_folder_of_files(run):
    with pytest.raises(InputError, match="no such run directory"):
        read_run(run / "power.csv")
    (run / "requests.csv").unlink()
    (run / "requests.csv").mkdir()
    with pytest.raises(InputError, match=r"requests.csv: a folder: name the file"):
        read_run(run)


def test_untidy_but_legal_recordings_are_read(run):
    rows = REQUESTS.splitlines(keepends=True)
    shuffled = [rows[0], rows[5], rows[2], rows[2], "1028.5,7,9,0.1,1029.4\n"]
    (run / "requests.csv").write_text("".join(shuffled))
    requests = read_run(run).requests
    assert requests["arrival_s"].tolist() == [1011.0, 1011.0, 1014.0, 1028.5]
    assert read_run(run).samples["power_w"].iloc[0] == 90.5 + 100.5
    # idle GPUs of the node are left out and said
    (run / "run.json").write_text(json.dumps(INFO | {"tensor_parallel": 1}))
    found = read_run(run)
    assert found.samples["power_w"].iloc[0] == 100.5 and "2 GPUs recorded" in found.notes[0]


def test_what_cannot_be_read_again_or_written_leaves_nothing(run, tmp_path):
    good, info = read_run(run), INFO | {"tensor_parallel": 1}
    with pytest.raises(InputError, match=r"new/power.csv: line 2, power_w"):
        write_run(tmp_path / "new", info, good.requests, good.samples.assign(power_w=-1.0))
    for place in (run / "power.csv", run, run / "power.csv" / "below"):
        with pytest.raises(InputError, match=str(place)):
            write_run(place, info, good.requests, good.samples)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]
    assert (run / "power.csv").read_text() == POWER


SMI = (SAMPLES / "nvidia_smi_units_in_header.csv").read_text()
BAD_METERS = [
    ("", "is empty"),
    (SMI.replace("power.draw", "fan.speed"), "no power column"),
    (SMI.replace("timestamp", "clock"), "timestamp is missing"),
    (line(SMI, 6, "2025/06/15 11:06:41.000, much"), "line 6, power"),
    (line(SMI, 6, "2025/13/15 11:06:41.000, 70"), "line 6, time"),
    (line(SMI, 6, "2025/06/15 11:06:40.750, 70"), "line 6, time_s"),
    (SMI.splitlines()[0] + "\n2025/06/15 11:06:41, [N/A]\n", "reports no power"),
    ("#Entity   POWER\nID   W\nGPU 0   70.1\n", "prints no times"),
    ("1.5 #Entity   POWER\n1750000000.0 GPU 0   70.1 5\n", "line 2"),
    ("Time,0\n1750000000000,70\n1750000000100,70\n", "line 2, time"),
]


@pytest.mark.parametrize(("content", "why"), BAD_METERS, ids=[why for _, why in BAD_METERS])
def test_a_damaged_power_recording_is_refused_in_one_line(tmp_path, content, why):
    path = tmp_path / "smi.csv"
    path.write_text(content)
    info = INFO | {"tensor_parallel": 1}
    with pytest.raises(InputError, match=why) as caught:
        ingest(path, SAMPLES / "vllm_bench_serve.json", info=info, out=tmp_path / "run")
    assert "smi.csv" in str(caught.value) and "\n" not in str(caught.value)
    assert [file.name for file in tmp_path.iterdir()] == ["smi.csv"]


CELL = st.sampled_from(
    ["", " ", "nan", "NaN", "inf", "-1", "0", "1e309", "1e18", "x", '"', "'", "0x1F", "1,2", "\0"]
    + ["9" * 400, "-0.0", "1_000", "True", "é", "\n", "\r", "1e-320", "2026/07/18"]
)


@st.composite
def damaged(draw, text):
    """Return a good text after a few cuts, swaps and foreign pieces."""
    for _ in range(draw(st.integers(1, 3))):
        begin, length = draw(st.integers(0, len(text))), draw(st.integers(0, 12))
        end = begin + length
        piece = draw(st.one_of(CELL, st.just(3 * text[begin:end]), st.text(max_size=4)))
        text = text[:begin] + piece + (text[end:] if draw(st.integers(0, 3)) else "")
    return text


HEALTHY = [HealthCheck.function_scoped_fixture]
FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=HEALTHY)


@FUZZ
@given(name=st.sampled_from(sorted(GOOD)), data=st.data())
def test_any_damage_to_a_run_is_read_or_refused(run, name, data):
    content = data.draw(damaged(GOOD[name])).encode("utf-8", "surrogatepass")
    (run / name).write_bytes(content)
    try:
        found = read_run(run)
        assert np.isfinite(found.samples.to_numpy()).all()
        assert (found.requests[["input_tokens", "output_tokens"]] >= 1).all().all()
    except InputError as error:
        assert "\n" not in str(error)
    finally:
        (run / name).write_text(GOOD[name])


METERS = [*sorted(SAMPLES.glob("nvidia*.csv")), SAMPLES / "dcgmi_dmon.txt", FILES["power"]]
FOREIGN = {kind: METERS if kind == "power" else [path] for kind, path in FILES.items()}


@FUZZ
@given(which=st.sampled_from(sorted(FOREIGN)), data=st.data())
def test_any_damage_to_foreign_recordings_is_read_or_refused(tmp_path, which, data):
    source = data.draw(st.sampled_from(FOREIGN[which]))
    broken = tmp_path / source.name
    broken.write_bytes(data.draw(damaged(source.read_text())).encode("utf-8", "surrogatepass"))
    out = tmp_path / "out"
    try:
        ingest(**FILES | {which: broken}, info=INFO | {"tensor_parallel": 1}, out=out)
        assert read_run(out).samples["power_w"].min() >= 0
    except InputError as error:
        assert "\n" not in str(error)
        assert not out.exists()
    finally:
        shutil.rmtree(out, ignore_errors=True)
