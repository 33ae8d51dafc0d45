"""A model file gives back the same bytes, and a damaged one is refused by name, never followed."""

import copy
import json
from fractions import Fraction
from functools import reduce
from operator import getitem

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_site import run_of

from sitetrace.core.files import InputError
from sitetrace.core.registry import data_dir
from sitetrace.power.modelfile import load_model, save_model, summary
from sitetrace.power.states.fit import fit_parts
from sitetrace.power.states.labels import idle_of, prepare, usable
from sitetrace.power.states.mixture import fit_mixture
from sitetrace.power.states.model import StatesModel
from sitetrace.serving.activity import COLUMNS
from sitetrace.testbed import Testbed, simulate_run
from sitetrace.workload.streams import poisson

DT = Fraction(1, 4)
KINDS = ("markov", "logit", "trees")
FEW = pd.DataFrame({"arrival_s": [0.0, 0.4], "input_tokens": [300, 20], "output_tokens": [6, 9]})
CALIBRATION = {
    "misfit": {"running": {"mean_error": 0.54, "points": 60}},
    "failed": ["running requests: mean error 54.0%, more than 30.0%"],
}
PROVENANCE = {"data": "testbed", "runs": [{"name": "made up", "sha256": "0" * 64}], "seed": 1}
PROVENANCE |= {"selection": {"transitions": [{"kind": "logit", "ks": 0.05}]}}
PROVENANCE |= {"calibration": CALIBRATION, "defaults": {"c4_s": "no arch in run.json"}}


def fitted():
    """One small model of each kind."""
    rng = np.random.default_rng(3)
    tables = simulate_run(Testbed(), poisson(2.0, 60.0, rng), np.random.default_rng(2))
    run = run_of(tables["requests"], tables["power"])
    frame = prepare([run], Testbed().server, DT)
    power_w, idle = frame["power_w"].to_numpy(), idle_of(frame)
    mixture = fit_mixture(power_w[usable(frame, idle)[1]], 3, 1)
    limits, models = (float(power_w.min()), float(power_w.max())), {}
    for kind in KINDS:
        parts = fit_parts(frame, idle, mixture, kind, "ar1", COLUMNS, np.ones(len(frame), bool))
        known = (run.configuration, DT, Testbed().server, idle, mixture)
        models[kind] = StatesModel(*known, *parts, limits, {"active": 9}, PROVENANCE)
    return models


MODELS = fitted()


def content_of(model, folder):
    save_model(model, folder / "model.json")
    return json.loads((folder / "model.json").read_text())


