"""A scenario told in words and as a table."""

from __future__ import annotations

import json

SOURCES = {
    "measured": "Power comes from models fitted on measured runs of single servers. The site as a "
    "whole was simulated, never measured.",
    "testbed": "Power comes from models fitted on the testbed, a server that is itself simulated. "
    "The numbers show the method and claim nothing about hardware.",
    "paper": "Power comes from models made of the numbers published with arXiv:2603.18383. The "
    "site was simulated, never measured.",
}


def source_of(data: str) -> str:
    """Say what the models of a dataset were fitted on."""
    return SOURCES.get(data, f"What the models were fitted on is not stated ({data}).")


def in_words(scenario: dict) -> list[str]:
    """Tell the assumptions that rule the numbers, one sentence each."""
    lines = []
    shape = scenario.get("topology") or {}
    counts = [shape.get(name) for name in ("rows", "racks_per_row", "servers_per_rack")]
    if all(isinstance(count, int) for count in counts):
        rows, racks, servers = counts
        lines.append(
            f"{rows * racks * servers} servers: rows {rows}, racks a row {racks}, servers a rack "
            f"{servers}."
        )
    pools = scenario.get("fleet") or []
    for pool in pools:
        where = "all servers" if len(pools) == 1 else "the rest of the servers"
        if pool.get("rows") is not None:
            where = "rows " + ", ".join(map(str, pool["rows"]))
        elif pool.get("servers") is not None:
            where = f"{pool['servers']} servers"
        lines.append(f"Pool {pool.get('name')}: model {pool.get('model')} on {where}.")
        if pool.get("traffic"):
            lines.append(f"Pool {pool.get('name')}, traffic: {_traffic(pool['traffic'])}.")
    if scenario.get("traffic"):
        lines.append(f"Traffic: {_traffic(scenario['traffic'])}.")
    lines.append(_non_gpu(scenario.get("non_gpu")))
    lines.append(_pue(scenario.get("pue")))
    return lines


def _traffic(traffic: dict) -> str:
    told = [str(traffic.get("pattern", "of unstated pattern"))]
    if traffic.get("rate_per_server") is not None:
        told.append(f"{traffic['rate_per_server']:g} requests a second a server on average")
    if traffic.get("file"):
        told.append(f"from {traffic['file']}")
    told.append(f"requests reach servers by rule {traffic.get('routing') or 'random'!r}")
    return ", ".join(told)


def _non_gpu(non_gpu: dict | None) -> str:
    given = {name: value for name, value in (non_gpu or {}).items() if value is not None}
    if "constant_w" in given:
        return f"Each server draws {given['constant_w']:g} W beside its GPUs, constant."
    if "base_w" in given:
        return (
            f"Beside its GPUs each server draws {given['base_w']:g} W and "
            f"{given.get('per_gpu_w', 0):g} W for each watt of its GPUs."
        )
    return (
        "Power of a server beside its GPUs: the fit to wall-plug recordings of other servers, "
        "scaled by the number of GPUs."
    )


def _pue(pue: object) -> str:
    if isinstance(pue, int | float):
        return f"The facility draws {pue:g} times the IT power (PUE), constant."
    if isinstance(pue, dict):
        given = {name: value for name, value in pue.items() if value is not None}
        if "file" in given:
            return f"The facility draws a PUE times the IT power that is read from {given['file']}."
        if "full" in given:
            words = f"PUE {given['full']:g} at full load and {given.get('idle', 0):g} at idle"
            if "temperature" in given:
                words += ", more when it is hot outside"
            return f"The facility's overhead follows the load: {words}."
    return "The PUE is not stated."


def as_table(scenario: dict) -> list[tuple[str, str]]:
    """Flatten a scenario to one row a value."""
    rows = []

    def walk(name: str, value: object) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                walk(f"{name}.{key}" if name else str(key), inner)
        elif isinstance(value, list) and any(isinstance(inner, dict) for inner in value):
            for number, inner in enumerate(value, start=1):
                walk(f"{name} {number}", inner)
        elif value is not None:
            text = value if isinstance(value, str) else json.dumps(value)
            rows.append((name, text))

    walk("", scenario)
    return rows
