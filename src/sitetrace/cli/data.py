"""Verbs that bring data in: recordings of other tools, fetched data, testbed, paper models."""

from pathlib import Path

import click
from click import option

from sitetrace.core.files import read_json, require
from sitetrace.core.registry import describe, read_paper_table, registry
from sitetrace.measured import fetching, ingestion
from sitetrace.workload.table import read_azure, write_requests

FILE = click.Path(path_type=Path)
SEED = option("--seed", type=click.IntRange(0), default=0)


def out(what: str = "File to be written."):
    """Option for what is written."""
    return option("-o", "--out", type=FILE, required=True, help=what)


def choice(name: str, names: str, what: str = "", *called: str):
    """Option with one of several names, the first by default."""
    kind = click.Choice(names.split())
    return option(name, *called, type=kind, default=kind.choices[0], help=what or None)


def example(arguments: str) -> dict[str, str]:
    """Last line of a verb's help."""
    return {"epilog": f"Example: sitetrace {arguments}"}


def say(lines: list[str] | tuple[str, ...], kind: str = "note") -> None:
    """Print notes, or warnings, on standard error."""
    for line in lines:
        click.echo(f"{kind}: {line}", err=True)


@click.command(**example("ingest --power smi.csv --vllm result.json -o my-run"))
@option("--power", type=FILE, help="nvidia-smi, DCGM or Zeus recording.")
@option("--vllm", type=FILE, help="JSON of vllm bench serve --save-detailed.")
@option("--engine", type=FILE, help="Samples of vLLM's metrics (CSV).")
@option("--model", help="Model; by default the one named in the JSON.")
@option("--hardware", help="GPU type, such as A100; else unknown.")
@option("--tensor-parallel", type=click.IntRange(1), help="By default all recorded GPUs.")
@option("--utc-offset", help="Zone of local wall times, such as -7 or +05:30; else found.")
@option("--azure", type=FILE, help="Instead: a request trace of Azure, 2023 or 2024.")
@option("--day", help="Of --azure, as 2024-05-16; by default all of it.")
@out("Run directory, or request table.")
def ingest(azure, day, out, **given) -> None:
    """Turn recordings of other tools into a run directory, a trace of Azure into requests."""
    given = {name: value for name, value in given.items() if value is not None}
    if azure is not None:
        require(not given, "--azure", "a trace of requests alone", f"leave {', '.join(given)} out")
        table, notes = read_azure(azure, day)
        say(notes)
        write_requests(out, table)
        click.echo(f"wrote {len(table)} requests to {out}")
        return
    enough = {"power", "vllm"} <= {*given} and day is None
    require(enough, "ingest", "recordings are missing", "give --power and --vllm, or --azure")
    files = given.pop("power"), given.pop("vllm"), given.pop("engine", None)
    zone = given.pop("utc_offset", None)
    offset_s = None if zone is None else ingestion.parse_utc_offset(zone)
    usual = {"model": read_json(files[1]).get("model_id") or "unknown", "hardware": "unknown"}
    say(ingestion.ingest(*files, info=usual | given, utc_offset_s=offset_s, out=out))
    click.echo(f"wrote {out}")


@click.group(**example("data testbed -o testbed --seed 1"))
def data() -> None:
    """List, fetch and verify public data; write the simulated testbed."""


@data.command("list", **example("data list"))
def data_list() -> None:
    """List the registry: what there is, where from, under which licence."""
    click.echo("\n".join(describe()))
    names = read_paper_table("serving_surrogate")["config"]
    click.echo("\nThe paper's configurations, for sitetrace data model: " + ", ".join(names))


@data.command("model", **example("data model llama-3-70b_H100_tp4 -o model.json"))
@click.argument("config")
@out("Model file to be written.")
@choice("--states", "coupled independent", "coupled: to the active count, by a rule of our own.")
@choice("--emissions", "gaussian ar1")
@choice("--serving", "constant_rate log_normal_ttft", "Which of the paper's two surrogates.")
def data_model(config, out, **chosen) -> None:
    """Make a model of one of the paper's configurations from its published numbers."""
    from sitetrace.power.modelfile import save_model
    from sitetrace.power.published import paper_model

    model = paper_model(config, **chosen)
    save_model(model, out)
    click.echo(f"wrote {out}: {model.provenance['rule']}")


@data.command("fetch", **example("data fetch azure-2023"))
@click.argument("names", nargs=-1)
@option("--base-url", help="Fetch from this place instead of the registry's.")
def data_fetch(names, base_url) -> None:
    """Fetch data sets (all by default), resume and verify."""
    for name in names or registry():
        click.echo("\n".join(fetching.fetch(name, base_url)))


@data.command("verify", epilog="Example: SITETRACE_DATA=mirror sitetrace data verify")
@click.argument("names", nargs=-1)
def data_verify(names) -> None:
    """Check the files at hand against the registry."""
    for name in names or registry():
        click.echo("\n".join(fetching.verify(name)))


@data.command("testbed", **example("data testbed -o testbed --seed 1"))
@out("Folder to be made.")
@SEED
def data_testbed(out, seed) -> None:
    """Write runs of a simulated server in the measured form."""
    from sitetrace.testbed import write_dataset

    for path in write_dataset(out, seed):
        click.echo(f"wrote {path}")
