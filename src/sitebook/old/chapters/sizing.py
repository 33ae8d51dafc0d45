"""The chapter on sizing and interconnection: every method, over whole simulations."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from sitebook.old.ledger.claims import claims
from sitebook.old.ledger.records import record
from sitebook.old.sites.hierarchy import paper_diversity, peaks_of
from sitebook.old.sites.setups import (
    PUE,
    Setup,
    first_model,
    simple_facilities,
    simple_powers,
    simulated,
)
from sitetrace.core.registry import default_non_gpu, read_paper_table
from sitetrace.planning.series import coincidence_factor, peak_w, power_at
from sitetrace.studies.sizing import RAMP_STEPS_S, over_seeds, sizing_numbers

KEEP = ({"levels": ["site", "server"], "step_s": 1},)
STEP_S = 1.0
PAPER_SERVERS = 240
WALL_PLUG = "wall-plug law"
SMALL_MW = 0.1
SHOWN = {
    "peak": "peak, 15 min [MW]",
    "mean": "mean [MW]",
    "par": "peak to average",
    "load_factor": "load factor",
    "ramp": "greatest ramp [MW/h]",
    "transformer": "transformer [MVA]",
    "energy_year": "energy of a year [MWh]",
    "peak_p95": "P95 of the power [MW]",
    "ramp_up_p95": "P95 of rises [MW per 15 min]",
    "ramp_down_p95": "P95 of falls [MW per 15 min]",
    "coincidence": "coincidence factor, 1 s",
    "diversity": "diversity factor, textbooks, 1 s",
    "paper_diversity": "diversity factor, paper's, 1 s",
}
RATIOS = ("par", "load_factor")
OF_SIZE = ("peak", "mean", "ramp", "transformer")


def runs(setup: Setup, seeds: list[int], folder: Path) -> pd.DataFrame:
    """Simulate a site by all methods, once a seed."""
    rows, powers = [], simple_powers(setup)
    for seed in seeds:
        for name, power_w in simple_facilities(setup, powers, seed, STEP_S).items():
            rows.append({"method": name, "seed": seed} | sizing_numbers(power_w, STEP_S))
        for place, method in enumerate(setup.models):
            for name, numbers in _simulated(setup, method, seed, folder, first=place == 0):
                rows.append({"method": name, "seed": seed} | numbers)
    return pd.DataFrame(rows)


def _simulated(
    setup: Setup, method: str, seed: int, folder: Path, *, first: bool
) -> Iterator[tuple[str, dict]]:
    site = simulated(setup, method, seed, list(KEEP), folder)
    total_w, peaks_w = peak_w(power_at(site, "site")), peaks_of(site, "server")
    shared = coincidence_factor(total_w, peaks_w)
    numbers = {"coincidence": shared, "diversity": 1 / shared}
    numbers["paper_diversity"] = paper_diversity(total_w, peaks_w)
    yield method, sizing_numbers(power_at(site, "facility"), STEP_S) | numbers
    if first and setup.data != "paper":
        gpus = first_model(setup).configuration.tensor_parallel
        base_w, per_gpu_w = default_non_gpu(gpus)
        facility_w = PUE * (setup.servers * base_w + (1 + per_gpu_w) * power_at(site, "gpu"))
        yield WALL_PLUG, sizing_numbers(facility_w, STEP_S)


def summary(setups: list[Setup], seeds: list[int], folder: Path) -> pd.DataFrame:
    """Simulate several sites and take the mean over seeds."""
    tables = {setup.name: over_seeds(runs(setup, seeds, folder)) for setup in setups}
    return pd.concat(tables, names=["site"])


def sizing_cells(table: pd.DataFrame, site: str) -> pd.DataFrame:
    """Lay the sizing of a site out, a column a method."""
    of_site = table.loc[site]
    small = of_site.xs("peak", level="quantity")["value"].max() < SMALL_MW
    methods = dict.fromkeys(of_site.index.get_level_values("method"))
    rows = []
    for quantity, words in SHOWN.items():
        in_kilo = re.sub(r"\[M(?=W\b|VA)", "[k", words) if small else words
        scale = 1 if in_kilo == words else 1e3
        row = {"quantity": in_kilo}
        for method in methods:
            row[method] = _cell(of_site, (method, quantity), scale)
        rows.append(row)
    return pd.DataFrame(rows)


def _cell(table: pd.DataFrame, key: tuple[str, str], scale: float) -> str:
    if key not in table.index:
        return "–"
    value, low, high = scale * table.loc[key, ["value", "low", "high"]]
    if not high > low:
        return f"{value:.4g}"
    return f"{value:.4g} ({low:.4g} to {high:.4g})"


def paper_cells() -> pd.DataFrame:
    """Lay the paper's sizing and interconnection tables out."""
    names = {"tdp": "nameplate", "mean": "mean", "splitwise_b": "look-up, first"}
    names |= {"splitwise_b_prime": "look-up, redone", "ours": "its model"}
    wide = read_paper_table("sizing").pivot(index="quantity", columns="method", values="value")
    wide = wide[list(names)].rename(columns=names)
    other = read_paper_table("interconnection").set_index("quantity")["value"]
    wide["its model, run A"] = other.drop("ramp_up_max").reindex(wide.index)
    extra = other[~other.index.isin(wide.index)]
    wide = pd.concat([wide, extra.to_frame("its model, run A")])
    wide.index = [SHOWN.get(name, "greatest rise [MW per 15 min]") for name in wide.index]
    return wide.rename_axis("quantity").reset_index()


