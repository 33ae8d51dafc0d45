"""A scenario: what stands where, which model runs on it, what arrives, what is kept."""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
import pydantic
from pydantic import Discriminator, Field, PrivateAttr, Tag, model_validator

from sitetrace.core import settings
from sitetrace.core.files import InputError
from sitetrace.core.registry import data_dir
from sitetrace.core.settings import Count, Fault, Keys, Number, Part, Text, demand
from sitetrace.site.facility import ConstantWatts, LinearWatts, PueFile, PueFunction, PueNumber
from sitetrace.workload.spec import MAX_HOURS, Traffic

MAX_SERVERS = 100_000
FILES = ("file", "lengths")  # keys that name a recording
Many = Annotated[Count, Field(ge=1, le=MAX_SERVERS)]
Index = Annotated[Count, Field(ge=0, le=MAX_SERVERS - 1)]
Rows = Annotated[tuple[Index, ...], Field(min_length=1)]
Level = Literal["site", "row", "rack", "server"]
LEVELS = "list of site, row, rack, server; site keeps facility and gpu too"
SERVERS = "how many of the servers that no pool has by rows, filled in order"
IDLE = "idle watts of a server's GPUs, where the board's differ from the model's"
FLEET = "list of pools; the last may leave out rows and servers and takes the rest"
NON_GPU = "constant_w, or base_w and per_gpu_w; else fitted to wall-plug traces"
KEEP = "list of entries with levels and step_s; the first is the root of the dataset, others "
KEEP += "are groups of it; else site, rows and racks each second"
Levels = Annotated[tuple[Level, ...], Field(min_length=1)]
Idle = Annotated[Number, Field(gt=0, le=100_000)]
Step = Annotated[Number, Field(ge=0.01, le=3600)]


class Topology(Part):
    """Rows of racks of servers, all alike."""

    rows: Many = Field(description="rows of the site")
    racks_per_row: Many = Field(description="racks of a row")
    servers_per_rack: Many = Field(description="servers of a rack")


class Pool(Part):
    """Servers that run one model and share one stream of requests."""

    name: Text = Field(description="name of the pool")
    model: Text = Field(description="model file beside the scenario, or name of a shipped model")
    rows: Rows | None = Field(None, description="list of whole rows, from 0")
    servers: Many | None = Field(None, description=SERVERS)
    idle_w: Idle | None = Field(None, description=IDLE)
    traffic: Traffic | None = Field(None, description="traffic of this pool; else that of the top")


class Keep(Part):
    """What is stored: levels, at a step."""

    levels: Levels = Field(description=LEVELS)
    step_s: Step = Field(description="step of what is stored, seconds; means, so energy is kept")


def exact(number: float) -> Fraction:
    """Take a number as it is written, so that 0.1 is a tenth."""
    return Fraction(repr(float(number)))


def span_s(hours: float) -> Fraction:
    """Take a duration to the microsecond, so that a third of an hour is 1200 s."""
    return Fraction(round(3_600_000_000 * exact(hours)), 1_000_000)


def usual_keep(given: dict) -> tuple[Keep, ...]:
    """Keep site, rows and racks each second, where seconds fit, else at the step."""
    step_s, chunk_s, hours = (given.get(name, 1) for name in ("step_s", "chunk_s", "hours"))
    seconds = 1 % exact(step_s) == exact(chunk_s) % 1 == span_s(hours) % 1 == 0
    return (Keep(levels=("site", "row", "rack"), step_s=1.0 if seconds else step_s),)


def _wall_clock(value: Any) -> datetime:
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
        if moment.utcoffset().total_seconds() % 60 == 0 and 1970 <= moment.year <= 2200:
            return moment
    except (ValueError, AttributeError):
        pass
    raise ValueError("no time of 1970 to 2200 with its UTC offset: 2026-07-01T00:00:00+02:00 is")


def _told_by(key: str, other: str) -> Discriminator:
    """Tell which form is given by a key, so that a fault is one of that form alone."""

    def form(value: Any) -> str:
        keys = value.model_fields_set if isinstance(value, Part) else value
        return ("key" if key in keys else "keys") if isinstance(keys, dict | set) else other

    return Discriminator(form)


