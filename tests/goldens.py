"""Goldens: what the package prints and computes, recorded before a change and compared after it.

    python tests/goldens.py record OUT.npz
    python tests/goldens.py compare BEFORE.npz AFTER.npz

Nearly all goes through the command, so that moved code leaves this file alone. SITETRACE_DATA adds
the measured runs. Numbers are held to 1e-9, texts (models, tables, pages, exports) to the letter.
"""

import contextlib
import json
import os
import re
import sys
import tempfile
from pathlib import Path

import numpy as np
import yaml
from click.testing import CliRunner

import sitetrace
from sitetrace.cli.main import cli
from sitetrace.core.files import InputError
from sitetrace.core.registry import data_dir
from sitetrace.serving.engine import Engine, Server, simulate
from sitetrace.studies import setpoint

RTOL = 1e-9
PAPER = "llama-3-70b_H100_tp4"
JUDGED = {
    "qwen3-8b_a100_from_r4": ["bursty_r2p5", "burstgpt"],
    "llama-3.1-70b_h100_cut": ["poisson_r4"],
    "qwen3-30b-a3b_h100_cut": ["poisson_r2"],
}
FITS = {
    "timeline": ["testbed/poisson", "--kind", "timeline"],
    "auto": ["testbed/poisson_low", "--kind", "auto", "--to", 150],
    "markov": ["testbed/poisson", "--kind", "states", "--transitions", "markov", "--states", 6],
    "trees": ["testbed/effects", "--kind", "states", "--transitions", "trees", "--states", 5],
    "logit": ["testbed/poisson", "testbed/bursty", "--kind", "states", "--transitions", "logit"],
}


def call(*arguments):
    """Run the command; what it prints, with its exit code."""
    done = CliRunner().invoke(cli, [str(each) for each in arguments])
    if isinstance(done.exception, InputError):
        return f"exit 2\n{done.output}{done.exception}"
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return f"exit {done.exit_code}\n{done.output}"


def scenarios():
    """Small sites of each kind of model, traffic, routing and PUE."""
    usual = {"seed": 3, "hours": 0.2, "chunk_s": 120, "start": "2026-07-01T12:00:00+02:00"}
    usual["topology"] = {"rows": 2, "racks_per_row": 2, "servers_per_rack": 2}
    usual["keep"] = [{"levels": ["site", "row", "rack", "server"], "step_s": 1}]

    def site(model, **traffic):
        fleet = [{"name": "all", "model": model}]
        return usual | {"fleet": fleet, "traffic": {"rate_per_server": 1.0} | traffic}

    mixed = site("testbed_timeline", pattern="diurnal", routing="round_robin")
    mixed["fleet"] = [
        {"name": "a", "model": "llama-3.1-70b_h100_cut_timeline", "rows": [0], "idle_w": 330.0},
        {"name": "b", "model": "qwen3-8b_a100_from_r4"},
    ]
    replayed = site("qwen3-8b_h100_cut_timeline")
    replayed["traffic"] = {"pattern": "replay", "file": "requests.csv", "routing": "session"}
    bursty = {"pattern": "bursty", "cv": 3.0, "routing": "least_loaded"}
    return {
        "poisson": site("testbed_timeline", pattern="poisson") | {"pue": 1.2},
        "least loaded": site("gemma-4-26b-a4b_a100_cut_timeline", **bursty),
        "mixed": mixed | {"pue": {"full": 1.2, "idle": 1.5}, "non_gpu": {"constant_w": 900}},
        "replay": replayed,
        "trees": site("qwen3-8b_a100_from_r4", pattern="poisson"),
        "logit": site("logit.json", pattern="bursty", cv=2.0),
        "paper": site("paper.json", pattern="diurnal", swing=0.6, peak_hour=15),
        "queueing": site("queueing.json", pattern="poisson"),
    }


