"""From GPU watts to the meter of the site: the rest of a server, and the PUE."""

from pathlib import Path
from typing import Annotated, NamedTuple, Self

import numpy as np
from pydantic import Field, model_validator

from sitetrace.core.files import read_table, refuse_row
from sitetrace.core.registry import default_non_gpu
from sitetrace.core.settings import Number, Part, Text, demand

PueNumber = Annotated[Number, Field(ge=1, le=5)]
Watts = Annotated[Number, Field(ge=0, le=100_000)]


class ConstantWatts(Part):
    """Power of a server beside its GPUs: the same at any load."""

    constant_w: Watts = Field(description="watts of a server beside its GPUs")


class LinearWatts(Part):
    """Power of a server beside its GPUs: fans and power supplies follow the GPUs."""

    base_w: Watts = Field(description="watts of a server while its GPUs take none")
    per_gpu_w: Number = Field(ge=0, le=2, description="watts more for each watt of its GPUs")


class Temperature(Part):
    """Outdoor temperature as a cosine of the hour of day, and what each warm degree costs."""

    mean_c: Number = Field(ge=-60, le=60, description="mean of the day, degrees Celsius")
    swing_c: Number = Field(ge=0, le=40, description="hottest hour less the mean, degrees")
    hottest_hour: Number = Field(15.0, ge=0, le=24, description="hour of day of the maximum")
    above_c: Number = Field(ge=-60, le=60, description="temperature above which cooling costs more")
    per_c: Number = Field(ge=0, le=0.5, description="PUE more for each degree above above_c")


class PueFile(Part):
    """PUE as recorded."""

    file: Text = Field(description="CSV with time_s,pue; a value holds until the next row")


class PueFunction(Part):
    """PUE as a line in the load share, and more of it in warm hours."""

    full: PueNumber = Field(description="PUE at nameplate load")
    idle: PueNumber = Field(description="PUE at no load, not below that at nameplate load")
    temperature: Temperature | None = Field(None, description="outdoor temperature, if it counts")

    @model_validator(mode="after")
    def _overhead_is_spread_over_less(self) -> Self:
        text = f"{self.idle:g} is below that at full load: give {self.full:g} or more"
        demand(self.idle >= self.full, ("idle",), text)
        return self


class PueSteps(NamedTuple):
    """PUE that holds from one time to the next, the first from second 0 or before."""

    time_s: np.ndarray
    pue: np.ndarray


Pue = PueSteps | PueFunction


def resolve_pue(pue: float | PueFile | PueFunction, folder: Path | str) -> Pue:
    """Read the PUE's file, ``time_s,pue`` in seconds after second 0, where a scenario names one."""
    if isinstance(pue, PueFunction):
        return pue
    if not isinstance(pue, PueFile):
        return PueSteps(np.zeros(1), np.array([pue]))
    path = Path(folder) / pue.file
    table = read_table(path, ("time_s", "pue"))
    time_s, values = table["time_s"], table["pue"]
    refuse_row(path, time_s[:1] > 0, "is late: second 0 needs a value", time_s)
    refuse_row(path, time_s.diff() <= 0, "is not after the line above: sort", time_s)
    refuse_row(path, ~values.between(1, 5), "is no PUE: give 1 to 5", values)
    return PueSteps(time_s.to_numpy(), values.to_numpy())


def pue_series(pue: Pue, time_s: np.ndarray, share: np.ndarray, start_hour: float) -> np.ndarray:
    """Facility power over IT power in bins that begin at `time_s`; shares of nameplate load."""
    if isinstance(pue, PueSteps):
        return pue.pue[np.searchsorted(pue.time_s, time_s, side="right") - 1]
    # a fixed part of cooling and distribution is spread over less IT power when the load is low
    values, outdoor = pue.idle + (pue.full - pue.idle) * np.clip(share, 0.0, 1.0), pue.temperature
    if outdoor is not None:
        phase = 2 * np.pi * (start_hour + time_s / 3600 - outdoor.hottest_hour) / 24.0
        outdoor_c = outdoor.mean_c + outdoor.swing_c * np.cos(phase)
        values = values + outdoor.per_c * np.maximum(outdoor_c - outdoor.above_c, 0.0)
    return values


def greatest_pue(pue: Pue) -> float:
    """Bound that no value of `pue_series` exceeds: for the facility's nameplate."""
    if isinstance(pue, PueSteps):
        return float(pue.pue.max())
    hottest_hour = pue.temperature.hottest_hour if pue.temperature else 0.0
    return float(pue_series(pue, np.zeros(1), np.zeros(1), hottest_hour)[0])


def non_gpu_law(given: ConstantWatts | LinearWatts | None, gpus: int) -> tuple[float, float]:
    """Give watts of a server beside its GPUs, and watts more for each GPU watt; both add up."""
    if given is None:
        return default_non_gpu(gpus)
    constant = isinstance(given, ConstantWatts)
    return (given.constant_w, 0.0) if constant else (given.base_w, given.per_gpu_w)
