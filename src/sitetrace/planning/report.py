"""One self-contained page on a site: numbers, figures, assumptions in words, provenance."""

import base64
import io
import json
from pathlib import Path

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator, NullFormatter

from sitetrace.core.files import check_place, replacing, require
from sitetrace.core.style import BAND, GENERATED, MARKERS, MEASURED, OTHER, PAPER, PLAIN
from sitetrace.planning import series as planning
from sitetrace.planning.exports import check_power_factor, rendered
from sitetrace.planning.series import Intervals, intervals

STEPS = {1: "1 s", 60: "1 min", 300: "5 min", 900: "15 min"}
COLOURS = (MEASURED, GENERATED, PAPER, OTHER)
POINTS = 600
LOOK = PLAIN | {"font.size": 11, "svg.hashsalt": "sitetrace"}


def write_report(site: xr.Dataset, out: Path | str, power_factor: float = 0.9) -> None:
    """Write one self-contained HTML page on a site; the same site gives the same bytes.

    Parameters
    ----------
    site : xarray.Dataset
        Result of `sitetrace.simulate_site`, with the unit ``facility``, of two intervals at least.
    out : Path or str
        The page.
    power_factor : float
        For the transformer's rating: the greatest interval mean over this.
    """
    check_power_factor(power_factor)
    out = check_place(out)
    page = compose(site, power_factor)
    with replacing(out) as temporary:
        temporary.write_text(page, encoding="utf-8")


def compose(site: xr.Dataset, power_factor: float) -> str:
    """Compose the page; its words stand in ``report.html``."""
    bins, dt_s = site.sizes["time"], planning.step_of(site)
    fits = [step for step in STEPS if (step / dt_s).is_integer() and step * 2 <= bins * dt_s]
    what = f"has no two whole steps of {', '.join(map(str, STEPS))} s"
    where = f"the dataset ({bins} steps of {dt_s:g} s)"
    require(fits, where, what, "simulate longer, or keep such a step")
    series = {STEPS[step]: intervals(site, "facility", step) for step in fits}
    finest, widest = (series[STEPS[step]] for step in (min(fits), max(fits)))
    level, parts_w, peaks_w = _parts(site, widest.step_s, dt_s)
    scenario, models = (_json(site.attrs.get(name)) for name in ("scenario", "models"))
    given = {"attributes": site.attrs, "models": models, "scenario": scenario, "level": level}
    given |= {"table": as_table(scenario), "power_factor": power_factor, "planning": planning}
    given |= {"finest": finest, "widest": widest, "steps": STEPS, "hours": bins * dt_s / 3600}
    if level:
        total_w = float(site["power_w"].sel(unit="site").max())
        given["coincidence"] = planning.coincidence_factor(total_w, peaks_w)
    if "nameplate_w" in site.coords:
        given["plate_w"] = float(site["nameplate_w"].sel(unit="facility"))
    # hours after the first day's midnight at the beginning of each interval, and at the end
    before_h = (widest.begin[0] - widest.begin[0].normalize()).total_seconds() / 3600
    clock_h = before_h + np.arange(len(widest.begin) + 1) * widest.step_s / 3600
    changes_w = {name: np.diff(part.power_w) for name, part in series.items()}
    with mpl.rc_context(LOOK):
        given["profile"] = _profile(clock_h, finest, widest)
        given["durations"] = _durations(finest, widest)
        given["ramp_sizes"] = _ramp_sizes(changes_w)
        given["heat_map"] = _heat_map(clock_h, parts_w) if level else ""
    return rendered("report.html", **given, changes_w=changes_w, peaks_w=peaks_w, dt_s=dt_s)


