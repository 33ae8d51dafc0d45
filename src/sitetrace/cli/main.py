"""The `sitetrace` command: each verb of the package on files."""

import json
import sys
from contextlib import contextmanager

import click
import numpy as np
from click import option

from sitetrace import __version__
from sitetrace.cli.data import FILE, SEED, choice, data, example, ingest, out, say
from sitetrace.core.files import InputError, check_place, digest_of, require
from sitetrace.measured.rundir import read_power, read_run
from sitetrace.measured.traces import ENDINGS, read_trace, write_trace
from sitetrace.planning.exports import FORMATS
from sitetrace.power.load import load_warnings
from sitetrace.workload.table import read_requests, write_requests

AFTER = {"type": float, "help": "Seconds after the first request."}
START, STOP = option("--from", "start_s", **AFTER), option("--to", "stop_s", **AFTER)
SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100, "show_default": True}
SERVERS_PER_RACK, RACKS_PER_ROW = 4, 6
ALONE = {"is_flag": True, "is_eager": True, "expose_value": False}
OPTION_OF = {"topology": "servers", "rate_per_server": "rate", "step_s": "step"}  # of a key
# options that each pattern of requests takes
LAW = {"rate", "duration", "source"}
TAKES = {"poisson": LAW, "bursty": LAW | {"cv"}}
TAKES |= {"diurnal": LAW | {"swing", "peak_hour", "begin_hour"}}
TAKES |= {"replay": {"source", "thin", "speed"}, "fitted": {"source", "duration", "begin_hour"}}


@click.group(context_settings=SETTINGS, **example("fit runs/poisson_r4 -o model.json"))
@click.version_option(__version__)
def cli() -> None:
    """Power of LLM inference serving: from requests to servers."""


@cli.command(**example("workload bursty --rate 2.5 --cv 2 --duration 300 -o requests.csv"))
@click.argument("pattern", type=click.Choice([*TAKES]))
@option("--rate", default=1.0, help="Requests a second.")
@option("--duration", default=600.0, help="Seconds.")
@option("--cv", default=2.0, help="bursty: of the gaps.")
@option("--swing", default=0.5, help="diurnal: greatest rate less the mean, over the mean.")
@option("--peak-hour", default=15.0, help="diurnal: hour of the day with the greatest rate.")
@option("--from", "source", type=FILE, help="replay, fitted: requests; others: lengths.")
@option("--thin", default=1.0, help="replay: share kept.")
@option("--speed", default=1.0, help="replay: time-warp.")
@option("--begin-hour", default=0.0, help="diurnal, fitted: hour of the day at second 0.")
@SEED
@out("Request table to be written.")
@click.pass_context
def workload(context, pattern, seed, out, **given) -> None:
    """Write a stream of requests."""
    from sitetrace.workload import streams
    from sitetrace.workload.spec import draw_traffic, fit_traffic

    for name in sorted(given.keys() - TAKES[pattern]):
        said = context.get_parameter_source(name).name == "COMMANDLINE"
        require(not said, f"--{name.replace('_', '-')}", f"{pattern} has none", "leave it out")
    given = {name: given[name] for name in TAKES[pattern]}
    source = given.pop("source")
    enough = source or pattern not in ("replay", "fitted")
    require(enough, "--from", "is missing", f"name the requests of a {pattern} stream")
    table, rng = source and read_requests(source), np.random.default_rng(seed)
    if pattern == "fitted":
        hour = given["begin_hour"]
        section = fit_traffic(table, begin_hour=hour)
        if "peak_hour" in section:
            say([f"{source}: second 0 is taken as hour {hour:g} of the day (--begin-hour)"])
        click.echo(f"traffic: {json.dumps(section)}")
        table = draw_traffic(section, given["duration"], seed, hour)
    elif pattern == "replay":
        table = streams.replay(table, **given, rng=rng)
    else:
        span = {"rate_per_s": given.pop("rate"), "duration_s": given.pop("duration")}
        table = getattr(streams, pattern)(**span, **given, rng=rng, like=table)
    write_requests(out, table)
    click.echo(f"wrote {len(table)} requests to {out}")


