"""A scenario: what stands where, what arrives, what is kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import (
    AwareDatetime,
    BeforeValidator,
    Discriminator,
    Field,
    PrivateAttr,
    Tag,
    ValidationError,
    model_validator,
)

from sitetrace.core.files import InputError
from sitetrace.core.settings import (
    Count,
    Fault,
    Keys,
    Number,
    Part,
    Text,
    first_fault,
    place_of,
    read_yaml,
)
from sitetrace.site.facility import ConstantWatts, LinearWatts, PueFile, PueFunction, PueNumber
from sitetrace.site.fleet import Pool, Topology, fill, resolve_model
from sitetrace.workload.spec import MAX_HOURS, Traffic

Step = Annotated[Number, Field(ge=0.01, le=3600)]


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
    start: Annotated[AwareDatetime, BeforeValidator(_wall_clock)] = Field(
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
    _source: tuple | None = PrivateAttr(None)  # its file and the lines of its keys, if it has one
    _pool_of: tuple[int, ...] = PrivateAttr()  # of each server

    @model_validator(mode="after")
    def _fits_together(self) -> Scenario:
        step, chunk, span = exact(self.step_s), exact(self.chunk_s), span_s(self.hours)
        multiples = [("step_s", step, Fraction(1, 1_000_000)), ("hours", span, step)]
        multiples = [((key,), *of) for key, *of in [*multiples, ("chunk_s", chunk, step)]]
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
            if pool.traffic is None and self.traffic is None:
                text = "is missing, here and at the top: give one"
                raise Fault(("fleet", place, "traffic"), text)
        self._pool_of = tuple(fill(self.topology, self.fleet).tolist())
        return self

    @property
    def folder(self) -> Path:
        """Where the files lie that it names."""
        return self._folder

    @property
    def n_servers(self) -> int:
        """Servers of the whole site."""
        return self.topology.n_servers

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
        found = []
        for place, pool in enumerate(self.fleet):
            try:
                found.append(resolve_model(pool.model, self.folder))
            except InputError as error:
                raise Fault(("fleet", place, "model"), str(error)) from None
        return tuple(found)

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
            where = f"{place_of(*self._source, keys)}: " if self._source else ""
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
    content, lines = read_yaml(path)
    try:
        scenario = check_scenario(content, Path(path).parent)
    except Fault as fault:
        raise InputError(f"{place_of(path, lines, fault.keys)}: {fault}") from None
    scenario._source = (path, lines)
    return scenario


def check_scenario(content: dict, folder: Path | str = ".") -> Scenario:
    """Make a scenario of a mapping and see that its files are there; a `Fault` has the keys."""
    try:
        scenario = Scenario.model_validate(content)
    except ValidationError as error:
        raise Fault(*first_fault(error, content)) from None
    scenario._folder = Path(folder)
    models = [
        (("fleet", i, "model"), file.resolve()) for i, file in enumerate(scenario.model_files)
    ]
    for keys, name in [*models, *scenario.named_files()]:
        try:
            (scenario.folder / name).open("rb").close()
        except (OSError, ValueError) as error:  # ValueError: a NUL in the name
            reason = getattr(error, "strerror", None) or "no name of a file"
            text = f"{str(name)[:80]}: cannot be read ({reason})"
            raise Fault(keys, f"{text}: check the path from {folder}") from None
    return scenario
