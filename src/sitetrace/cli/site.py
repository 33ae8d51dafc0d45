"""Verbs on a site: simulate it, export it, report on it."""

import sys
from contextlib import contextmanager

import click
from click import option

from sitetrace.cli.data import FILE, example, out, say
from sitetrace.core.files import InputError, require
from sitetrace.planning.exports import FORMATS

SERVERS_PER_RACK, RACKS_PER_ROW = 4, 6
ALONE = {"is_flag": True, "is_eager": True, "expose_value": False}
OPTION_OF = {"topology": "servers", "rate_per_server": "rate", "step_s": "step"}  # of a key


def _print_keys(context, option, wanted) -> None:
    if wanted:
        from sitetrace.core.settings import key_tables
        from sitetrace.site.scenario import Scenario

        click.echo(key_tables(Scenario))
        context.exit()


@click.command(**example("site scenario.yaml -o site.zarr --workers 2"))
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


@click.command(**example("export site.zarr --format csv15 -o site-15min.csv"))
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


@click.command(**example("report site.zarr -o report.html"))
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
