"""Exercises of the book: what is right is computed from the seeded testbed, never typed."""

from __future__ import annotations

import importlib
import math
from functools import cache
from numbers import Real

from sitebook.old.coursework.exercise import Exercise
from sitetrace.core.files import InputError

CHAPTERS = (
    "question",
    "data",
    "states",
    "distributions",
    "transitions",
    "composing",
    "energy-errors",
    "acf",
    "timeline",
    "models",
    "transfer",
    "published",
    "traffic",
    "site",
    "wall-plug",
    "sizing",
    "oversubscription",
    "modulation",
    "grid",
)
SEED = 1
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


def exercises(chapters: tuple[str, ...] = CHAPTERS) -> dict[str, Exercise]:
    """Exercises of some chapters by name, in the order of the book."""
    found = {}
    for chapter in chapters:
        name = f"sitebook.old.coursework.{chapter.replace('-', '_')}"
        found |= importlib.import_module(name).EXERCISES
    return found


def verdict(exercise: str, answer: object, seed: int = SEED) -> str:
    """Judge an answer to an exercise."""
    known = _of_its_chapter(exercise)
    if exercise not in known:
        raise InputError(f"{exercise!r}: no such exercise: there are {', '.join(exercises())}")
    if answer is None:
        return f"{exercise}: no answer yet; wanted {known[exercise].asked}"
    if isinstance(answer, bool) or not isinstance(answer, Real) or not math.isfinite(answer):
        return f"{exercise}: not a number: give one finite number, such as float(...)"
    right, mistakes = solution(exercise, seed)
    tolerance = known[exercise].tolerance
    if abs(answer - right) <= tolerance:
        return f"{exercise}: right"
    nearest = min(mistakes, key=lambda hint: abs(answer - mistakes[hint]))
    if abs(answer - mistakes[nearest]) <= tolerance:
        return f"{exercise}: not yet: {nearest}"
    for factor, hint in SLIPS.items():
        if math.isclose(answer, factor * right, rel_tol=SLIP_SHARE):
            return f"{exercise}: not yet: {hint}"
    return f"{exercise}: not yet"


def _of_its_chapter(exercise: str) -> dict[str, Exercise]:
    """Exercises of the chapter that a name begins with: all take a second to load."""
    chapter = exercise.rpartition("-")[0]
    return exercises((chapter,)) if chapter in CHAPTERS else {}


@cache
def solution(exercise: str, seed: int) -> tuple[float, dict[str, float]]:
    """Compute the right answer to an exercise, and what usual mistakes come to."""
    right, mistakes = _of_its_chapter(exercise)[exercise].solve(seed)
    return float(right), {hint: float(wrong) for hint, wrong in mistakes.items()}


def check(exercise: str, answer: object, seed: int = SEED) -> None:
    """Print whether an answer to an exercise is right."""
    print(verdict(exercise, answer, seed))
