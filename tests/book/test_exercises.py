"""A check says right to what is right, and names the usual mistake."""

import json

import numpy as np
import pytest

from sitebook.exercises import PAGES, chapters, check, read_page, solution, verdict
from sitetrace.core.files import InputError

TWO_SEEDS = (1, 2)
TOLERANCE = {
    name: tolerance
    for chapter in chapters()
    for name, (_, tolerance) in read_page(chapter)[0].items()
}
EACH = [(name, seed) for name in TOLERANCE for seed in TWO_SEEDS]


def test_every_page_asks_three_questions():
    assert len(chapters()) == 19
    assert list(TOLERANCE) == [
        f"{chapter}-{number}" for chapter in chapters() for number in (1, 2, 3)
    ]


@pytest.mark.parametrize(("name", "seed"), EACH)
def test_what_the_page_solves_is_right_up_to_its_tolerance(name, seed):
    right, _ = solution(name, seed)
    for off in (0.0, -0.99, 0.99):
        assert verdict(name, np.float64(right + off * TOLERANCE[name]), seed) == f"{name}: right"
    assert verdict(name, right + 1.5 * TOLERANCE[name], seed) != f"{name}: right"


@pytest.mark.parametrize(("name", "seed"), EACH)
def test_a_usual_mistake_is_told_from_what_is_right_and_from_the_others(name, seed):
    _, mistakes = solution(name, seed)
    assert mistakes
    for hint, wrong in mistakes.items():
        assert verdict(name, wrong, seed) == f"{name}: not yet: {hint}"
    assert verdict(name, 1e9, seed) == f"{name}: not yet"


@pytest.mark.parametrize(
    ("factor", "said"), [(-1, "sign"), (100, "percent"), (1000, "unit"), (3600, "watt-hours")]
)
def test_a_wrong_sign_or_unit_is_named_in_any_exercise(factor, said):
    assert said in verdict("question-2", factor * solution("question-2", 1)[0])


def test_what_is_no_number_is_told_so():
    assert verdict("states-1", None) == "states-1: no answer yet; wanted to within 0.5 W"
    for answer in ("three", float("nan"), float("inf"), [1.0], True):
        assert verdict("states-1", answer).startswith("states-1: not a number"), answer


@pytest.mark.parametrize("name", ["states-4", "../states-1", "states"])
def test_an_unknown_exercise_is_refused_with_those_there_are(name):
    with pytest.raises(InputError, match=f"{name!r}: no such exercise: .*states-1, states-2"):
        check(name, 1.0)


def test_another_seed_has_another_right_answer():
    here, there = (solution("data-2", seed)[0] for seed in TWO_SEEDS)
    assert verdict("data-2", here, 2) != "data-2: right"
    assert verdict("data-2", there, 2) == "data-2: right"


@pytest.mark.parametrize("chapter", chapters())
def test_a_page_hides_its_solutions_and_compares_what_they_print(chapter):
    cells = json.loads((PAGES / f"{chapter}.ipynb").read_text("utf-8"))["cells"]
    texts = ["".join(cell["source"]) for cell in cells]
    for name in read_page(chapter)[0]:
        [start] = [n for n, text in enumerate(texts) if f"{{solution-start}} {name}\n" in text]
        assert ":class: dropdown" in texts[start]
        assert texts[start - 1] == f'answer = None\ncheck("{name}", answer, seed)'
        assert texts[start + 1].endswith(f'check("{name}", answer, seed)')
        assert "nbval-check-output" in cells[start + 1]["metadata"]["tags"]
        assert ["".join(each["text"]) for each in cells[start + 1]["outputs"]] == [
            f"{name}: right\n"
        ]
        assert "{solution-end}" in texts[start + 2]
