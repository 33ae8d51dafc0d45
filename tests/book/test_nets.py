"""Stored results of training: from the files named, made again where it is cheap, and sound."""

from dataclasses import replace

import numpy as np
import pytest

import sitetrace
from sitebook import nets
from sitebook.judging import splits
from sitetrace.core.files import digest_of, read_json
from sitetrace.core.registry import data_dir, shipped_model
from sitetrace.power.modelfile import load_model
from sitetrace.serving.activity import PAPER_COLUMNS
from sitetrace.testbed import Testbed


def test_a_net_overfits_less_the_more_it_is_given():
    for data, part in nets.net_table("learning_curve").groupby("data"):
        assert len(part) == len(nets.learning_points(data))
        gap = (part["held_out_nats"] - part["train_nats"]).to_numpy()
        assert gap[-1] < gap[0] / 2, data
        assert part["held_out_nats"].iloc[-1] < part["null_nats"].iloc[-1]


def test_training_to_the_end_turns_the_feature_study_around():
    found = nets.net_table("sufficiency").set_index(["data", "epochs", "features"])
    assert len(found) == 2 * 2 * len(nets.SETS)
    assert (found["ir_low"] <= found["ir"]).all() and (found["ir"] <= found["ir_high"]).all()
    assert (found.xs("trained", level="epochs")["ir"] > found.xs("1", level="epochs")["ir"]).all()


def test_tables_are_of_the_models_and_recordings_that_are_named(measured):
    told = read_json(data_dir() / "nets" / "provenance.json")
    for data, name in nets.LABELS_FROM.items():
        labels = {"name": name, "sha256": digest_of([shipped_model(name)])}
        assert told[data]["labels_from"] == labels
    assert told["measured"]["runs"] == nets.sources("measured")
    digest = {run["name"]: run["sha256"] for run in told["testbed"]["runs"]}
    for seed in (*nets.HELD_OUT_SEEDS, 100, 331):
        run = sitetrace.testbed.run("poisson", seed)
        assert digest[f"testbed/poisson, seed {seed}"] == run.digest


def test_what_arrives_and_starts_is_all_counted():
    model = replace(load_model(shipped_model("testbed")), server=Testbed().server)
    run = sitetrace.testbed.run("poisson", 100)
    table = nets.labelled(model, [run, run]).table
    assert table["arriving"].sum() == 2 * len(run.requests)
    for name, column in (("input_arriving", "input_tokens"), ("output_arriving", "output_tokens")):
        assert table[name].sum() == 2 * run.requests[column].sum()
    assert table["input_starting"].sum() == table["input_arriving"].sum()
    assert np.expm1(table["log_input_arriving"].to_numpy()) == pytest.approx(
        table["input_arriving"].to_numpy()
    )


def test_one_epoch_of_the_feature_study_gives_the_stored_rows_again(torch):
    again = nets.sufficiency("testbed", "1").set_index("features")
    stored = nets.net_table("sufficiency").query("data == 'testbed' and epochs == '1'")
    for name in ("ce_nats", "null_nats", "ir", "ir_low", "ir_high"):
        assert again[name].to_numpy() == pytest.approx(stored[name].to_numpy(), abs=1e-3)


@pytest.mark.parametrize("name", splits())
def test_shipped_nets_differ_from_the_shipped_models_in_their_transitions_alone(name):
    shipped, net = (load_model(sitetrace.shipped_model(name + end)) for end in ("", "_bigru"))
    assert net.transitions.columns == PAPER_COLUMNS
    assert net.transitions.hidden_weight.shape == (2, 192, 64)
    assert (net.mixture.mean_w == shipped.mixture.mean_w).all()
    assert (net.idle.deviation_w == shipped.idle.deviation_w).all()
    assert (net.server, net.fitted) == (shipped.server, shipped.fitted)
    for told in ("runs", "from_s", "to_s", "seed", "data"):
        assert net.provenance[told] == shipped.provenance[told]
