"""Days of the same racks, each with its own load and seed: each is simulated and looked at once."""

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from sitebook.judging import Model
from sitetrace.core.registry import dataset_path
from sitetrace.power.modelfile import save_model
from sitetrace.site.scenario import check_scenario
from sitetrace.site.simulate import simulate_site
from sitetrace.studies.battery import capped, day_needs
from sitetrace.studies.capacity import capacity, day_peaks, rack_powers, random_orders
from sitetrace.workload.clients import read_rates

STEPS_S, DAY_S, DAY_CV = [1, 60, 900], 86400.0, 0.12  # means; spread of invented days' loads
DRAWS, FEW = 50, 5  # random orders of the racks, each day; of these, for caps and batteries


@dataclass(frozen=True)
class Days:
    """What several days say: power of the first one's racks, and a table of all for each look."""

    racks_w: np.ndarray  # shape (racks, steps)
    dt_s: float
    nameplate_w: float
    capacity: pd.DataFrame
    peaks: pd.DataFrame
    needs: pd.DataFrame
    caps: pd.DataFrame


def daily_loads(rates: str, days: int, seed: int) -> list[float]:
    """Take loads of days over their mean from a data set, or invent them; those near it first."""
    if rates:
        table = read_rates(dataset_path(rates) / "m-small_rates.csv")
        totals = table.groupby(table["window_start_s"] // DAY_S)["rate_rps"].sum()
        picked = np.linspace(0, len(totals) - 1, days).round().astype(int)
        loads = (totals / totals.mean()).iloc[picked]
    else:
        sigma = np.sqrt(np.log1p(DAY_CV**2))
        loads = np.random.default_rng(seed).lognormal(-0.5 * sigma**2, sigma, days)
    return sorted(map(float, loads), key=lambda load: abs(load - 1.0))


def simulated_days(
    model: Model, plan: dict, traffic: dict, overhead_w: float, loads: Sequence[float], seed: int
) -> Iterator[xr.Dataset]:
    """Simulate the same site for several days, each with its own load and seed."""
    known = {
        "hours": plan["hours"],
        "topology": {key: value for key, value in plan.items() if key != "hours"},
    }
    known |= {"non_gpu": {"constant_w": overhead_w}, "keep": [{"levels": ["rack"], "step_s": 1}]}
    for day, load in enumerate(loads):
        scaled = traffic | {"rate_per_server": load * traffic["rate_per_server"]}
        with tempfile.TemporaryDirectory() as folder:
            save_model(model, Path(folder) / "model.json")
            fleet = [{"name": "all", "model": str(Path(folder) / "model.json")}]
            scenario = known | {"fleet": fleet, "seed": seed + day, "traffic": scaled}
            yield simulate_site(check_scenario(scenario), Path(folder) / "site.zarr", workers=2)


def study(
    sites: Iterable[xr.Dataset], limit_w: float, rates_w: list[float], available: int, seed: int
) -> Days:
    """Look at each day once: racks by the rule, peaks of subsets, needs of batteries, caps."""
    found, first = [], None
    for day, site in enumerate(sites):
        racks_w, dt_s = rack_powers(site)
        if first is None:
            of_racks = site["level"].to_numpy() == "rack"
            first = racks_w, dt_s, float(site["nameplate_w"].to_numpy()[of_racks].mean())
        rule, orders, subsets = np.random.default_rng([seed, day]).spawn(3)
        some = random_orders(len(racks_w), FEW, orders)
        counted = pd.DataFrame([capacity(racks_w[:available], limit_w, DRAWS, rule)])
        peaks = day_peaks(racks_w, dt_s, limit_w, STEPS_S, DRAWS, subsets)
        needs = day_needs(racks_w, dt_s, limit_w, rates_w, some)
        tables = (counted, peaks, needs, _caps(racks_w, dt_s, limit_w, some))
        found.append([table.assign(day=day) for table in tables])
    return Days(*first, *(pd.concat(parts, ignore_index=True) for parts in zip(*found)))


def _caps(racks_w: np.ndarray, dt_s: float, limit_w: float, orders: np.ndarray) -> pd.DataFrame:
    """Cap random subsets of all sizes that exceed the limit."""
    rows = []
    for order in orders:
        total_w = np.zeros(racks_w.shape[1])
        for size, rack in enumerate(order, start=1):
            total_w += racks_w[rack]
            if total_w.max() > limit_w:
                rows.append({"racks": size} | capped(total_w, dt_s, limit_w))
    return pd.DataFrame(rows)
