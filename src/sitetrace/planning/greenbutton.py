"""Green Button: interval energy as the Atom feed of the ESPI standard (NAESB REQ.21).

Energy stands in whole milliwatt-hours, rounded so that sums do not drift. Entries are dated with
the end of the data and named by what made them, so that the same site gives the same bytes.
"""

from __future__ import annotations

import uuid
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd

from sitetrace.core.files import InputError, replacing
from sitetrace.planning.series import Intervals

ATOM, ESPI = "http://www.w3.org/2005/Atom", "http://naesb.org/espi"
# codes of the standard
ELECTRICITY, WATT, WATT_HOUR, NO_DAYLIGHT_SAVING = 1, 38, 72, "FFFFFFFF"
INT48 = 2**47 - 1


def write_greenbutton(path: Path, part: Intervals) -> None:
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
    updated = pd.Timestamp(end, unit="s").strftime("%Y-%m-%dT%H:%M:%SZ")
    feed = ElementTree.Element(f"{{{ATOM}}}feed")
    named = "".join(c if c.isprintable() else " " for c in str(given.get("title", "site")))
    _head(feed, root, "feed", f"{named}: {part.unit} (simulated)", updated)
    clock, point = "LocalTimeParameters/1", "UsagePoint/1"
    reading = f"{point}/MeterReading/1"
    local_time = [
        ("dstEndRule", NO_DAYLIGHT_SAVING),
        ("dstOffset", 0),
        ("dstStartRule", NO_DAYLIGHT_SAVING),
        ("tzOffset", int(part.begin[0].utcoffset().total_seconds())),
    ]
    usage_point = [("ServiceCategory", [("kind", 0)]), ("status", 1)]  # electricity
    reading_type = [
        ("accumulationBehaviour", 4),  # each of its own interval, not since some beginning
        ("commodity", ELECTRICITY),
        ("dataQualifier", 12),  # normal
        ("defaultQuality", 12),  # projected: nothing here was metered
        ("flowDirection", 1),  # forward
        ("intervalLength", part.step_s),
        ("kind", 12),  # energy
        ("phase", 224),  # A, B and C
        ("powerOfTenMultiplier", -3),
        ("uom", WATT_HOUR),
    ]
    # place and title of a resource, its type and content, places of what belongs to it
    entries = [
        (clock, "Local time", "LocalTimeParameters", local_time, ()),
        (point, part.unit, "UsagePoint", usage_point, (reading, f"{point}/UsageSummary/1", clock)),
        (reading, "Energy", "MeterReading", None, (f"{reading}/IntervalBlock", "ReadingType/1")),
        ("ReadingType/1", "Energy by interval", "ReadingType", reading_type, ()),
    ]
    days = np.array([begin.toordinal() for begin in part.begin])
    for number, day in enumerate(np.unique(days), start=1):
        here = days == day
        block = _block(part.begin[here], energy[here], part.step_s)
        place = f"{reading}/IntervalBlock/{number}"
        entries.append((place, "Readings", "IntervalBlock", block, ()))
    summary = _summary(part, int(energy.sum()), int(end))
    entries.append((f"{point}/UsageSummary/1", "Summary", "UsageSummary", summary, ()))
    for place, title, name, content, related in entries:
        entry = ElementTree.SubElement(feed, f"{{{ATOM}}}entry")
        _head(entry, root, place, title, updated)
        links = [("self", place), ("up", place.rpartition("/")[0])]
        for rel, href in [*links, *(("related", href) for href in related)]:
            ElementTree.SubElement(entry, f"{{{ATOM}}}link", rel=rel, href=href)
        holder = ElementTree.SubElement(entry, f"{{{ATOM}}}content", type="application/xml")
        _nested(holder, name, content)
    return feed


def _head(node: ElementTree.Element, root: uuid.UUID, place: str, title: str, when: str) -> None:
    """Write what Atom asks of a feed and of an entry: identity, title, date."""
    identity = f"urn:uuid:{uuid.uuid5(root, place)}"
    for tag, text in (("id", identity), ("title", title), ("updated", when)):
        ElementTree.SubElement(node, f"{{{ATOM}}}{tag}").text = text


def _nested(parent: ElementTree.Element, name: str, content: object) -> None:
    """Write nested (name, content) pairs in their order, which the schema prescribes."""
    node = ElementTree.SubElement(parent, f"{{{ESPI}}}{name}")
    if isinstance(content, list):
        for child, inner in content:
            _nested(node, child, inner)
    elif content is not None:
        node.text = str(content)


def _period(start: int, duration: int) -> list:
    return [("duration", duration), ("start", start)]


def _block(begin: pd.DatetimeIndex, energy: np.ndarray, step_s: int) -> list:
    """List the readings of one local day."""
    starts = [int(each.timestamp()) for each in begin]
    readings = [
        ("IntervalReading", [("timePeriod", _period(start, step_s)), ("value", int(value))])
        for start, value in zip(starts, energy, strict=True)
    ]
    return [("interval", _period(starts[0], step_s * len(starts))), *readings]


def _summary(part: Intervals, total: int, end: int) -> list:
    """Energy, from milliwatt-hours, and greatest interval mean of the whole time."""
    start, highest = int(part.begin[0].timestamp()), int(np.argmax(part.power_w))
    energy = [("powerOfTenMultiplier", 0), ("uom", WATT_HOUR), ("value", round(total / 1e3))]
    peak = [
        ("powerOfTenMultiplier", 0),
        ("timeStamp", int(part.begin[highest].timestamp())),
        ("uom", WATT),
        ("value", round(part.power_w[highest])),
    ]
    return [
        ("billingPeriod", _period(start, end - start)),
        ("overallConsumptionLastPeriod", energy),
        ("peakDemand", peak),
        ("statusTimeStamp", end),
        ("commodity", ELECTRICITY),
    ]
