"""A site's power for grid tools: interval CSV, Green Button, OpenDSS, pandapower, PyPSA."""

import json
import math
import uuid
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from jinja2 import Environment

from sitetrace.core.files import check_place, named, replacing, require
from sitetrace.planning.series import Intervals, intervals

if TYPE_CHECKING:  # the command names the formats and loads nothing heavy
    import xarray as xr

FOLDERS = ("opendss", "pypsa")
SEVERAL_UNITS = ("pandapower", "pypsa")
TIMES = "local, fixed offset from UTC, beginning of the interval; no daylight saving"
Parts = list[Intervals]  # one, or one a unit
MILLIWATTHOURS = 1_000_000  # in a kWh: energy is written to the milliwatt-hour
MOST_MILLIWH = 2**47 - 1  # of an interval of Green Button


def export(
    site: "xr.Dataset",
    form: str,
    out: Path | str,
    units: Iterable[str] = ("facility",),
    step_s: int = 900,
    power_factor: float = 0.98,
) -> list[str]:
    """Write a site's power for a utility or a grid tool, whole or not at all.

    Parameters
    ----------
    site : xarray.Dataset
        Result of `sitetrace.simulate_site`.
    form : str
        One of ``FORMATS``.
    out : Path or str
        File (csv15, greenbutton, pandapower) or folder (opendss, pypsa).
    units : iterable of str
        Units of the dataset: one, or several for pandapower and pypsa.
    step_s : int
        Seconds of an interval.
    power_factor : float
        Lagging, assumed constant; for the reactive power of opendss and pandapower.

    Returns
    -------
    list of str
        What was written, with its convention of time, and what was left out.
    """
    units, write = list(dict.fromkeys(units)), named("format", form, FORMATS)
    fits = len(units) == 1 or form in SEVERAL_UNITS
    require(fits, f"--unit {units[-1]}", f"{form} holds one unit", "give one --unit a file")
    check_power_factor(power_factor)
    out = check_place(out, folder=form in FOLDERS)
    # a folder would take the place of a site
    require(out.suffix != ".zarr", out, "the ending of a site", "name another place")
    parts = [intervals(site, unit, step_s) for unit in units]
    with replacing(out) as temporary:
        write(temporary, parts, power_factor)
        if form == "csv15":
            about = {"unit": parts[0].unit, "interval_s": step_s, "times": TIMES}
            about |= {"cumulative_kwh": "from the first interval to the end of this one"}
            about |= {"left_out_s": parts[0].left_out_s, "what": "simulated, not metered"}
            told = json.dumps(about | parts[0].provenance, indent=1, default=str)
            with replacing(out.with_name(f"{out.name}.json")) as beside:
                beside.write_text(f"{told}\n", "utf-8")
    total_kwh = sum(int(part.energy_milliwh.sum()) for part in parts) / MILLIWATTHOURS
    begin = parts[0].begin
    told = f"wrote {out}: {', '.join(units)}, {len(begin)} intervals of {step_s} s from "
    told += f"{begin[0].isoformat()}, {total_kwh:.6g} kWh; times name the beginning of an interval"
    return [told, *parts[0].notes]


def check_power_factor(power_factor: float) -> None:
    """Refuse what no load can have."""
    where = f"--power-factor {power_factor:g}"
    require(0 < power_factor <= 1, where, "no such load", "give a number above 0 and up to 1")


def rendered(template: str, **given: object) -> str:
    """Fill a template of this folder; nothing that is given can break its mark-up."""
    text = (files("sitetrace.planning") / template).read_text("utf-8")
    return Environment(autoescape=True, trim_blocks=True).from_string(text).render(given)


def _write_csv15(path: Path, parts: Parts, _: float) -> None:
    (part,) = parts
    begin = pd.Index([begin.isoformat() for begin in part.begin], name="interval_beginning")
    table = pd.DataFrame({"power_mean_kw": part.power_w / 1e3}, begin)
    table["energy_kwh"] = part.energy_milliwh / MILLIWATTHOURS
    table["cumulative_kwh"] = part.energy_milliwh.cumsum() / MILLIWATTHOURS
    table.to_csv(path, float_format="%.6f")