@pytest.fixture(scope="module")
def contents(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {kind: content_of(model, folder) for kind, model in MODELS.items()}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("damaged") / "model.json"


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_read_again_gives_the_same_bytes_and_power(tmp_path, kind):
    save_model(MODELS[kind], tmp_path / "first.json")
    again = load_model(tmp_path / "first.json")
    save_model(again, tmp_path / "second.json")
    assert (tmp_path / "first.json").read_bytes() == (tmp_path / "second.json").read_bytes()
    first, second = (
        model.generate(FEW, rng=np.random.default_rng(3)).power_w for model in (MODELS[kind], again)
    )
    assert (first == second).all()


def test_all_shipped_models_are_written_again_as_they_are(tmp_path):
    for path in sorted((data_dir() / "models").glob("*.json")):
        save_model(load_model(path), tmp_path / path.name)
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()
        if path.with_suffix(".npz").is_file():
            again = tmp_path / path.with_suffix(".npz").name
            assert again.read_bytes() == path.with_suffix(".npz").read_bytes()


def refused(place, content, told):
    place.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(InputError) as error:
        load_model(place)
    message = str(error.value)
    assert message.startswith(str(place))
    assert "\n" not in message
    assert told in message, message


def test_a_file_cut_in_half_or_missing_is_refused(place, contents):
    text = json.dumps(contents["logit"])
    refused(place, text[: len(text) // 2], "no complete JSON")
    refused(place, "", "no complete JSON")
    refused(place, "[1]", "no JSON object")
    with pytest.raises(InputError, match="no such file"):
        load_model(place.with_name("none.json"))
    for schema in (0, "1", None, [1]):
        refused(place, contents["logit"] | {"schema": schema}, "field schema")
    refused(place, contents["logit"] | {"kind": "nameplate"}, "field kind")


@pytest.mark.parametrize("kind", KINDS)
def test_every_missing_field_is_named(place, contents, kind):
    for name, part in contents[kind].items():
        lacking = {key: value for key, value in contents[kind].items() if key != name}
        refused(place, lacking, name)
        if isinstance(part, dict) and name not in ("fitted", "provenance"):
            for field in part:
                changed = copy.deepcopy(contents[kind])
                del changed[name][field]
                refused(place, changed, field)


DAMAGE = {
    "logit": [
        (("dt_s",), "1e999999999", "dt_s"),  # that fills the memory
        (("configuration", "tensor_parallel"), 0, "tensor_parallel"),
        (("server", "max_num_seqs"), 10**15, "server"),
        (("idle", "deviation_w"), [], "deviation_w"),
        (("mixture", "mean_w"), [1.0, 2.0], "sigma_w"),
        (("mixture", "weight", 0), 2.0, "weight"),
        (("emissions", "kind"), "laplace", "emissions"),
        (("power_range_w",), [500.0, 80.0], "power_range_w"),
        (("transitions", "columns", 0), "luck", "columns"),
        (("provenance", "seed"), float("nan"), "no sound model"),
        (("provenance", "runs"), [{}], "name"),
    ],
    "trees": [
        (("transitions", "left", 0), 0, "branch"),  # a circle
        (("transitions", "roots", 0, 1), 10**9, "root"),
        (("transitions", "left", 0), 1.5, "whole number"),
    ],
    "markov": [
        (("transitions", "edges"), [3.0, 2.0, 1.0, 0.0], "edges"),
        (("transitions", "probability", 0, 0, 0), 2.0, "probability"),
        (("transitions", "column"), "luck", "column"),
    ],
}


def put(content, path, value):
    changed = copy.deepcopy(content)
    place = reduce(getitem, path[:-1], changed)
    place[path[-1]] = value
    return changed


@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_refused_by_file_and_part(place, contents, kind):
    for path, value, told in DAMAGE[kind]:
        refused(place, put(contents[kind], path, value), told)


def places(part, path=()):
    """Paths to everything within a JSON value."""
    yield path
    listed = dict(enumerate(part)) if isinstance(part, list) else part
    for key, value in listed.items() if isinstance(listed, dict) else ():
        yield from places(value, (*path, key))


ODD = [0, -1, 0.0, 1e308, -1e308, 1e-308, 1e6, 2**63, 10**30, "", "nan", "1e9", [], {}, [[]]]
ODD += ["1/4", "1/1000", "3600/1", "trees", "markov", "empirical", "active"]
NASTY = st.none() | st.booleans() | st.integers(-3, 40) | st.integers() | st.floats()
NASTY |= st.sampled_from(ODD) | st.lists(st.floats(0, 1e3), max_size=4)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=80, deadline=None)
@given(part=st.integers(0, 10**6), inside=st.integers(0, 10**6), value=NASTY)
def test_a_changed_file_generates_finite_power_or_is_refused(
    place, contents, kind, part, inside, value
):
    content = contents[kind]
    name = sorted(content)[part % len(content)]
    below = list(places(content[name]))
    path = (name, *below[inside % len(below)])
    place.write_text(json.dumps(put(content, path, value)))
    try:
        model = load_model(place)
        trace = model.generate(FEW, rng=np.random.default_rng(1), lead_s=2.0, tail_s=2.0)
    except InputError as error:
        assert "\n" not in str(error)
        return
    assert np.isfinite(trace.power_w).all()
    assert (trace.power_w >= 0).all()
    assert summary(model)
