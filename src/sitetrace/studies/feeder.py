"""What a site does to a small feeder: voltage and loading over the day, solved by OpenDSS.

Assumed: a source held at a fixed voltage, one overhead line, a constant load of others and the
site's transformer at its end; the site draws constant power at a constant power factor. The feeder
is what a utility would plan for the site's nameplate.
"""

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from sitetrace.core.files import InputError
from sitetrace.planning.exports import write_opendss
from sitetrace.planning.series import Intervals

# usual sizes of three-phase transformers (IEEE C57.12), kVA
STANDARD_KVA = (15, 30, 45, 75, 112.5, 150, 225, 300, 500, 750, 1000, 1500, 2000, 2500, 3000, 3750,
                5000, 7500)  # fmt: skip
USUAL_KVA = 2000.0  # that the defaults of a feeder are for
LOWEST_PU = 0.95  # of the voltage at the service, per unit: range A of ANSI C84.1
COLLAPSE_PU, MOST_SITES = 0.7, 256


@dataclass(frozen=True)
class Feeder:
    """A source, an overhead line, another load at its end, and the site's transformer there."""

    transformer_kva: float
    other_kw: float
    source_kv: float = 12.47  # line to line, held at so much of it
    source_pu: float = 1.03
    short_circuit_mva: float = 150.0  # three-phase, X/R of 4
    line_km: float = 4.0
    r_ohm_km: float = 0.19  # positive sequence
    x_ohm_km: float = 0.38
    ampacity_a: float = 530.0
    low_kv: float = 0.48  # line to line, at the site
    loss_pct: float = 1.0  # load loss and reactance of the transformer, percent of its rating
    x_pct: float = 5.75
    power_factor: float = 0.98  # lagging
    other_power_factor: float = 0.95

    def commands(self) -> list[str]:
        """Write the feeder as commands of OpenDSS, without the site's load."""
        r_ohm_km, x_ohm_km = self.r_ohm_km, self.x_ohm_km
        line = f"r1={r_ohm_km} x1={x_ohm_km} r0={3 * r_ohm_km} x0={3 * x_ohm_km}"
        size = f"kvas=({self.transformer_kva} {self.transformer_kva})"
        return [
            "clear",
            f"new circuit.feeder bus1=source basekv={self.source_kv} pu={self.source_pu} "
            f"mvasc3={self.short_circuit_mva} mvasc1={self.short_circuit_mva} x1r1=4 x0r0=4",
            f"new linecode.overhead nphases=3 {line} c1=0 c0=0 units=km normamps={self.ampacity_a}",
            f"new line.line bus1=source bus2=end linecode=overhead length={self.line_km} units=km",
            f"new load.others bus1=end phases=3 kv={self.source_kv} kw={self.other_kw} "
            f"pf={self.other_power_factor} model=1 vminpu={COLLAPSE_PU} vmaxpu=1.3",
            f"new transformer.site phases=3 windings=2 buses=(end site) conns=(delta wye) "
            f"kvs=({self.source_kv} {self.low_kv}) {size} xhl={self.x_pct} "
            f"%loadloss={self.loss_pct}",
            f"set voltagebases=({self.source_kv} {self.low_kv})",
            "calcvoltagebases",
        ]


def standard_kva(needed_kva: float) -> float:
    """Choose the smallest usual transformer that carries a load."""
    for size in STANDARD_KVA:
        if needed_kva <= size:
            return float(size)
    raise InputError(f"{needed_kva:.0f} kVA: above {STANDARD_KVA[-1]}: take a smaller site")


def feeder_for(nameplate_w: float) -> Feeder:
    """Make the feeder that a utility would plan for a nameplate: as much again for others."""
    # the source is so much stronger or weaker, the line so much thicker: in per unit it stays as is
    size = standard_kva(nameplate_w / 1e3 / Feeder.power_factor)
    scale = size / USUAL_KVA
    return Feeder(
        size,
        other_kw=size,
        short_circuit_mva=Feeder.short_circuit_mva * scale,
        r_ohm_km=Feeder.r_ohm_km / scale,
        x_ohm_km=Feeder.x_ohm_km / scale,
        ampacity_a=Feeder.ampacity_a * scale,
    )


def constant(part: Intervals, power_w: float) -> Intervals:
    """Replace a trace by one number at all times."""
    return replace(part, power_w=np.full(len(part.power_w), float(power_w)))


