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
from sitetrace.workload.table import read_requests

SAMPLES = Path(__file__).parent / "samples"
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
GOOD = {
    "power.csv": POWER,
    "requests.csv": REQUESTS,
    "engine.csv": ENGINE,
    "run.json": json.dumps(INFO),
}


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
    lines[number - 1] = new + "\n"
    return "".join(lines)


def drop(text, first, last):
    """Return the text without the lines from first to last."""
    lines = text.splitlines(keepends=True)
    return "".join(lines[: first - 1] + lines[last:])


P, R, E, J = "power.csv", "requests.csv", "engine.csv", "run.json"
BAD = {
    "power missing": (P, None, "no such file"),
    "power empty": (P, "", "is empty"),
    "power header only": (P, "time_s,power_w\n", "no rows"),
    "power column missing": (P, POWER.replace("power_w", "watts"), "power_w is missing"),
    "power column twice": (P, POWER.replace("gpu", "power_w"), "twice"),
    "power text": (P, line(POWER, 9, "1000.75,1,[N/A]"), "line 9, power_w"),
    "power NaN": (P, line(POWER, 9, "1000.75,1,nan"), "line 9, power_w"),
    "power cell empty": (P, line(POWER, 9, "1000.75,1,"), "line 9, power_w"),
    "power row cut": (P, line(POWER, 9, "1000.75"), "line 9, power_w"),
    "power row too long": (P, line(POWER, 9, "1000.75,1,90,4"), "power.csv"),
    "power rows all too long": (P, POWER.replace(".5\n", ".5,1\n"), "name all columns"),
    "power infinite": (P, line(POWER, 9, "1000.75,1,inf"), "line 9, power_w"),
    "power below zero": (P, line(POWER, 9, "1000.75,1,-1"), "line 9, power_w: -1 is below zero"),
    "power of a city": (P, line(POWER, 9, "1000.75,1,2e9"), "line 9, power_w"),
    "power in kilowatts": (P, "time_s,power_w\n1,0.09\n2,0.4\n3,0.3\n", "kilowatts"),
    "power time infinite": (P, line(POWER, 9, "inf,1,90"), "line 9, time_s"),
    "power of years": (P, line(POWER, 9, "9e9,1,90"), "days"),
    "power unsorted": (P, line(POWER, 9, "1000.1,1,90"), "line 9, time_s.*sort"),
    "power time doubled": (P, line(POWER, 9, "1000.50,1,90"), "line 9, time_s.*duplicates"),
    "power with a hole": (P, POWER + "1100,0,90\n1100,1,90\n", "no sample for"),
    "power of one sample": (P, drop(POWER, 4, 241), "fewer than two"),
    "power GPU no number": (P, line(POWER, 9, "1000.75,GPU-1,90"), "line 9, gpu"),
    "power GPU a fraction": (P, line(POWER, 9, "1000.75,0.5,90"), "line 9, gpu"),
    "power GPUs at own times": (
        P,
        "time_s,gpu,power_w\n" + "".join(f"{k / 8},{k % 2},90\n" for k in range(50)),
        "most instants lack a GPU",
    ),
    "power bytes": (P, b"\xff\xfe\x00\x01time_s", "power.csv"),
    "power a picture": (P, b"\x89PNG\r\n\x1a\n\x00\x00\x00", "power.csv"),
    "requests empty": (R, "", "is empty"),
    "requests header only": (R, REQUESTS.splitlines()[0] + "\n", "no rows"),
    "requests column missing": (R, REQUESTS.replace("output_", "out_"), "output_tokens is missing"),
    "requests text": (R, line(REQUESTS, 3, "soon,5,5,0.1,1020"), "line 3, arrival_s"),
    "requests NaN": (R, line(REQUESTS, 3, "1011,nan,5,0.1,1020"), "line 3, input_tokens"),
    "requests zero output": (R, line(REQUESTS, 3, "1011,5,0,0.1,1020"), "line 3, output_tokens: 0"),
    "requests half a token": (R, line(REQUESTS, 3, "1011,5.5,5,0.1,1020"), "line 3, input_tokens"),
    "requests of a library": (R, line(REQUESTS, 3, "1011,5e9,5,0.1,1020"), "line 3, input_tokens"),
    "requests of years": (R, line(REQUESTS, 3, "9e9,5,5,0.1,9e9"), "line 3, arrival_s.*days"),
    "requests infinite": (R, line(REQUESTS, 3, "-inf,5,5,0.1,1020"), "line 3, arrival_s"),
    "requests end too soon": (R, line(REQUESTS, 3, "1011,5,5,0.1,1000"), "line 3, end_s"),
    "requests negative ttft": (R, line(REQUESTS, 3, "1011,5,5,-1,1020"), "line 3, ttft_s"),
    "requests elsewhere": (R, REQUESTS.splitlines()[0] + "\n5000,5,5,0.1,5001\n", "lie outside"),
    "engine empty": (E, "", "is empty"),
    "engine column missing": (E, ENGINE.replace("waiting", "queue"), "waiting is missing"),
    "engine unsorted": (E, line(ENGINE, 5, "1000.5,0,0,0,0,0"), "line 5, time_s"),
    "engine below zero": (E, line(ENGINE, 5, "1003,-1,0,0,0,0"), "line 5"),
    "info missing": (J, None, "no such file"),
    "info empty": (J, "", "no complete JSON"),
    "info cut": (J, json.dumps(INFO)[:30], "no complete JSON"),
    "info a list": (J, "[1, 2]", "no JSON object"),
    "info no model": (J, json.dumps(INFO | {"model": None}), "field model"),
    "info no GPUs": (J, json.dumps(INFO | {"tensor_parallel": 0}), "field tensor_parallel"),
    "info half a GPU": (J, json.dumps(INFO | {"tensor_parallel": 1.5}), "field tensor_parallel"),
    "info too many GPUs": (J, json.dumps(INFO | {"tensor_parallel": 4}), "2 GPUs recorded"),
    "info a number of 5000 digits": (J, '{"model": ' + "9" * 5000 + "}", "no complete JSON"),
    "info a deep nest": (J, "[" * 100_000, "no complete JSON"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_damaged_run_is_refused_in_one_line(run, case):
    name, content, why = BAD[case]
    (run / name).unlink()
    if isinstance(content, bytes):
        (run / name).write_bytes(content)
    elif content is not None:
        (run / name).write_text(content)
    with pytest.raises(InputError, match=why) as caught:
        read_run(run)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 600
    assert name in message or name == J and "power.csv" in message


def test_a_run_that_is_no_folder_is_refused(run):
    for path in (run / "power.csv", run / "nothing"):
        with pytest.raises(InputError, match="no such run directory"):
            read_run(path)


def test_a_folder_in_place_of_a_file_is_refused(run):
    (run / "requests.csv").unlink()
    (run / "requests.csv").mkdir()
    with pytest.raises(InputError, match=r"requests.csv: not a readable CSV"):
        read_run(run)


def test_untidy_but_legal_recordings_are_read(run):
    rows = REQUESTS.splitlines(keepends=True)
    shuffled = [rows[0], rows[5], rows[2], rows[2], "1028.5,7,9,0.1,1029.4\n"]
    (run / "requests.csv").write_text("".join(shuffled))
    requests = read_run(run).requests
    assert requests["arrival_s"].tolist() == [1011.0, 1011.0, 1014.0, 1028.5]
    assert read_run(run).samples["power_w"].iloc[0] == 90.5 + 100.5


def test_idle_gpus_of_the_node_are_left_out_and_said(run):
    (run / "run.json").write_text(json.dumps(INFO | {"tensor_parallel": 1}))
    found = read_run(run)
    assert found.samples["power_w"].iloc[0] == 100.5
    assert "2 GPUs recorded" in found.notes[0]


def test_what_cannot_be_read_again_is_never_written(run, tmp_path):
    good = read_run(run)
    bad_power = good.samples.assign(power_w=-1.0)
    with pytest.raises(InputError, match=r"new/power.csv: line 2, power_w"):
        write_run(tmp_path / "new", INFO | {"tensor_parallel": 1}, good.requests, bad_power)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


def test_a_place_that_cannot_be_written_is_named(run, tmp_path):
    good = read_run(run)
    info = INFO | {"tensor_parallel": 1}
    for place in (run / "power.csv", run, run / "power.csv" / "below"):
        with pytest.raises(InputError, match=str(place)):
            write_run(place, info, good.requests, good.samples)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]
    assert (run / "power.csv").read_text() == POWER


SMI = (SAMPLES / "nvidia_smi_units_in_header.csv").read_text()
BAD_METERS = {
    "empty": ("", "is empty"),
    "header only": (SMI.splitlines()[0] + "\n", "no rows"),
    "no power": (SMI.replace("power.draw", "fan.speed"), "no power column"),
    "no time": (SMI.replace("timestamp", "clock"), "timestamp is missing"),
    "text": (line(SMI, 6, "2025/06/15 11:06:41.000, much"), "line 6, power"),
    "infinite": (line(SMI, 6, "2025/06/15 11:06:41.000, inf"), "line 6, power"),
    "no time in a row": (line(SMI, 6, "yesterday, 70"), "line 6, time"),
    "month 13": (line(SMI, 6, "2025/13/15 11:06:41.000, 70"), "line 6, time"),
    "negative": (line(SMI, 6, "2025/06/15 11:06:41.000, -5"), "line 6, power_w"),
    "time doubled": (line(SMI, 6, "2025/06/15 11:06:40.750, 70"), "line 6, time_s"),
    "never power": (SMI.splitlines()[0] + "\n2025/06/15 11:06:41, [N/A]\n", "reports no power"),
    "dcgmi without times": ("#Entity   POWER\nID   W\nGPU 0   70.1\n", "prints no times"),
    "dcgmi without power": ("1.5 #Entity   SMCLK\n", "no POWER column"),
    "dcgmi without rows": ("1.5 #Entity   POWER\n1.5 ID   W\n", "no line of a GPU"),
    "dcgmi row cut": ("1.5 #Entity   POWER\n1750000000.0 GPU 0   70.1 5\n", "line 2"),
    "zeus in milliseconds": ("Time,0\n1750000000000,70\n1750000000100,70\n", "line 2, time"),
    "bytes": (b"\xff\xfe\x00\x01", "smi.csv"),
}


@pytest.mark.parametrize("case", BAD_METERS)
def test_a_damaged_power_recording_is_refused_in_one_line(tmp_path, case):
    content, why = BAD_METERS[case]
    path = tmp_path / "smi.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    info = INFO | {"tensor_parallel": 1}
    with pytest.raises(InputError, match=why) as caught:
        ingest(path, SAMPLES / "vllm_bench_serve.json", info=info, out=tmp_path / "run")
    assert "smi.csv" in str(caught.value) and "\n" not in str(caught.value)
    assert [file.name for file in tmp_path.iterdir()] == ["smi.csv"]


def test_missing_recordings_are_named(tmp_path):
    smi, result = SAMPLES / "zeus.csv", SAMPLES / "vllm_bench_serve.json"
    nothing = tmp_path / "nothing.csv"
    for power, requests, engine in ((nothing, result, None), (smi, nothing, None)):
        with pytest.raises(InputError, match="nothing.csv"):
            ingest(power, requests, engine, info=INFO, out=tmp_path / "run")
    with pytest.raises(InputError, match="nothing.csv"):
        ingest(smi, result, nothing, info=INFO, out=tmp_path / "run")


CELL = st.sampled_from(
    ["", " ", "nan", "NaN", "inf", "-1", "0", "1e309", "1e18", "x", '"', "'", "0x1F", "1,2", "\0"]
    + ["9" * 400, "-0.0", "1_000", "True", "é", "\n", "\r", "1e-320", "2026/07/18"]
)


@st.composite
def damaged(draw, text):
    """Return a good text after a few cuts, swaps and foreign pieces."""
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(text)))
        end = min(len(text), at + draw(st.integers(0, 12)))
        how = draw(st.integers(0, 3))
        if how == 0:
            text = text[:at] + draw(CELL) + text[end:]
        elif how == 1:
            text = text[:at]
        elif how == 2:
            text = text[:at] + text[at:end] * 3 + text[end:]
        else:
            text = text[:at] + draw(st.text(max_size=4)) + text[end:]
    return text


