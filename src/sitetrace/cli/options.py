"""Options that several verbs share."""

from __future__ import annotations

from pathlib import Path

import click

FILE = click.Path(path_type=Path)
SEED = click.option("--seed", type=click.IntRange(0), default=0)
START = click.option("--from", "start", type=float, help="Seconds after the first request.")
STOP = click.option("--to", "stop", type=float, help="Seconds after the first request.")


def say(lines: list[str] | tuple[str, ...]) -> None:
    """Print notes on standard error."""
    for line in lines:
        click.echo(f"note: {line}", err=True)
