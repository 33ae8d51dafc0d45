"""The chapter from servers to a site: one simulated day at every level, beside the paper's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from sitebook.old.ledger.claims import claims
from sitebook.old.ledger.records import record
from sitebook.old.ledger.tables import heading
from sitebook.old.sites import hierarchy
from sitebook.old.sites.scene import FEW, QUARTER_S, SIZES, Scene
from sitebook.old.sites.setups import STEP_S, Setup, simple_facilities, simple_powers, simulated
from sitetrace.core.registry import read_paper_table
from sitetrace.planning.series import (
    coincidence_factor,
    load_duration,
    mean_w,
    par,
    peak_w,
    power_at,
    ramp_summary,
    ramps,
    resample,
    step_of,
)
from sitetrace.studies.sizing import facility_numbers

FACILITY_STEPS_S = (0.25, 1.0, 60.0, 900.0)
RESOLUTIONS_S = (0.25, 1.0, 10.0, 60.0, 300.0, 900.0)
# numbers that hold for any size of site and any configuration
RATIOS = ("par", "load_factor")


def minutes_of_day(scene: Scene, step_s: float) -> pd.DataFrame:
    """Power of the facility over the day, at a coarse step."""
    power_kw = resample(scene.facility_w, STEP_S, step_s) / 1e3
    return pd.DataFrame({"hour": np.arange(power_kw.size) * step_s / 3600, "power_kw": power_kw})


def racks_kw(scene: Scene) -> np.ndarray:
    """Power of each rack at 15 minutes."""
    return resample(power_at(scene.site, "rack"), step_of(scene.site), QUARTER_S).T / 1e3


def durations(scene: Scene) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Load duration curves at 15 minutes by method."""
    curves = {name: load_duration(power_w / 1e3) for name, power_w in scene.quarters_w.items()}
    return curves


def level_table(scenes: list[Scene]) -> pd.DataFrame:
    """Lay the levels of several sites out beside the paper's."""
    tables = [hierarchy.levels(scene.units).assign(source=scene.label) for scene in scenes]
    paper = read_paper_table("hierarchy").assign(source="paper, run B", units=1)
    table = pd.concat([*tables, paper], ignore_index=True)
    return table[["source", "level", "units", *hierarchy.COLUMNS]]


def resolution_table(scenes: list[Scene]) -> pd.DataFrame:
    """Peak-to-average ratio against resolution, of several sites and the paper's."""
    steps = list(RESOLUTIONS_S)
    tables = [
        hierarchy.par_by_resolution(scene.facility_w, STEP_S, steps).assign(source=scene.label)
        for scene in scenes
    ]
    paper = read_paper_table("par_by_resolution").assign(source="paper, run A")
    return pd.concat([*tables, paper], ignore_index=True)


def diversity(scene: Scene) -> dict[str, float]:
    """Both definitions of how little servers peak together, at 1 s."""
    servers = scene.units.loc["server"]
    peaks_w = 1e3 * (servers["par_1s"] * servers["mean_kw"]).to_numpy() + scene.setup.non_gpu_w
    whole = scene.units.loc[("site", 0)]
    total_w = 1e3 * whole["par_1s"] * whole["mean_kw"]
    coincidence = coincidence_factor(total_w, peaks_w)
    found = {"coincidence": coincidence, "diversity": 1 / coincidence}
    return found | {"paper": hierarchy.paper_diversity(total_w, peaks_w)}


def synthetic(setup: Setup, seed: int, folder: Path) -> pd.DataFrame:
    """Redo the paper's synthetic site: an hour at a constant rate."""
    site = simulated(setup, "states", seed, [{"levels": ["site"], "step_s": 1}], folder)
    simple_w = simple_facilities(setup, simple_powers(setup), seed, 1.0)
    series = {
        "tdp": simple_w["nameplate"],
        "mean": simple_w["mean"],
        "ours": power_at(site, "facility"),
    }
    rows = []
    for method, power_w in series.items():
        ramp = ramp_summary(ramps(power_w, 1.0, 1.0))
        row = {"peak_kw": peak_w(power_w) / 1e3, "mean_kw": mean_w(power_w) / 1e3}
        row |= {"method": method, "par": par(power_w)}
        if method == "ours":
            for name in ("abs_p95", "abs_p99", "up", "down"):
                row[f"ramp_{name}_kw"] = ramp[name] / 1e3
            for percent in (95, 99):
                row[f"load_p{percent}_kw"] = float(np.percentile(power_w, percent)) / 1e3
        rows.append(row)
    return pd.DataFrame(rows).set_index("method")


def beside_synthetic(hour: pd.DataFrame) -> pd.DataFrame:
    """Lay the synthetic site beside the paper's."""
    printed = read_paper_table("synthetic_site").set_index("method")
    cells = {"quantity": [heading(name) for name in hour.columns]}
    for method, name in (("tdp", "nameplate"), ("mean", "mean"), ("ours", "composed")):
        cells[name] = hour.loc[method].to_numpy()
        cells[f"{name}, the paper's"] = printed.loc[method, hour.columns].to_numpy(dtype=float)
    return pd.DataFrame(cells)


def law_misses_pct(table: pd.DataFrame, parts: hierarchy.Parts) -> float:
    """How far the law of two parts lies from a curve at worst."""
    return float(100 * np.abs(parts.cov_of(table["servers"].to_numpy()) / table["cov"] - 1).max())


