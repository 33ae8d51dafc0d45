"""The ledger: every number of the papers, what our pages found beside it, the verdict by one rule.

A claim is a number that a paper prints: a cell of a table in ``data/paper`` (``claims.json`` says
which), or a row of ``data/papers/<slug>/claims.csv``. A page answers claims, and the bar points of
a sister system; its answers are a JSON file in ``data/answers``.
"""

import json
import math
import operator
import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from sitebook.page import NOW, folded, table
from sitetrace.core.files import named, read_json, read_text_table, replacing, require
from sitetrace.core.registry import data_dir

if TYPE_CHECKING:
    from IPython.display import HTML

FIELDS = ("kind", "what", "unit", "better", "where", "section", "chapter", "source", "untested")
METHODS = ("theirs", "ours", "baseline", "control")
ANSWER = ("value", "interval", "of", "on", "data", "method", "rests_on", "verdict", "page")
CELLS = ("what", "of", "where", "printed", "ours", "data", "method", "verdict", "page")
DATA_ORDER = ("measured", "paper", "testbed")
VERDICTS = (
    "reproduced", "reproduced on other data", "better than printed", "not reproduced",
    "consistent", "not consistent", "beside", "follows", "does not follow", "cannot be tested",
    "setting",
)  # fmt: skip
MANY = 20  # answers, from which on a reader wants to choose
DIGITS, RTOL = 6, 1e-3  # of an answer; how far it may move when its page is made anew
NEEDS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
GIVEN: list[dict] = []  # answers of the page that is being executed
Interval = tuple[float, float]


@cache
def claims() -> pd.DataFrame:
    """All printed numbers that we could establish, one row each, by the name of the claim."""
    entries = read_json(data_dir() / "paper" / "claims.json")["tables"]
    rows = [row for entry in entries for row in _claims_of(entry)]
    for path in sorted((data_dir() / "papers").glob("*/claims.csv")):
        rows += [_claim_of_row(path.parent.name, row) for row in _records(path)]
    # object: None must stay None
    known = pd.DataFrame(rows, dtype=object).set_index("claim")
    return known.astype({"value": float, "rounding": float})


def _records(path: Path) -> list[dict]:
    return read_text_table(path).to_dict("records")


def _claims_of(entry: dict) -> list[dict]:
    """List the claims of a table; what its entry leaves out, the table says row by row."""
    only, rows = entry.get("only", {}), []
    for cells in _records(data_dir() / "paper" / f"{entry['table']}.csv"):
        if any(cells[column] not in kept for column, kept in only.items()):
            continue
        name = "/".join(cells[key] for key in entry["key"])
        for column, meaning in entry["columns"].items():
            told = {"kind": "result", "where": ""} | cells | entry | meaning
            if cells[column]:
                row = {"claim": f"{entry['table']}:{name}:{column}", "table": entry["table"]}
                row |= {"row": name, "column": column, "value": float(cells[column])}
                row["rounding"] = 0.0 if told["kind"] == "setting" else rounding(cells[column])
                row |= {field: told[field] for field in FIELDS}
                rows.append(row | {"better": row["better"] or None})
    return rows


def _claim_of_row(slug: str, cells: dict) -> dict:
    """Take a row of a sister system's table of claims."""
    row = {"claim": f"{slug}:{cells['id']}", "table": slug, "row": cells["id"], "column": "value"}
    row |= {"value": float(cells["value"]), "rounding": rounding(cells["value"])}
    row |= {"kind": "result", "what": cells["words"], "section": cells["condition"]}
    kept = {name: cells[name] for name in ("unit", "where", "source")}
    return (
        row
        | kept
        | {"better": cells["better"] or None, "chapter": slug}
        | {"untested": cells["why_not"]}
    )


def rounding(printed: str) -> float:
    """Half a unit of the last printed digit; what has no decimals was counted."""
    return 0.5 * 10.0 ** -len(printed.partition(".")[2]) if "." in printed else 0.0


def verdict(answer: dict, claim: pd.Series) -> str:
    """Judge an answer by the one rule of the book."""
    if claim["kind"] == "setting":
        return "setting"
    if answer["data"] == "testbed" or answer["value"] is None:
        return "cannot be tested"
    if answer["interval"] is None or answer["method"] != "theirs":
        return "beside"
    low, high = answer["interval"]
    holds = low <= claim["value"] <= high
    if answer["rests_on"]:
        return "consistent" if holds else "not consistent"
    if answer["data"] == "paper":
        return "follows" if holds else "does not follow"
    if holds:
        return "reproduced" if answer["same"] else "reproduced on other data"
    sides = {"lower": high < claim["value"], "higher": low > claim["value"], None: False}
    return "better than printed" if sides[claim["better"]] else "not reproduced"


def answer(
    claim: str,
    value: float | None,
    interval: Interval | None = None,
    of: str = "",
    *,
    method: str = "theirs",
    same: bool = False,
    rests_on: str = "",
    on: str = "",
    data: str = "",
    rtol: float = RTOL,
) -> None:
    """Answer a claim with a result of the page; `of` names the kind of its interval.

    `data` says what it was found on, where that is not what the page is made on.
    """
    named("claim", claim, claims().index)
    named("method", method, METHODS)
    row = {"claim": claim, "on": on} | _result(claim, value, interval, of, rests_on, rtol)
    row |= {"method": method, "same": same} | ({"data": data} if data else {})
    taken = [(given["claim"], given["on"], given["method"]) for given in GIVEN if "claim" in given]
    where = f"claim {claim!r} on {on!r} by {method}"
    require((claim, on, method) not in taken, where, "answered twice", "tell them apart by `on`")
    GIVEN.append(row | {"verdict": verdict(row, claims().loc[claim])})


