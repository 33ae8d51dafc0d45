"""What a package lists says all that a caller needs; every other name says one or two lines."""

import doctest
import importlib
import inspect
import re

import pytest
from numpydoc.validate import validate
from test_house import LIBRARY, MODULES, room

import sitetrace
from sitetrace.core.settings import Part
from sitetrace.power import TimelineModel

VERBS = "read_run", "fit", "load_model", "generate", "evaluate", "simulate_site", "read_site"
CHECKS = {"GL03", "GL08", "PR01", "PR02", "PR03", "PR04", "PR07", "RT01", "RT03", "SS01", "YD01"}
ROOMS = ["sitetrace", *sorted({f"sitetrace.{room(name)}" for name in LIBRARY})]
SHORT = 3  # a line, or a line, an empty one and another


# functions and classes that the packages list, by their full names
PUBLIC = {
    f"{thing.__module__}.{thing.__qualname__}": thing
    for package in map(importlib.import_module, ROOMS)
    for thing in (getattr(package, name) for name in getattr(package, "__all__", ()))
    if inspect.isfunction(thing) or inspect.isclass(thing)
}


def methods(thing):
    """Names and functions of what a class defines itself, properties and class methods too."""
    for name, value in vars(thing).items() if inspect.isclass(thing) else ():
        for wrapped in ("fget", "__func__", "func"):
            value = getattr(value, wrapped, None) or value
        if inspect.isfunction(value) and value.__module__ == thing.__module__:
            yield name, value


def sections(thing):
    return "\n---" in (inspect.getdoc(thing) or "")


# public names, and those methods of public classes that say more than a line
DOCUMENTED = {*PUBLIC} | {
    f"{name}.{inner}"
    for name, thing in PUBLIC.items()
    for inner, value in methods(thing)
    if sections(value)
}


@pytest.mark.parametrize("name", VERBS)
def test_examples_of_the_verbs_run(name):
    thing = {"generate": TimelineModel.generate, "evaluate": sitetrace.evaluate.evaluate}.get(name)
    thing = thing or getattr(sitetrace, name)
    found = doctest.DocTestFinder().find(thing, name, globs={})
    runner = doctest.DocTestRunner()
    assert sum(runner.run(example).failed for example in found) == 0
    assert runner.tries


def untold_fields(thing):
    """Fields of a public record that no comment stands beside or above, nor above a run of them."""
    lines, told = inspect.getsource(thing).splitlines(), False
    for line in lines:
        if line.startswith("    #"):
            told = True
        elif field := re.match(r"    (\w+):", line):
            if not told and "#" not in line and field[1] in thing.__annotations__:
                yield field[1]
        elif line.startswith("    ") and not line.startswith("     "):
            told = False


@pytest.mark.parametrize("name", sorted(DOCUMENTED))
def test_public_docstrings_say_what_a_caller_needs(name):
    thing, checks = PUBLIC.get(name), CHECKS
    record = hasattr(thing, "__dataclass_fields__") or hasattr(thing, "_fields")
    if record or inspect.isclass(thing) and issubclass(thing, Part):
        assert not (record and list(untold_fields(thing)))
        checks = CHECKS - {"PR01"}  # the fields are told where they stand
    assert not [text for code, text in validate(name)["errors"] if code in checks]


@pytest.mark.parametrize("name", MODULES)
def test_all_other_docstrings_are_short(name):
    for thing in vars(importlib.import_module(name)).values():
        if getattr(thing, "__module__", None) != name or not hasattr(thing, "__qualname__"):
            continue
        public = f"{name}.{thing.__qualname__}" in PUBLIC
        others = [] if public else [thing]
        others += [value for _, value in methods(thing) if not (public and sections(value))]
        for each in others:
            assert len(inspect.cleandoc(each.__doc__ or "").splitlines()) <= SHORT, each
