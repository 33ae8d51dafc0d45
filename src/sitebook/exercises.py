"""Exercises of the book: what is right is what the page's own solution cell computes.

A page's solution gives `answer` and `mistakes`, a dict from a hint to what that mistake comes to.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import re
from functools import cache
from numbers import Real
from pathlib import Path

from sitetrace.core.files import InputError

HERE = Path(__file__).resolve().parent
# In a wheel the pages lie beside this file, in a checkout with the other notebooks.
PLACES = (HERE / "exercise_pages", HERE.parents[1] / "notebooks" / "exercises")
PAGES = next((place for place in PLACES if place.is_dir()), PLACES[0])
ASKED = re.compile(r":label: (\S+)\n.*?\*Tolerance: (to within ([\d.]*\d)[^*]*)\.\*", re.DOTALL)
BEGUN = re.compile(r"\{solution-start\} (\S+)")
# what an answer is taken for when it is the right one times a factor
SLIPS = {
    -1.0: "the sign is the other way round",
    100.0: "a hundred times too large: percent or share?",
    0.01: "a hundred times too small: percent or share?",
    1000.0: "a thousand times too large: look at the unit",
    0.001: "a thousand times too small: look at the unit",
    3600.0: "3600 times too large: watt-seconds (joules) or watt-hours?",
}
SLIP_SHARE = 0.01


def check(exercise: str, answer: object, seed: int = 1) -> None:
    """Print whether an answer to an exercise is right."""
    print(verdict(exercise, answer, seed))


def verdict(exercise: str, answer: object, seed: int = 1) -> str:
    """Judge an answer to an exercise."""
    chapter = exercise.rpartition("-")[0]
    asked = read_page(chapter)[0] if chapter in chapters() else {}
    if exercise not in asked:
        known = ", ".join(name for each in chapters() for name in read_page(each)[0])
        raise InputError(f"{exercise!r}: no such exercise: there are {known}")
    wanted, tolerance = asked[exercise]
    if answer is None:
        return f"{exercise}: no answer yet; wanted {wanted}"
    if isinstance(answer, bool) or not isinstance(answer, Real) or not math.isfinite(answer):
        return f"{exercise}: not a number: give one finite number, such as float(...)"
    right, mistakes = solution(exercise, seed)
    if abs(answer - right) <= tolerance:
        return f"{exercise}: right"
    nearest = min(mistakes, key=lambda hint: abs(answer - mistakes[hint]))
    if abs(answer - mistakes[nearest]) <= tolerance:
        return f"{exercise}: not yet: {nearest}"
    for factor, hint in SLIPS.items():
        if math.isclose(answer, factor * right, rel_tol=SLIP_SHARE):
            return f"{exercise}: not yet: {hint}"
    return f"{exercise}: not yet"


def solution(exercise: str, seed: int) -> tuple[float, dict[str, float]]:
    """Compute the right answer to an exercise, and what usual mistakes come to."""
    chapter = exercise.rpartition("-")[0]
    names = _solved(chapter, list(read_page(chapter)[0]).index(exercise) + 1, seed)
    mistakes = {hint: float(wrong) for hint, wrong in names["mistakes"].items()}
    return float(names["answer"]), mistakes


def chapters() -> list[str]:
    """List the chapters that have exercises."""
    return sorted(path.stem for path in PAGES.glob("*.ipynb"))


@cache
def read_page(chapter: str) -> tuple[dict[str, tuple[str, float]], list[str]]:
    """Read what a page asks, by exercise, and its code: the data's, then each solution's."""
    page = json.loads((PAGES / f"{chapter}.ipynb").read_text("utf-8"))
    asked, code, place = {}, {}, ""
    for cell in page["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            asked |= {name: (words, float(least)) for name, words, least in ASKED.findall(source)}
            begun = BEGUN.search(source)
            place = begun[1] if begun else "" if not asked else None
        elif place is not None and "parameters" not in cell["metadata"].get("tags", []):
            code[place] = f"{code.get(place, '')}{source}\n"
    return asked, [code[name] for name in ("", *asked)]


@cache
def _solved(chapter: str, count: int, seed: int) -> dict[str, object]:
    """Run a page's data cells and its first so many solutions; return all names they set."""
    names = dict(_solved(chapter, count - 1, seed)) if count else {"seed": seed}
    part = compile(read_page(chapter)[1][count], f"exercises of {chapter}, part {count}", "exec")
    with contextlib.redirect_stdout(io.StringIO()):
        exec(part, names)
    return names | {"check": lambda *given: None}  # a solution is not checked by itself
