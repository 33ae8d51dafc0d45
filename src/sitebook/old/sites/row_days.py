"""Days of the same racks, each with its own load and seed: each is looked at once."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from sitetrace.site.scenario import check_scenario
from sitetrace.site.simulate import simulate_site
from sitetrace.studies.battery import capped, day_needs
from sitetrace.studies.capacity import capacity, day_peaks, rack_powers, random_orders

STEPS_S = [1, 60, 900]


@dataclass(frozen=True)
class Days:
    """What several simulated days of the same racks say."""

    racks_w: np.ndarray
    dt_s: float
    nameplate_w: float
    capacity: pd.DataFrame
    peaks: pd.DataFrame
    needs: pd.DataFrame
    caps: pd.DataFrame


def simulated_days(
    model: Path | str,
    plan: dict,
    traffic: dict,
    overhead_w: float,
    loads: Sequence[float],
    seed: int,
    workers: int = 1,
) -> Iterator[xr.Dataset]:
    """Simulate the same site for several days, each with its own load and seed."""
    topology = {key: value for key, value in plan.items() if key != "hours"}
    for day, load in enumerate(loads):
        scenario = check_scenario(
            {
                "seed": seed + day,
                "hours": plan["hours"],
                "topology": topology,
                "fleet": [{"name": "all", "model": str(model)}],
                "traffic": traffic | {"rate_per_server": load * traffic["rate_per_server"]},
                "non_gpu": {"constant_w": overhead_w},
                "keep": [{"levels": ["rack"], "step_s": 1}],
            }
        )
        with tempfile.TemporaryDirectory() as folder:
            yield simulate_site(scenario, Path(folder) / "site.zarr", workers=workers)


def study(
    sites: Iterable[xr.Dataset],
    limit_kw: float,
    rates_kw: list[float],
    draws: int,
    few: int,
    available: int,
    seed: int,
) -> Days:
    """Look at each day once."""
    limit_w, rates_w = 1e3 * limit_kw, [1e3 * rate for rate in rates_kw]
    tables = {"capacity": [], "peaks": [], "needs": [], "caps": []}
    first = None
    for day, site in enumerate(sites):
        racks_w, dt_s = rack_powers(site)
        if first is None:
            of_racks = site["level"].to_numpy() == "rack"
            first = racks_w, dt_s, float(site["nameplate_w"].to_numpy()[of_racks].mean())
        rule, orders, subsets = np.random.default_rng([seed, day]).spawn(3)
        some = random_orders(len(racks_w), few, orders)
        tables["capacity"].append(
            pd.DataFrame([capacity(racks_w[:available], limit_w, draws, rule)])
        )
        tables["peaks"].append(day_peaks(racks_w, dt_s, limit_w, STEPS_S, draws, subsets))
        tables["needs"].append(day_needs(racks_w, dt_s, limit_w, rates_w, some))
        tables["caps"].append(_caps(racks_w, dt_s, limit_w, some))
    joined = {
        name: pd.concat([part.assign(day=day) for day, part in enumerate(parts)], ignore_index=True)
        for name, parts in tables.items()
    }
    return Days(*first, **joined)


def _caps(racks_w: np.ndarray, dt_s: float, limit_w: float, orders: np.ndarray) -> pd.DataFrame:
    """Cap subsets of all sizes; those that keep the limit are zeros."""
    nothing = dict.fromkeys(capped(np.ones(1), dt_s, 2.0), 0.0)
    rows = []
    for draw, order in enumerate(orders):
        total_w = np.zeros(racks_w.shape[1])
        for size, rack in enumerate(order, start=1):
            total_w += racks_w[rack]
            above = total_w.max() > limit_w
            cut = capped(total_w, dt_s, limit_w) if above else nothing
            rows.append({"draw": draw, "racks": size} | cut)
    return pd.DataFrame(rows)
