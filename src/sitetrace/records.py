"""What a page found: results beside the paper's numbers, and the verdict by one stated rule."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

from sitetrace.claims import claim as claimed
from sitetrace.files import InputError, replacing

DATA_KINDS = ("measured", "testbed", "paper")
DIGITS = 6


def verdict(
    value: float | None,
    interval: tuple[float, float] | None,
    paper: float | None,
    better: str | None,
    same_kind: bool,
) -> str:
    """Judge our result against the paper's by the rule of the book.

    A result agrees when its interval includes the paper's value or lies on the better side of it.
    On data of the same kind as the paper's that is a reproduction, elsewhere one on other data.

    Parameters
    ----------
    value : float or None
        Our result; None when the data at hand cannot give it.
    interval : tuple of float or None
        Lower and upper end of our interval; None: the value alone.
    paper : float or None
        The paper's value; None when it could not be established.
    better : {"lower", "higher"} or None
        Which side is the better one, as for an error or a score; None: neither.
    same_kind : bool
        Whether our data are of the kind that the paper's value is about.

    Returns
    -------
    str
        "reproduced", "reproduced on other data", "not reproduced" or "cannot be tested".

    Raises
    ------
    InputError
        If `better` is another word.
    """
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
    """Make one row of a page's records.

    Numbers are kept to six significant digits. What was found on the testbed, which is our own
    simulation, tests no claim about hardware.

    Parameters
    ----------
    name : str
        What the number is, such as ``energy error, median of 9 draws``.
    value : float or None
        Our result; None when it cannot be had.
    unit : str
        Its unit; empty for a pure number.
    data : {"measured", "testbed", "paper"}
        Where the data come from.
    dataset : str
        The run or dataset by name.
    interval : tuple of float, optional
        Lower and upper end of our interval.
    paper : float, optional
        The paper's value of the same quantity; without one there is no verdict.
    better : {"lower", "higher"}, optional
        Which side is the better one.
    same_kind : bool
        Whether our data are of the kind that the paper's value is about.
    claim : str, optional
        Name of the claim that this result answers (see `sitetrace.claims.claims`); gives `paper`
        and `better`.

    Returns
    -------
    dict
        With the keys name, value, unit, interval, data, dataset, paper, verdict, claim. What
        follows from the paper's own tables alone (``data="paper"``) is no reproduction: its
        verdict is "follows" or "does not follow".

    Raises
    ------
    InputError
        If a number is not finite, the interval is upside down or excludes the value, or `data` is
        unknown.
    """
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
    """Write a page's records as a JSON list.

    Parameters
    ----------
    rows : list of dict
        From `record`; a name stands once for a dataset.
    path : Path or str, optional
        The file. By default the one that the environment variable ``SITETRACE_RECORDS`` names, as
        set while the book is built; when it is unset nothing is written.

    Returns
    -------
    list of dict
        The same rows.

    Raises
    ------
    InputError
        If a name stands twice for one dataset, or the file cannot be written.
    """
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
    """Read the records of a page.

    Parameters
    ----------
    path : Path or str
        A file written by `write_records`.

    Returns
    -------
    list of dict
        Its rows.

    Raises
    ------
    InputError
        If the file is missing or holds no list of records.
    """
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
    """Say where two sets of records differ.

    Parameters
    ----------
    old, new : list of dict
        Records of the same page, as stored and as made again.
    rtol : float
        Relative difference of numbers that is still the same, as 1e-3.

    Returns
    -------
    list of str
        One line a difference; empty when they agree.
    """
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
