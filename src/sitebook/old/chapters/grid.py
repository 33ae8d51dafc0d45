"""The chapter on the grid: what a feeder sees of a site, by each description of its power."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from sitebook.old.ledger.records import record
from sitebook.old.sites.setups import PUE, Setup, simple_powers, simulated
from sitetrace.core.files import InputError
from sitetrace.planning.series import Intervals, intervals
from sitetrace.studies.feeder import LOWEST_PU, Feeder, constant, feeder_for, solve, summary

if TYPE_CHECKING:
    import xarray as xr

MINUTE, QUARTER = "trace, 1 min", "trace, 15 min"
MEAN, NAMEPLATE = "mean", "nameplate"
MOST_SITES = 256


@dataclass(frozen=True)
class Connection:
    """A site on its feeder."""

    setup: Setup
    feeder: Feeder
    parts: dict[str, Intervals]
    solved: dict[str, pd.DataFrame]
    table: pd.DataFrame


def simulate(setup: Setup, seed: int, folder: Path) -> xr.Dataset:
    """Simulate a site minute by minute, by the kind *timeline*."""
    return simulated(setup, "timeline", seed, [{"levels": ["site"], "step_s": 60}], folder)


def connect(setup: Setup, site: xr.Dataset) -> Connection:
    """Put a site on the feeder that its nameplate asks for, described in four ways."""
    quarter = intervals(site, "facility", 900)
    nameplate_w = float(site["nameplate_w"].sel(unit="facility"))
    mean_w = PUE * setup.servers * (simple_powers(setup).mean_w + setup.non_gpu_w)
    parts = {
        MINUTE: intervals(site, "facility", 60),
        QUARTER: quarter,
        MEAN: constant(quarter, mean_w),
        NAMEPLATE: constant(quarter, nameplate_w),
    }
    feeder = feeder_for(nameplate_w)
    solved = {name: solve(part, feeder) for name, part in parts.items()}
    hours = {name: part.step_s / 3600 for name, part in parts.items()}
    return Connection(setup, feeder, parts, solved, summary(solved, feeder, hours))


def hosting(connection: Connection) -> pd.DataFrame:
    """Count how many such sites the feeder takes, each with a transformer of its own."""
    rows = []
    for name, part in connection.parts.items():
        low, high, limit = 0, MOST_SITES + 1, "none"
        while high - low > 1:
            middle = (low + high) // 2
            hit = _limit(connection.feeder, part, middle)
            low, high = (middle, high) if hit is None else (low, middle)
            limit = limit if hit is None else hit
        rows.append({"described_by": name, "sites": low, "first_limit": limit})
    return pd.DataFrame(rows)


def _limit(feeder: Feeder, part: Intervals, sites: int) -> str | None:
    """Name the limit that a number of sites hits at their greatest interval."""
    larger = replace(feeder, transformer_kva=sites * feeder.transformer_kva)
    once = replace(part, begin=part.begin[:1], power_w=sites * part.power_w.max(keepdims=True))
    try:
        solved = solve(once, larger).iloc[0]
    except InputError:
        return "voltage"
    if solved["line_a"] > feeder.ampacity_a:
        return "line"
    return "voltage" if solved["voltage_pu"] < LOWEST_PU else None


def found(connection: Connection, hosted: pd.DataFrame) -> list[dict]:
    """Record what a utility would conclude."""
    setup = connection.setup
    given = {"data": setup.data, "dataset": setup.dataset}
    units = {
        "lowest_pu": ("lowest voltage at the site", "pu"),
        "swing_pu": ("swing of the voltage at the site", "pu"),
        "transformer_pct": ("greatest loading of the transformer", "%"),
        "line_pct": ("greatest loading of the line", "%"),
        "losses_kwh": ("losses of line and transformer", "kWh"),
        "size_kva": ("smallest usual transformer", "kVA"),
    }
    rows = []
    for line in connection.table.to_dict("records"):
        for column, (name, unit) in units.items():
            what = f"{name}, by {line['described_by']}"
            rows.append(record(what, float(line[column]), unit, **given))
    for line in hosted.to_dict("records"):
        what = f"sites that the feeder takes, by {line['described_by']}"
        rows.append(record(what, float(line["sites"]), "", **given))
    return rows


def conclusion(connection: Connection, hosted: pd.DataFrame) -> str:
    """Say what the trace changes against the nameplate."""
    table, sites = connection.table.set_index("described_by"), hosted.set_index("described_by")
    trace, plate = table.loc[MINUTE], table.loc[NAMEPLATE]
    inside = "within" if trace["lowest_pu"] >= LOWEST_PU else "outside"
    more = "more" if sites.loc[MINUTE, "sites"] > sites.loc[NAMEPLATE, "sites"] else "no more"
    return "\n".join(
        [
            f"transformer: {plate['size_kva']:g} kVA by nameplate, {trace['size_kva']:g} by trace",
            f"voltage at the site by trace: {inside} range A",
            f"by trace the feeder takes {more} such sites than by nameplate",
        ]
    )
