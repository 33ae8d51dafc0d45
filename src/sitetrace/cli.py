"""The `sitetrace` command: each verb of the package on files."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click
import numpy as np

from sitetrace import __version__
from sitetrace.cli_site import site
from sitetrace.cli_utility import export, report
from sitetrace.files import InputError, read_json
from sitetrace.requests import read_requests

FILE = click.Path(path_type=Path)
SEED = click.option("--seed", type=click.IntRange(0), default=0, show_default=True)


def say(lines: list[str] | tuple[str, ...]) -> None:
    """Print notes on standard error."""
    for line in lines:
        click.echo(f"note: {line}", err=True)


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Example: sitetrace generate model.json --requests requests.csv -o trace.csv",
)
@click.version_option(__version__)
def cli() -> None:
    """Power of LLM inference serving: from requests to servers."""


@click.command(epilog="Example: sitetrace ingest --power smi.csv --vllm result.json -o my-run")
@click.option("--power", type=FILE, help="nvidia-smi, DCGM or Zeus recording.")
@click.option("--vllm", type=FILE, help="JSON of vllm bench serve --save-detailed.")
@click.option("--engine", type=FILE, help="Samples of vLLM's metrics (CSV).")
@click.option("--model", help="Model; by default the one named in the JSON.")
@click.option("--hardware", default="unknown", show_default=True, help="GPU type, such as A100.")
@click.option("--tensor-parallel", type=click.IntRange(1), help="By default all recorded GPUs.")
@click.option("--utc-offset", help="Zone of local wall times, such as -7 or +05:30; else found.")
@click.option("--azure", type=FILE, help="Instead: a request trace of Azure, 2023 or 2024.")
@click.option("--day", help="Of --azure, as 2024-05-16; by default all of it.")
@click.option("-o", "--out", type=FILE, required=True, help="Run directory, or request table.")
def ingest(
    power, vllm, engine, model, hardware, tensor_parallel, utc_offset, azure, day, out
) -> None:  # noqa: ANN001
    """Turn recordings of other tools into a run directory, a trace of Azure into requests."""
    from sitetrace.clocks import parse_utc_offset
    from sitetrace.ingest import ingest as ingest_run

    if azure is not None:
        if power or vllm or engine:
            raise InputError("--azure: a trace of requests alone: leave the other files out")
        from sitetrace.azure import read_azure
        from sitetrace.workload import write_requests

        table, notes = read_azure(azure, day)
        say(notes)
        write_requests(out, table)
        click.echo(f"wrote {len(table)} requests to {out}")
        return
    if power is None or vllm is None or day is not None:
        raise InputError("ingest: give --power and --vllm, or --azure (and --day)")
    named = read_json(vllm).get("model_id")
    info = {"model": model or (named if isinstance(named, str) else "unknown")}
    info |= {"hardware": hardware}
    if tensor_parallel:
        info["tensor_parallel"] = tensor_parallel
    offset_s = None if utc_offset is None else parse_utc_offset(utc_offset)
    say(ingest_run(power, vllm, engine, info=info, utc_offset_s=offset_s, out=out))
    click.echo(f"wrote {out}")


@cli.command(
    epilog="Example: sitetrace workload bursty --rate 2.5 --cv 2 --duration 300 -o requests.csv"
)
@click.argument("pattern", type=click.Choice(["poisson", "bursty", "diurnal", "replay", "fitted"]))
@click.option("--rate", type=float, default=1.0, show_default=True, help="Requests a second.")
@click.option("--duration", type=float, default=600.0, show_default=True, help="Seconds.")
@click.option("--cv", type=float, default=2.0, show_default=True, help="bursty: of the gaps.")
@click.option(
    "--swing",
    type=float,
    default=0.5,
    show_default=True,
    help="diurnal: 0 to 1; the rate is least at second 0, greatest 12 h after it.",
)
@click.option("--from", "source", type=FILE, help="replay, fitted: requests; others: lengths.")
@click.option("--thin", type=float, default=1.0, show_default=True, help="replay: share kept.")
@click.option("--speed", type=float, default=1.0, show_default=True, help="replay: time-warp.")
@click.option(
    "--begin-hour",
    type=float,
    default=0.0,
    show_default=True,
    help="fitted: hour of the day at second 0 of both tables; of epoch seconds hours ahead of UTC.",
)
@SEED
@click.option("-o", "--out", type=FILE, required=True, help="Request table to be written.")
def workload(
    pattern, rate, duration, cv, swing, source, thin, speed, begin_hour, seed, out
) -> None:  # noqa: ANN001
    """Write a stream of requests."""
    from sitetrace import workload as streams
    from sitetrace.workload import write_requests

    rng = np.random.default_rng(seed)
    given = None if source is None else read_requests(source)
    if given is None and pattern in ("replay", "fitted"):
        raise InputError(f"--from is missing: {pattern} needs a request table")
    if pattern == "fitted":
        from sitetrace.traffic_fit import draw_traffic, fit_traffic

        try:
            section = fit_traffic(given, begin_hour=begin_hour)
        except InputError as error:
            raise InputError(f"{source}: {error}") from None
        if "peak_hour" in section:
            say([f"{source}: second 0 is taken as hour {begin_hour:g} of the day (--begin-hour)"])
        click.echo(f"traffic: {json.dumps(section)}")
        table = draw_traffic(section, duration, seed, begin_hour)
    elif pattern == "replay":
        table = streams.replay(given, thin, speed, rng)
    elif pattern == "bursty":
        table = streams.bursty(rate, cv, duration, rng, given)
    elif pattern == "diurnal":
        table = streams.diurnal(rate, swing, duration, rng, given)
    else:
        table = streams.poisson(rate, duration, rng, given)
    write_requests(out, table)
    click.echo(f"wrote {len(table)} requests to {out}")


@cli.command(epilog="Example: sitetrace fit runs/poisson_r4 -o model.json --kind timeline")
@click.argument("runs", type=FILE, nargs=-1, required=True)
@click.option("-o", "--out", type=FILE, required=True, help="Model file to be written.")
@click.option(
    "--kind",
    type=click.Choice(["auto", "timeline", "states"]),
    default="auto",
    show_default=True,
    help="auto: the better one in cross-validation within the runs; states: the paper's way.",
)
@click.option(
    "--transitions",
    type=click.Choice(["auto", "markov", "logit", "trees", "bigru"]),
    default="auto",
    show_default=True,
    help="For states. bigru: the paper's net; needs pip install 'sitetrace[torch]'.",
)
@click.option("--checkpoint", type=FILE, help="bigru: training goes on from here if killed.")
@click.option("--states", type=click.IntRange(2, 40), help="For states: how many; else chosen.")
@click.option("--from", "start", type=float, help="Seconds after the first request.")
@click.option("--to", "stop", type=float, help="Seconds after the first request.")
@SEED
def fit(runs, out, kind, transitions, checkpoint, states, start, stop, seed) -> None:  # noqa: ANN001
    """Fit a power model on one or several runs of a configuration."""
    from sitetrace.fitting import fit as fit_model
    from sitetrace.modelfile import described, save_model
    from sitetrace.observed import fit_lines
    from sitetrace.rundir import read_run
    from sitetrace.weights import weights_path

    # a fit takes long: a place that is not there is said before it
    if not out.parent.is_dir():
        raise InputError(f"{out}: no folder {out.parent}: make it first")
    if out.is_dir():
        raise InputError(f"{out}: a folder of that name is in the way: name a file")
    if transitions == "bigru":
        weights_path(out)  # a name that leaves no place for the weights is said before the fit
    loaded = [read_run(path) for path in runs]
    for run in loaded:
        say(run.notes)
    options = {"kind": kind, "transitions": transitions, "n_states": states}
    options |= {"checkpoint": checkpoint, "start_s": start, "stop_s": stop}
    model = fit_model(loaded, seed=seed, **options)
    save_model(model, out)
    before_w, idle_w = loaded[0].idle_before_load_w(), model.idle.mean_w
    if start is not None and before_w and idle_w > 1.1 * before_w:
        say([f"idle power of {idle_w:.1f} W, the least after --from, but {before_w:.1f} W before "
              "load: take all of the recording, or --to alone, where idle counts"])  # fmt: skip
    if "kind_because" in model.provenance:
        click.echo(model.provenance["kind_because"])
    for line in fit_lines(model.provenance):
        click.echo(line)
    click.echo(f"wrote {out}: {described(model)}")


@cli.command(epilog="Example: sitetrace show model.json")
@click.argument("model", type=FILE)
def show(model) -> None:  # noqa: ANN001
    """Describe a model file."""
    from sitetrace.modelfile import load_model, summary

    click.echo(summary(load_model(model)))


@cli.command(
    epilog="Example: sitetrace generate model.json --requests requests.csv -o trace.csv --seed 1"
)
@click.argument("model", type=FILE)
@click.option("--requests", type=FILE, required=True, help="arrival_s,input_tokens,output_tokens.")
@click.option("-o", "--out", type=FILE, required=True, help="Ends in .csv, .parquet, .nc or .zarr.")
@click.option(
    "--as",
    "reading",
    type=click.Choice(["power", "meter"]),
    default="power",
    show_default=True,
    help="Mean power, or what the meter would print; the kind states has only what was printed.",
)
@click.option("--dt", type=float, help="Step in seconds; by default the model's own.")
@click.option("--lead", type=float, default=30.0, show_default=True, help="Seconds before.")
@click.option("--tail", type=float, default=10.0, show_default=True, help="Seconds after.")
@click.option("--draws", type=click.IntRange(1, 1000), default=1, show_default=True)
@click.option("--idle-w", type=float, help="Idle power of the board, where it differs.")
@SEED
def generate(model, requests, out, reading, dt, lead, tail, draws, idle_w, seed) -> None:  # noqa: ANN001
    """Generate power for a stream of requests."""
    from sitetrace.files import check_place, digest_of
    from sitetrace.generator import load_warnings
    from sitetrace.modelfile import load_model
    from sitetrace.serving import simulate
    from sitetrace.storage import ENDINGS, write_trace
    from sitetrace.timeline_model import TimelineModel

    check_place(out, ENDINGS)
    for name, value, low in (("--lead", lead, 0.0), ("--tail", tail, 0.0), ("--idle-w", idle_w, 0)):
        if value is not None and not low <= value < 1e7:
            raise InputError(f"{name} {value:g} is no sensible value: give {low:g} or more")
    if dt is not None and not 0 < dt < 1e7:
        raise InputError(f"--dt {dt:g} is no step: give a multiple of the model's step")
    fitted = load_model(model)
    table = read_requests(requests)
    rng = np.random.default_rng(seed)
    timeline = simulate(table, fitted.server, rng)
    options = {"reading": reading} if isinstance(fitted, TimelineModel) else {}
    drawn = [
        fitted.draw(timeline, each, dt, lead, tail, idle_w, **options) for each in rng.spawn(draws)
    ]
    provenance = {
        "data": fitted.provenance["data"],
        "reading": reading,
        "model_sha256": digest_of([model]),
        "requests_sha256": digest_of([requests]),
        "configuration": fitted.configuration.name,
        "seed": seed,
        "busy_end_s": float(timeline.requests["end_s"].max()),
        "sitetrace": __version__,
    }
    write_trace(out, drawn, provenance)
    for line in load_warnings(fitted.fitted, timeline):
        click.echo(f"warning: {line}", err=True)
    click.echo(_described(drawn, timeline))


def _described(traces, timeline) -> str:  # noqa: ANN001
    """Mean, peak, P99, energy and what the requests met."""
    power_w = np.concatenate([trace.power_w for trace in traces])
    requests = timeline.requests
    ttft_s = requests["first_token_s"] - requests["arrival_s"]
    decoding_s = requests["end_s"] - requests["first_token_s"]
    several = requests["output_tokens"] > 1
    tpot_s = decoding_s[several] / (requests["output_tokens"][several] - 1)
    wait_s = requests["start_s"] - requests["arrival_s"]
    energy_kwh = np.mean([trace.energy_j for trace in traces]) / 3.6e6
    tpot = f"{tpot_s.median() * 1e3:.1f} ms" if several.any() else "none"
    return (
        f"power   mean {power_w.mean():.1f} W, peak {power_w.max():.1f} W, "
        f"P99 {np.percentile(power_w, 99):.1f} W, energy {energy_kwh:.4g} kWh\n"
        f"serving TTFT at the engine median {ttft_s.median() * 1e3:.0f} ms, "
        f"P99 {ttft_s.quantile(0.99):.2f} s, TPOT median {tpot}, longest wait {wait_s.max():.2f} s"
    )


@cli.command(
    epilog="Example: sitetrace evaluate --measured runs/poisson_r2p5 --generated trace.csv --json"
)
@click.option("--measured", type=FILE, required=True, help="Run directory or power.csv.")
@click.option("--requests", type=FILE, help="Request table, where --measured is a power file.")
@click.option("--generated", type=FILE, multiple=True, required=True, help="One file or several.")
@click.argument("more", type=FILE, nargs=-1)
@click.option("--from", "start", type=float, help="Seconds after the first request.")
@click.option("--to", "stop", type=float, help="Seconds after the first request.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--plot", type=FILE, help="Also draw both traces (PNG).")
def evaluate(measured, requests, generated, more, start, stop, as_json, plot) -> None:  # noqa: ANN001
    """Judge generated traces against a measured run."""
    from sitetrace.evaluation import evaluate as judge
    from sitetrace.evaluation import format_table
    from sitetrace.power import read_power
    from sitetrace.rundir import read_run
    from sitetrace.storage import read_trace

    if measured.is_dir():
        recording = read_run(measured)
        say(recording.notes)
    else:
        recording, notes = read_power(measured)
        say(notes)
    files = [read_trace(path) for path in (*generated, *more)]
    draws = [trace for traces, _ in files for trace in traces]
    ends = [attributes["busy_end_s"] for _, attributes in files if "busy_end_s" in attributes]
    result = judge(
        recording,
        draws,
        requests=None if requests is None else read_requests(requests),
        start_s=start,
        stop_s=stop,
        busy_end_s=max(ends) if ends else None,
    )
    if plot is not None:
        from sitetrace.plots.scores import save_comparison

        save_comparison(plot, recording, draws)
    click.echo(json.dumps(result, indent=1) if as_json else format_table(result))


@click.group(epilog="Example: sitetrace data testbed -o testbed --seed 1")
def data() -> None:
    """List, fetch and verify public data; write the simulated testbed."""


@data.command("list", epilog="Example: sitetrace data list")
def data_list() -> None:
    """List the registry: what there is, where from, under which licence."""
    from sitetrace import datasets
    from sitetrace.paper import read_paper_table

    click.echo("\n".join(datasets.describe()))
    names = read_paper_table("serving_surrogate")["config"]
    click.echo("\nThe paper's configurations, for sitetrace data model: " + ", ".join(names))


@data.command("model", epilog="Example: sitetrace data model llama-3-70b_H100_tp4 -o model.json")
@click.argument("config")
@click.option("-o", "--out", type=FILE, required=True, help="Model file to be written.")
@click.option(
    "--states",
    type=click.Choice(["coupled", "independent"]),
    default="coupled",
    show_default=True,
    help="coupled: to the active count, by a rule of sitetrace and not of the paper.",
)
@click.option(
    "--emissions", type=click.Choice(["gaussian", "ar1"]), default="gaussian", show_default=True
)
@click.option(
    "--serving",
    type=click.Choice(["constant_rate", "log_normal_ttft"]),
    default="constant_rate",
    show_default=True,
    help="Which of the paper's two surrogates.",
)
def data_model(config, out, states, emissions, serving) -> None:  # noqa: ANN001
    """Make a model of one of the paper's configurations from its published numbers."""
    from sitetrace.modelfile import save_model
    from sitetrace.published import paper_model

    model = paper_model(config, states=states, emissions=emissions, serving=serving)
    save_model(model, out)
    click.echo(f"wrote {out}: {model.provenance['rule']}")


