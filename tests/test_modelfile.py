"""A model file gives back the same bytes, and a damaged one is refused by name, never followed."""

import copy
import json
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sitetrace.core.files import InputError
from sitetrace.core.registry import data_dir
from sitetrace.core.types import Configuration, Run
from sitetrace.power.modelfile import load_model, save_model, summary
from sitetrace.power.states import labels, trees
from sitetrace.power.states.fit import fit_parts
from sitetrace.power.states.labels import idle_of, prepare, usable
from sitetrace.power.states.mixture import fit_mixture
from sitetrace.power.states.model import StatesModel
from sitetrace.serving.activity import COLUMNS
from sitetrace.serving.surrogates import ConstantRate, LogNormalTTFT
from sitetrace.testbed import Testbed, simulate_run
from sitetrace.workload.streams import poisson

DT = Fraction(1, 4)
KINDS = ("markov", "logit", "trees")
FEW = pd.DataFrame({"arrival_s": [0.0, 0.4], "input_tokens": [300, 20], "output_tokens": [6, 9]})
PROVENANCE = {
    "data": "testbed",
    "runs": [{"name": "made up", "sha256": "0" * 64}],
    "seed": 1,
    "selection": {"transitions": [{"kind": "logit", "ks": 0.05}]},
    "calibration": {
        "misfit": {"running": {"mean_error": 0.54, "points": 60}},
        "failed": ["running requests: mean error 54.0%, more than 30.0%"],
    },
    "defaults": {"c4_s": "no arch in run.json"},
}


def fitted():
    """One small model of each kind."""
    tables = simulate_run(
        Testbed(), poisson(2.0, 60.0, np.random.default_rng(3)), np.random.default_rng(2)
    )
    configuration = Configuration("testbed-8b", "testbed", 1)
    run = Run("r", configuration, tables["requests"], tables["power"], DT, None, {}, "0")
    frame = prepare([run], Testbed().server, DT)
    power_w, idle = frame["power_w"].to_numpy(), idle_of(frame)
    mixture = fit_mixture(power_w[usable(frame, idle)[1]], 3, 1)
    limits, seen = (float(power_w.min()), float(power_w.max())), {"active": 9}
    everything = np.ones(len(frame), dtype=bool)
    return {
        kind: StatesModel(
            configuration, DT, Testbed().server, idle, mixture,
            *fit_parts(frame, idle, mixture, kind, "ar1", COLUMNS, everything),
            limits, seen, PROVENANCE,
        )
        for kind in KINDS
    }  # fmt: skip


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


@pytest.mark.parametrize(
    "server", [ConstantRate(4e3, 40.0), LogNormalTTFT(-5.0, 0.7, 0.3, -2.0, 0.1, 0.02, 0.004, 64)]
)
def test_the_papers_surrogates_are_kept_too(tmp_path, server):
    save_model(replace(MODELS["logit"], server=server), tmp_path / "model.json")
    assert load_model(tmp_path / "model.json").server == server


