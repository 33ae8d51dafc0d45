"""Every public name has a docstring that numpydoc accepts: summary, parameters, returns."""

import doctest
import importlib
import inspect
import pkgutil

import pytest
from numpydoc.validate import validate

import sitetrace
from sitetrace.timeline_model import TimelineModel

VERBS = "read_run", "fit", "load_model", "generate", "evaluate", "simulate_site", "read_site"
CHECKS = {"GL03", "GL08", "PR01", "PR02", "PR03", "PR04", "PR07", "RT01", "RT03", "SS01", "YD01"}
MODULES = sorted(info.name for info in pkgutil.walk_packages(sitetrace.__path__, "sitetrace."))


def public_names(module_name):
    module = importlib.import_module(module_name)
    for name, thing in vars(module).items():
        documented = inspect.isfunction(thing) or inspect.isclass(thing)
        if name.startswith("_") or not documented or thing.__module__ != module_name:
            continue
        yield f"{module_name}.{name}"
        members = vars(thing) if inspect.isclass(thing) else {}
        for member, value in members.items():
            if not member.startswith("_") and (
                isinstance(value, property) or inspect.isfunction(value)
            ):
                yield f"{module_name}.{name}.{member}"


@pytest.mark.parametrize("name", VERBS)
def test_examples_of_the_verbs_run(name):
    thing = TimelineModel.generate if name == "generate" else getattr(sitetrace, name)
    found = doctest.DocTestFinder().find(thing, name, globs={})
    runner = doctest.DocTestRunner()
    failed = sum(runner.run(example).failed for example in found)
    assert failed == 0
    assert runner.tries


@pytest.mark.parametrize("module_name", MODULES)
def test_docstrings_say_what_a_caller_needs(module_name):
    found = {name: validate(name)["errors"] for name in public_names(module_name)}
    lacking = [
        f"{name}: {code} {text}"
        for name, errors in found.items()
        for code, text in errors
        if code in CHECKS
    ]
    assert lacking == []
