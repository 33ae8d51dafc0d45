"""Verbs on a site: what they are asked, what they print and write, one line for what is bad."""

import shutil
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr
from synthetic_site import in_file, site_dataset

from sitetrace.core.files import InputError
from sitetrace.core.registry import shipped_model

SOUND = """\
hours: 2
topology: {rows: 2, racks_per_row: 1, servers_per_rack: 4}
fleet:
  - name: all
    model: own.json
traffic:
  pattern: poisson
  rate_per_server: 0.5
"""
MADE = "--model own.json --servers 20 --rate 0.5"


def result(levels, power_w):
    """A site's result of one unit a level."""
    return xr.Dataset(
        {"power_w": (("time", "unit"), np.asarray(power_w, dtype=float))},
        {"unit": [f"{level}" for level in levels], "level": ("unit", levels)},
        {"requests": 90, "input_tokens": 900, "output_tokens": 800, "longest_wait_s": 1.25},
    )


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder to stand in, with a sound scenario and its model."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(shipped_model("testbed_timeline"), "own.json")
    (tmp_path / "site.yaml").write_text(SOUND)
    return tmp_path


@pytest.fixture
def simulated(monkeypatch):
    """Stand in for the simulation: what it was asked, what it answers."""
    asked = {}
    answer = result(["facility", "site", "gpu"], [[1300, 1000, 400], [3900, 3000, 2400]])

    def simulate_site(scenario, out, **options):
        asked.update(options, scenario=scenario, out=out)
        if isinstance(asked.get("answer"), BaseException):
            raise asked["answer"]
        return asked.get("answer", answer)

    monkeypatch.setitem(
        sys.modules, "sitetrace.site.simulate", SimpleNamespace(simulate_site=simulate_site)
    )
    return asked


def test_a_scenario_file_is_simulated_and_summed_up(call, place, simulated):
    code, out, err = call("site", "site.yaml", "-o", "site.zarr", "--workers", 2, "--resume")
    assert (code, err) == (0, "")
    assert (simulated["workers"], simulated["cluster"], simulated["resume"]) == (2, None, True)
    assert simulated["scenario"].n_servers == 8
    told = "mean 2.60 kW, peak 3.90 kW, PAR 1.500, load factor 0.667, energy 0.0052 MWh"
    assert out.startswith(f"facility {told}\nsite     mean 2.00 kW")
    assert out.endswith("longest wait 1.25 s\nwrote site.zarr\n")


def test_a_model_whose_fit_failed_is_warned_of_once(call, place, simulated, monkeypatch):
    monkeypatch.setattr("sitetrace.serving.calibration.failed_parts", lambda provenance: ["steps"])
    pools = "  - {name: one, model: own.json, servers: 1}\n  - name: all"
    (place / "site.yaml").write_text(SOUND.replace("  - name: all", pools))
    code, _, err = call("site", "site.yaml", "-o", "site.zarr")
    assert (code, err) == (0, "warning: the fit of own.json failed: steps\n")


def test_a_model_and_a_rate_make_a_scenario(call, place, simulated):
    command = f"site {MADE} --hours 6 --seed 3 -o site.zarr".split()
    assert call(*command)[0] == 0
    made = simulated["scenario"]
    assert (made.n_servers, made.hours, made.seed, made.step_s) == (20, 6, 3, 0.25)
    assert made.topology.servers_per_rack == 4
    assert (made.traffic.pattern, made.traffic.rate_per_server) == ("poisson", 0.5)
    assert simulated["workers"] == 1
    assert call(*command, "--cluster", "tcp://127.0.0.1:8786")[0] == 0
    assert simulated["cluster"] == "tcp://127.0.0.1:8786"


@pytest.mark.parametrize(
    ("answer", "ends", "told"),
    [
        (KeyboardInterrupt(), 130, "interrupted: the same command with --resume goes on\n"),
        (InputError("no space left: free some"), 2, "Error: no space left: free some\n"),
    ],
)
def test_what_ends_the_simulation_is_one_line(call, place, simulated, answer, ends, told):
    simulated["answer"] = answer
    assert call("site", "site.yaml", "-o", "site.zarr") == (ends, "", told)


BAD = {
    "no.yaml": "no.yaml: cannot be read",
    "bad.yaml": "line 1, key hour: no such key here: did you",
    "site.yaml --seed 1": "--seed: site.yaml says it",
    "site.yaml --workers 2 --cluster a": "leave one out",
    "": "--model: is missing: give a scenario file, or --model",
    f"{MADE} --rate nan": "--rate: NaN",
    f"{MADE} --step 0.7": "--hours: 86400 s are no multiple of 0.7 s",
    f"{MADE} --model n.json": "--model: n.json: no such file",
}


@pytest.mark.parametrize("arguments", BAD)
def test_bad_input_is_one_line_and_leaves_nothing(call, place, arguments):
    (place / "bad.yaml").write_text(SOUND.replace("hours", "hour"))
    code, out, err = call("site", *arguments.split(), "-o", "site.zarr")
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1, err
    assert err.startswith("Error: ") and BAD[arguments] in err
    assert sorted(path.name for path in place.iterdir()) == ["bad.yaml", "own.json", "site.yaml"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return in_file(site_dataset(8000), tmp_path_factory.mktemp("cli") / "site.zarr")


BAD_WRITING = {
    "export other.zarr": "other.zarr",
    "export SITE --unit hall": "hall: no such unit",
    "export SITE --unit site --unit gpu": "csv15 holds one unit",
    "export SITE --format pypsa -o full": "is there already",
    "export SITE -o no/such/place.csv": "no folder no/such",
    "report SITE -o full": "is there already",
    "report damaged.zarr": "damaged.zarr: damaged",
    "report SITE --power-factor 0": "--power-factor 0",
}


@pytest.mark.parametrize("command", BAD_WRITING)
def test_bad_input_of_what_is_written_is_one_line(command, call, made, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "kept").write_text("mine")
    xr.Dataset({"x": ("t", [1.0])}).to_zarr(tmp_path / "other.zarr", consolidated=False)
    shutil.copytree(made, tmp_path / "damaged.zarr")
    for chunk in (tmp_path / "damaged.zarr" / "power_w" / "c").rglob("*"):
        if chunk.is_file():
            chunk.write_bytes(b"damaged")
    before = sorted(str(path) for path in tmp_path.rglob("*"))
    given = command.replace("SITE", str(made)).split()
    given += [] if "--format" in given or given[0] == "report" else ["--format", "csv15"]
    code, out, err = call(*given, *([] if "-o" in given else ["-o", "out"]))
    assert (code, out) == (2, "")
    assert err.count("\n") == 1 and BAD_WRITING[command] in err
    assert sorted(str(path) for path in tmp_path.rglob("*")) == before
