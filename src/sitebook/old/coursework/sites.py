"""The small sites that exercises are solved on: a day of testbed servers, simulated once."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from sitebook.old.sites.setups import fitted_setup, simulated

if TYPE_CHECKING:
    import xarray as xr

HOURS = 24.0


@cache
def site_day(
    racks: int, servers_per_rack: int, rate: float, seed: int, level: str, step_s: float
) -> xr.Dataset:
    """Simulate a day of a row of testbed servers; the rate of requests is greatest at 15:00."""
    with tempfile.TemporaryDirectory() as name:
        shape = (1, racks, servers_per_rack)
        setup = fitted_setup("testbed", "diurnal", rate, shape, HOURS, Path(name))
        keep = [{"levels": [level], "step_s": step_s}]
        return simulated(setup, "timeline", seed, keep, Path(name)).load()
