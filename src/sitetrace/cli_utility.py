"""Commands on a simulated site for those who connect and plan it: export, report."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sitetrace.exports import FORMATS
from sitetrace.files import InputError

if TYPE_CHECKING:
    import xarray as xr

FILE = click.Path(path_type=Path)


@contextmanager
def _opened(path: Path) -> Iterator[xr.Dataset]:
    """Open a site; say in one line where its values, read when they are used, are damaged."""
    from sitetrace.sitefile import read_site

    with read_site(path) as dataset:
        try:
            yield dataset
        except (OSError, RuntimeError) as error:
            raise InputError(f"{path}: damaged ({error}): make it anew with sitetrace site") from (
                error
            )


@click.command(epilog="Example: sitetrace export site.zarr --format csv15 -o site-15min.csv")
@click.argument("site", type=FILE)
@click.option("--format", "form", type=click.Choice(FORMATS), required=True)
@click.option("-o", "--out", type=FILE, required=True, help="File; for opendss, pypsa a folder.")
@click.option(
    "--unit",
    "units",
    multiple=True,
    default=["facility"],
    show_default=True,
    help="Unit of the dataset, such as site or row-0; pandapower and pypsa take several.",
)
@click.option(
    "--step", type=click.IntRange(1), default=900, show_default=True, help="Seconds an interval."
)
@click.option(
    "--power-factor",
    type=float,
    default=0.98,
    show_default=True,
    help="Assumed, lagging, constant; for opendss and pandapower.",
)
def export(site, form, out, units, step, power_factor) -> None:  # noqa: ANN001
    """Write a site's power for a utility or a grid tool."""
    from sitetrace.exports import export as write

    with _opened(site) as dataset:
        told, *notes = write(dataset, form, out, units, step, power_factor)
    for line in notes:
        click.echo(f"note: {line}", err=True)
    click.echo(told)


@click.command(epilog="Example: sitetrace report site.zarr -o report.html")
@click.argument("site", type=FILE)
@click.option("-o", "--out", type=FILE, required=True, help="HTML page to be written.")
@click.option(
    "--power-factor",
    type=float,
    default=0.9,
    show_default=True,
    help="For the transformer's rating: the 15-minute peak over this.",
)
def report(site, out, power_factor) -> None:  # noqa: ANN001
    """Write one self-contained page on a site: numbers, figures, assumptions, provenance."""
    from sitetrace.report import write_report

    with _opened(site) as dataset:
        write_report(dataset, out, power_factor)
    click.echo(f"wrote {out}")
