"""Green Button: interval energy as the Atom feed of the ESPI standard (NAESB REQ.21)."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import numpy as np

from sitetrace.core.files import InputError, replacing

if TYPE_CHECKING:
    import pandas as pd

    from sitetrace.planning.series import Intervals


ATOM, ESPI = "http://www.w3.org/2005/Atom", "http://naesb.org/espi"
# codes of the standard
ELECTRICITY_SERVICE = 0
DELTA_DATA, ELECTRICITY, NORMAL, PROJECTED, FORWARD, ENERGY, PHASES_ABC = 4, 1, 12, 12, 1, 12, 224
MILLI, WATT, WATT_HOUR = -3, 38, 72
NO_DAYLIGHT_SAVING = "FFFFFFFF"
INT48 = 2**47 - 1


def write_greenbutton(path: Path | str, part: Intervals) -> None:
    """Write interval energy as Green Button XML."""
    ElementTree.register_namespace("", ATOM)
    ElementTree.register_namespace("espi", ESPI)
    energy = part.energy_milliwh
    if energy.max() > INT48:
        raise InputError(f"{path}: {part.unit} is above the range of Green Button: export a part")
    tree = ElementTree.ElementTree(_feed(part, energy))
    ElementTree.indent(tree)
    with replacing(path) as temporary:
        tree.write(temporary, encoding="utf-8", xml_declaration=True)


def _feed(part: Intervals, energy: np.ndarray) -> ElementTree.Element:
    """One usage point with its time parameters, readings by the day and their summary."""
    given = part.provenance
    made_by = [given.get(name) for name in ("scenario", "models", "seed", "step_s")]
    root = uuid.uuid5(uuid.NAMESPACE_URL, repr([*made_by, part.unit, part.begin[0], part.step_s]))
    end = part.begin[-1].timestamp() + part.step_s
    updated = _utc(end)
    feed = ElementTree.Element(f"{{{ATOM}}}feed")
    named = "".join(c if c.isprintable() else " " for c in str(given.get("title", "site")))
    _head(feed, root, "feed", f"{named}: {part.unit} (simulated)", updated)
    clock, point = "LocalTimeParameters/1", "UsagePoint/1"
    reading = f"{point}/MeterReading/1"
    entries = [
        (clock, "Local time", _local_time(part), ()),
        (point, part.unit, _usage_point(), (reading, f"{point}/UsageSummary/1", clock)),
        (reading, "Energy", ("MeterReading", None), (f"{reading}/IntervalBlock", "ReadingType/1")),
        ("ReadingType/1", "Energy by interval", _reading_type(part.step_s), ()),
    ]
    days = np.array([begin.toordinal() for begin in part.begin])
    for number, day in enumerate(np.unique(days), start=1):
        here = days == day
        block = _block(part.begin[here], energy[here], part.step_s)
        entries.append((f"{reading}/IntervalBlock/{number}", "Readings", block, ()))
    summary = _summary(part, int(energy.sum()), int(end))
    entries.append((f"{point}/UsageSummary/1", "Summary", summary, ()))
    for place, title, (name, content), related in entries:
        feed.append(_entry(root, place, title, name, content, related, updated))
    return feed


def _utc(seconds: float) -> str:
    import pandas as pd

    return pd.Timestamp(seconds, unit="s").strftime("%Y-%m-%dT%H:%M:%SZ")


def _head(node: ElementTree.Element, root: uuid.UUID, place: str, title: str, when: str) -> None:
    """Write what Atom asks of a feed: identity, title, date."""
    for tag, text in (
        ("id", f"urn:uuid:{uuid.uuid5(root, place)}"),
        ("title", title),
        ("updated", when),
    ):
        ElementTree.SubElement(node, f"{{{ATOM}}}{tag}").text = text


def _entry(root, place, title, name, content, related, when) -> ElementTree.Element:  # noqa: ANN001
    """Wrap a resource in an Atom entry with its links."""
    entry = ElementTree.Element(f"{{{ATOM}}}entry")
    _head(entry, root, place, title, when)
    links = [("self", place), ("up", place.rpartition("/")[0])]
    for rel, href in [*links, *(("related", href) for href in related)]:
        ElementTree.SubElement(entry, f"{{{ATOM}}}link", rel=rel, href=href)
    holder = ElementTree.SubElement(entry, f"{{{ATOM}}}content", type="application/xml")
    _nested(holder, name, content)
    return entry


def _nested(parent: ElementTree.Element, name: str, content: object) -> None:
    """Write nested (name, content) pairs in their order, which the schema prescribes."""
    node = ElementTree.SubElement(parent, f"{{{ESPI}}}{name}")
    if isinstance(content, list):
        for child, inner in content:
            _nested(node, child, inner)
    elif content is not None:
        node.text = str(content)


def _local_time(part: Intervals) -> tuple[str, list]:
    offset_s = int(part.begin[0].utcoffset().total_seconds())
    return "LocalTimeParameters", [
        ("dstEndRule", NO_DAYLIGHT_SAVING),
        ("dstOffset", 0),
        ("dstStartRule", NO_DAYLIGHT_SAVING),
        ("tzOffset", offset_s),
    ]


def _usage_point() -> tuple[str, list]:
    return "UsagePoint", [("ServiceCategory", [("kind", ELECTRICITY_SERVICE)]), ("status", 1)]


def _reading_type(step_s: int) -> tuple[str, list]:
    return "ReadingType", [
        ("accumulationBehaviour", DELTA_DATA),
        ("commodity", ELECTRICITY),
        ("dataQualifier", NORMAL),
        ("defaultQuality", PROJECTED),
        ("flowDirection", FORWARD),
        ("intervalLength", step_s),
        ("kind", ENERGY),
        ("phase", PHASES_ABC),
        ("powerOfTenMultiplier", MILLI),
        ("uom", WATT_HOUR),
    ]


def _period(start: int, duration: int) -> list:
    return [("duration", duration), ("start", start)]


def _block(begin: pd.DatetimeIndex, energy: np.ndarray, step_s: int) -> tuple[str, list]:
    """List the readings of one local day."""
    starts = [int(each.timestamp()) for each in begin]
    readings = [
        ("IntervalReading", [("timePeriod", _period(start, step_s)), ("value", int(value))])
        for start, value in zip(starts, energy, strict=True)
    ]
    whole = _period(starts[0], step_s * len(starts))
    return "IntervalBlock", [("interval", whole), *readings]


def _summary(part: Intervals, total: int, end: int) -> tuple[str, list]:
    """Energy and greatest interval mean of the whole time."""
    start, highest = int(part.begin[0].timestamp()), int(np.argmax(part.power_w))
    energy = [("powerOfTenMultiplier", 0), ("uom", WATT_HOUR), ("value", round(total / 1e3))]
    peak = [
        ("powerOfTenMultiplier", 0),
        ("timeStamp", int(part.begin[highest].timestamp())),
        ("uom", WATT),
        ("value", round(part.power_w[highest])),
    ]
    return "UsageSummary", [
        ("billingPeriod", _period(start, end - start)),
        ("overallConsumptionLastPeriod", energy),
        ("peakDemand", peak),
        ("statusTimeStamp", end),
        ("commodity", ELECTRICITY),
    ]
