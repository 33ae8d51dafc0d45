"""Which model runs on which server: rows, racks, servers, and the pools that fill them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field, model_validator

from sitetrace.core.files import InputError
from sitetrace.core.registry import data_dir
from sitetrace.core.settings import Count, Fault, Number, Part, Text, nearest
from sitetrace.workload.spec import Traffic

MAX_SERVERS = 100_000
Many = Annotated[Count, Field(ge=1, le=MAX_SERVERS)]
Index = Annotated[Count, Field(ge=0, le=MAX_SERVERS - 1)]


class Topology(Part):
    """Rows of racks of servers, all alike."""

    rows: Many = Field(description="rows of the site")
    racks_per_row: Many = Field(description="racks of a row")
    servers_per_rack: Many = Field(description="servers of a rack")

    @model_validator(mode="after")
    def _is_a_site(self) -> Topology:
        if self.n_servers > MAX_SERVERS:
            raise Fault((), f"{self.n_servers} servers are more than {MAX_SERVERS}: split the site")
        return self

    @property
    def n_servers(self) -> int:
        """Servers of the whole site."""
        return self.rows * self.racks_per_row * self.servers_per_rack


class Pool(Part):
    """Servers that run one model and share one stream of requests."""

    name: Text = Field(description="name of the pool")
    model: Text = Field(description="model file beside the scenario, or name of a shipped model")
    rows: Annotated[tuple[Index, ...], Field(min_length=1)] | None = Field(
        None, description="list of whole rows, from 0"
    )
    servers: Many | None = Field(
        None, description="how many of the servers that no pool has by rows, filled in order"
    )
    idle_w: Annotated[Number, Field(gt=0, le=100_000)] | None = Field(
        None, description="idle watts of a server's GPUs, where the board's differ from the model's"
    )
    traffic: Traffic | None = Field(None, description="traffic of this pool; else that of the top")

    @model_validator(mode="after")
    def _says_once_where(self) -> Pool:
        if self.rows is not None and self.servers is not None:
            raise Fault(("servers",), "the pool has rows already: leave one of the two out")
        return self


def fill(topology: Topology, fleet: tuple[Pool, ...]) -> np.ndarray:
    """Give each server the place of its pool: rows first, then counts in order, then the rest."""
    of = np.full((topology.rows, topology.racks_per_row * topology.servers_per_rack), -1)
    names = [pool.name for pool in fleet]
    for place, pool in enumerate(fleet):
        if pool.name in names[:place]:
            raise Fault(("fleet", place, "name"), f"{pool.name[:40]!r} is taken: name it otherwise")
        for item, row in enumerate(pool.rows or ()):
            keys = ("fleet", place, "rows", item)
            if row >= topology.rows:
                raise Fault(keys, f"row {row} is not there: give 0 to {topology.rows - 1}")
            if of[row, 0] >= 0:
                raise Fault(keys, f"row {row} is {names[of[row, 0]][:40]}'s already: leave it out")
            of[row] = place
    of = of.ravel()
    for place, pool in enumerate(fleet):
        if pool.rows is not None:
            continue
        free = np.flatnonzero(of < 0)
        wanted = free.size if pool.servers is None else pool.servers
        if pool.servers is None and place < len(fleet) - 1:
            raise Fault(("fleet", place), "only the last pool takes the rest: give rows or servers")
        if wanted > free.size or not free.size:
            text = f"{free.size} servers are left for it: give others fewer, or a larger topology"
            raise Fault(("fleet", place), text)
        of[free[:wanted]] = place
    left = int((of < 0).sum())
    if left:
        text = f"{left} of {of.size} servers have no pool: let the last leave out rows and servers"
        raise Fault(("fleet",), text)
    return of


def resolve_model(name: str, folder: Path | str) -> Path:
    """Find a model file: a path from the scenario's folder, else the name of a shipped model."""
    for path in (Path(folder) / name, data_dir() / "models" / f"{name}.json"):
        if os.path.isfile(path):  # false for whatever is no name of a file
            return path
    known = [path.name for path in sorted(Path(folder).glob("*.json"))]
    known += [path.stem for path in sorted((data_dir() / "models").glob("*.json"))]
    raise InputError(f"{name[:40]}: no such file beside the scenario and no shipped model: "
                     f"{nearest(name, known)}")  # fmt: skip
