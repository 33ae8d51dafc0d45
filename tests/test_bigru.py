"""The net's inference is torch's without torch, over a whole series; its weights lie in a file."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import sitetrace
from sitebook.judging import splits
from sitetrace.core.files import InputError
from sitetrace.power.modelfile import load_model, save_model, summary
from sitetrace.power.states import bigru
from sitetrace.power.states.bigru import WEIGHTS, BiGRU
from sitetrace.power.states.transitions import log_likelihood
from sitetrace.serving.activity import COLUMNS, PAPER_COLUMNS

SAMPLE = json.loads((Path(__file__).parent / "samples" / "gru_from_torch.json").read_text())
BASE = load_model(sitetrace.shipped_model("testbed"))


def net_of(hidden, n_states, rng, columns=PAPER_COLUMNS):
    shapes = {
        "input_weight": (2, 3 * hidden, len(columns)), "input_bias": (2, 3 * hidden),
        "hidden_weight": (2, 3 * hidden, hidden), "hidden_bias": (2, 3 * hidden),
        "head": (n_states, 2 * hidden), "head_bias": (n_states,),
    }  # fmt: skip
    weights = {name: rng.normal(0, 0.5, shape).astype("f4") for name, shape in shapes.items()}
    return BiGRU(columns, np.zeros(len(columns)), np.ones(len(columns)), **weights)


def activity(n, rng):
    table = pd.DataFrame({name: rng.integers(0, 5, n).astype(float) for name in COLUMNS})
    return table.assign(quiet_for_s=0.0)


def test_inference_gives_what_torch_gave():
    weights = {name: np.array(SAMPLE["weights"][name], dtype="f4") for name in WEIGHTS}
    net = BiGRU(PAPER_COLUMNS, np.zeros(2), np.ones(2), **weights)
    assert net.logits(np.array(SAMPLE["series"])) == pytest.approx(
        np.array(SAMPLE["logits"]), abs=1e-5
    )


def test_standardised_columns_are_what_the_net_sees():
    rng = np.random.default_rng(1)
    net, table = net_of(4, 3, rng), activity(30, rng)
    shifted = table.assign(active=table["active"] * 2 + 3)
    moved = replace(net, center=np.array([3.0, 0.0]), scale=np.array([2.0, 1.0]))
    assert moved.matrix(shifted) == pytest.approx(net.matrix(table))


def test_probabilities_do_not_depend_on_the_state_before_and_cost_no_memory_for_it():
    rng = np.random.default_rng(2)
    matrix = net_of(4, 6, rng).matrix(activity(40, rng))
    assert matrix.shape == (40, 6, 6)
    assert matrix.sum(axis=2) == pytest.approx(1)
    assert (matrix == matrix[:, :1]).all()
    assert matrix.strides[1] == 0


def test_the_net_sees_the_whole_series_both_ways():
    rng = np.random.default_rng(3)
    net, table = net_of(8, 3, rng), activity(50, rng)
    whole = net.matrix(table)
    for changed, seen in ((49, 45), (0, 4)):
        other = table.copy()
        other.loc[changed, "active"] += 4
        assert np.abs(net.matrix(other)[seen] - whole[seen]).max() > 1e-9


def test_long_series_are_one_series(monkeypatch):
    rng = np.random.default_rng(4)
    net, table = net_of(8, 4, rng), activity(1000, rng)
    table["quiet_for_s"] = 0.0
    quiet = rng.random(1000) < 0.1
    uniform = np.random.default_rng(5).random(len(table))
    whole, path = net.matrix(table), net.path(table, quiet, uniform, 0)
    monkeypatch.setattr(bigru, "CHUNK", 97)
    assert net.matrix(table) == pytest.approx(whole, abs=1e-12)
    assert (net.path(table, quiet, uniform, 0) == path).all()
    assert (path[quiet] == 0).all()


def test_an_empty_table_gives_an_empty_path():
    rng = np.random.default_rng(7)
    path = net_of(4, 3, rng).path(activity(1, rng)[:0], np.zeros(0, dtype=bool), np.zeros(0), 0)
    assert path.size == 0


@pytest.fixture
def saved(tmp_path):
    rng = np.random.default_rng(8)
    net = net_of(6, BASE.mixture.n_states + 1, rng)
    save_model(replace(BASE, transitions=net), tmp_path / "net.json")
    return tmp_path / "net.json"


def test_reading_and_writing_again_gives_the_same_bytes(saved):
    again = saved.with_name("again.json")
    save_model(load_model(saved), again)
    assert again.read_bytes() == saved.read_bytes()
    assert again.with_suffix(".npz").read_bytes() == saved.with_suffix(".npz").read_bytes()
    assert "bigru transitions" in summary(load_model(saved))


def refused(path, told):
    with pytest.raises(InputError) as error:
        load_model(path)
    assert "\n" not in str(error.value)
    assert told in str(error.value), error.value


def test_weights_that_are_cut_missing_or_of_another_net_are_refused(saved):
    beside = saved.with_suffix(".npz")
    whole = beside.read_bytes()
    beside.write_bytes(whole[: len(whole) // 2])
    refused(saved, f"{beside}: weights missing or damaged (not the weights that the model file")
    beside.unlink()
    refused(saved, str(beside))
    rng = np.random.default_rng(9)
    save_model(replace(BASE, transitions=net_of(6, 10, rng)), saved.with_name("other.json"))
    saved.with_name("other.npz").rename(beside)
    refused(saved, "not the weights that the model file names")
    beside.write_bytes(whole)
    load_model(saved)


def described_by(saved, arrays):
    """Put other arrays beside the model file, and their digest into it."""
    beside = saved.with_suffix(".npz")
    if isinstance(arrays, dict):
        np.savez(beside, **arrays)
    else:
        beside.write_bytes(arrays)
    content = json.loads(saved.read_text())
    content["transitions"]["weights_sha256"] = hashlib.sha256(beside.read_bytes()).hexdigest()
    saved.write_text(json.dumps(content))


def test_weights_that_fit_no_net_are_refused_whatever_their_digest(saved):
    good = dict(np.load(saved.with_suffix(".npz")))
    for name in WEIGHTS:
        for arrays, told in (
            ({key: value for key, value in good.items() if key != name}, name),
            (good | {name: good[name][..., :-1]}, "shape"),
            (good | {name: np.full_like(good[name], np.nan)}, name),
            (good | {name: good[name].astype(str)}, name),
        ):
            described_by(saved, arrays)
            refused(saved, told)
    described_by(saved, b"no archive")
    refused(saved, "damaged")
    described_by(saved, good)
    load_model(saved)
    content = json.loads(saved.read_text())
    del content["transitions"]["weights_sha256"]
    saved.write_text(json.dumps(content))
    refused(saved, "weights_sha256")


def test_nothing_is_left_where_a_model_cannot_be_written(tmp_path):
    model = replace(BASE, transitions=net_of(6, 10, np.random.default_rng(1)))
    (tmp_path / "taken.json").mkdir()
    for place, told in (
        ("no/model.json", "cannot be written"),
        ("model.npz", "name it .json"),
        ("taken.json", "cannot be written"),
    ):
        with pytest.raises(InputError, match=told):
            save_model(model, tmp_path / place)
    assert [path.name for path in tmp_path.iterdir()] == ["taken.json"]


@pytest.mark.parametrize("name", splits.splits())
def test_shipped_nets_differ_from_the_shipped_models_in_their_transitions_alone(name):
    shipped, net = (load_model(sitetrace.shipped_model(name + end)) for end in ("", "_bigru"))
    assert isinstance(net.transitions, BiGRU)
    assert net.transitions.columns == PAPER_COLUMNS
    assert net.transitions.hidden_weight.shape == (2, 192, 64)
    assert (net.mixture.mean_w == shipped.mixture.mean_w).all()
    assert (net.idle.deviation_w == shipped.idle.deviation_w).all()
    assert (net.server, net.fitted) == (shipped.server, shipped.fitted)
    for told in ("runs", "from_s", "to_s", "seed", "data"):
        assert net.provenance[told] == shipped.provenance[told]
    training = net.provenance["training"]
    best = training["best_epoch"]
    assert training["held_out_nats"][best - 1] == min(training["held_out_nats"])
    assert len(training["held_out_nats"]) == best + 50 == len(training["train_nats"])


def test_the_shipped_net_knows_more_than_the_frequencies_of_the_states():
    from sitebook.nets.gru_features import cross_entropy, labelled, null_entropy

    net = load_model(sitetrace.shipped_model("testbed_bigru"))
    steps = labelled(net, [sitetrace.testbed.run("poisson", 1)])
    told = cross_entropy(net.transitions, steps, steps.pieces)
    assert 0.5 < told < null_entropy(steps, steps.pieces) - 0.3
    everything = np.ones(len(steps.table), dtype=bool)
    seen = (steps.previous, steps.state, everything)
    assert told == pytest.approx(-log_likelihood(net.transitions, steps.table, *seen))
