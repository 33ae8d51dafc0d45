"""The ledger: every number of the paper, what our pages found beside it, and the verdict."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd

from sitebook.old.ledger.claims import claims
from sitebook.old.ledger.records import read_records
from sitetrace.core.registry import data_dir

# our own results on hardware come first, what the testbed says last
DATA_ORDER = ("measured", "paper", "testbed")
SOURCES = ("-measured", "-testbed")
ANSWER = ("ours", "low", "high", "data", "dataset", "page", "verdict", "why")
VERDICTS = (
    "reproduced",
    "reproduced on other data",
    "not reproduced",
    "follows",
    "does not follow",
    "cannot be tested",
    "chapter not written yet",
    "setting",
)


def all_records(folder: Path | str | None = None) -> dict[str, list[dict]]:
    """Read the records of all pages."""
    kept = data_dir() / "records"
    folder = Path(folder or os.environ.get("SITETRACE_ALL_RECORDS") or kept)
    return {path.stem: read_records(path) for path in sorted(folder.glob("*.json"))}


def chapter_of(page: str) -> str:
    """Name the chapter that a page belongs to."""
    for source in SOURCES:
        page = page.removesuffix(source)
    return page


def ledger(records_by_page: dict[str, list[dict]], written: set[str]) -> pd.DataFrame:
    """Put beside every number of the paper what was found."""
    answers: dict[str, list[dict]] = {}
    for page, rows in records_by_page.items():
        for row in rows:
            if row["claim"] is not None:
                answers.setdefault(row["claim"], []).append(row | {"page": page})
    lines = []
    for name, claim in claims().iterrows():
        given = sorted(answers.get(name, []), key=lambda row: DATA_ORDER.index(row["data"]))
        common = {"claim": name, **claim}
        missing, why = _unanswered(claim, written)
        tested = missing == "setting" or any(row["data"] == "measured" for row in given)
        left = "" if tested else f"on data of ours: {missing}"
        lines += [common | _answered(row, left) for row in given]
        if not given:
            lines.append(common | {"verdict": missing, "why": why})
    return pd.DataFrame(lines, columns=["claim", *claims().columns, *ANSWER])


def _answered(row: dict, why: str) -> dict:
    low, high = row["interval"] or (None, None)
    said = {"measured": "", "paper": why, "testbed": "the testbed tests no claim about hardware"}
    return {
        "ours": row["value"],
        "low": low,
        "high": high,
        "data": row["data"],
        "dataset": row["dataset"],
        "page": row["page"],
        "verdict": row["verdict"],
        "why": said[row["data"]],
    }


def _unanswered(claim: pd.Series, written: set[str]) -> tuple[str, str]:
    """Verdict and reason of a number that no result of ours answers."""
    if claim["kind"] == "setting":
        return "setting", ""
    if claim["chapter"] not in written:
        return "chapter not written yet", claim["chapter"]
    return "cannot be tested", claim["untested"]


def first_answers(table: pd.DataFrame) -> pd.DataFrame:
    """Keep one row a claim, the first."""
    return table.drop_duplicates("claim")


def tally(table: pd.DataFrame, by: str) -> pd.DataFrame:
    """Count claims by verdict."""
    first = first_answers(table)
    counts = pd.crosstab(first[by], first["verdict"]).loc[first[by].unique()]
    return counts[[verdict for verdict in VERDICTS if verdict in counts]]


def beside_claims(records_by_page: dict[str, list[dict]]) -> list[dict]:
    """List what the pages found that answers no single number of the paper."""
    return [
        row | {"page": page}
        for page, given in records_by_page.items()
        for row in given
        if row["claim"] is None
    ]
