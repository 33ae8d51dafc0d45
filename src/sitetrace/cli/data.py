"""Verbs that bring data in: recordings of other tools, fetched data, testbed, paper models."""

from __future__ import annotations

import click

from sitetrace.cli.options import FILE, SEED, say
from sitetrace.core.files import InputError, read_json


@click.command(epilog="Example: sitetrace ingest --power smi.csv --vllm result.json -o my-run")
@click.option("--power", type=FILE, help="nvidia-smi, DCGM or Zeus recording.")
@click.option("--vllm", type=FILE, help="JSON of vllm bench serve --save-detailed.")
@click.option("--engine", type=FILE, help="Samples of vLLM's metrics (CSV).")
@click.option("--model", help="Model; by default the one named in the JSON.")
@click.option("--hardware", default="unknown", help="GPU type, such as A100.")
@click.option("--tensor-parallel", type=click.IntRange(1), help="By default all recorded GPUs.")
@click.option("--utc-offset", help="Zone of local wall times, such as -7 or +05:30; else found.")
@click.option("--azure", type=FILE, help="Instead: a request trace of Azure, 2023 or 2024.")
@click.option("--day", help="Of --azure, as 2024-05-16; by default all of it.")
@click.option("-o", "--out", type=FILE, required=True, help="Run directory, or request table.")
def ingest(
    power, vllm, engine, model, hardware, tensor_parallel, utc_offset, azure, day, out
) -> None:
    """Turn recordings of other tools into a run directory, a trace of Azure into requests."""
    from sitetrace.measured import ingestion
    from sitetrace.workload.table import read_azure, write_requests

    if azure is not None:
        if power or vllm or engine:
            raise InputError("--azure: a trace of requests alone: leave the other files out")
        table, notes = read_azure(azure, day)
        say(notes)
        write_requests(out, table)
        click.echo(f"wrote {len(table)} requests to {out}")
        return
    if power is None or vllm is None or day is not None:
        raise InputError("ingest: give --power and --vllm, or --azure (and --day)")
    named = read_json(vllm).get("model_id")
    named = named if isinstance(named, str) else "unknown"
    info = {"model": model or named, "hardware": hardware}
    if tensor_parallel:
        info["tensor_parallel"] = tensor_parallel
    offset_s = None if utc_offset is None else ingestion.parse_utc_offset(utc_offset)
    say(ingestion.ingest(power, vllm, engine, info=info, utc_offset_s=offset_s, out=out))
    click.echo(f"wrote {out}")


@click.group(epilog="Example: sitetrace data testbed -o testbed --seed 1")
def data() -> None:
    """List, fetch and verify public data; write the simulated testbed."""


@data.command("list", epilog="Example: sitetrace data list")
def data_list() -> None:
    """List the registry: what there is, where from, under which licence."""
    from sitetrace.core.registry import describe, read_paper_table

    click.echo("\n".join(describe()))
    names = read_paper_table("serving_surrogate")["config"]
    click.echo("\nThe paper's configurations, for sitetrace data model: " + ", ".join(names))


@data.command("model", epilog="Example: sitetrace data model llama-3-70b_H100_tp4 -o model.json")
@click.argument("config")
@click.option("-o", "--out", type=FILE, required=True, help="Model file to be written.")
@click.option(
    "--states",
    type=click.Choice(["coupled", "independent"]),
    default="coupled",
    help="coupled: to the active count, by a rule of sitetrace and not of the paper.",
)
@click.option("--emissions", type=click.Choice(["gaussian", "ar1"]), default="gaussian")
@click.option(
    "--serving",
    type=click.Choice(["constant_rate", "log_normal_ttft"]),
    default="constant_rate",
    help="Which of the paper's two surrogates.",
)
def data_model(config, out, states, emissions, serving) -> None:
    """Make a model of one of the paper's configurations from its published numbers."""
    from sitetrace.power.modelfile import save_model
    from sitetrace.power.published import paper_model

    model = paper_model(config, states=states, emissions=emissions, serving=serving)
    save_model(model, out)
    click.echo(f"wrote {out}: {model.provenance['rule']}")


@data.command("fetch", epilog="Example: sitetrace data fetch azure-2023")
@click.argument("names", nargs=-1)
@click.option("--base-url", help="Fetch from this place instead of the registry's.")
def data_fetch(names, base_url) -> None:
    """Fetch data sets (all by default), resume and verify."""
    from sitetrace.core.registry import registry
    from sitetrace.measured.fetching import fetch

    for name in names or registry():
        for line in fetch(name, base_url):
            click.echo(line)


@data.command("verify", epilog="Example: SITETRACE_DATA=mirror sitetrace data verify")
@click.argument("names", nargs=-1)
def data_verify(names) -> None:
    """Check the files at hand against the registry."""
    from sitetrace.core.registry import registry
    from sitetrace.measured.fetching import verify

    for name in names or registry():
        for line in verify(name):
            click.echo(line)


@data.command("testbed", epilog="Example: sitetrace data testbed -o testbed --seed 1")
@click.option("-o", "--out", type=FILE, required=True, help="Folder to be made.")
@SEED
def data_testbed(out, seed) -> None:
    """Write runs of a simulated server in the measured form."""
    from sitetrace.testbed import write_dataset

    for path in write_dataset(out, seed):
        click.echo(f"wrote {path}")