@cli.command(**example("fit runs/poisson_r4 -o model.json --kind timeline"))
@click.argument("runs", type=FILE, nargs=-1, required=True)
@out("Model file to be written.")
@choice("--kind", "auto timeline states", "auto: the better within the runs; states: the paper's.")
@choice("--transitions", "auto markov logit trees bigru", "For states; bigru needs torch.")
@option("--checkpoint", type=FILE, help="bigru: training goes on from here if killed.")
@option("--states", "n_states", type=click.IntRange(2, 40), help="For states; else chosen.")
@START
@STOP
@SEED
def fit(runs, out, transitions, start_s, **options) -> None:
    """Fit a power model on one or several runs of a configuration."""
    from sitetrace.power.fitting import fit as fit_model
    from sitetrace.power.modelfile import described, save_model, weights_path
    from sitetrace.serving.calibration import misfit_lines

    # a fit takes long: a place that cannot hold the model is said before it
    check_place(out, (out.suffix,))
    if transitions == "bigru":
        weights_path(out)
    loaded = [read_run(path) for path in runs]
    say([note for run in loaded for note in run.notes])
    model = fit_model(loaded, transitions=transitions, start_s=start_s, **options)
    save_model(model, out)
    before_w, idle_w = loaded[0].idle_before_load_w(), model.idle.mean_w
    if start_s is not None and before_w and idle_w > 1.1 * before_w:
        why = f"idle power of {idle_w:.1f} W after --from, but {before_w:.1f} W before load"
        say([f"{why}: take all of the recording, or --to alone, where idle counts"])
    told = [model.provenance.get("kind_because"), *misfit_lines(model.provenance)]
    click.echo("\n".join(filter(None, [*told, f"wrote {out}: {described(model)}"])))


@cli.command(**example("show model.json"))
@click.argument("model", type=FILE)
def show(model) -> None:
    """Describe a model file."""
    from sitetrace.power.modelfile import load_model, summary

    click.echo(summary(load_model(model)))


@cli.command(**example("generate model.json --requests requests.csv -o trace.csv --seed 1"))
@click.argument("model", type=FILE)
@option("--requests", type=FILE, required=True, help="arrival_s,input_tokens,output_tokens.")
@out("Ends in .csv, .parquet, .nc or .zarr.")
@choice("--as", "power expected meter", "Power, or the meter's mean or one reading.", "reading")
@option("--dt", "dt_s", type=float, help="Step in seconds; by default the model's own.")
@option("--lead", "lead_s", type=click.FloatRange(0), default=30.0, help="Seconds before.")
@option("--tail", "tail_s", type=click.FloatRange(0), default=10.0, help="Seconds after.")
@option("--draws", type=click.IntRange(1, 1000), default=1)
@option("--idle-w", type=float, help="Idle power of the board, where it differs.")
@SEED
def generate(model, requests, out, draws, seed, **options) -> None:
    """Generate power for a stream of requests."""
    from sitetrace.power.modelfile import load_model
    from sitetrace.serving.calibration import failed_parts
    from sitetrace.serving.engine import simulate

    check_place(out, ENDINGS)
    sound = options["reading"] != "expected" or draws == 1
    require(sound, "--draws", "an expected reading is the mean of all", "leave it out")
    fitted, table, rng = load_model(model), read_requests(requests), np.random.default_rng(seed)
    drawn = [fitted.generate(table, rng=rng, **options)]
    # the same timeline again, for whatever of it is random came first
    timeline = simulate(table, fitted.server, np.random.default_rng(seed))
    drawn += [fitted.draw(timeline, rng, **options) for _ in range(draws - 1)]
    provenance = {"data": fitted.provenance["data"], "reading": options["reading"]}
    provenance |= {"model_sha256": digest_of([model]), "requests_sha256": digest_of([requests])}
    provenance |= {"configuration": fitted.configuration.name, "seed": seed}
    provenance["busy_end_s"] = float(timeline.requests["end_s"].max())
    write_trace(out, drawn, provenance | {"sitetrace": __version__})
    failed = failed_parts(fitted.provenance)
    say([f"the fit of {model} failed: {'; '.join(failed)}"] if failed else [], "warning")
    say(load_warnings(fitted.fitted, timeline), "warning")
    click.echo(_described(drawn, timeline.requests))


