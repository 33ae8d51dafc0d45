"""A scenario: what stands where, what arrives, what is kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import (
    AwareDatetime,
    BeforeValidator,
    Discriminator,
    Field,
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
from sitetrace.site.fleet import Filled, Pool, Topology, fill, resolve_model
from sitetrace.workload.spec import MAX_HOURS, Traffic

Step = Annotated[Number, Field(ge=0.01, le=3600)]
YEARS = (1970, 2200)


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


def _wall_clock(value: Any) -> Any:  # noqa: ANN401
    """Read a time of day with its UTC offset."""
    example = "write it as 2026-07-01T00:00:00+02:00"
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        raise Fault((), f"{value[:40]!r} is no time: {example}") from None
    if not isinstance(moment, datetime):
        raise Fault((), f"{str(value)[:40]} is no time: {example}")
    offset = moment.utcoffset()
    if offset is None or offset.total_seconds() % 60:
        raise Fault((), f"{str(value)[:40]} has no UTC offset in hours and minutes: {example}")
    if not YEARS[0] <= moment.year <= YEARS[1]:
        raise Fault((), f"the year {moment.year} is out of reach: give {YEARS[0]} to {YEARS[1]}")
    return moment


def _pue_form(value: Any) -> str:  # noqa: ANN401
    """Tell which form of PUE is given, so that a fault is one of that form alone."""
    if isinstance(value, Part):
        return type(value).__name__
    if isinstance(value, dict):
        return "PueFile" if "file" in value else "PueFunction"
    return "number"


def _non_gpu_form(value: Any) -> str:  # noqa: ANN401
    if isinstance(value, Part):
        return type(value).__name__
    constant = isinstance(value, dict) and "constant_w" in value
    return "ConstantWatts" if constant else "LinearWatts"


GivenPue = Annotated[
    Annotated[PueNumber, Tag("number")]
    | Annotated[PueFile, Tag("PueFile")]
    | Annotated[PueFunction, Tag("PueFunction")],
    Discriminator(_pue_form),
]

GivenNonGpu = Annotated[
    Annotated[ConstantWatts, Tag("ConstantWatts")] | Annotated[LinearWatts, Tag("LinearWatts")],
    Discriminator(_non_gpu_form),
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
    folder: Path = Field(
        Path(), exclude=True, description="where the files lie that it names: the scenario's own"
    )
    source: Any = Field(
        None, exclude=True, description="its file and the lines of its keys, where it has one"
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Scenario:
        check_steps(self.hours, self.step_s, self.chunk_s, self.keep)
        for place, pool in enumerate(self.fleet):
            if pool.traffic is None and self.traffic is None:
                keys = ("fleet", place, "traffic")
                raise Fault(keys, "is missing, here and at the top: give one")
        fill(self.topology, self.fleet)
        return self

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

    def pools(self) -> list[Filled]:
        """Each pool of the fleet with its traffic and servers."""
        of = fill(self.topology, self.fleet)
        return [
            Filled(pool, pool.traffic or self.traffic, np.flatnonzero(of == place))
            for place, pool in enumerate(self.fleet)
        ]

    def named_files(self) -> list[tuple[Keys, str]]:
        """List the recordings that it names, of requests, token lengths and PUE, with keys."""
        parts = [
            (("fleet", place, "traffic"), pool.traffic) for place, pool in enumerate(self.fleet)
        ]
        parts += [(("traffic",), self.traffic), (("pue",), self.pue)]
        named = [((*keys, key), getattr(part, key, None)) for keys, part in parts
                 for key in ("file", "lengths")]  # fmt: skip
        return [(keys, name) for keys, name in named if isinstance(name, str)]

    @contextmanager
    def blaming(self, *keys: str | int) -> Iterator[None]:
        """Add to what is said of a file, or of a model in it, where the scenario names it."""
        try:
            yield
        except InputError as error:
            where = f"{place_of(*self.source, keys)}: " if self.source else ""
            raise InputError(f"{where}{error}") from None

    def to_json(self) -> str:
        """Write the scenario, defaults included, as one line of JSON: equal for equal ones."""
        return self.model_dump_json(exclude_none=True)


def read_scenario(path: Path | str) -> Scenario:
    """Read a scenario file.

    Parameters
    ----------
    path : Path or str
        YAML file; what it names lies beside it.

    Returns
    -------
    Scenario
        Checked.

    Raises
    ------
    InputError
        One line: file, line, key, what is wrong, and the mend.
    """
    content, lines = read_yaml(path)
    try:
        scenario = check_scenario(content, Path(path).parent)
    except Fault as fault:
        raise InputError(f"{place_of(path, lines, fault.keys)}: {fault}") from None
    return scenario.model_copy(update={"source": (path, lines)})


def check_scenario(content: dict, folder: Path | str = ".") -> Scenario:
    """Make a scenario of a mapping and see that its files are there; a `Fault` has the keys."""
    try:
        for name in ("folder", "source"):
            if name in content:
                raise Fault((name,), "no such key here: files are sought beside the scenario")
        scenario = Scenario.model_validate({**content, "folder": Path(folder)})
    except ValidationError as error:
        raise Fault(*first_fault(error, Scenario)) from None
    _check_files(scenario)
    return scenario


def check_steps(hours: float, step_s: float, chunk_s: float, keep: tuple[Keep, ...]) -> None:
    """See to it that duration, chunks and steps are whole multiples where they must be."""
    step, chunk, span = exact(step_s), exact(chunk_s), span_s(hours)
    if (step * 1_000_000) % 1:
        raise Fault(("step_s",), f"{step_s:.12g} s are no whole number of microseconds: round it")
    for key, length, unit_s in (("hours", span, 3600), ("chunk_s", chunk, 1)):
        if length % step or not length:
            whole = float(max(length // step, 1) * step / unit_s)
            text = f"{float(length):.12g} s are no whole number of steps of {step_s:g} s"
            raise Fault((key,), f"{text}: give {whole:.12g} or another step_s")
    for place, entry in enumerate(keep):
        kept, keys = exact(entry.step_s), ("keep", place, "step_s")
        for name, length in (("chunk_s", chunk), ("the duration", span)):
            if kept % step or length % kept:
                text = f"{entry.step_s:g} must be a multiple of step_s {step_s:g} and divide {name}"
                raise Fault(keys, f"{text}, {float(length):.12g} s: give such a step")
        twice = [level for level in entry.levels if entry.levels.count(level) > 1]
        if twice:
            raise Fault(("keep", place, "levels"), f"{twice[0]} stands there twice: remove one")
        if place and entry.group in [other.group for other in keep[1:place]]:
            raise Fault(keys, f"{entry.step_s:g} has a group already: add the levels to that entry")


def _check_files(scenario: Scenario) -> None:
    """Refuse a scenario when a file that it names is not there or cannot be read."""
    named = []
    for place, pool in enumerate(scenario.fleet):
        keys = ("fleet", place, "model")
        try:
            named.append((keys, str(resolve_model(pool.model, scenario.folder).resolve())))
        except InputError as error:
            raise Fault(keys, str(error)) from None
    for keys, name in [*named, *scenario.named_files()]:
        try:
            (scenario.folder / name).open("rb").close()
        except (OSError, ValueError) as error:  # ValueError: a NUL in the name
            reason = getattr(error, "strerror", None) or "no name of a file"
            text = f"{name[:80]}: cannot be read ({reason})"
            raise Fault(keys, f"{text}: check the path from {scenario.folder}") from None
