"""A scenario: what stands where, which model runs on it, what arrives, what is kept."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pydantic
from pydantic import Discriminator, Field, PrivateAttr, Tag, model_validator

from sitetrace.core import settings
from sitetrace.core.files import InputError
from sitetrace.core.registry import data_dir
from sitetrace.core.settings import Count, Fault, Keys, Number, Part, Text
from sitetrace.site.facility import ConstantWatts, LinearWatts, PueFile, PueFunction, PueNumber
from sitetrace.workload.spec import MAX_HOURS, Traffic

MAX_SERVERS = 100_000
Many = Annotated[Count, Field(ge=1, le=MAX_SERVERS)]
Index = Annotated[Count, Field(ge=0, le=MAX_SERVERS - 1)]
Step = Annotated[Number, Field(ge=0.01, le=3600)]


class Topology(Part):
    """Rows of racks of servers, all alike."""

    rows: Many = Field(description="rows of the site")
    racks_per_row: Many = Field(description="racks of a row")
    servers_per_rack: Many = Field(description="servers of a rack")

    @model_validator(mode="after")
    def _is_a_site(self) -> Topology:
        n_servers = self.rows * self.racks_per_row * self.servers_per_rack
        if n_servers > MAX_SERVERS:
            raise Fault((), f"{n_servers} servers are more than {MAX_SERVERS}: split the site")
        return self


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


class Keep(Part):
    """What is stored: levels, at a step."""

    levels: Annotated[tuple[Literal["site", "row", "rack", "server"], ...], Field(min_length=1)] = (
        Field(description="list of site, row, rack, server; site keeps facility and gpu too")
    )
    step_s: Step = Field(description="step of what is stored, seconds; means, so energy is kept")

    @property
    def group(self) -> str:
        """Name of the Zarr group, such as ``0.25s`` (the first entry is the root instead)."""
        return f"{self.step_s:.15g}s"


def exact(number: float) -> Fraction:
    """Take a number as it is written, so that 0.1 is a tenth."""
    return Fraction(repr(float(number)))


def span_s(hours: float) -> Fraction:
    """Take a duration to the microsecond, so that a third of an hour is 1200 s."""
    return Fraction(round(3_600_000_000 * exact(hours)), 1_000_000)


def usual_keep(given: dict) -> tuple[Keep, ...]:
    """Keep site, rows and racks each second, where seconds fit, else at the step."""
    lengths = [exact(given.get("chunk_s", 7200.0)), span_s(given.get("hours", 24.0))]
    step_s = given.get("step_s", 0.25)
    fits = 1 % exact(step_s) == 0 and all(length % 1 == 0 for length in lengths)
    return (Keep(levels=("site", "row", "rack"), step_s=1.0 if fits else step_s),)


def _wall_clock(value: Any) -> datetime:
    """Read a time of day with its UTC offset."""
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
        if moment.utcoffset().total_seconds() % 60 == 0 and 1970 <= moment.year <= 2200:
            return moment
    except (ValueError, AttributeError):
        pass
    raise ValueError("no time of 1970 to 2200 with its UTC offset: 2026-07-01T00:00:00+02:00 is")


def _told_by(key: str, has: type, lacks: type, other: str) -> Discriminator:
    """Tell which form is given by a key, so that a fault is one of that form alone."""

    def form(value: Any) -> str:
        if isinstance(value, dict):
            return (has if key in value else lacks).__name__
        return type(value).__name__ if isinstance(value, Part) else other

    return Discriminator(form)


GivenPue = Annotated[
    Annotated[PueNumber, Tag("number")]
    | Annotated[PueFile, Tag("PueFile")]
    | Annotated[PueFunction, Tag("PueFunction")],
    _told_by("file", PueFile, PueFunction, "number"),
]
GivenNonGpu = Annotated[
    Annotated[ConstantWatts, Tag("ConstantWatts")] | Annotated[LinearWatts, Tag("LinearWatts")],
    _told_by("constant_w", ConstantWatts, LinearWatts, "LinearWatts"),
]


class Scenario(Part):
    """A site, its traffic and what is kept of its power."""

    name: Text = Field("site", description="free text")
    seed: Count = Field(0, ge=0, le=2**63 - 1, description="same seed, same result")
    hours: Number = Field(24.0, gt=0, le=MAX_HOURS, description="duration; whole steps")
    start: Annotated[pydantic.AwareDatetime, pydantic.BeforeValidator(_wall_clock)] = Field(
        datetime.fromisoformat("2001-01-01T00:00:00+00:00"),
        description="wall clock of second 0 with its UTC offset; else a nominal day",
    )
    step_s: Step = Field(0.25, description="step of the simulation, seconds; a multiple of models'")
    topology: Topology = Field(description="rows, racks_per_row, servers_per_rack")
    fleet: tuple[Pool, ...] = Field(
        min_length=1,
        description="list of pools; the last may leave out rows and servers and takes the rest",
    )
    traffic: Traffic | None = Field(None, description="traffic of pools that name none; by pattern")
    non_gpu: GivenNonGpu | None = Field(
        None, description="constant_w, or base_w and per_gpu_w; else fitted to wall-plug traces"
    )
    pue: GivenPue = Field(1.3, description="PUE: a number from 1 to 5, a file, or full and idle")
    chunk_s: Number = Field(7200.0, ge=1, le=86400, description="seconds written at once")
    keep: tuple[Keep, ...] = Field(
        default_factory=usual_keep,
        min_length=1,
        description="list of entries with levels and step_s; the first is the root of the dataset, "
        "others are groups of it; else site, rows and racks each second",
    )
    _folder: Path = PrivateAttr(Path())
    _source: tuple = PrivateAttr(())  # its file and the lines of its keys, if it has one
    _pool_of: tuple[int, ...] = PrivateAttr(())  # of each server

    @model_validator(mode="after")
    def _fits_together(self) -> Scenario:
        step, chunk, span = exact(self.step_s), exact(self.chunk_s), span_s(self.hours)
        multiples = [(("step_s",), step, Fraction(1, 1_000_000))]
        multiples += [(("hours",), span, step), (("chunk_s",), chunk, step)]
        for place, entry in enumerate(self.keep):
            kept, keys = exact(entry.step_s), ("keep", place, "step_s")
            multiples += [(keys, kept, step), (keys, chunk, kept), (keys, span, kept)]
            if len(set(entry.levels)) < len(entry.levels):
                raise Fault((*keys[:2], "levels"), "one stands there twice: remove it")
            if place and entry.group in [other.group for other in self.keep[1:place]]:
                raise Fault(keys, f"{entry.step_s:g} has an entry already: add the levels to it")
        for keys, length, of in multiples:
            if length % of or not length:
                text = f"{float(length):.12g} s are no multiple of {float(of):g} s"
                raise Fault(keys, f"{text}: change one of the two")
        for place, pool in enumerate(self.fleet):
            if (pool.traffic or self.traffic) is None:
                raise Fault(("fleet", place, "traffic"), "is missing, here and at the top: give it")
        self._pool_of = tuple(fill(self.topology, self.fleet).tolist())
        return self

    @property
    def folder(self) -> Path:
        """Where the files lie that it names."""
        return self._folder

    @property
    def n_servers(self) -> int:
        """Servers of the whole site."""
        return len(self._pool_of)

    @property
    def n_steps(self) -> int:
        """Steps of the simulation."""
        return int(span_s(self.hours) / exact(self.step_s))

    @property
    def start_hour(self) -> float:
        """Local hour of day of second 0."""
        return self.start.hour + self.start.minute / 60 + self.start.second / 3600

    @property
    def utc_offset_h(self) -> float:
        """Local time less UTC, hours."""
        return self.start.utcoffset().total_seconds() / 3600

    @cached_property
    def model_files(self) -> tuple[Path, ...]:
        """The file of each pool's model."""
        named = [(pool.model, ("fleet", place, "model")) for place, pool in enumerate(self.fleet)]
        return tuple(resolve_model(name, self.folder, keys) for name, keys in named)

    @property
    def pool_of(self) -> np.ndarray:
        """The place in the fleet of each server's pool."""
        return np.array(self._pool_of)

    def named_files(self) -> list[tuple[Keys, str]]:
        """List the recordings that it names, of requests, token lengths and PUE, with keys."""
        parts = {("fleet", i, "traffic"): pool.traffic for i, pool in enumerate(self.fleet)}
        parts |= {("traffic",): self.traffic, ("pue",): self.pue}
        named = [((*keys, key), getattr(part, key, None)) for keys, part in parts.items()
                 for key in ("file", "lengths")]  # fmt: skip
        return [(keys, name) for keys, name in named if isinstance(name, str)]

    @contextmanager
    def blaming(self, *keys: str | int) -> Iterator[None]:
        """Add to what is said of a file, or of a model in it, where the scenario names it."""
        try:
            yield
        except InputError as error:
            where = f"{settings.place_of(*self._source, keys)}: " if self._source else ""
            raise InputError(f"{where}{error}") from None

    def to_json(self) -> str:
        """Write the scenario, defaults included, as one line of JSON: equal for equal ones."""
        return self.model_dump_json(exclude_none=True)