FUZZ = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


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


@FUZZ
@given(text=damaged(REQUESTS))
def test_any_damage_to_requests_is_read_or_refused(tmp_path, text):
    path = tmp_path / "requests.csv"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        assert read_requests(path)["arrival_s"].is_monotonic_increasing
    except InputError as error:
        assert "\n" not in str(error)


FOREIGN = {
    "power": [
        *sorted(SAMPLES.glob("nvidia*.csv")),
        SAMPLES / "dcgmi_dmon.txt",
        SAMPLES / "zeus.csv",
    ],
    "requests": [SAMPLES / "vllm_bench_serve.json"],
    "engine": [SAMPLES / "vllm_metrics.csv"],
}


@FUZZ
@given(which=st.sampled_from(sorted(FOREIGN)), data=st.data())
def test_any_damage_to_foreign_recordings_is_read_or_refused(tmp_path, which, data):
    source = data.draw(st.sampled_from(FOREIGN[which]))
    broken = tmp_path / source.name
    broken.write_bytes(data.draw(damaged(source.read_text())).encode("utf-8", "surrogatepass"))
    files = {kind: sources[0] for kind, sources in FOREIGN.items()} | {which: broken}
    out = tmp_path / "out"
    try:
        ingest(**files, info=INFO | {"tensor_parallel": 1}, out=out)
        assert read_run(out).samples["power_w"].min() >= 0
    except InputError as error:
        assert "\n" not in str(error)
        assert not out.exists()
    finally:
        shutil.rmtree(out, ignore_errors=True)
