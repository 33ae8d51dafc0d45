"""Chapters have one skeleton: a reader always knows where question, analysis and answer stand."""

import ast
import json
import re
from pathlib import Path

import pytest

from sitebook.ledger import claims

ROOT = Path(__file__).parents[2]
PAGE_LINES, CELL_LINES, FIRST_LINES, MANY_PARAMETERS = 90, 20, 15, 9
LONGER = {"rereading": 200}  # code lines of the page that is all formulas
FIGURE = re.compile(r"\bfigures\.(?:curves|times|rows|densities|quantiles|heat|bars)\(")
TERM = re.compile(r"\{term\}`(?:[^`<]*<)?([^`<>]+)>?`")


def read(path: Path) -> list[dict]:
    cells = json.loads(path.read_text("utf-8"))["cells"]
    return [cell | {"text": "".join(cell["source"])} for cell in cells]


def chapters() -> dict[str, list[dict]]:
    """Those that show their own analysis: others still stand on the former code of the book."""
    found = {path.stem: read(path) for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}
    old = re.compile(r"\bsitebook\.old\b")
    return {n: c for n, c in found.items() if not any(old.search(cell["text"]) for cell in c)}


CHAPTERS = chapters()
pages = pytest.mark.parametrize("page", CHAPTERS)


def code_of(page: str) -> list[str]:
    return [cell["text"] for cell in CHAPTERS[page] if cell["cell_type"] == "code"]


def prose_of(page: str) -> list[str]:
    return [cell["text"] for cell in CHAPTERS[page] if cell["cell_type"] == "markdown"]


def lines(text: str) -> int:
    return sum(bool(line.strip()) for line in text.splitlines())


def tagged(page: str, tag: str) -> list[dict]:
    return [cell for cell in CHAPTERS[page] if tag in cell["metadata"].get("tags", [])]


@pages
def test_a_page_begins_with_question_claim_and_what_was_found(page):
    first, second = prose_of(page)[:2]
    assert first.startswith("# ")
    assert [
        word
        for word in ("**Question.**", "**Claim.**", "**In short.**")
        if word not in first + second  # what is in short may depend on the data
    ] == []
    assert lines(first) <= FIRST_LINES
    [cell] = tagged(page, "parameters")
    assert cell["text"] == code_of(page)[0] and cell["text"].startswith("dataset = ")
    assert len(ast.parse(cell["text"]).body) <= MANY_PARAMETERS
    assert "page.begin(" in code_of(page)[1]


@pages
def test_the_analysis_fits_on_the_page_and_defines_nothing(page):
    defined = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    for text in code_of(page):
        assert not any(isinstance(node, defined) for node in ast.walk(ast.parse(text))), text
        assert lines(text) <= CELL_LINES, text
    assert sum(map(lines, code_of(page))) <= LONGER.get(page, PAGE_LINES)


@pages
def test_a_cell_draws_one_figure_with_caption_and_alternative_text(page):
    for cell in CHAPTERS[page]:
        if cell["cell_type"] == "code" and FIGURE.search(cell["text"]):
            assert len(FIGURE.findall(cell["text"])) == 1, cell["text"]
            told = cell["metadata"].get("mystnb", {})
            assert told.get("figure", {}).get("caption") and told.get("image", {}).get("alt"), cell[
                "text"
            ]


@pages
def test_a_page_ends_with_its_answer_and_what_follows(page):
    assert any(re.search(r"^## Answer$", text, re.MULTILINE) for text in prose_of(page))
    assert CHAPTERS[page][-1]["cell_type"] == "markdown"
    assert len(tagged(page, "nbval-check-output")) >= 1
    code = "\n".join(code_of(page))
    answers = re.search(r"\b(?:answer|follow|bar)\(", code)
    assert not answers or "show_answers()" in code
    for cell in tagged(page, "nbval-check-output"):
        kept = cell["outputs"] and cell["execution_count"]
        assert kept, "its output is what nbval compares: keep that of the testbed, with a count"


@pages
def test_claims_that_are_answered_exist(page):
    asked = re.findall(r"\b(?:answer|follow)\(\s*\"([^\"{}]+)\"", "\n".join(code_of(page)))
    assert [claim for claim in asked if claim not in claims().index] == []


@pages
def test_terms_sources_and_numbers_of_the_prose_are_there(page):
    prose, code = "\n".join(prose_of(page)), "\n".join(code_of(page))
    glossary = (ROOT / "book" / "glossary.md").read_text("utf-8").lower().splitlines()
    assert [term for term in TERM.findall(prose) if term.lower() not in glossary] == []
    known = re.findall(
        r"^@\w+\{([^,]+),", (ROOT / "book" / "references.bib").read_text("utf-8"), re.MULTILINE
    )
    cited = [
        key for keys in re.findall(r"\{cite(?::\w+)?\}`([^`]+)`", prose) for key in keys.split(",")
    ]
    assert [key for key in cited if key.strip() not in known] == []
    # numbers that are handed over in one sweep have names that the code makes up: ** tells
    glued = re.findall(r"\{glue:(?:text|)\}`(\w+)", prose)
    if "page.glue(**" not in code:
        assert [name for name in glued if not re.search(rf"\b{name}=", code)] == []
    assert not glued or "page.glue(" in code


@pages
def test_links_lead_somewhere_from_the_folder_of_the_notebooks(page):
    targets = re.findall(r"\]\(([^)#\s]+)", "\n".join(prose_of(page)))
    local = [target for target in targets if "://" not in target]
    assert [target for target in local if not (ROOT / "notebooks" / target).exists()] == []