def found(scenes: list[Scene], hour: pd.DataFrame | None, hour_of: str) -> list[dict]:
    """Record what the chapter found."""
    rows = [row for scene in scenes for row in _of_scene(scene)]
    if hour is not None:
        given = {"data": "paper", "dataset": hour_of}
        rows += [
            _answer(f"synthetic_site:{method}:{column}", hour.loc[method, column],
                    judged=method != "ours", **given)
            for method in hour.index
            for column in hour.columns[hour.loc[method].notna()]
        ]  # fmt: skip
    return rows + _by_the_tables()


def _by_the_tables() -> list[dict]:
    """Say what the paper's own tables give."""
    server_w, servers, pue = (
        claims().loc[f"settings:{name}:value", "value"]
        for name in ("facility_tdp_server", "servers", "pue")
    )
    given = {"data": "paper", "dataset": "settings"}
    nameplates = [
        _answer(f"facility_constants:{run}/tdp:power_kw", server_w * servers * pue / 1e3, **given)
        for run in ("A", "B")
    ]
    table = read_paper_table("cov_by_servers")
    law = hierarchy.law_through_ends(table)
    of_paper = {"data": "paper", "dataset": "table cov_by_servers"}
    return [
        *nameplates,
        record("CoV to which the paper's curve flattens", law.floor, "", **of_paper),
        record("law of two parts through both ends of the paper's curve, greatest deviation",
               law_misses_pct(table, law), "%", **of_paper),
    ]  # fmt: skip


def _answer(
    name: str, value: float, interval: tuple | None = None, *, judged: bool = True, **given: str
) -> dict:
    """Record what stands for a number of the paper, under the paper's own words."""
    known = claims().loc[name]
    words = f"{known['what']} ({known['table']} {known['row']})"
    answers = name if judged else None
    return record(words, float(value), known["unit"], interval=interval, claim=answers, **given)


def _of_scene(scene: Scene) -> list[dict]:
    given = {"data": scene.setup.data, "dataset": f"{scene.setup.dataset}, {scene.method}"}
    same = scene.setup.data == "paper"
    judged = {"judged": not same}
    facility = facility_numbers(scene.facility_w, STEP_S, list(FACILITY_STEPS_S))
    rows = [
        _answer(f"facility:B/ours/{step:g}:{column}", facility.loc[step, column], **judged, **given)
        for step in facility.index
        for column in (facility.columns if same else RATIOS)
    ]
    shared = diversity(scene)
    rows += [
        record(
            "diversity factor as the paper's, 1 s",
            shared["paper"],
            "",
            claim="facility:B/ours/1:diversity",
            **given,
        ),
        record("coincidence factor, 1 s", shared["coincidence"], "", **given),
        record("diversity factor of the textbooks, 1 s", shared["diversity"], "", **given),
        *_hierarchy(scene, same, judged | given),
        *_flattening(scene, judged, given),
    ]
    resolution = hierarchy.par_by_resolution(scene.facility_w, STEP_S, list(RESOLUTIONS_S))
    rows += [
        _answer(f"par_by_resolution:{row.step_s:g}:par", row.par, **judged, **given)
        for row in resolution.itertuples()
    ]
    if same:
        mean_kw, nameplate_kw = (scene.quarters_w[name][0] / 1e3 for name in ("mean", "nameplate"))
        rows += [
            _answer("facility_constants:B/mean:power_kw", mean_kw, **given),
            record("nameplate of the configuration itself", nameplate_kw, "kW", **given),
        ]
    return rows


def _hierarchy(scene: Scene, same: bool, given: dict) -> list[dict]:
    """Take the first unit of each level, as the paper, between the least and the greatest."""
    rows = []
    for level in dict.fromkeys(scene.units.index.get_level_values("level")):
        of_level = scene.units.loc[level]
        for column in hierarchy.COLUMNS if same else ("cov", "par_1s", "par_15min"):
            values = of_level[column]
            ends = (values.min(), values.max()) if len(values) > 1 else None
            rows.append(_answer(f"hierarchy:{level}:{column}", values.iloc[0], ends, **given))
    return rows


def _flattening(scene: Scene, judged: dict, given: dict) -> list[dict]:
    rows = [
        _answer(f"cov_by_servers:{row.servers}:cov", row.cov,
                (min(row.cov_p5, row.cov), max(row.cov_p95, row.cov)), **judged, **given)
        for row in scene.curve[scene.curve["servers"].isin(SIZES)].itertuples()
    ]  # fmt: skip
    law = hierarchy.power_law(scene.curve)
    law |= {"single_mean": scene.single.mean()}
    law |= {"single_min": scene.single.min(), "single_max": scene.single.max()}
    rows += [
        _answer(f"cov_fit:{name}:value", value, **judged, **given) for name, value in law.items()
    ]
    missed = law_misses_pct(scene.curve, scene.foretold)
    floor = {"all servers": scene.parts.floor, f"{FEW} servers": scene.foretold.floor}
    rows += [
        record(f"CoV to which ever more servers flatten, by {who}", value, "", **given)
        for who, value in floor.items()
    ]
    name = f"law of two parts by {FEW} servers, greatest deviation from the curve"
    return [*rows, record(name, missed, "%", **given)]


def conclusion(scene: Scene) -> str:
    """Say what the chapter shows, in words that other numbers would change."""
    table = hierarchy.levels(scene.units)
    smoother = table["cov"].is_monotonic_decreasing
    last = scene.curve.iloc[-1]
    held = law_misses_pct(scene.curve, scene.foretold) < 10
    return (
        f"power gets smoother from server to site: {'yes' if smoother else 'no'}; more slowly than "
        f"independent servers would: {'yes' if last['cov'] > 1.05 * last['theory'] else 'no'}\n"
        f"{FEW} servers foretell the whole curve within a tenth: {'yes' if held else 'no'}"
    )