def _described(traces, requests) -> str:
    power_w = np.concatenate([trace.power_w for trace in traces])
    energy_kwh = np.mean([trace.energy_j for trace in traces]) / 3.6e6
    first_s, tokens = requests["first_token_s"], requests["output_tokens"]
    ttft_s = first_s - requests["arrival_s"]
    wait_s = (requests["start_s"] - requests["arrival_s"]).max()
    tpot_s = ((requests["end_s"] - first_s) / (tokens - 1))[tokens > 1].median()
    tpot = f"{tpot_s * 1e3:.1f} ms" if tpot_s == tpot_s else "none"
    return (
        f"power   mean {power_w.mean():.1f} W, peak {power_w.max():.1f} W, "
        f"P99 {np.percentile(power_w, 99):.1f} W, energy {energy_kwh:.4g} kWh\n"
        f"serving TTFT at the engine median {ttft_s.median() * 1e3:.0f} ms, "
        f"P99 {ttft_s.quantile(0.99):.2f} s, TPOT median {tpot}, longest wait {wait_s:.2f} s"
    )


@cli.command(**example("evaluate --measured runs/poisson_r2p5 --generated trace.csv --json"))
@option("--measured", type=FILE, required=True, help="Run directory or power.csv.")
@option("--requests", type=FILE, help="Request table, where --measured is a power file.")
@option("--generated", type=FILE, multiple=True, required=True, help="One file or several.")
@click.argument("more", type=FILE, nargs=-1)
@START
@STOP
@option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@option("--plot", type=FILE, help="Also draw both traces (PNG).")
def evaluate(measured, requests, generated, more, start_s, stop_s, as_json, plot) -> None:
    """Judge generated traces against a measured run."""
    from sitetrace.evaluate import judge

    run = read_run(measured) if measured.is_dir() else None
    samples, notes = (run.samples, run.notes) if run else read_power(measured)
    say(notes)
    files = [read_trace(path) for path in (*generated, *more)]
    draws = [trace for traces, _ in files for trace in traces]
    ends = [attributes["busy_end_s"] for _, attributes in files if "busy_end_s" in attributes]
    table = requests and read_requests(requests)
    how = {"start_s": start_s, "stop_s": stop_s, "busy_end_s": max(ends, default=None)}
    result = judge.evaluate(run or samples, draws, requests=table, **how)
    if plot is not None:
        from sitetrace.core.style import save_comparison

        save_comparison(plot, samples, draws)
    click.echo(json.dumps(result, indent=1) if as_json else judge.format_table(result))


def _print_keys(context, option, wanted) -> None:
    if wanted:
        from sitetrace.core.settings import key_tables
        from sitetrace.site.scenario import Scenario

        click.echo(key_tables(Scenario))
        context.exit()


@cli.command(**example("site scenario.yaml -o site.zarr --workers 2"))
@click.argument("scenario", type=FILE, required=False)
@out("Ends in .zarr, .parquet or .nc.")
@option("--workers", type=click.IntRange(1, 1024), help="On this machine.  [default: 1]")
@option("--cluster", help="Address of a Dask scheduler, such as tcp://127.0.0.1:8786.")
@option("--resume", is_flag=True, help="Go on with a run that was killed.")
@option("--model", help="Without a scenario: model file, or name of a shipped model.")
@option("--servers", type=click.IntRange(1, 100_000), help="Without a scenario: how many.")
@option("--rate", type=float, help="Without a scenario: requests a second and server.")
@option("--hours", type=float, help="Without a scenario: duration.  [default: 24]")
@option("--seed", type=click.IntRange(0), help="Without a scenario.  [default: 0]")
@option("--step", type=float, help="Without a scenario: seconds.  [default: 0.25]")
@option("--keys", callback=_print_keys, help="Print all keys of a scenario and exit.", **ALONE)
def site(scenario, out, workers, cluster, resume, **given) -> None:
    """Simulate a site: servers, racks, rows and all, from a scenario file or a model and a rate.

    Without a scenario servers stand in racks of at most 4 and rows of 6 racks; arrivals are
    Poisson, the PUE is 1.3, and site, rows and racks are kept each second.
    """
    from sitetrace.site.scenario import read_scenario

    twice = workers is not None and cluster is not None
    require(not twice, "--workers and --cluster", "work is done here or there", "leave one out")
    told = ", ".join(f"--{name}" for name, value in given.items() if value is not None)
    sound = scenario is None or not told
    require(sound, told, f"{scenario} says it", "change it there or leave the file out")
    checked = _of_options(given) if scenario is None else read_scenario(scenario)
    # they take their time: not before all is checked
    from sitetrace.power.modelfile import load_model
    from sitetrace.serving.calibration import failed_parts
    from sitetrace.site.simulate import simulate_site

    try:
        how = {"workers": workers or 1, "cluster": cluster, "resume": resume}
        result = simulate_site(checked, out, **how, progress=True)
    except KeyboardInterrupt:
        click.echo("interrupted: the same command with --resume goes on", err=True)
        sys.exit(130)
    for file in dict.fromkeys(checked.model_files):
        failed = "; ".join(failed_parts(load_model(file).provenance))
        say([f"the fit of {file} failed: {failed}"] if failed else [], "warning")
    with result:
        click.echo(_summary(result, checked.hours))
    click.echo(f"wrote {out}")


