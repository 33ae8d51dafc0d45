"""A bare `pip install .` runs every verb: no package of an extra is needed, nor the book's code."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from sitetrace.planning.exports import FORMATS

TESTS = Path(__file__).parent
# from the file: an editable install may have been made with other dependencies
PROJECT = tomllib.loads((TESTS.parent / "pyproject.toml").read_text("utf-8"))["project"]
RUN = "testbed/poisson"
FITS = {"timeline": "", "states": "--transitions markov --states 4"}
VERBS = [
    *("data list", "data testbed -o testbed", "data verify"),
    "data model llama-3-70b_H100_tp4 -o paper.json",
    "ingest --power samples/zeus.csv --vllm samples/vllm_bench_serve.json -o ingested",
    *(f"workload {each} --duration 60 -o w.csv" for each in ("poisson", "bursty", "diurnal")),
    *(f"workload {each} --from {RUN}/requests.csv -o w.csv" for each in ("replay", "fitted")),
]
for kind, how in FITS.items():
    VERBS += [f"fit {RUN} --kind {kind} {how} --to 60 -o {kind}.json", f"show {kind}.json"]
    drawn = f"generate {kind}.json --requests {RUN}/requests.csv -o {kind}"
    VERBS += [f"{drawn}.csv --as power", f"{drawn}.nc --as meter"]
    VERBS += [f"evaluate --measured {RUN} --generated {kind}.csv --plot {kind}.png"]
VERBS += [
    "site --model testbed_timeline --servers 4 --rate 0.5 --hours 0.1 -o site.zarr",
    "report site.zarr -o report.html",
    *(f"export site.zarr --step 60 --format {form} -o {form}" for form in FORMATS),
]
# Finders of the interpreter are wrapped, so that what is hidden looks as if it were not there.
BARE = """
import json, sys, traceback
hidden, verbs = json.load(sys.stdin)
class Bare:
    def __init__(self, finder): self.finder = finder
    def __getattr__(self, name): return getattr(self.finder, name)
    def find_spec(self, name, *given):
        if name.partition(".")[0] not in hidden: return self.finder.find_spec(name, *given)
sys.meta_path[:] = map(Bare, sys.meta_path)
from click.testing import CliRunner
from sitetrace.cli.main import cli
run = {"data fetch"}  # asks the network
for verb in verbs:
    done = CliRunner().invoke(cli, verb.split())
    nothing_there = verb == "data verify" and "sitetrace data fetch" in str(done.exception)
    if done.exit_code and not nothing_there:
        traceback.print_exception(done.exception)
        sys.exit(f"{verb}: {done.output}")
    run |= {verb.split()[0], " ".join(verb.split()[:2])}
assert run >= {*cli.commands, *(f"data {name}" for name in cli.commands["data"].commands)}
"""


def add_needed(line, found, extra=""):
    """Add a requirement (of an extra) and what it brings along, each as (name, own extra)."""
    asked = Requirement(line)
    if asked.marker is None or asked.marker.evaluate({"extra": extra}):
        for each in {(canonicalize_name(asked.name), own) for own in ("", *asked.extras)} - found:
            found.add(each)
            for inner in metadata.requires(asked.name) or ():
                add_needed(inner, found, each[1])


def test_every_verb_runs_without_what_only_extras_bring(tmp_path):
    found = {("sitetrace", "")}
    for line in PROJECT["dependencies"]:
        add_needed(line, found)
    bare, owners = dict(found).keys(), metadata.packages_distributions().items()
    hidden = [top for top, names in owners if bare.isdisjoint(map(canonicalize_name, names))]
    assert "pytest" in hidden
    shutil.copytree(TESTS / "samples", tmp_path / "samples")
    given = {"input": json.dumps([[*hidden, "sitebook"], VERBS]), "text": True}
    given |= {"cwd": tmp_path, "env": os.environ | {"SITETRACE_DATA": str(tmp_path)}}
    done = subprocess.run([sys.executable, "-c", BARE], capture_output=True, **given)
    assert done.returncode == 0, done.stderr