Line = Annotated[ConstantWatts, Tag("key")] | Annotated[LinearWatts, Tag("keys")]
GivenNonGpu = Annotated[Line, _told_by("constant_w", "keys")]
Mapping = Annotated[PueFile, Tag("key")] | Annotated[PueFunction, Tag("keys")]
GivenPue = Annotated[Annotated[PueNumber, Tag("number")] | Mapping, _told_by("file", "number")]


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
    fleet: tuple[Pool, ...] = Field(min_length=1, description=FLEET)
    traffic: Traffic | None = Field(None, description="traffic of pools that name none; by pattern")
    non_gpu: GivenNonGpu | None = Field(None, description=NON_GPU)
    pue: GivenPue = Field(1.3, description="PUE: a number from 1 to 5, a file, or full and idle")
    chunk_s: Number = Field(7200.0, ge=1, le=86400, description="seconds written at once")
    keep: tuple[Keep, ...] = Field(default_factory=usual_keep, min_length=1, description=KEEP)
    _folder: Path = PrivateAttr(Path())
    _source: tuple = PrivateAttr(())  # its file and the lines of its keys, if it has one

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        many = self.n_servers > MAX_SERVERS
        demand(not many, ("topology",), f"more than {MAX_SERVERS} servers: split the site")
        step, chunk, span = exact(self.step_s), exact(self.chunk_s), span_s(self.hours)
        multiples = [(("step_s",), step, Fraction(1, 1_000_000)), (("hours",), span, step)]
        multiples += [(("chunk_s",), chunk, step)]
        for place, entry in enumerate(self.keep):
            kept, keys = exact(entry.step_s), ("keep", place, "step_s")
            multiples += [(keys, kept, step), (keys, chunk, kept), (keys, span, kept)]
            once = len(set(entry.levels)) == len(entry.levels)
            demand(once, (*keys[:2], "levels"), "one stands there twice: remove it")
            known = place and entry.step_s in [other.step_s for other in self.keep[1:place]]
            demand(not known, keys, f"{entry.step_s:g} has an entry already: add the levels to it")
        for keys, length, of in multiples:
            text = f"{float(length):.12g} s are no multiple of {float(of):g} s: change one"
            demand(length and length % of == 0, keys, text)
        self.pool_of()
        return self

    @property
    def folder(self) -> Path:
        """Where the files lie that it names."""
        return self._folder

    @property
    def n_servers(self) -> int:
        """Servers of the whole site."""
        return math.prod(self.topology.model_dump().values())

    @property
    def n_steps(self) -> int:
        """Steps of the simulation."""
        return int(span_s(self.hours) / exact(self.step_s))

    @property
    def start_hour(self) -> float:
        """Local hour of day of second 0."""
        return self.start.hour + self.start.minute / 60 + self.start.second / 3600

    @cached_property
    def model_files(self) -> tuple[Path, ...]:
        """The file of each pool's model."""
        pools = enumerate(self.fleet)
        return tuple(resolve_model(p.model, self.folder, ("fleet", i, "model")) for i, p in pools)

    def pool_of(self) -> np.ndarray:
        """Give each server the place of its pool: rows first, counts in order, then the rest."""
        names = [pool.name for pool in self.fleet]
        of, per_row = np.full(self.n_servers, -1), self.n_servers // self.topology.rows
        for place, pool in sorted(enumerate(self.fleet), key=lambda each: each[1].rows is None):
            keys, free, asked = ("fleet", place), np.flatnonzero(of < 0), pool.servers
            if pool.rows is not None:
                demand(not asked, (*keys, "servers"), "the pool has rows already: leave one out")
                free, asked = free[np.isin(free // per_row, pool.rows)], per_row * len(pool.rows)
            text = "is missing, here and at the top: give it"
            demand(pool.traffic or self.traffic, (*keys, "traffic"), text)
            taken = pool.name in names[:place]
            demand(not taken, (*keys, "name"), f"{pool.name[:40]!r} is taken: change it")
            known = asked or place == len(names) - 1
            demand(known, keys, "only the last pool takes the rest: give rows or servers")
            left = f"{free.size} of the servers that it asks for are there and left"
            demand((asked or 1) <= free.size, keys, f"{left}: give other rows or fewer servers")
            of[free[:asked]] = place
        left = f"{(of < 0).sum()} of {of.size} servers have no pool"
        demand((of >= 0).all(), ("fleet",), f"{left}: let the last take the rest")
        return of

    def named_files(self) -> list[tuple[Keys, str]]:
        """List the recordings that it names, of requests, token lengths and PUE, with keys."""
        parts = {("fleet", i, "traffic"): pool.traffic for i, pool in enumerate(self.fleet)}
        parts |= {("traffic",): self.traffic, ("pue",): self.pue}
        named = [((*at, key), getattr(parts[at], key, "")) for at in parts for key in FILES]
        return [(keys, name) for keys, name in named if name and isinstance(name, str)]

    @contextmanager
    def blaming(self, *keys: str | int) -> Iterator[None]:
        """Add to what is said of a file, or of a model in it, where the scenario names it."""
        try:
            yield
        except InputError as error:
            where = f"{settings.place_of(*self._source, keys)}: " if self._source else ""
            raise InputError(f"{where}{error}") from None


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


def resolve_model(name: str, folder: Path | str, keys: Keys = ()) -> Path:
    """Find a model file: a path from the scenario's folder, else the name of a shipped model."""
    shipped = data_dir() / "models"
    for path in (Path(folder) / name, shipped / f"{name}.json"):
        if os.path.isfile(path):  # false for whatever is no name of a file
            return path
    known = [path.name for path in Path(folder).glob("*.json")]
    known += [path.stem for path in shipped.glob("*.json")]
    text = f"{name[:40]}: no such file beside the scenario and no shipped model"
    raise Fault(keys, f"{text}: {settings.nearest(name, sorted(known))}")