@data.command("fetch", epilog="Example: sitetrace data fetch azure-2023")
@click.argument("names", nargs=-1)
@click.option("--base-url", help="Fetch from this place instead of the registry's.")
def data_fetch(names, base_url) -> None:  # noqa: ANN001
    """Fetch data sets (all by default), resume and verify."""
    from sitetrace import datasets, fetching

    for name in names or datasets.registry():
        for line in fetching.fetch(name, base_url):
            click.echo(line)


@data.command("verify", epilog="Example: SITETRACE_DATA=mirror sitetrace data verify")
@click.argument("names", nargs=-1)
def data_verify(names) -> None:  # noqa: ANN001
    """Check the files at hand against the registry."""
    from sitetrace import datasets, fetching

    for name in names or datasets.registry():
        for line in fetching.verify(name):
            click.echo(line)


@data.command("testbed", epilog="Example: sitetrace data testbed -o testbed --seed 1")
@click.option("-o", "--out", type=FILE, required=True, help="Folder to be made.")
@SEED
def data_testbed(out, seed) -> None:  # noqa: ANN001
    """Write runs of a simulated server in the measured form."""
    from sitetrace.testbed import write_dataset

    for path in write_dataset(out, seed):
        click.echo(f"wrote {path}")


for verb in (ingest, site, export, report, data):
    cli.add_command(verb)


def main() -> None:
    """Run the command: exit code 0 done, 2 bad input, 1 a fault of ours."""
    try:
        cli.main(prog_name="sitetrace", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(2)
    except (InputError, click.ClickException) as error:
        message = error.format_message() if isinstance(error, click.ClickException) else str(error)
        click.echo("Error: " + " ".join(message.split()), err=True)
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted: nothing half-written", err=True)
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(1)