def generated(requests):
    """All shipped models: how `show` describes them, and traces, as power and as readings."""
    for path in sorted((data_dir() / "models").glob("*.json")):
        yield f"show/{path.stem}", call("show", path)
        name, model = f"model/{path.stem}", sitetrace.load_model(path)
        sitetrace.save_model(model, "again.json")
        yield f"{name}/saved", Path("again.json").read_text()
        for reading in ("power", "meter"):
            how = {"reading": reading} if hasattr(model, "surface") else {}
            trace = model.generate(requests, rng=np.random.default_rng(3), **how)
            yield f"{name}/{reading}", np.r_[trace.start_s, trace.dt_s, trace.power_w]


def engines(requests):
    """Fates and segments, loose and tight, in one go and in slices."""
    tight = Server(max_num_seqs=6, max_num_batched_tokens=512, kv_tokens=6000)
    for name, server in {"loose": Server(), "tight": tight}.items():
        whole = simulate(requests, server)
        yield f"engine/{name}/requests", whole.requests.to_numpy(dtype=float)
        yield f"engine/{name}/segments", whole.segments.to_numpy(dtype=float)
        engine, begin_s = Engine(server), requests["arrival_s"].min()
        for until_s in np.arange(begin_s + 7, begin_s + 90, 7):
            new = requests["arrival_s"].between(until_s - 7, until_s, inclusive="left")
            part = engine.advance(until_s, requests[new])
            yield f"engine/{name}/{until_s - begin_s:g}", part.segments.to_numpy(dtype=float)


def rows():
    """A row of servers without control and with each lever half drawn."""
    model = sitetrace.load_model(sitetrace.shipped_model("testbed_timeline"))
    row = setpoint.Row(model, servers=3, rate_per_server=1.5)
    stream = row.stream(200.0, np.random.default_rng(5))
    usual = setpoint.run(row, stream)
    yield "row/usual", usual.power_w
    for lever in setpoint.levers(row, usual, 2.0):
        held = setpoint.held(row, stream, lever, 0.5)
        yield f"row/{lever.label}", held.power_w
        yield f"row/{lever.label}/times", held.times_s


def plain(text):
    """A text without what differs from run to run: times taken and folders."""
    return re.sub(r"(in |took )?\d+(\.\d+)? s(econds)?\b(?= *$)", "", text.replace(os.getcwd(), ""))


def on_testbed():
    """The verbs on the testbed: workload, fit, generate, evaluate."""
    yield "cli/testbed", call("data", "testbed", "-o", "testbed", "--seed", 1)
    for file in sorted(Path("testbed").rglob("*.*")):
        yield f"file/{file}", file.read_text()
    for pattern in ("poisson", "bursty", "diurnal"):
        call("workload", pattern, "--rate", 2, "--duration", 120, "-o", "w.csv", "--seed", 2)
        yield f"workload/{pattern}", Path("w.csv").read_text()
    for pattern in ("replay", "fitted"):
        source = ["--from", "testbed/bursty/requests.csv"]
        yield f"cli/{pattern}", call("workload", pattern, *source, "-o", "w.csv", "--seed", 2)
        yield f"workload/{pattern}", Path("w.csv").read_text()
    for name, arguments in FITS.items():
        yield f"fit/{name}", plain(call("fit", *arguments, "-o", f"{name}.json", "--seed", 1))
        yield f"fit/{name}/file", Path(f"{name}.json").read_text()
        requests = ["--requests", "testbed/bursty/requests.csv"]
        traced = call("generate", f"{name}.json", *requests, "-o", "t.csv", "--draws", 2)
        yield f"generate/{name}", traced
        judged = ["evaluate", "--measured", "testbed/bursty", "--generated", "t.csv"]
        yield f"evaluate/{name}", call(*judged)
        yield f"evaluate/{name}/json", call(*judged, "--json")


