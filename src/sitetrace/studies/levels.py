"""Power of a level of a simulated site, as arrays."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from sitetrace.files import InputError

if TYPE_CHECKING:
    import xarray as xr

BLOCK_VALUES = 4_000_000


def step_of(site: xr.Dataset) -> float:
    """Find the step of a site's power."""
    first, second = site["time"].values[:2]
    return float((second - first) / np.timedelta64(1, "ms")) / 1000.0


def _units_of(site: xr.Dataset, level: str) -> np.ndarray:
    units = np.flatnonzero(site["level"].values == level)
    if not units.size:
        held = ", ".join(dict.fromkeys(site["level"].values))
        raise InputError(f"the site holds no power of level {level}: it was kept for {held} alone")
    return units


def power_at(site: xr.Dataset, level: str) -> np.ndarray:
    """Read the power of all units of a level."""
    power_w = site["power_w"].isel(unit=_units_of(site, level)).values
    return power_w[:, 0] if level in ("facility", "site", "gpu") else power_w


def blocks(site: xr.Dataset, level: str, whole_s: float = 0.0) -> Iterator[np.ndarray]:
    """Read the power of a level piece by piece, for sites that do not fit into memory."""
    units = _units_of(site, level)
    power = site["power_w"].isel(unit=units)
    least = max(round(whole_s / step_of(site)), 1)
    length = max(BLOCK_VALUES // units.size // least, 1) * least
    for begin in range(0, power.sizes["time"], length):
        yield power.isel(time=slice(begin, begin + length)).values


def peaks_of(site: xr.Dataset, level: str) -> np.ndarray:
    """Find the peak of each unit of a level."""
    return np.max([block.max(axis=0) for block in blocks(site, level)], axis=0)
