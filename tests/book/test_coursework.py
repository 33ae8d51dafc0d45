"""A check says right to what is right, and names the usual mistake."""

import contextlib
import io
from pathlib import Path

import nbformat
import numpy as np
import pytest

from sitebook.old.coursework import CHAPTERS, check, exercises, solution, verdict
from sitetrace.core.files import InputError

ROOT = Path(__file__).parents[2]
KNOWN = exercises()
ANOTHER_SEED = 2


def cells_of(chapter):
    return nbformat.read(ROOT / "notebooks" / f"{chapter}-exercises.ipynb", as_version=4).cells


def test_every_chapter_asks_three_questions():
    assert list(KNOWN) == [f"{chapter}-{number}" for chapter in CHAPTERS for number in (1, 2, 3)]


@pytest.mark.parametrize("name", KNOWN)
def test_what_is_right_passes_up_to_its_tolerance(name):
    right, _ = solution(name, 1)
    near = 0.99 * KNOWN[name].tolerance
    assert verdict(name, right) == f"{name}: right"
    assert verdict(name, np.float64(right + near)) == f"{name}: right"
    assert verdict(name, right - near) == f"{name}: right"
    assert verdict(name, right + 1.5 * KNOWN[name].tolerance) != f"{name}: right"


@pytest.mark.parametrize("name", KNOWN)
def test_a_usual_mistake_is_told_from_what_is_right_and_from_the_others(name):
    _, mistakes = solution(name, 1)
    assert mistakes
    for hint, wrong in mistakes.items():
        assert verdict(name, wrong) == f"{name}: not yet: {hint}"


@pytest.mark.parametrize(
    ("factor", "said"), [(-1, "sign"), (100, "percent"), (1000, "unit"), (3600, "watt-hours")]
)
def test_a_wrong_sign_or_unit_is_named_in_any_exercise(factor, said):
    assert said in verdict("question-2", factor * solution("question-2", 1)[0])


def test_what_is_no_number_is_told_so():
    assert verdict("states-1", None).startswith("states-1: no answer yet; wanted to within 0.5 W")
    for answer in ("three", float("nan"), float("inf"), [1.0], True):
        assert verdict("states-1", answer).startswith("states-1: not a number"), answer


def test_another_wrong_number_gets_no_hint():
    assert verdict("states-1", 1e9) == "states-1: not yet"


def test_an_unknown_exercise_is_refused_with_those_there_are():
    with pytest.raises(InputError, match="'states-4': no such exercise: .*states-1, states-2"):
        check("states-4", 1.0)


def test_another_seed_has_another_right_answer():
    here, there = solution("data-2", 1)[0], solution("data-2", ANOTHER_SEED)[0]
    assert verdict("data-2", here, ANOTHER_SEED) != "data-2: right"
    assert verdict("data-2", there, ANOTHER_SEED) == "data-2: right"


@pytest.mark.parametrize("seed", [ANOTHER_SEED])  # nbval runs the first
@pytest.mark.parametrize("chapter", CHAPTERS)
def test_the_solutions_shown_are_right_at_any_seed(chapter, seed):
    said, names = io.StringIO(), {"display": lambda *shown: None}
    with contextlib.redirect_stdout(said):
        for cell in cells_of(chapter):
            tags = cell.metadata.get("tags", [])
            if cell.cell_type == "code":
                exec(f"seed = {seed}" if "parameters" in tags else cell.source, names)
    lines = [line for line in said.getvalue().splitlines() if line.startswith(f"{chapter}-")]
    asked = [f"{chapter}-{number}" for number in (1, 2, 3)]
    assert [line.split(";")[0] for line in lines] == [
        f"{name}: {end}" for name in asked for end in ("no answer yet", "right")
    ]


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_page_states_its_tolerance_hides_its_solution_and_compares_it(chapter):
    cells = cells_of(chapter)
    for name in (f"{chapter}-{number}" for number in (1, 2, 3)):
        [asked] = [cell for cell in cells if f":label: {name}\n" in cell.source]
        assert KNOWN[name].asked in asked.source
        [start] = [n for n, cell in enumerate(cells) if f"{{solution-start}} {name}" in cell.source]
        assert ":class: dropdown" in cells[start].source
        assert "nbval-check-output" in cells[start + 1].metadata["tags"]
        assert [output.text for output in cells[start + 1].outputs] == [f"{name}: right\n"]
        assert "{solution-end}" in cells[start + 2].source