def read_scenario(path: Path | str) -> Scenario:
    """Read a scenario file.

    Parameters
    ----------
    path : Path or str
        YAML file; what it names lies beside it. What is wrong is one line: file, line, key, mend.

    Returns
    -------
    Scenario
        Checked.
    """
    content, lines = settings.read_yaml(path)
    try:
        scenario = check_scenario(content, Path(path).parent)
    except Fault as fault:
        raise InputError(f"{settings.place_of(path, lines, fault.keys)}: {fault}") from None
    scenario._source = (path, lines)
    return scenario


def check_scenario(content: dict, folder: Path | str = ".") -> Scenario:
    """Make a scenario of a mapping and see that its files are there; a `Fault` has the keys."""
    try:
        scenario = Scenario.model_validate(content)
    except pydantic.ValidationError as error:
        raise Fault(*settings.first_fault(error, content)) from None
    scenario._folder = Path(folder)
    files = [(("fleet", i, "model"), each.resolve()) for i, each in enumerate(scenario.model_files)]
    for keys, name in [*files, *scenario.named_files()]:
        try:
            (scenario.folder / name).open("rb").close()
        except (OSError, ValueError) as error:  # ValueError: a NUL in the name
            text = f"{str(name)[:80]}: cannot be read ({getattr(error, 'strerror', error)})"
            raise Fault(keys, f"{text}: check the path from {folder}") from None
    return scenario


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
    if (of < 0).any():
        text = f"{(of < 0).sum()} of {of.size} servers have no pool: let the last take the rest"
        raise Fault(("fleet",), text)
    return of


def resolve_model(name: str, folder: Path | str, keys: Keys = ()) -> Path:
    """Find a model file: a path from the scenario's folder, else the name of a shipped model."""
    for path in (Path(folder) / name, data_dir() / "models" / f"{name}.json"):
        if os.path.isfile(path):  # false for whatever is no name of a file
            return path
    known = [path.name for path in sorted(Path(folder).glob("*.json"))]
    known += [path.stem for path in sorted((data_dir() / "models").glob("*.json"))]
    text = f"{name[:40]}: no such file beside the scenario and no shipped model"
    raise Fault(keys, f"{text}: {settings.nearest(name, known)}")
