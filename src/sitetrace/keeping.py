"""Steps, chunks, and what is kept of a simulation: whole multiples on an exact clock."""

from __future__ import annotations

from fractions import Fraction
from typing import Annotated, Literal

from pydantic import Field

from sitetrace.checked import Fault, Number, Part

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


def check_steps(hours: float, step_s: float, chunk_s: float, keep: tuple[Keep, ...]) -> None:
    """See to it that duration, chunks and steps are whole multiples where they must be."""
    step, chunk, span = exact(step_s), exact(chunk_s), span_s(hours)
    if (step * 1_000_000) % 1:
        raise Fault(("step_s",), f"{step_s:.12g} s are no whole number of microseconds: round it")
    for key, length, unit_s in (("hours", span, 3600), ("chunk_s", chunk, 1)):
        if length % step or not length:
            whole = float(max(length // step, 1) * step / unit_s)
            raise Fault((key,), f"{float(length):.12g} s are no whole number of steps of "
                        f"{step_s:g} s: give {whole:.12g} or another step_s")  # fmt: skip
    for place, entry in enumerate(keep):
        kept, keys = exact(entry.step_s), ("keep", place, "step_s")
        for name, length in (("chunk_s", chunk), ("the duration", span)):
            if kept % step or length % kept:
                raise Fault(keys, f"{entry.step_s:g} must be a multiple of step_s {step_s:g} and "
                            f"divide {name}, {float(length):.12g} s: give such a step")  # fmt: skip
        twice = [level for level in entry.levels if entry.levels.count(level) > 1]
        if twice:
            raise Fault(("keep", place, "levels"), f"{twice[0]} stands there twice: remove one")
        if place and entry.group in [other.group for other in keep[1:place]]:
            raise Fault(keys, f"{entry.step_s:g} has a group already: add the levels to that entry")