def solve(part: Intervals, feeder: Feeder) -> pd.DataFrame:
    """Solve the power flow of each interval in OpenDSS's daily mode; rows by its beginning."""
    # OpenDSS counts a step before it solves and takes the shape's value for the hour it then has:
    # value i stands at the end of its interval. Results are given with the beginning, as ours are.
    from opendssdirect import dss as library

    dss = library.NewContext()
    dss.Basic.AllowChangeDir(False)
    with tempfile.TemporaryDirectory() as name:
        shape = Path(name) / "shape"
        write_opendss(shape, [part], feeder.power_factor)
        (defined,) = (line for line in (shape / "site.dss").read_text("utf-8").splitlines()
                      if line.startswith("New LoadShape"))  # fmt: skip
        commands = [
            *feeder.commands(),
            defined.replace("site.csv", f'"{shape / "site.csv"}"'),
            f"new load.site bus1=site phases=3 kv={feeder.low_kv} kw={part.power_w.max() / 1e3} "
            f"pf={feeder.power_factor} model=1 vminpu={COLLAPSE_PU} vmaxpu=1.3 daily=site",
            f"set mode=daily stepsize={part.step_s}s number=1 tolerance=1e-8 maxiterations=100",
        ]
        for command in commands:
            dss.Text.Command(command)
    rows = [_step(dss, begin) for begin in part.begin]
    return pd.DataFrame(rows, index=part.begin)


def _step(dss, begin: pd.Timestamp) -> dict[str, float]:  # noqa: ANN001
    """Solve the next interval and read what a utility would, voltages of the lowest phase."""
    dss.Solution.Solve()
    found = {"site_kw": _flow(dss, "load.site")[0]}
    for bus, column in (("site", "voltage_pu"), ("end", "end_pu")):
        dss.Circuit.SetActiveBus(bus)
        found[column] = float(np.min(dss.Bus.puVmagAngle()[::2]))
    found["transformer_kva"] = float(np.hypot(*_flow(dss, "transformer.site")))
    # below COLLAPSE_PU OpenDSS lets a constant power fall, so that it finds some solution
    if not dss.Solution.Converged() or found["voltage_pu"] < COLLAPSE_PU:
        raise InputError(f"{begin}: the power flow has no solution: take a larger feeder")
    dss.Circuit.SetActiveElement("line.line")
    found["line_a"] = float(np.max(dss.CktElement.CurrentsMagAng()[:6:2]))
    found["losses_kw"] = dss.Circuit.Losses()[0] / 1e3
    return found


def _flow(dss, element: str) -> tuple[float, float]:  # noqa: ANN001
    """Active and reactive power into an element at its first end, kW and kvar."""
    dss.Circuit.SetActiveElement(element)
    phases = dss.CktElement.NumConductors() * 2
    flows = dss.CktElement.Powers()[:phases]
    return float(np.sum(flows[::2])), float(np.sum(flows[1::2]))


def summary(
    solved: dict[str, pd.DataFrame], feeder: Feeder, hours: dict[str, float]
) -> pd.DataFrame:
    """Put side by side what a utility would conclude from each description of the site."""
    rows = [
        {
            "described_by": name,
            "peak_kw": table["site_kw"].max(),
            "energy_mwh": table["site_kw"].sum() * hours[name] / 1e3,
            "lowest_pu": table["voltage_pu"].min(),
            "swing_pu": table["voltage_pu"].max() - table["voltage_pu"].min(),
            "transformer_pct": 100 * table["transformer_kva"].max() / feeder.transformer_kva,
            "line_pct": 100 * table["line_a"].max() / feeder.ampacity_a,
            "losses_kwh": table["losses_kw"].sum() * hours[name],
            "size_kva": standard_kva(table["transformer_kva"].max()),
        }
        for name, table in solved.items()
    ]
    return pd.DataFrame(rows)


def sites_taken(part: Intervals, feeder: Feeder) -> tuple[int, str]:
    """Count how many such sites a feeder takes at their greatest interval, and the limit met."""
    # each has a transformer of its own, and all have their greatest interval at the same time
    low, high, limit = 0, MOST_SITES + 1, "none"
    while high - low > 1:
        middle = (low + high) // 2
        hit = _limit(part, feeder, middle)
        low, high = (middle, high) if hit is None else (low, middle)
        limit = hit or limit
    return low, limit


def _limit(part: Intervals, feeder: Feeder, sites: int) -> str | None:
    """Name the limit that a number of sites meets."""
    larger = replace(feeder, transformer_kva=sites * feeder.transformer_kva)
    once = replace(part, begin=part.begin[:1], power_w=sites * part.power_w.max(keepdims=True))
    try:
        solved = solve(once, larger).iloc[0]
    except InputError:
        return "voltage"
    if solved["line_a"] > feeder.ampacity_a:
        return "line"
    return "voltage" if solved["voltage_pu"] < LOWEST_PU else None
