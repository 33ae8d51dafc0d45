"""Stored results of training: from the files named, made again where it is cheap, and sound."""

import hashlib
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import sitetrace
from sitebook.old.nets import gru_study
from sitebook.old.nets.gru_features import labelled
from sitebook.old.nets.nets import read_net_table
from sitetrace.core.files import InputError, digest_of, read_json
from sitetrace.core.registry import data_dir
from sitetrace.power.modelfile import load_model
from sitetrace.testbed import Testbed

NATS = ["train_nats", "held_out_nats", "null_nats"]


def test_the_learning_curve_has_every_amount_of_data():
    table = read_net_table("learning_curve")
    for data, part in table.groupby("data"):
        assert len(part) == len(gru_study.learning_points(data))
        assert part["seconds"].is_monotonic_increasing
        assert (part["held_out_low"] <= part["held_out_nats"]).all()
        assert (part["held_out_nats"] <= part["held_out_high"]).all()
        assert (part[NATS] > 0).all(axis=None)
    assert set(table["data"]) == {"testbed", "measured"}
    assert table.loc[table["data"] == "testbed", "recordings"].tolist() == list(gru_study.GROWING)


def test_a_net_overfits_less_the_more_it_is_given():
    table = read_net_table("learning_curve")
    for data, part in table.groupby("data"):
        gap = (part["held_out_nats"] - part["train_nats"]).to_numpy()
        assert gap[-1] < gap[0] / 2, data
        assert part["held_out_nats"].iloc[-1] < part["null_nats"].iloc[-1]


def test_the_feature_study_holds_each_set_trained_and_not():
    table = read_net_table("sufficiency")
    keys = ["data", "epochs", "features"]
    expected = pd.MultiIndex.from_product(
        [("testbed", "measured"), ("1", "trained"), gru_study.SETS], names=keys
    )
    found = table.set_index(keys)
    assert sorted(found.index) == sorted(expected)
    assert (found.xs("F6", level="features")["relative"] == 1).all()
    assert (found["ir_low"] <= found["ir"]).all()
    assert (found["ir"] <= found["ir_high"]).all()
    assert (found.xs("trained", level="epochs")["ir"] > found.xs("1", level="epochs")["ir"]).all()


def test_an_unknown_table_is_refused_and_those_there_are_named():
    with pytest.raises(InputError, match="learning_curve, sufficiency"):
        read_net_table("nonesuch")


def test_tables_were_labelled_by_the_models_that_are_shipped():
    told = read_json(data_dir() / "nets" / "provenance.json")
    for data, name in gru_study.LABELS_FROM.items():
        expected = {"name": name, "sha256": digest_of([sitetrace.shipped_model(name)])}
        assert told[data]["labels_from"] == expected


@pytest.mark.parametrize("seed", [*gru_study.HELD_OUT_SEEDS, 100, 131, 231, 331])
def test_recordings_of_the_testbed_are_those_named(seed):
    told = read_json(data_dir() / "nets" / "provenance.json")["testbed"]["runs"]
    digest = {run["name"]: run["sha256"] for run in told}[f"testbed/poisson, seed {seed}"]
    assert digest == sitetrace.testbed.run("poisson", seed).digest


def test_measured_recordings_are_those_named(measured):
    told = read_json(data_dir() / "nets" / "provenance.json")["measured"]["runs"]
    assert told == gru_study.sources("measured")
    for run in told:
        assert sitetrace.read_run(measured / run["name"]).digest == run["sha256"]


def test_what_arrives_and_starts_is_all_counted():
    model = replace(load_model(sitetrace.shipped_model("testbed")), server=Testbed().server)
    run = sitetrace.testbed.run("poisson", 100)
    table = labelled(model, [run, run]).table
    assert table["arriving"].sum() == 2 * len(run.requests)
    for name, column in (("input_arriving", "input_tokens"), ("output_arriving", "output_tokens")):
        assert table[name].sum() == 2 * run.requests[column].sum()
    assert table["input_starting"].sum() == table["input_arriving"].sum()
    assert np.expm1(table["log_input_arriving"]).sum() == pytest.approx(
        table["input_arriving"].sum()
    )


def test_one_epoch_of_the_feature_study_gives_the_stored_rows_again(torch):
    again = gru_study.sufficiency("testbed", "1").set_index("features")
    table = read_net_table("sufficiency")
    stored = table[(table["data"] == "testbed") & (table["epochs"] == "1")].set_index("features")
    for name in ("ce_nats", "null_nats", "ir", "ir_low", "ir_high"):
        assert again[name].to_dict() == pytest.approx(stored[name].to_dict(), abs=1e-3)


def test_the_shipped_net_of_the_testbed_is_trained_to_the_same_again(torch):
    stored = load_model(sitetrace.shipped_model("testbed_bigru"))
    again = gru_study.net_model("testbed")
    left, right = (net.provenance["training"]["held_out_nats"][:30] for net in (stored, again))
    assert right == pytest.approx(left, abs=1e-3)
    table = labelled(stored, [sitetrace.testbed.run("poisson", 100)]).table
    expected, found = (net.transitions.matrix(table)[:, 0] for net in (stored, again))
    assert np.abs(expected - found).mean() < 0.02


def test_an_interrupted_study_goes_on_from_its_checkpoints(torch, tmp_path, monkeypatch):
    monkeypatch.setattr(gru_study, "STUDY_RECORDINGS", 2)
    monkeypatch.setattr(gru_study, "SETS", {"A": ("active",), "F6": gru_study.SETS["F6"]})
    first = gru_study.sufficiency("testbed", "1", tmp_path)
    digests = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in tmp_path.iterdir()
    }
    assert len(digests) == 4
    pd.testing.assert_frame_equal(gru_study.sufficiency("testbed", "1", tmp_path), first)
