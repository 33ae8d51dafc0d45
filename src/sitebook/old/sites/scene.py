"""A simulated day of a site, looked at from all sides at once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sitebook.old.sites import hierarchy
from sitebook.old.sites.setups import STEP_S, Setup, simple_facilities, simple_powers, simulated
from sitetrace.planning.series import power_at, resample
from sitetrace.site.store import read_site

if TYPE_CHECKING:
    import xarray as xr

SIZES = (1, 4, 16, 60, 120, 240)
SUBSETS, FEW = 50, 12
QUARTER_S = 900.0
KEEP = (
    {"levels": ["site", "row", "rack", "server"], "step_s": 1},
    {"levels": ["site"], "step_s": STEP_S},
)


@dataclass(frozen=True)
class Scene:
    """A simulated site, and what the chapter asks of it."""

    setup: Setup
    method: str
    site: xr.Dataset
    facility_w: np.ndarray
    quarters_w: dict[str, np.ndarray]
    units: pd.DataFrame
    curve: pd.DataFrame
    parts: hierarchy.Parts
    foretold: hierarchy.Parts
    single: np.ndarray

    @property
    def label(self) -> str:
        """Source and name, for figures."""
        name, data = self.setup.name.replace("_", " "), self.setup.data
        return name if name == data else f"{name} ({data})"


def simulate(setup: Setup, method: str, seed: int, folder: Path) -> Scene:
    """Simulate a site and look at it from all sides."""
    site = simulated(setup, method, seed, list(KEEP), folder)
    fine = read_site(site.encoding["source"], group=f"{STEP_S:g}s")
    facility_w = power_at(fine, "facility")
    quarters_w = simple_facilities(setup, simple_powers(setup), seed, QUARTER_S)
    quarters_w[method] = resample(facility_w, STEP_S, QUARTER_S)
    servers = hierarchy.moments(site, setup.non_gpu_w)
    rng = np.random.default_rng(seed)
    single = np.sqrt(np.diag(servers.covariance_w2)) / servers.mean_w
    return Scene(
        setup,
        method,
        site,
        facility_w,
        quarters_w,
        hierarchy.by_unit(site, setup.non_gpu_w),
        hierarchy.cov_by_servers(servers, sorted({*SIZES, setup.servers}), SUBSETS, rng),
        hierarchy.separate(servers),
        hierarchy.separate(servers.of(np.arange(FEW))),
        single,
    )