def _write_greenbutton(path: Path, parts: Parts, _: float) -> None:
    """Write the Atom feed of the ESPI standard (NAESB REQ.21): energy in whole milliwatt-hours."""
    (part,) = parts
    energy, starts = part.energy_milliwh, [int(begin.timestamp()) for begin in part.begin]
    small = energy.max() <= MOST_MILLIWH
    require(small, part.unit, "above the range of Green Button", "export a part of it")
    # named by what made it, so that the same site gives the same bytes
    made_by = [part.provenance.get(name) for name in ("scenario", "models", "seed", "step_s")]
    root = uuid.uuid5(uuid.NAMESPACE_URL, repr([*made_by, part.unit, part.begin[0], part.step_s]))
    days: dict = {}
    for begin, *reading in zip(part.begin, starts, energy, strict=True):
        days.setdefault(begin.date(), []).append(reading)
    title, end = str(part.provenance.get("title", "site")), starts[-1] + part.step_s
    plain = "".join(letter if letter.isprintable() else " " for letter in title)
    given = {"part": part, "begin": starts[0], "end": end, "days": days.values()}
    given |= {"title": f"{plain}: {part.unit} (simulated)", "peak_w": round(part.power_w.max())}
    given |= {"name_of": lambda place: f"urn:uuid:{uuid.uuid5(root, place)}"}
    given |= {"updated": pd.Timestamp(end, unit="s").strftime("%Y-%m-%dT%H:%M:%SZ")}
    given |= {"offset_s": int(part.begin[0].utcoffset().total_seconds())}
    given |= {"total_wh": round(int(energy.sum()) / 1e3)}
    given |= {"highest": starts[int(np.argmax(part.power_w))]}
    path.write_text(rendered("greenbutton.xml", **given).lstrip(), "utf-8")


def _write_pandapower(path: Path, parts: Parts, power_factor: float) -> None:
    """Write what pandapower's ``DFData`` takes: one row a time step, columns in MW and Mvar."""
    table = pd.DataFrame()
    for part in parts:
        table[f"{part.unit}_p_mw"] = part.power_w / 1e6
        table[f"{part.unit}_q_mvar"] = part.power_w / 1e6 * math.tan(math.acos(power_factor))
    table.to_csv(path, float_format="%.9f")


def _write_pypsa(path: Path, parts: Parts, _: float) -> None:
    """Write a folder that PyPSA's ``Network.import_from_csv_folder`` reads: loads on one bus."""
    # snapshots have no zone there: they are in UTC, the beginning of each interval
    snapshots = parts[0].begin.tz_convert("UTC").strftime("%Y-%m-%d %H:%M:%S")
    weights = dict.fromkeys(["objective", "stores", "generators"], parts[0].step_s / 3600)
    power_mw = {part.unit: part.power_w / 1e6 for part in parts}
    files = {
        "snapshots": pd.DataFrame({"snapshot": snapshots, **weights}),
        "buses": pd.DataFrame({"name": ["site"]}),
        "loads": pd.DataFrame({"name": list(power_mw), "bus": "site"}),
        "loads-p_set": pd.DataFrame({"snapshot": snapshots, **power_mw}),
    }
    path.mkdir()
    for name, table in files.items():
        # PyPSA takes the first column of snapshots.csv for a mere number of the row
        table.to_csv(path / f"{name}.csv", index=name == "snapshots", float_format="%.9f")


def write_opendss(path: Path, parts: Parts, power_factor: float) -> None:
    """Write a folder with a load shape in kW and the lines of OpenDSS that read it."""
    (part,) = parts
    given = {"count": len(part.begin), "begin": part.begin[0].isoformat(), "part": part}
    given |= {"peak_kw": part.power_w.max() / 1e3, "power_factor": power_factor}
    path.mkdir()
    np.savetxt(path / "site.csv", part.power_w / 1e3, "%.6f")
    (path / "site.dss").write_text(rendered("opendss.dss", **given) + "\n", "utf-8")


FORMATS = {"csv15": _write_csv15, "greenbutton": _write_greenbutton, "opendss": write_opendss}
FORMATS |= {"pandapower": _write_pandapower, "pypsa": _write_pypsa}
