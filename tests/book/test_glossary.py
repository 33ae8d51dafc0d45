"""The glossary has every term once, and what the book refers to is in it."""

import re
from pathlib import Path

import nbformat

ROOT = Path(__file__).parents[2]
GLOSSARY = (ROOT / "book" / "glossary.md").read_text("utf-8")
TERM = re.compile(r"\{term\}`(?:[^`<]*<)?([^`<>]+)>?`")


def terms() -> list[str]:
    blocks = re.findall(r"```\{glossary\}\n(.*?)```", GLOSSARY, re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if re.match(r"\S", line)]


def units() -> list[str]:
    table = GLOSSARY.partition("## Units")[2]
    names = [line.split("|")[1] for line in table.splitlines() if line.startswith("|")][2:]
    return [unit.strip() for name in names for unit in name.split(",")]


def texts() -> list[str]:
    pages = [path.read_text("utf-8") for path in sorted((ROOT / "book").glob("*.md"))]
    for path in sorted((ROOT / "notebooks").rglob("*.ipynb")):
        pages += [cell.source for cell in nbformat.read(path, as_version=4).cells]
    return pages


def test_no_term_and_no_unit_stands_twice():
    listed = [entry.lower() for entry in terms()] + units()
    assert len(terms()) > 80
    assert sorted(listed) == sorted(set(listed))


def test_every_term_is_explained():
    for line, following in zip(GLOSSARY.splitlines(), GLOSSARY.splitlines()[1:], strict=False):
        if line in terms():
            assert following.startswith("  "), line


def test_the_abbreviations_of_the_field_are_there():
    known = {entry.lower() for entry in terms()}
    named = "TTFT,TPOT,KV cache,BIC,EM,GRU,AR(1),ACF,ACF R²,KS,NRMSE,TDP,PAR,CoV,LDC,PUE,nats"
    named = [*named.split(","), "dwell time", "free run", "oracle", "marginal", "block bootstrap"]
    assert {name.lower() for name in named} <= known


def test_what_pages_refer_to_is_explained():
    known = {entry.lower() for entry in terms()}
    referred = {name.lower() for text in texts() for name in TERM.findall(text)}
    assert referred
    assert referred <= known