def _of_options(given):
    from sitetrace.core.settings import Fault
    from sitetrace.site.scenario import check_scenario

    for name in ("model", "servers", "rate"):
        mend = "give a scenario file, or --model, --servers and --rate"
        require(given[name] is not None, f"--{name}", "is missing", mend)
    fleet = [{"name": "all", "model": given["model"]}]
    traffic = {"pattern": "poisson", "rate_per_server": given["rate"]}
    content = {"topology": topology_of(given["servers"]), "fleet": fleet, "traffic": traffic}
    own = {"hours": given["hours"], "seed": given["seed"], "step_s": given["step"]}
    try:
        return check_scenario(content | {key: own[key] for key in own if own[key] is not None})
    except Fault as fault:
        key = fault.keys[-1] if fault.keys else "options"
        raise InputError(f"--{OPTION_OF.get(key, key)}: {fault}") from None


def topology_of(servers: int) -> dict[str, int]:
    """Lay servers out: full racks of 4 (or 3, 2, 1), rows of 6 racks where that comes out even."""
    per_rack = next(n for n in range(SERVERS_PER_RACK, 0, -1) if servers % n == 0)
    racks = servers // per_rack
    per_row = RACKS_PER_ROW if racks % RACKS_PER_ROW == 0 else racks
    return {"rows": racks // per_row, "racks_per_row": per_row, "servers_per_rack": per_rack}


def _summary(result, hours) -> str:
    power, levels, lines = result["power_w"], result["level"].to_numpy(), []
    wholes = [level for level in ("facility", "site", "gpu") if level in levels]
    parts = [level for level in ("row", "rack", "server") if level in levels]
    for level in wholes or parts[:1]:
        power_kw = power[:, levels == level].sum("unit").to_numpy() / 1e3
        mean_kw, peak_kw = float(power_kw.mean()), float(power_kw.max())
        lines.append(
            f"{level if wholes else f'{level}s':9}mean {mean_kw:.2f} kW, peak {peak_kw:.2f} kW, "
            f"PAR {peak_kw / mean_kw:.3f}, load factor {mean_kw / peak_kw:.3f}, "
            f"energy {mean_kw * hours / 1e3:.4g} MWh"
        )
    told = "requests {requests}, tokens {input_tokens} in and {output_tokens} out, longest wait "
    return "\n".join([*lines, (told + "{longest_wait_s:.2f} s").format(**result.attrs)])


@cli.command(**example("export site.zarr --format csv15 -o site-15min.csv"))
@click.argument("site", type=FILE)
@option("--format", "form", type=click.Choice(FORMATS), required=True)
@out("File; for opendss, pypsa a folder.")
@option("--unit", "units", multiple=True, default=["facility"], help="Such as site or row-0.")
@option("--step", type=click.IntRange(1), default=900, help="Seconds an interval.")
@option("--power-factor", default=0.98, help="Assumed, lagging; for opendss and pandapower.")
def export(site, form, out, units, step, power_factor) -> None:
    """Write a site's power for a utility or a grid tool."""
    from sitetrace.planning.exports import export as write

    with _opened(site) as dataset:
        told, *notes = write(dataset, form, out, units, step, power_factor)
    say(notes)
    click.echo(told)


@cli.command(**example("report site.zarr -o report.html"))
@click.argument("site", type=FILE)
@out("HTML page to be written.")
@option("--power-factor", default=0.9, help="Of the transformer: the 15-minute peak over this.")
def report(site, out, power_factor) -> None:
    """Write one self-contained page on a site: numbers, figures, assumptions, provenance."""
    from sitetrace.planning.report import write_report

    with _opened(site) as dataset:
        write_report(dataset, out, power_factor)
    click.echo(f"wrote {out}")


@contextmanager
def _opened(path):
    from sitetrace.site.store import read_site

    with read_site(path) as dataset:
        try:
            yield dataset
        except (OSError, RuntimeError) as error:
            raise InputError(f"{path}: damaged ({error}): make it anew: sitetrace site") from error


for verb in (ingest, data):
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