def test_a_summary_names_states_data_and_selection():
    text = summary(MODELS["logit"])
    for told in ("3 states above idle, logit", "testbed: made up (000000000000)", "ks=0.05"):
        assert told in text
    for told in ("(60 points)", "failed", "54.0%", "c4_s (no arch in run.json)"):
        assert told in text


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
    for schema in (0, 2, "1", None, [1]):
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
    "dt zero": ("logit", ("dt_s",), "0/4", "dt_s"),
    "dt that fills the memory": ("logit", ("dt_s",), "1e999999999", "dt_s"),
    "no GPU": ("logit", ("configuration", "tensor_parallel"), 0, "tensor_parallel"),
    "engine unknown": ("logit", ("server", "kind"), "magic", "kind 'magic'"),
    "engine at a standstill": ("logit", ("server", "c0_s"), 0.0, "c0_s"),
    "a step of an hour": ("logit", ("server", "c1_s"), 3600.0, "server"),
    "too many sequences": ("logit", ("server", "max_num_seqs"), 10**15, "server"),
    "idle NaN": ("logit", ("idle", "mean_w"), float("nan"), "mean_w"),
    "idle without spread": ("logit", ("idle", "deviation_w"), [], "deviation_w"),
    "hold below zero": ("logit", ("idle", "hold_s"), -1.0, "hold_s"),
    "states of different number": ("logit", ("mixture", "mean_w"), [1.0, 2.0], "sigma_w"),
    "no states": ("logit", ("mixture", "mean_w"), [], "mixture"),
    "sigma zero": ("logit", ("mixture", "sigma_w", 0), 0.0, "sigma_w"),
    "sigma text": ("logit", ("mixture", "sigma_w", 0), "wide", "sigma_w"),
    "weights above one": ("logit", ("mixture", "weight", 0), 2.0, "weight"),
    "emissions unknown": ("logit", ("emissions", "kind"), "laplace", "emissions"),
    "phi of one": ("logit", ("emissions", "phi", 0), 1.0, "phi"),
    "one quantile": ("logit", ("emissions", "quantile_w"), [[1.0]] * 3, "quantile_w"),
    "range upside down": ("logit", ("power_range_w",), [500.0, 80.0], "power_range_w"),
    "transitions unknown": ("logit", ("transitions", "kind"), "gru", "kind 'gru'"),
    "unknown column": ("logit", ("transitions", "columns", 0), "luck", "columns"),
    "scale zero": ("logit", ("transitions", "scale", 0), 0.0, "scale"),
    "too few states": ("logit", ("transitions", "intercept"), [0.0, 0.0], "no sound model"),
    "one center for all": ("logit", ("transitions", "center"), -1.0, "center"),
    "edges down": ("markov", ("transitions", "edges"), [3.0, 2.0, 1.0, 0.0], "edges"),
    "too few levels": ("markov", ("transitions", "edges"), [1.0], "probability"),
    "no probability": ("markov", ("transitions", "probability", 0, 0, 0), 2.0, "probability"),
    "unknown driver": ("markov", ("transitions", "column"), "luck", "column"),
    "tree in a circle": ("trees", ("transitions", "left", 0), 0, "branch"),
    "branch to nowhere": ("trees", ("transitions", "left", 0), 10**9, "branch"),
    "root nowhere": ("trees", ("transitions", "roots", 0, 1), 10**9, "root"),
    "feature nowhere": ("trees", ("transitions", "feature", 0), 99, "feature"),
    "half a node": ("trees", ("transitions", "left", 0), 1.5, "whole number"),
    "nodes of different number": ("trees", ("transitions", "value"), [0.5], "value"),
    "fitted text": ("logit", ("fitted", "active"), "many", "fitted.active"),
    "NaN in provenance": ("logit", ("provenance", "seed"), float("nan"), "no sound model"),
    "no data named": ("logit", ("provenance",), {}, "missing"),
    "runs without names": ("logit", ("provenance", "runs"), [{}], "name"),
}  # fmt: skip


def put(content, path, value):
    changed = copy.deepcopy(content)
    place = changed
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return changed


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_refused_by_file_and_part(place, contents, name):
    kind, path, value, told = DAMAGE[name]
    refused(place, put(contents[kind], path, value), told)


def test_a_tree_may_split_at_what_the_trees_see_and_at_nothing_else(place, contents):
    # the damages above hit inner nodes and not leaves, where a branch has no meaning
    assert contents["trees"]["transitions"]["feature"][0] >= 0
    columns = contents["trees"]["transitions"]["columns"]
    seen = labels.window_features(dict.fromkeys(columns, [0.0]), columns, trees.WINDOW).shape[1]
    place.write_text(json.dumps(put(contents["trees"], ("transitions", "feature", 0), seen)))
    load_model(place)  # the last is the previous state
    beyond = put(contents["trees"], ("transitions", "feature", 0), seen + 1)
    refused(place, beyond, "feature")


def places(part, path=()):
    """Paths to everything within a JSON value."""
    yield path
    items = part.items() if isinstance(part, dict) else enumerate(part) if isinstance(
        part, list) else ()  # fmt: skip
    for key, value in items:
        yield from places(value, (*path, key))


NASTY = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 40), st.integers(), st.floats(),
    st.sampled_from([0, -1, 0.0, 1e308, -1e308, 1e-308, 1e6, 2**63, 10**30, "", "nan", "1e9",
                     [], {}, [[]], "1/4", "1/1000", "3600/1", "trees", "markov", "empirical",
                     "active"]),
    st.lists(st.floats(0, 1e3), max_size=4),
)  # fmt: skip


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


def test_nothing_is_left_where_a_model_cannot_be_written(tmp_path):
    with pytest.raises(InputError, match="cannot be written"):
        save_model(MODELS["logit"], tmp_path / "no" / "model.json")
    assert list(tmp_path.iterdir()) == []
