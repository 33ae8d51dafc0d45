"""The command: verbs on files, exit code 0 or 2, one line for bad input, nothing half-written."""

import itertools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import sitetrace
from sitetrace.cli.main import cli
from sitetrace.core.files import InputError
from sitetrace.evaluate.metrics import SCORES
from sitetrace.measured.traces import read_trace, write_trace
from sitetrace.testbed import write_dataset
from sitetrace.workload.table import read_requests

SHIPPED = sitetrace.shipped_model("testbed")
SAMPLES = Path(__file__).parent / "samples"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli") / "testbed"
    write_dataset(folder, 1)
    return folder


@pytest.fixture
def place(tmp_path, monkeypatch, runs):
    """An empty folder to stand in, with a model, requests and a short stream of requests."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(SHIPPED, "model.json")
    lines = (runs / "poisson_low" / "requests.csv").read_text().splitlines(keepends=True)
    Path("requests.csv").write_text("".join(lines[:20]))
    return tmp_path


def test_from_testbed_to_a_judged_trace(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def good(command, *told):
        code, out, _ = call(*command.split())
        assert code == 0 and not [text for text in told if text not in out]
        return out

    good("data testbed -o testbed --seed 1")
    good("fit testbed/poisson -o model.json --transitions logit --states 6 --seed 1")
    good("show model.json", "6 states above idle, logit transitions")
    requests = "testbed/poisson_low/requests.csv"
    told = "mean", "energy", "TTFT at the engine"
    good(f"generate model.json --requests {requests} -o trace.csv", *told)
    judge = "evaluate --measured testbed/poisson_low --generated trace.csv"
    result = json.loads(good(f"{judge} --json"))
    assert {"noise_floor", "busy_end_from", "n_draws", "covered_share", "native_dt_s"} < {*result}
    for clock, span in itertools.product(("native", "1s"), ("whole", "busy")):
        assert set(SCORES) <= set(result[clock][span])
    assert result["native"]["whole"]["energy_error_pct"] < 3.0
    good(f"{judge} --plot both.png", "energy_error_pct")
    assert Path("both.png").read_bytes().startswith(b"\x89PNG")
    files = {"both.png", "model.json", "testbed", "trace.csv", "trace.csv.json"}
    assert {*os.listdir()} == files


GENERATE = "generate model.json --requests requests.csv"


@pytest.mark.parametrize("ending", ["csv", "parquet", "nc", "zarr"])
def test_draws_are_columns_of_one_file(call, place, ending):
    how = f"-o t.{ending} --draws 3 --dt 0.5 --lead 5 --tail 2 --idle-w 100"
    assert call(*f"{GENERATE} {how}".split())[0] == 0
    traces, provenance = read_trace(f"t.{ending}")
    assert [trace.dt_s for trace in traces] == [0.5] * 3
    assert not np.array_equal(traces[0].power_w, traces[1].power_w)
    assert provenance["data"] == "testbed"
    assert len(provenance["model_sha256"]) == 64
    assert np.median(traces[0].power_w[:8]) == pytest.approx(100.0, abs=2.0)


@pytest.mark.parametrize("kind", ["testbed", "testbed_timeline"])
@pytest.mark.parametrize("reading", ["power", "meter"])
def test_a_seed_means_the_same_to_the_command_and_in_python(call, place, kind, reading):
    path = sitetrace.shipped_model(kind)
    given = ("--requests", "requests.csv", "-o", "t.csv", "--as", reading, "--seed", 3)
    assert call("generate", path, *given)[0] == 0
    model, requests = sitetrace.load_model(path), read_requests("requests.csv")
    trace = model.generate(requests, rng=np.random.default_rng(3), reading=reading)
    write_trace("python.csv", [trace], {})
    assert Path("t.csv").read_bytes() == Path("python.csv").read_bytes()


@pytest.mark.parametrize("pattern", ["bursty", "replay"])
def test_every_pattern_writes_requests_that_read(call, place, pattern):
    rate = [] if pattern == "replay" else ["--rate", 2, "--duration", 60]
    code, out, _ = call("workload", pattern, *rate, "-o", "new.csv", "--from", "requests.csv")
    made, given = read_requests("new.csv"), read_requests("requests.csv")
    assert code == 0 and f"wrote {len(made)} requests" in out
    assert set(made["input_tokens"]) <= set(given["input_tokens"])


def test_recordings_of_other_tools_become_a_run(call, place):
    files = "--power", SAMPLES / "zeus.csv", "--vllm", SAMPLES / "vllm_bench_serve.json"
    code, out, _ = call("ingest", *files, "--hardware", "A100", "-o", "run")
    assert code == 0 and "wrote run" in out
    configuration = sitetrace.read_run("run").configuration
    # the sample holds two GPUs, and no option names a number
    assert (configuration.hardware, configuration.tensor_parallel) == ("A100", 2)


def test_same_seed_same_bytes_in_two_processes_and_folders(runs, tmp_path):
    contents, program = [], [sys.executable, "-c", "from sitetrace.cli.main import main; main()"]
    for name, seed in (("one", 5), ("two", 5), ("other", 6)):
        folder = tmp_path / name
        folder.mkdir()
        shutil.copy(SHIPPED, folder / "model.json")
        shutil.copy(runs / "poisson_low" / "requests.csv", folder / "requests.csv")
        command = [*program, *f"{GENERATE} -o t.csv --seed {seed}".split()]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
        assert done.stderr == ""
        contents.append((folder / "t.csv").read_bytes() + (folder / "t.csv.json").read_bytes())
    assert contents[0] == contents[1] != contents[2]


def test_the_same_fit_writes_the_same_bytes(call, runs, tmp_path):
    cut = ("--transitions", "markov", "--states", 4, "--seed", 2, "--to", 60)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        assert call("fit", runs / "bursty", "-o", tmp_path / name / "m.json", *cut)[0] == 0
    first, second = ((tmp_path / name / "m.json").read_bytes() for name in ("one", "two"))
    assert first == second


@pytest.mark.parametrize(
    ("kind", "failed"), [("timeline", False), ("timeline", True), ("states", True)]
)
def test_a_fit_says_whether_its_calibration_worked(call, runs, tmp_path, kind, failed):
    run, model = tmp_path / "run", tmp_path / "m.json"
    shutil.copytree(runs / "poisson", run)
    if failed:
        engine = pd.read_csv(run / "engine.csv")
        engine.assign(running=engine["running"] * 20).to_csv(run / "engine.csv", index=False)
    of = ["--transitions", "markov", "--states", 2] if kind == "states" else []
    code, out, _ = call("fit", run, "--kind", kind, "--to", 40, "-o", model, *of)
    assert code == 0
    told = {line for line in out.splitlines() if line.startswith(("failed", "cali"))}
    assert any(line.startswith("failed") for line in told) == failed
    assert told <= {*call("show", model)[1].splitlines()}
    asked = ("--requests", runs / "poisson_low" / "requests.csv", "-o", tmp_path / "t.csv")
    assert ("warning: the fit of" in call("generate", model, *asked)[2]) == failed


@pytest.mark.parametrize("given", [{"n_states": 3}, {"emissions": "ar1"}, {"checkpoint": "n.pt"}])
def test_an_option_of_the_kind_states_is_never_ignored(given):
    run = sitetrace.testbed.run("poisson", 1)
    with pytest.raises(InputError, match=f"{[*given][0]}.*--kind states"):
        sitetrace.fit([run], seed=1, kind="timeline", **given)


TRACE = f"{GENERATE} -o t.csv"
INGEST = f"ingest --power {SAMPLES / 'zeus.csv'} --vllm {SAMPLES / 'vllm_bench_serve.json'}"
BAD = {  # command: what its one line tells
    "show none.json": "none.json: no such file",
    "show half.json": "half.json: no complete JSON",
    "generate model.json --requests zero.csv -o t.csv": "line 3, output_tokens",
    "generate model.json -o t.csv": "--requests",
    f"{TRACE} --dt 0.3": "--dt 0.3",
    f"{TRACE} --lead -1": "--lead",
    f"{TRACE} --draws 2 --as expected": "--draws: an expected reading",
    f"{GENERATE} -o t.xlsx": "t.xlsx: unknown ending",
    "fit RUN -o m.json --from 50 --to 20": "--from/--to",
    "fit apart -o m.json": "apart",
    "workload poisson --rate nan -o x.csv": "nan requests/s",
    "workload poisson --cv 2 -o x.csv": "--cv: poisson",
    "ingest --power no.csv -o r": "give --power and --vllm, or --azure",
    f"{INGEST} --utc-offset -70 -o r": "--utc-offset",
    "data verify moon-base": "moon-base",
    "data model llama-9 -o m.json": "llama-3-70b_H100_tp4",
    "evaluate --measured RUN --generated flat.csv": "",
    "dance": "'dance'",
}


@pytest.fixture
def damaged(place, runs):
    text = Path("model.json").read_text()
    Path("half.json").write_text(text[: len(text) // 2])
    header = "arrival_s,input_tokens,output_tokens\n"
    Path("zero.csv").write_text(header + "0,5,5\n1,5,0\n")
    Path("flat.csv").write_text("time_s,power_w\n" + "".join(f"{k},100\n" for k in range(60)))
    shutil.copytree(runs / "poisson", "apart")
    table = read_requests("apart/requests.csv")
    table.assign(arrival_s=table["arrival_s"] - 86400).to_csv("apart/requests.csv", index=False)
    return place


@pytest.mark.parametrize("command", BAD)
def test_bad_input_ends_in_one_line_and_leaves_no_trace(call, damaged, runs, command):
    before = sorted(damaged.rglob("*"))
    given = [runs / "poisson" if part == "RUN" else part for part in command.split()]
    code, out, err = call(*given)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1, err
    assert err.startswith("Error: ") and BAD[command] in err
    assert sorted(damaged.rglob("*")) == before


def commands(group, path=()):
    yield " ".join(path)
    for name, command in getattr(group, "commands", {}).items():
        yield from commands(command, (*path, name))


@pytest.mark.parametrize("path", [*commands(cli)])
def test_every_help_has_an_example_of_the_command(call, path):
    code, out, _ = call(*path.split(), "--help")
    assert code == 0
    assert f"sitetrace {path}" in " ".join(out[out.index("Example: ") :].split())


@pytest.mark.parametrize("module", ["sitetrace", "sitetrace.cli.main"])
def test_importing_the_package_or_its_command_loads_nothing_heavy(module):
    heavy = ["sklearn", "statsmodels", "matplotlib", "seaborn", "pooch", "xarray", "numba"]
    heavy += ["pydantic", "yaml", "zarr", "dask"]
    told = f"import sys, {module}; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
