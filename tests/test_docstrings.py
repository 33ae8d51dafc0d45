"""Every public name has a docstring that numpydoc accepts: summary, parameters, returns."""

import doctest
import importlib
import inspect

import pytest
from numpydoc.validate import validate

import sitetrace
from sitetrace.timeline_model import TimelineModel

VERBS = "read_run", "fit", "load_model", "generate", "evaluate", "simulate_site", "read_site"
CHECKS = {"GL03", "GL08", "PR01", "PR02", "PR03", "PR04", "PR07", "RT01", "RT03", "SS01", "YD01"}
PUBLIC = {
    "trace": "Configuration PowerTrace Run",
    "timeline": "Timeline",
    "files": "InputError",
    "datasets": "dataset_path shipped_model",
    "requests": "read_requests",
    "azure": "read_azure",
    "workload": "bursty diurnal poisson replay switching write_requests",
    "token_lengths": "LogNormalLengths",
    "streams": "Bursty Poisson Replay",
    "clients": "Clients",
    "traffic_fit": "draw_traffic fit_traffic",
    "rundir": "read_run write_run",
    "ingest": "ingest",
    "storage": "read_trace write_trace",
    "fetching": "fetch verify",
    "serving": "Engine Server simulate",
    "surrogates": "ConstantRate LogNormalTTFT",
    "activity": "activity_table",
    "calibration": "calibrate",
    "routing": "route",
    "meter": "Meter",
    "readings": "Residual drawn_w expected_w",
    "evaluation": "evaluate",
    "metrics": "acf acf_r2 correlation energy_error_pct ks_distance nrmse scores",
    "floors": "noise_floor",
    "baselines": "baselines",
    "generator": "StatesModel",
    "timeline_model": "TimelineModel",
    "surface": "Surface",
    "states": "Mixture",
    "emissions": "Emissions",
    "idle": "Idle",
    "fitting": "fit",
    "published": "paper_model",
    "modelfile": "load_model save_model",
    "testbed": "Testbed run write_dataset",
    "scenario": "Scenario read_scenario",
    "site": "simulate_site",
    "sitefile": "read_site",
    "planning": "coincidence_factor diversity_factor load_duration load_factor par ramps resample",
    "exports": "Intervals export intervals",
    "report": "write_report",
    "clock_rule": "ClockRule clocked",
    "lockstep": "run_row",
}
MODULES = sorted(f"sitetrace.{name}" for name in PUBLIC)


def public_names(module_name):
    module = importlib.import_module(module_name)
    for name, thing in vars(module).items():
        documented = inspect.isfunction(thing) or inspect.isclass(thing)
        if not documented or name not in PUBLIC[module_name.removeprefix("sitetrace.")].split():
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