def ramp_rows(table: pd.DataFrame, site: str) -> pd.DataFrame:
    """Greatest rises and falls by method and resolution, over the site's own mean."""
    rows, of_site = [], table.loc[site]
    for method in dict.fromkeys(of_site.index.get_level_values("method")):
        mean_mw = of_site.loc[(method, "mean"), "value"]
        for step_s in RAMP_STEPS_S:
            for way in ("up", "down"):
                found = of_site.loc[(method, f"{way}_{step_s:g}s")]
                share = {end: 100 * found[end] / mean_mw for end in ("value", "low", "high")}
                rows.append({"method": method, "step_s": step_s, "way": way} | share)
    return pd.DataFrame(rows)


def found(setups: list[Setup], table: pd.DataFrame) -> list[dict]:
    """Record what the chapter found."""
    rows = [row for setup in setups for row in _of_site(setup, table.loc[setup.name])]
    return rows + _by_settings()


def _of_site(setup: Setup, table: pd.DataFrame) -> list[dict]:
    given = {"data": setup.data, "dataset": f"{setup.dataset}, {setup.servers} servers"}
    rows = []
    for method in dict.fromkeys(table.index.get_level_values("method")):
        for quantity, words in SHOWN.items():
            if (method, quantity) in table.index:
                value, interval = _number(table.loc[(method, quantity)])
                rows.append(record(f"{words}, {method}", value, "", interval=interval, **given))
        for step_s in RAMP_STEPS_S:
            for way in ("up", "down"):
                value, interval = _number(table.loc[(method, f"{way}_{step_s:g}s")])
                name = f"greatest ramp {way} in {step_s:g} s, {method}"
                rows.append(record(name, value, "MW", interval=interval, **given))
    return rows + (
        _of_paper(setup, table, given) if setup.data == "paper" else _ratios(setup, table, given)
    )


def _ratios(setup: Setup, table: pd.DataFrame, given: dict) -> list[dict]:
    """Answer the paper's ratios, which ask for no size of a site."""
    rows = []
    for quantity in RATIOS:
        value, interval = _number(table.loc[(next(iter(setup.models)), quantity)])
        answers = (f"sizing:{quantity}/ours:value", f"interconnection:{quantity}:value")
        rows += [_answer(name, value, interval, **given) for name in answers]
    return rows


def _of_paper(setup: Setup, table: pd.DataFrame, given: dict) -> list[dict]:
    """Scale the paper's own configuration to its number of servers.

    What rests on requests that are not the paper's answers nothing; the mean method knows none.
    """
    rows, scale = [], PAPER_SERVERS / setup.servers
    for quantity in OF_SIZE:
        words = f"{SHOWN[quantity]}, states, for {PAPER_SERVERS} servers"
        value, interval = _number(table.loc[("states", quantity)], scale)
        rows.append(record(words, value, "", interval=interval, **given))
        value, interval = _number(table.loc[("mean", quantity)], scale)
        rows.append(_answer(f"sizing:{quantity}/mean:value", value, interval, **given))
    return rows


def _number(row: pd.Series, scale: float = 1.0) -> tuple[float, tuple[float, float] | None]:
    value, low, high = (float(row[name]) * scale for name in ("value", "low", "high"))
    return value, None if np.isnan(low) else (min(low, value), max(high, value))


def _answer(name: str, value: float, interval: tuple | None, **given: str) -> dict:
    """Record an answer to a claim under the claim's own words."""
    known = claims().loc[name]
    words = f"{known['what']} ({known['table']} {known['row']})"
    return record(words, value, known["unit"], interval=interval, claim=name, **given)


def _by_settings() -> list[dict]:
    """Say what the paper's settings alone give for its nameplate."""
    names = ("facility_tdp_server", "servers", "pue", "transformer_factor")
    server_w, servers, pue, factor = (claims().loc[f"settings:{n}:value", "value"] for n in names)
    peak_mw = server_w * servers * pue / 1e6
    values = {"peak": peak_mw, "mean": peak_mw, "ramp": 0.0, "transformer": peak_mw / factor}
    given = {"data": "paper", "dataset": "settings"}
    rows = []
    for name, value in values.items():
        half = claims().loc[f"sizing:{name}/tdp:value", "rounding"]
        rows.append(
            _answer(f"sizing:{name}/tdp:value", value, (value - half, value + half), **given)
        )
    return rows


def conclusion(table: pd.DataFrame, site: str, method: str) -> str:
    """Say what the chapter shows, in words that other numbers would change."""
    of_site = table.loc[site]
    peak = of_site.xs("peak", level="quantity")
    below = peak.loc[method, "high"] < peak.loc["nameplate", "value"]
    width = (peak.loc[method, "high"] - peak.loc[method, "low"]) / peak.loc[method, "value"]
    return (
        f"the model's 15-minute peak lies below the nameplate: {'yes' if below else 'no'}\n"
        f"seeds alone leave it uncertain by less than 5%: {'yes' if width < 0.05 else 'no'}"
    )
