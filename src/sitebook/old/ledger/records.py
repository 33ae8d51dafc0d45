"""What a page found: results beside the paper's numbers, and the verdict by one stated rule."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

from sitebook.old.ledger.claims import claim as claimed
from sitetrace.core.files import InputError, replacing

DATA_KINDS = ("measured", "testbed", "paper")
DIGITS = 6


def verdict(
    value: float | None,
    interval: tuple[float, float] | None,
    paper: float | None,
    better: str | None,
    same_kind: bool,
) -> str:
    """Judge our result against the paper's: its interval holds the paper's value, or is better."""
    if better not in (None, "lower", "higher"):
        raise InputError(f"better={better!r}: say 'lower', 'higher' or None")
    if value is None or paper is None:
        return "cannot be tested"
    low, high = interval or (value, value)
    agrees = low <= paper <= high
    agrees |= (better == "lower" and high < paper) or (better == "higher" and low > paper)
    if not agrees:
        return "not reproduced"
    return "reproduced" if same_kind else "reproduced on other data"


def record(
    name: str,
    value: float | None,
    unit: str,
    *,
    data: str,
    dataset: str,
    interval: tuple[float, float] | None = None,
    paper: float | None = None,
    better: str | None = None,
    same_kind: bool = False,
    claim: str | None = None,
) -> dict:
    """Make one row of a page's records."""
    if data not in DATA_KINDS:
        raise InputError(f"record {name!r}: data={data!r}: say one of {', '.join(DATA_KINDS)}")
    if claim is not None:
        known = claimed(claim)
        paper, better = known["value"], known["better"]
        if known["unit"] != unit:
            raise InputError(f"record {name!r}: unit {unit!r}: the claim is in {known['unit']!r}")
    ends = None if interval is None else tuple(_rounded(name, end) for end in interval)
    value, paper = _rounded(name, value), _rounded(name, paper)
    if ends is not None and (value is None or not ends[0] <= value <= ends[1]):
        raise InputError(f"record {name!r}: interval {ends} does not hold {value}: lower end first")
    return {
        "name": name,
        "value": value,
        "unit": unit,
        "interval": None if ends is None else list(ends),
        "data": data,
        "dataset": dataset,
        "paper": paper,
        "verdict": None if paper is None else _verdict(data, value, ends, paper, better, same_kind),
        "claim": claim,
    }


def _verdict(data: str, value: float | None, ends: tuple | None, paper: float, *how) -> str:  # noqa: ANN002
    """Apply the rule; the testbed tests no claim, and arithmetic on the paper's numbers is none."""
    if data == "paper" and value is not None:
        low, high = ends or (value, value)
        return "follows" if low <= paper <= high else "does not follow"
    return verdict(None if data == "testbed" else value, ends, paper, *how)


def _rounded(name: str, number: float | None) -> float | None:
    """Six significant digits, so that another machine's last bits make no difference."""
    if number is None:
        return None
    if not math.isfinite(number):
        raise InputError(f"record {name!r}: {number} is not finite: record None and say why")
    return float(f"{float(number):.{DIGITS}g}")


def write_records(rows: list[dict], path: Path | str | None = None) -> list[dict]:
    """Write a page's records as a JSON list."""
    keys = [_key(row) for row in rows]
    twice = {key for key in keys if keys.count(key) > 1}
    if twice:
        raise InputError(f"records: {' of '.join(min(twice))} stands twice: give each its own name")
    path = path or os.environ.get("SITETRACE_RECORDS")
    if path:
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", "utf-8")
    return rows


def read_records(path: Path | str) -> list[dict]:
    """Read the records of a page."""
    try:
        rows = json.loads(Path(path).read_text("utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}): check the path") from None
    except ValueError as error:
        raise InputError(f"{path}: no complete JSON ({error}): write it anew") from None
    wanted = set(record("", None, "", data="testbed", dataset=""))
    if not isinstance(rows, list) or not all(
        isinstance(r, dict) and set(r) == wanted for r in rows
    ):
        raise InputError(f"{path}: holds no list of records: write it with write_records")
    return rows


def _key(row: dict) -> tuple[str, str]:
    return row["name"], row["dataset"]


def compare(old: list[dict], new: list[dict], rtol: float) -> list[str]:
    """Say where two sets of records differ."""
    before, after = {_key(row): row for row in old}, {_key(row): row for row in new}
    lines = [f"{' of '.join(key)}: only in the old" for key in before.keys() - after.keys()]
    lines += [f"{' of '.join(key)}: only in the new" for key in after.keys() - before.keys()]
    for key in before.keys() & after.keys():
        for field, was in before[key].items():
            now = after[key][field]
            if not _same(was, now, rtol):
                lines.append(f"{' of '.join(key)}: {field} was {was}, is {now}")
    return sorted(lines)


def _same(was: object, now: object, rtol: float) -> bool:
    if isinstance(was, list) and isinstance(now, list):
        return all(_same(a, b, rtol) for a, b in zip(was, now, strict=True))
    if isinstance(was, float | int) and isinstance(now, float | int):
        return math.isclose(was, now, rel_tol=rtol)
    return was == now