def bar(
    n: int | str, value: float, interval: Interval, needs: str, of: str = "", *, rests_on: str = ""
) -> None:
    """Record a point of a sister system's bar: it holds if all of the interval meets `needs`."""
    sign, _, bound = needs.partition(" ")
    meets = [named("comparison", sign, NEEDS)(end, float(bound)) for end in interval]
    row = {"bar": str(n), "needs": needs, "of": of}
    row |= _result(f"bar {n}", value, interval, of, rests_on, RTOL)
    GIVEN.append(row | {"holds": None if any(meets) != all(meets) else all(meets)})


def _result(what: str, value, interval, of: str, rests_on: str, rtol: float) -> dict:
    """Six significant digits of what was found, so that another machine's last bits do not show."""
    ends = None if interval is None else [_rounded(what, end) for end in interval]
    value = _rounded(what, value)
    if ends is not None:
        require(bool(of), what, "an interval of no kind", "say in `of` what it is of")
        told = value is not None and ends[0] <= value <= ends[1]
        require(told, what, f"the interval {ends} does not hold {value}", "lower end first")
    return {
        "value": value, "interval": ends, "of": of, "rests_on": rests_on, "rtol": rtol,
        "data": NOW.dataset,
    }  # fmt: skip


def _rounded(what: str, number: float | None) -> float | None:
    if number is None:
        return None
    require(math.isfinite(number), what, f"{number} is not finite", "answer None and say why")
    return float(f"{float(number):.{DIGITS}g}")


def show_answers() -> "HTML":
    """Show the page's answers, and write them where the build asked for them."""
    from IPython.display import HTML

    path = os.environ.get("SITETRACE_ANSWERS")
    if path:
        with replacing(path) as temporary:
            text = json.dumps(GIVEN, indent=1, ensure_ascii=False)
            temporary.write_text(text + "\n", "utf-8")
    if not any("claim" in row for row in GIVEN):
        return HTML("<p>This page answers no printed number.</p>")
    lines = ledger({NOW.chapter: GIVEN})
    told = cells_of(lines[lines["page"].notna()]).drop(columns=["page", "where"])
    return folded("Answers", told) if len(told) > MANY else table(told)


def answers_of(folder: Path | str | None = None) -> dict[str, list[dict]]:
    """Read the answers of all pages: as made now, where the build says so, else as kept."""
    folder = folder or os.environ.get("SITETRACE_ALL_ANSWERS") or data_dir() / "answers"
    return {path.stem: json.loads(path.read_text("utf-8")) for path in Path(folder).glob("*.json")}


def ledger(answers: dict[str, list[dict]]) -> pd.DataFrame:
    """Put beside every printed number what was found: a line an answer, or one saying why not."""
    found = [row | {"page": page} for page, rows in answers.items() for row in rows]
    found = [row for row in found if "claim" in row]
    found.sort(key=lambda row: DATA_ORDER.index(row["data"]))
    lines = pd.DataFrame(found, columns=[*ANSWER, "claim"], dtype=object).set_index("claim")
    table = claims().rename(columns={"value": "printed"}).join(lines, how="left")
    open_ = table["verdict"].isna()
    table.loc[open_, "verdict"] = "cannot be tested"
    table.loc[open_ & (table["kind"] == "setting"), "verdict"] = "setting"
    return table.reset_index()


def tally(lines: pd.DataFrame, by: str) -> pd.DataFrame:
    """Count claims by verdict: the one of their first answer, on hardware before all others."""
    first = lines.drop_duplicates("claim")
    counts = pd.crosstab(first[by], first["verdict"]).loc[first[by].unique()]
    return counts[[verdict for verdict in VERDICTS if verdict in counts]]


def cells_of(lines: pd.DataFrame) -> pd.DataFrame:
    """Write lines of the ledger as text, cell by cell."""

    def number(value: float) -> str:
        return f"{value:.0f}" if float(value).is_integer() else f"{value:.4g}"

    cells = []
    for line in lines.to_dict("records"):
        answered = isinstance(line["page"], str)
        ours = number(line["value"]) if answered and line["value"] is not None else "–"
        if answered and line["interval"] is not None:
            ours += f" ({' to '.join(map(number, line['interval']))}; {line['of']})"
        rule = f" under {line['rests_on']}" if answered and line["rests_on"] else ""
        shown = {"what": line["what"], "of": line["row"].replace("_", " "), "where": line["where"]}
        shown |= {"printed": f"{number(line['printed'])} {line['unit']}".strip(), "ours": ours}
        shown |= {"data": " ".join(filter(None, (line["data"], line["on"]))) if answered else "–"}
        shown |= {"method": line["method"] if answered else "–"}
        why = "" if answered or line["kind"] == "setting" else f": {line['untested']}"
        page = f'<a href="{line["page"]}.html#answer">{line["page"]}</a>' if answered else "–"
        cells.append(shown | {"verdict": line["verdict"] + rule + why, "page": page})
    return pd.DataFrame(cells, columns=CELLS)


def bars(answers: dict[str, list[dict]]) -> pd.DataFrame:
    """List the bar points of the sister systems, and whether they hold."""
    rows = [row | {"page": page} for page, rows in answers.items() for row in rows if "bar" in row]
    return pd.DataFrame(rows, columns=["page", "bar", "needs", "value", "interval", "of", "holds"])
