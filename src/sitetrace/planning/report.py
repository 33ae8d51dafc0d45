"""One self-contained page on a site: numbers, figures, assumptions in words, provenance."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from sitetrace.core.files import InputError, replacing
from sitetrace.planning import series as planning
from sitetrace.planning.exports import free_place
from sitetrace.planning.series import Intervals, intervals

if TYPE_CHECKING:
    import xarray as xr

SOURCES = {
    "measured": "Power comes from models fitted on measured runs of single servers. The site as a "
    "whole was simulated, never measured.",
    "testbed": "Power comes from models fitted on the testbed, a server that is itself simulated. "
    "The numbers show the method and claim nothing about hardware.",
    "paper": "Power comes from models made of the numbers published with arXiv:2603.18383. The "
    "site was simulated, never measured.",
}
STEPS = {1: "1 s", 60: "1 min", 300: "5 min", 900: "15 min"}


class Parts(NamedTuple):
    """What the report keeps of the racks (or rows) of a site."""

    level: str
    mean_w: np.ndarray  # of each interval, shape (intervals, parts)
    peak_w: np.ndarray  # greatest sample of each part


def write_report(site: xr.Dataset, out: Path | str, power_factor: float = 0.9) -> None:
    """Write one self-contained HTML page on a site; the same site gives the same bytes.

    Parameters
    ----------
    site : xarray.Dataset
        Result of `sitetrace.simulate_site`, with the unit ``facility``.
    out : Path or str
        The page.
    power_factor : float
        For the transformer's rating: the greatest interval mean over this.

    Raises
    ------
    InputError
        If the dataset is shorter than two intervals, or the place cannot be written.
    """
    if not 0 < power_factor <= 1:
        raise InputError(f"--power-factor {power_factor:g}: give a number above 0 and up to 1")
    out = free_place(out, folder=False)
    page = compose(site, power_factor)
    with replacing(out) as temporary:
        temporary.write_text(page, encoding="utf-8")


def compose(site: xr.Dataset, power_factor: float) -> str:
    """Compose the page."""
    from importlib.resources import files

    from jinja2 import Environment, StrictUndefined

    series, dt_s = by_step(site)
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    text = (files("sitetrace.planning") / "report.html").read_text("utf-8")
    scenario, data = _json(site.attrs.get("scenario")), str(site.attrs.get("data", "unstated"))
    parts = _parts(site, max(series), dt_s)
    begin = series[min(series)].begin[0].isoformat()
    unstated = f"What the models were fitted on is not stated ({data})."
    return environment.from_string(text).render(
        title=str(site.attrs.get("title", "Site")),
        data=data,
        source=SOURCES.get(data, unstated),
        span=f"from {begin} on for {site.sizes['time'] * dt_s / 3600:g} hours, kept in steps of "
        f"{dt_s:g} s (fixed offset from UTC)",
        words=in_words(scenario),
        table=as_table(scenario),
        numbers=headline(site, series, parts, power_factor),
        ramps=_ramp_rows(series),
        figures=_figures(series, parts),
        provenance=_provenance(site),
    )


def by_step(site: xr.Dataset) -> tuple[dict[int, Intervals], float]:
    """Average the facility's power over each step of `STEPS` that fits twice; and its own step."""
    bins = site.sizes["time"]
    if bins < 2:
        raise InputError("time: fewer than two values: simulate a longer time")
    dt_s = planning.step_of(site)
    fits = [step for step in STEPS if (step / dt_s).is_integer() and step * 2 <= bins * dt_s]
    if not fits:
        known = ", ".join(f"{step:g}" for step in STEPS)
        raise InputError(
            f"the dataset ({bins} steps of {dt_s:g} s) has no two whole steps of {known} s: "
            "simulate a longer time, or keep a step that divides one of them"
        )
    return {step: intervals(site, "facility", step) for step in fits}, dt_s