def on_sites():
    """Small sites, their reports and exports."""
    call("data", "model", PAPER, "-o", "paper.json")
    call("data", "model", PAPER, "-o", "queueing.json", "--serving", "log_normal_ttft")
    for name, scenario in scenarios().items():
        Path("scenario.yaml").write_text(yaml.safe_dump(scenario))
        out = f"{name}.zarr"
        yield f"site/{name}", plain(call("site", "scenario.yaml", "-o", out, "--workers", 2))
        site = sitetrace.read_site(out)
        yield f"site/{name}/power", site["power_w"].to_numpy()
        yield f"site/{name}/attributes", json.dumps({**site.attrs}, default=str)
    for form in ("csv15", "greenbutton", "opendss", "pandapower", "pypsa"):
        to = ["--format", form, "--step", 300, "-o", f"x-{form}"]
        yield f"export/{form}", call("export", "mixed.zarr", *to)
        place = Path(f"x-{form}")
        for file in sorted(place.rglob("*")) if place.is_dir() else [place]:
            yield f"export/{form}/{file.name}", file.read_bytes().hex()
    yield "report", call("report", "mixed.zarr", "-o", "report.html")
    yield "report/page", re.sub(r"<svg.*?</svg>", "", Path("report.html").read_text(), flags=re.S)


def on_measured():
    """Shipped models judged on measured runs, and a fit of each kind."""
    measured = Path(os.environ["SITETRACE_DATA"]) / "measured"
    for split, runs in JUDGED.items():
        folders = [run for end in runs for run in measured.glob(f"{split.split('_')[0]}_*{end}")]
        for kind in ("", "_timeline"):
            model = sitetrace.shipped_model(split + kind)
            for run in folders:
                call("generate", model, "--requests", run / "requests.csv", "-o", "t.csv")
                scores = call("evaluate", "--measured", run, "--generated", "t.csv", "--json")
                yield f"measured/{split}{kind}/{run.name}", scores
    run = measured / "qwen3-8b_a100_tp1_poisson_r4"
    for kind in ("timeline", "states"):
        call("fit", run, "-o", "m.json", "--kind", kind, "--seed", 1, "--to", 40)
        yield f"measured/fit/{kind}", Path("m.json").read_text()


def everything():
    """All goldens by name."""
    yield from on_testbed()
    requests = sitetrace.read_requests("testbed/poisson/requests.csv").iloc[:150]
    requests.to_csv("requests.csv", index=False)
    yield from generated(requests)
    yield from engines(requests)
    yield from rows()
    yield from on_sites()
    yield "cli/keys", call("site", "--keys")
    if os.environ.get("SITETRACE_DATA"):
        yield from on_measured()


def record(out):
    """Write all goldens to one file."""
    found = {}
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for name, thing in everything():
            found[name] = np.array(plain(thing) if isinstance(thing, str) else thing)
            print(f"\r{len(found)} {name:60.60}", end="", file=sys.stderr)
    np.savez_compressed(out, **{name.replace("/", "|"): each for name, each in found.items()})
    print(f"\n{len(found)} goldens in {out}")


def numbers_of(text):
    """Part a text from the numbers in it."""
    number = re.compile(r"(?<![\w.])-?\d+\.?\d*(?:[eE][+-]?\d+)?(?![\w.])")
    return number.sub("#", text), np.array([float(each) for each in number.findall(text)])


def compare(before, after):
    """Print every golden that differs; how many do."""
    old, new = np.load(before), np.load(after)
    differ = sorted(set(old) ^ set(new))
    for name in differ:
        print(f"{name}: only in one of the two")
    for name in sorted(set(old) & set(new)):
        was, now, words, words_now = old[name], new[name], "", ""
        if was.dtype.kind == "U":
            (words, was), (words_now, now) = numbers_of(str(was)), numbers_of(str(now))
        same = was.shape == now.shape and words == words_now
        if same and np.allclose(was, now, rtol=RTOL, atol=0, equal_nan=True):
            continue
        differ.append(name)
        worst = np.nanmax(np.abs(now / np.where(was == 0, 1, was) - 1)) if same else np.nan
        print(f"{name}: {was.shape} {now.shape}, at worst {worst:.2g}")
    print(f"{len(old)} goldens, {len(differ)} differ")
    return len(differ)


if __name__ == "__main__":
    if sys.argv[1] == "record":
        record(Path(sys.argv[2]).resolve())
    else:
        sys.exit(1 if compare(Path(sys.argv[2]), Path(sys.argv[3])) else 0)
