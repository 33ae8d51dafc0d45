"""Verbs on a site: simulate it, export it, report on it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sitetrace.cli.options import FILE, say
from sitetrace.core.files import InputError
from sitetrace.planning.exports import FORMATS

if TYPE_CHECKING:
    import xarray as xr

    from sitetrace.site.scenario import Scenario

SERVERS_PER_RACK, RACKS_PER_ROW = 4, 6
# keys of a scenario that are made of an option
OPTIONS = {
    ("hours",): "--hours",
    ("seed",): "--seed",
    ("step_s",): "--step",
    ("topology",): "--servers",
    ("fleet", 0, "model"): "--model",
    ("traffic", "rate_per_server"): "--rate",
}


def _print_keys(context: click.Context, option: click.Parameter, wanted: bool) -> None:
    """Print all keys of a scenario file and exit."""
    if wanted:
        from sitetrace.core.settings import key_tables
        from sitetrace.site.scenario import Scenario

        click.echo(key_tables(Scenario))
        context.exit()


@click.command(epilog="Example: sitetrace site scenario.yaml -o site.zarr --workers 2")
@click.argument("scenario", type=FILE, required=False)
@click.option("-o", "--out", type=FILE, required=True, help="Ends in .zarr, .parquet or .nc.")
@click.option("--workers", type=click.IntRange(1, 1024), help="On this machine.  [default: 1]")
@click.option("--cluster", help="Address of a Dask scheduler, such as tcp://127.0.0.1:8786.")
@click.option("--resume", is_flag=True, help="Go on with a run that was killed.")
@click.option("--model", help="Without a scenario: model file, or name of a shipped model.")
@click.option("--servers", type=click.IntRange(1, 100_000), help="Without a scenario: how many.")
@click.option("--rate", type=float, help="Without a scenario: requests a second and server.")
@click.option("--hours", type=float, help="Without a scenario: duration.  [default: 24]")
@click.option("--seed", type=click.IntRange(0), help="Without a scenario.  [default: 0]")
@click.option("--step", type=float, help="Without a scenario: seconds.  [default: 0.25]")
@click.option(
    "--keys",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_keys,
    help="Print all keys of a scenario file and exit.",
)
def site(scenario, out, workers, cluster, resume, **given) -> None:
    """Simulate a site: servers, racks, rows and all, from a scenario file or a model and a rate.

    Without a scenario servers stand in racks of 4 (of 3, 2 or 1 where 4 does not divide them) and
    racks in rows of 6 (in one row where 6 does not divide them); arrivals are Poisson, the PUE is
    1.3, and site, rows and racks are kept each second.
    """
    from sitetrace.site.scenario import read_scenario

    if workers is not None and cluster is not None:
        raise InputError("--workers and --cluster: the work is done here or there: leave one out")
    told = [f"--{name}" for name, value in given.items() if value is not None]
    if scenario is not None and told:
        raise InputError(f"{told[0]}: {scenario} says it: change it there or leave the file out")
    checked = _of_options(given) if scenario is None else read_scenario(scenario)
    # they take their time: not before all is checked
    from sitetrace.power.modelfile import load_model
    from sitetrace.serving.calibration import failed_parts
    from sitetrace.site.simulate import simulate_site

    try:
        result = simulate_site(
            checked, out, workers=workers or 1, cluster=cluster, resume=resume, progress=True
        )
    except KeyboardInterrupt:
        click.echo("interrupted: the same command with --resume goes on", err=True)
        sys.exit(130)
    for file in dict.fromkeys(checked.model_files):
        failed = "; ".join(failed_parts(load_model(file).provenance))
        if failed:
            click.echo(f"warning: the fit of {file} failed: {failed}", err=True)
    with result:
        click.echo(_summary(result, checked.hours))
    click.echo(f"wrote {out}")


def _of_options(given: dict) -> Scenario:
    """Make a scenario of one model and a rate."""
    from sitetrace.core.settings import Fault
    from sitetrace.site.scenario import check_scenario

    for name in ("model", "servers", "rate"):
        if given[name] is None:
            raise InputError(f"--{name} is missing: give a scenario file, or --model, --servers "
                             "and --rate")  # fmt: skip
    content = {
        "topology": topology_of(given["servers"]),
        "fleet": [{"name": "all", "model": given["model"]}],
        "traffic": {"pattern": "poisson", "rate_per_server": given["rate"]},
    }
    named = {"hours": "hours", "seed": "seed", "step": "step_s"}
    content |= {key: given[name] for name, key in named.items() if given[name] is not None}
    try:
        return check_scenario(content)
    except Fault as fault:
        option = OPTIONS.get(fault.keys, "options")
        raise InputError(f"{option}: {fault}") from None


def topology_of(servers: int) -> dict[str, int]:
    """Lay servers out: full racks of 4 (or 3, 2, 1), rows of 6 racks where that comes out even."""
    per_rack = next(n for n in range(SERVERS_PER_RACK, 0, -1) if servers % n == 0)
    racks = servers // per_rack
    per_row = RACKS_PER_ROW if racks % RACKS_PER_ROW == 0 else racks
    return {"rows": racks // per_row, "racks_per_row": per_row, "servers_per_rack": per_rack}


def _summary(result: xr.Dataset, hours: float) -> str:
    """Power of facility, site and GPUs, else of all units that are kept; and the requests."""
    power, levels = result["power_w"], result["level"].to_numpy()
    wholes = [name for name in ("facility", "site", "gpu") if name in levels]
    if wholes:
        series = {name: power.sel(unit=name).to_numpy() for name in wholes}
    else:
        level = next(name for name in ("row", "rack", "server") if name in levels)
        series = {f"{level}s": power[:, levels == level].sum("unit").to_numpy()}
    lines = []
    for name, power_w in series.items():
        mean_w, peak_w = float(power_w.mean()), float(power_w.max())
        par = peak_w / mean_w
        lines.append(
            f"{name:9}mean {mean_w / 1e3:.2f} kW, peak {peak_w / 1e3:.2f} kW, PAR {par:.3f}, "
            f"load factor {1 / par:.3f}, energy {mean_w * hours / 1e6:.4g} MWh"
        )
    told = result.attrs
    lines.append(
        f"requests {told['requests']}, tokens {told['input_tokens']} in and "
        f"{told['output_tokens']} out, longest wait {told['longest_wait_s']:.2f} s"
    )
    return "\n".join(lines)


@click.command(epilog="Example: sitetrace export site.zarr --format csv15 -o site-15min.csv")
@click.argument("site", type=FILE)
@click.option("--format", "form", type=click.Choice(FORMATS), required=True)
@click.option("-o", "--out", type=FILE, required=True, help="File; for opendss, pypsa a folder.")
@click.option(
    "--unit",
    "units",
    multiple=True,
    default=["facility"],
    help="Unit of the dataset, such as site or row-0; pandapower and pypsa take several.",
)
@click.option("--step", type=click.IntRange(1), default=900, help="Seconds an interval.")
@click.option(
    "--power-factor", default=0.98, help="Assumed, lagging, constant; for opendss and pandapower."
)
def export(site, form, out, units, step, power_factor) -> None:
    """Write a site's power for a utility or a grid tool."""
    from sitetrace.planning.exports import export as write

    with _opened(site) as dataset:
        told, *notes = write(dataset, form, out, units, step, power_factor)
    say(notes)
    click.echo(told)


@click.command(epilog="Example: sitetrace report site.zarr -o report.html")
@click.argument("site", type=FILE)
@click.option("-o", "--out", type=FILE, required=True, help="HTML page to be written.")
@click.option(
    "--power-factor",
    default=0.9,
    help="For the transformer's rating: the 15-minute peak over this.",
)
def report(site, out, power_factor) -> None:
    """Write one self-contained page on a site: numbers, figures, assumptions, provenance."""
    from sitetrace.planning.report import write_report

    with _opened(site) as dataset:
        write_report(dataset, out, power_factor)
    click.echo(f"wrote {out}")


@contextmanager
def _opened(path: Path) -> Iterator[xr.Dataset]:
    """Open a site; say in one line where its values, read when they are used, are damaged."""
    from sitetrace.site.store import read_site

    with read_site(path) as dataset:
        try:
            yield dataset
        except (OSError, RuntimeError) as error:
            raise InputError(f"{path}: damaged ({error}): make it anew with sitetrace site") from (
                error
            )