def headline(
    site: xr.Dataset, series: dict[int, Intervals], parts: Parts | None, power_factor: float
) -> list[tuple[str, str, str]]:
    """Compute the numbers of sizing and interconnection: name, value with unit, remark."""
    finest, widest = min(series), max(series)
    fine_w, wide_w = series[finest].power_w, series[widest].power_w
    peak_w = planning.peak_w(wide_w)
    over = f"means over {STEPS[widest]}"
    rows = [
        ("Peak", _kw(peak_w), over),
        ("Peak", _kw(planning.peak_w(fine_w)), f"means over {STEPS[finest]}"),
        ("Mean", _kw(planning.mean_w(fine_w)), "facility, cooling included"),
        ("Peak-to-average ratio", f"{planning.par(wide_w):.3f}", over),
        ("Load factor", f"{planning.load_factor(wide_w):.3f}", over),
    ]
    if "nameplate_w" in site.coords:
        plate_w = float(site["nameplate_w"].sel(unit="facility"))
        share = f"the peak of {over} is {100 * peak_w / plate_w:.0f}% of it"
        rows.append(("Nameplate", _kw(plate_w), share))
    if parts is not None:
        total_w = float(site["power_w"].sel(unit="site").max())
        factor = planning.coincidence_factor(total_w, parts.peak_w)
        what = f"IT peak over the sum of the {len(parts.peak_w)} {parts.level}s' own peaks"
        rows.append(("Coincidence factor", f"{factor:.3f}", what))
        rows.append(("Diversity factor", f"{1.0 / factor:.3f}", "its reciprocal"))
    rated_va = planning.transformer_va(peak_w, power_factor)
    rows.append(("Transformer", f"{rated_va / 1e3:,.1f} kVA", f"peak over {power_factor:g}"))
    yearly_wh = planning.energy_per_year_wh(fine_w)
    rows.append(("Energy a year", f"{yearly_wh / 1e6:,.1f} MWh", "if all days are as this time"))
    return rows


def _kw(watts: float) -> str:
    return f"{watts / 1e3:,.1f} kW"


def _ramp_rows(series: dict[int, Intervals]) -> list[tuple[str, ...]]:
    """Greatest and usual changes of power by step."""
    rows = []
    for step, part in series.items():
        found = planning.ramp_summary(np.diff(part.power_w))
        greatest = (f"{found[name] / 1e3:+,.2f}" for name in ("up", "down"))
        usual = (f"{found[name] / 1e3:,.2f}" for name in ("abs_p95", "abs_p99"))
        rows.append((STEPS[step], *greatest, *usual))
    return rows