def _parts(site: xr.Dataset, step_s: int, dt_s: float) -> tuple[str, np.ndarray, np.ndarray]:
    """Racks (or rows): name of the level, means over steps, peaks; no name where none is kept."""
    levels = [str(level) for level in site["level"].values] if "level" in site.coords else []
    level = next((name for name in ("rack", "row") if levels.count(name) > 1), "")
    if not level or "site" not in site["unit"].values:
        return "", np.zeros(0), np.zeros(0)
    each, peaks, means = round(step_s / dt_s), [], []
    for power_w in planning.blocks(site, level, step_s):  # memory does not grow with the time
        peaks.append(power_w.max(axis=0))
        if len(power_w) >= each:
            means.append(planning.resample(power_w[: len(power_w) // each * each], dt_s, step_s))
    return level, np.concatenate(means), np.max(peaks, axis=0)


def as_table(value: object, name: str = "") -> list[tuple[str, str]]:
    """Flatten a scenario to one row a value."""
    if isinstance(value, dict):
        inner = [(f"{name}.{key}".strip("."), each) for key, each in value.items()]
    elif isinstance(value, list) and any(isinstance(each, dict) for each in value):
        inner = [(f"{name} {number}", each) for number, each in enumerate(value, start=1)]
    else:
        text = value if isinstance(value, str) else json.dumps(value)
        return [] if value is None else [(name, text)]
    return [row for key, each in inner for row in as_table(each, key)]


def _json(text: object) -> dict:
    try:
        held = json.loads(text) if isinstance(text, str) else {}
    except ValueError:
        return {}
    return held if isinstance(held, dict) else {}


def _profile(clock_h: np.ndarray, finest: Intervals, widest: Intervals) -> str:
    figure, axes = _figure(3.4, "hours after midnight, local time", "power [kW]")
    each = widest.step_s // finest.step_s
    inside = finest.power_w[: len(widest.power_w) * each].reshape(-1, each)
    band_kw = [np.append(watts, watts[-1]) / 1e3 for watts in (inside.min(1), inside.max(1))]
    axes.fill_between(clock_h, *band_kw, step="post", color=BAND, label="samples")
    look = {"baseline": None, "color": GENERATED, "label": "interval means"}
    axes.stairs(widest.power_w / 1e3, clock_h, **look)
    _mark_hours(axes, clock_h)
    axes.set_ylim(bottom=0)
    axes.legend(loc="lower right", ncols=2)
    return _uri(figure)


def _durations(*parts: Intervals) -> str:
    figure, axes = _figure(3.2, "share of the time [%]", "power reached or exceeded [kW]")
    series = {STEPS[part.step_s]: part.power_w for part in parts}  # once where they are the same
    for (name, power_w), colour in zip(series.items(), COLOURS, strict=False):
        share, sorted_w = planning.load_duration(power_w)
        chosen = np.unique(np.linspace(0, len(share) - 1, POINTS).astype(int))
        axes.plot(100 * share[chosen], sorted_w[chosen] / 1e3, color=colour, label=name)
    axes.legend()
    return _uri(figure)


def _ramp_sizes(ramps_w: dict[str, np.ndarray]) -> str:
    what = "change from one mean to the next, up or down [kW]"
    figure, axes = _figure(3.2, what, "exceeded in [%] of steps")
    for (name, ramps), colour, marker in zip(ramps_w.items(), COLOURS, MARKERS, strict=False):
        share, size_w = planning.load_duration(np.abs(ramps))
        chosen = np.unique(np.geomspace(1, len(share), 60).astype(int)) - 1
        kw = size_w[chosen] / 1e3
        axes.loglog(kw, 100 * share[chosen], color=colour, label=name)
        axes.loglog(kw[::8], 100 * share[chosen][::8], marker, color=colour, markersize=4)
    greatest_kw = max(1.0, *(np.abs(ramps).max() for ramps in ramps_w.values())) / 1e3
    axes.set_xlim(greatest_kw / 100, greatest_kw * 1.3)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter(NullFormatter())
    axes.legend(title="means over")
    return _uri(figure)


def _heat_map(clock_h: np.ndarray, rack_w: np.ndarray) -> str:
    with mpl.rc_context({"axes.grid": False}):
        rows = "rack, counted through the rows"
        figure, axes = _figure(3.6, "hours after midnight, local time", rows)
        ends = (clock_h[0], clock_h[-1], rack_w.shape[1] - 0.5, -0.5)
        look = {"aspect": "auto", "cmap": "cividis", "interpolation": "nearest", "extent": ends}
        image = axes.imshow(rack_w.T / 1e3, **look)
        _mark_hours(axes, clock_h)
        figure.colorbar(image, ax=axes, label="IT power [kW]")
    return _uri(figure)


def _figure(height: float, x: str, y: str) -> tuple:
    figure = Figure(figsize=(5.6, height), layout="constrained")
    return figure, figure.subplots(subplot_kw={"xlabel": x, "ylabel": y})


def _mark_hours(axes: mpl.axes.Axes, clock_h: np.ndarray) -> None:
    axes.set_xlim(clock_h[0], clock_h[-1])
    if 8 <= clock_h[-1] - clock_h[0] <= 30:
        axes.xaxis.set_major_locator(MultipleLocator(4))


def _uri(figure: Figure) -> str:
    """Write a figure as SVG without its date, as a data URI."""
    held = io.BytesIO()
    figure.savefig(held, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(held.getvalue()).decode()
