"""Local wall time to epoch seconds: the UTC offset, read, written, or found."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd

from sitetrace.files import InputError
from sitetrace.meters import MeterLog

QUARTER_HOUR_S = 900
CLEAR_SCORE, CLEAR_MARGIN = 0.2, 0.1
Steps = tuple[np.ndarray, np.ndarray]


def find_utc_offset(log: MeterLog, activity: list[Steps], path: Path | str) -> float:
    """Find the whole quarter-hour offset at which power rises where requests run."""
    power_w = log.table.groupby("time_s")["power_w"].sum()
    offsets = np.arange(-12 * 3600, 14 * 3600 + 1, QUARTER_HOUR_S)
    for times, counts in activity:
        scores = np.array([_overlap(power_w, times + offset, counts) for offset in offsets])
        second, best = np.sort(scores)[-2:]
        if best >= CLEAR_SCORE and best - second >= CLEAR_MARGIN:
            return float(offsets[int(np.argmax(scores))])
    raise InputError(
        f"{path}: times are local and no single UTC offset brings power and requests together: "
        "give it, such as --utc-offset -07:00"
    )


def _overlap(power_w: pd.Series, times: np.ndarray, counts: np.ndarray) -> float:
    """Score how well step function and power agree: covered share times correlation."""
    instants = power_w.index.to_numpy()
    first, last = instants[0], instants[-1]
    if times[-1] < first or times[0] > last:
        return 0.0
    work = counts[:-1] * np.diff(times)
    inside = np.clip(times[1:], first, last) - np.clip(times[:-1], first, last)
    covered = float((counts[:-1] * inside).sum() / work.sum()) if work.sum() > 0 else 0.0
    place = np.searchsorted(times, instants, side="right") - 1
    at_work = np.where(place >= 0, counts[place], 0.0)
    if np.ptp(at_work) == 0 or np.ptp(power_w.to_numpy()) == 0:
        return 0.0
    return covered * max(float(np.corrcoef(at_work, power_w)[0, 1]), 0.0)


def parse_utc_offset(text: str) -> float:
    """Read a UTC offset such as ``-7``, ``-07:00``, ``+5:30`` or ``Z``."""
    if text.strip().upper() in ("Z", "UTC"):
        return 0.0
    found = re.fullmatch(r"\s*([+-]?)(\d{1,2})(?::?([0-5]\d))?\s*", text)
    if found:
        sign, hours, minutes = found.groups()
        seconds = (-1.0 if sign == "-" else 1.0) * (int(hours) * 3600 + int(minutes or 0) * 60)
        if -12 * 3600 <= seconds <= 14 * 3600:
            return seconds
    raise InputError(f"--utc-offset: {text!r} is no UTC offset: give one such as -07:00")


def format_utc_offset(offset_s: float) -> str:
    """Write a UTC offset as ``-07:00``."""
    minutes = round(abs(offset_s) / 60)
    return f"{'-' if offset_s < 0 else '+'}{minutes // 60:02d}:{minutes % 60:02d}"