def _parts(site: xr.Dataset, step_s: int, dt_s: float) -> Parts | None:
    """Read racks (or rows) piece by piece, so that memory does not grow with the time."""
    levels = [str(level) for level in site["level"].values] if "level" in site.coords else []
    level = next((name for name in ("rack", "row") if levels.count(name) > 1), None)
    if level is None or "site" not in site["unit"].values:
        return None
    each = round(step_s / dt_s)
    whole = site.isel(time=slice(site.sizes["time"] // each * each))
    peaks, means = [], []
    for power_w in planning.blocks(whole, level, step_s):
        peaks.append(power_w.max(axis=0))
        means.append(planning.resample(power_w, dt_s, step_s))
    return Parts(level, np.concatenate(means), np.max(peaks, axis=0))


def _figures(series: dict[int, Intervals], parts: Parts | None) -> list[dict[str, str]]:
    """Draw the figures, with what they show in words for those who do not see them."""
    from sitetrace.planning import figures as draw

    finest, widest = series[min(series)], series[max(series)]
    fine, wide = STEPS[finest.step_s], STEPS[widest.step_s]
    each = widest.step_s // finest.step_s
    inside = finest.power_w[: len(widest.power_w) * each].reshape(-1, each)
    # hours after the first day's midnight at the beginning of each interval, and at the end
    first = widest.begin[0]
    before_h = (first - first.normalize()).total_seconds() / 3600
    clock_h = before_h + np.arange(len(widest.begin) + 1) * widest.step_s / 3600
    named = {STEPS[step]: part.power_w for step, part in series.items()}
    uris = [
        draw.profile(clock_h, widest.power_w, inside.min(axis=1), inside.max(axis=1)),
        draw.durations({name: named[name] for name in (fine, wide)}),
        draw.ramp_sizes({name: np.diff(power_w) for name, power_w in named.items()}),
    ]
    captions = [
        f"Power of the facility: means over {wide} (line) and the least and greatest mean over "
        f"{fine} within each (band).",
        "Load duration: the power that is reached or exceeded during a share of the time.",
        "Ramps: how often the facility's power changes by more than so much from one mean to the "
        "next.",
    ]
    if parts is not None:
        uris.append(draw.heat_map(clock_h, parts.mean_w))
        captions.append(f"IT power of each {parts.level}, means over {wide}.")
    return [{"uri": uri, "caption": caption} for uri, caption in zip(uris, captions, strict=True)]


def in_words(scenario: dict) -> list[str]:
    """Tell the assumptions that rule the numbers, one sentence each."""
    lines = []
    shape = scenario.get("topology") or {}
    counts = [shape.get(name) for name in ("rows", "racks_per_row", "servers_per_rack")]
    if all(isinstance(count, int) for count in counts):
        where = "rows {}, racks a row {}, servers a rack {}.".format(*counts)
        lines.append(f"{math.prod(counts)} servers: {where}")
    pools = scenario.get("fleet") or []
    for pool in pools:
        where = "all servers" if len(pools) == 1 else "the rest of the servers"
        if pool.get("rows") is not None:
            where = "rows " + ", ".join(map(str, pool["rows"]))
        elif pool.get("servers") is not None:
            where = f"{pool['servers']} servers"
        lines.append(f"Pool {pool.get('name')}: model {pool.get('model')} on {where}.")
        if pool.get("traffic"):
            lines.append(f"Pool {pool.get('name')}, traffic: {_traffic(pool['traffic'])}.")
    if scenario.get("traffic"):
        lines.append(f"Traffic: {_traffic(scenario['traffic'])}.")
    lines.append(_non_gpu(scenario.get("non_gpu")))
    lines.append(_pue(scenario.get("pue")))
    return lines


def _traffic(traffic: dict) -> str:
    told = [str(traffic.get("pattern", "of unstated pattern"))]
    if traffic.get("rate_per_server") is not None:
        told.append(f"{traffic['rate_per_server']:g} requests a second a server on average")
    if traffic.get("file"):
        told.append(f"from {traffic['file']}")
    told.append(f"requests reach servers by rule {traffic.get('routing') or 'random'!r}")
    return ", ".join(told)


def _non_gpu(non_gpu: dict | None) -> str:
    given = {name: value for name, value in (non_gpu or {}).items() if value is not None}
    if "constant_w" in given:
        return f"Each server draws {given['constant_w']:g} W beside its GPUs, constant."
    if "base_w" in given:
        more = f"{given.get('per_gpu_w', 0):g} W for each watt of its GPUs"
        return f"Beside its GPUs each server draws {given['base_w']:g} W and {more}."
    return (
        "Power of a server beside its GPUs: the fit to wall-plug recordings of other servers, "
        "scaled by the number of GPUs."
    )


def _pue(pue: object) -> str:
    if isinstance(pue, int | float):
        return f"The facility draws {pue:g} times the IT power (PUE), constant."
    if isinstance(pue, dict):
        given = {name: value for name, value in pue.items() if value is not None}
        if "file" in given:
            return f"The facility draws a PUE times the IT power that is read from {given['file']}."
        if "full" in given:
            words = f"PUE {given['full']:g} at full load and {given.get('idle', 0):g} at idle"
            if "temperature" in given:
                words += ", more when it is hot outside"
            return f"The facility's overhead follows the load: {words}."
    return "The PUE is not stated."


def as_table(scenario: dict) -> list[tuple[str, str]]:
    """Flatten a scenario to one row a value."""
    rows = []

    def walk(name: str, value: object) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                walk(f"{name}.{key}" if name else str(key), inner)
        elif isinstance(value, list) and any(isinstance(inner, dict) for inner in value):
            for number, inner in enumerate(value, start=1):
                walk(f"{name} {number}", inner)
        elif value is not None:
            text = value if isinstance(value, str) else json.dumps(value)
            rows.append((name, text))

    walk("", scenario)
    return rows


def _provenance(site: xr.Dataset) -> list[tuple[str, str]]:
    """List the attributes that say what made the data, models one row each."""
    shown = {"title", "scenario", "models"}
    rows = [(str(name), str(site.attrs[name])) for name in sorted(set(site.attrs) - shown)]
    for pool, model in _json(site.attrs.get("models")).items():
        if isinstance(model, dict):
            model = ", ".join(f"{name} {value}" for name, value in model.items())
        rows.append((f"model of pool {pool}", str(model)))
    return rows


def _json(text: object) -> dict:
    """Read an attribute that holds a mapping; an empty one where it does not."""
    try:
        held = json.loads(text) if isinstance(text, str) else {}
    except ValueError:
        return {}
    return held if isinstance(held, dict) else {}
