"""The paper's net: inference without torch, training as torch's, weights in a file of their own."""

import hashlib
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import sitetrace
from sitetrace.core.files import InputError
from sitetrace.power.modelfile import load_model, save_model
from sitetrace.power.states import bigru
from sitetrace.power.states.bigru import WEIGHTS, BiGRU, both_ways, fit_bigru, train
from sitetrace.power.states.fit import cross_validate
from sitetrace.power.states.labels import TrainingBins, idle_of, prepare
from sitetrace.serving.activity import COLUMNS, PAPER_COLUMNS, activity_table
from sitetrace.serving.engine import simulate
from sitetrace.testbed import BAND_EDGES, Testbed
from sitetrace.workload.streams import poisson

SAMPLE = json.loads((Path(__file__).parent / "samples" / "gru_from_torch.json").read_text())
BASE = load_model(sitetrace.shipped_model("testbed"))
RNG = np.random.default_rng


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
    told = net.logits(np.array(SAMPLE["series"]))
    assert told == pytest.approx(np.array(SAMPLE["logits"]), abs=1e-5)


def test_what_the_net_sees_is_standardised_and_the_whole_series_both_ways():
    rng = RNG(1)
    net, table = net_of(8, 6, rng), activity(50, rng)
    shifted = table.assign(active=table["active"] * 2 + 3)
    moved = replace(net, center=np.array([3.0, 0.0]), scale=np.array([2.0, 1.0]))
    whole = net.matrix(table)
    assert moved.matrix(shifted) == pytest.approx(whole)
    for changed, seen in ((49, 45), (0, 4)):
        other = table.copy()
        other.loc[changed, "active"] += 4
        assert np.abs(net.matrix(other)[seen] - whole[seen]).max() > 1e-9
    # no state before matters, and none costs memory
    assert whole.shape == (50, 6, 6)
    assert whole.sum(axis=2) == pytest.approx(1)
    assert whole.strides[1] == 0


def test_long_series_are_one_series(monkeypatch):
    rng = RNG(4)
    net, table, quiet = net_of(8, 4, rng), activity(1000, rng), rng.random(1000) < 0.1
    uniform = RNG(5).random(1000)
    whole, path = net.matrix(table), net.path(table, quiet, uniform, 0)
    monkeypatch.setattr(bigru, "CHUNK", 97)
    assert net.matrix(table) == pytest.approx(whole, abs=1e-12)
    assert (net.path(table, quiet, uniform, 0) == path).all()
    assert (path[quiet] == 0).all()
    assert net.path(table[:0], quiet[:0], uniform[:0], 0).size == 0


@pytest.fixture
def saved(tmp_path):
    net = net_of(6, BASE.mixture.n_states + 1, RNG(8))
    save_model(replace(BASE, transitions=net), tmp_path / "net.json")
    return tmp_path / "net.json"


def refused(path, told):
    with pytest.raises(InputError) as error:
        load_model(path)
    assert "\n" not in str(error.value)
    assert told in str(error.value), error.value


def test_weights_that_are_cut_missing_or_of_another_net_are_refused(saved):
    beside = saved.with_suffix(".npz")
    whole = beside.read_bytes()
    beside.write_bytes(whole[: len(whole) // 2])
    refused(saved, f"{beside}: not the weights that the model file names")
    beside.unlink()
    refused(saved, str(beside))


def described_by(saved, arrays):
    """Put other arrays beside the model file, and their digest into it."""
    beside = saved.with_suffix(".npz")
    np.savez(beside, **arrays)
    content = json.loads(saved.read_text())
    content["transitions"]["weights_sha256"] = hashlib.sha256(beside.read_bytes()).hexdigest()
    saved.write_text(json.dumps(content))


def test_weights_that_fit_no_net_are_refused_whatever_their_digest(saved):
    good = dict(np.load(saved.with_suffix(".npz")))
    for name in WEIGHTS:
        described_by(saved, {key: value for key, value in good.items() if key != name})
        refused(saved, name)
        described_by(saved, good | {name: good[name][..., :-1]})
        refused(saved, "shape")
        described_by(saved, good | {name: np.full_like(good[name], np.nan)})
        refused(saved, name)
    described_by(saved, good)
    load_model(saved)


def series(n, seed):
    # the state follows from the sign of what is seen and has just been seen
    rng = RNG(seed)
    features = rng.normal(size=(n, 2))
    return features, (features[:, 0] > 0).astype(int) + (np.roll(features[:, 0], 1) > 0)


def trained(seed=1, told=1, **options):
    return train([series(70, told)], [series(40, 2)], 3, seed=seed, hidden=8, **options)


def same(left, right):
    return left[1] == right[1] and all((left[0][k] == right[0][k]).all() for k in left[0])


def torch_net(torch, hidden=64, n_states=7, seed=1):
    torch.manual_seed(seed)
    return torch.nn.GRU(2, hidden, bidirectional=True), torch.nn.Linear(2 * hidden, n_states)


def arrays_of(gru, head):
    arrays = {"head": head.weight.detach().numpy(), "head_bias": head.bias.detach().numpy()}
    for name, part in zip(bigru.WEIGHTS, bigru.PARTS, strict=False):
        ways = (getattr(gru, f"{part}_l0{way}").detach().numpy() for way in bigru.WAYS)
        arrays[name] = np.stack(list(ways))
    return arrays


def test_the_gradient_is_torchs(torch):
    gru, _ = torch_net(torch, 16)
    features, weight = torch.randn(200, 2), torch.randn(200, 32)
    theirs, ours = gru(features[:, None])[0][:, 0], both_ways(gru, features)
    assert ours.detach().numpy() == pytest.approx(theirs.detach().numpy(), abs=1e-6)
    expected, found = (
        torch.autograd.grad((states * weight).sum(), list(gru.parameters()))
        for states in (theirs, ours)
    )
    for left, right in zip(expected, found, strict=True):
        assert right.numpy() == pytest.approx(left.numpy(), abs=1e-5 * float(left.abs().max()))


def test_one_epoch_is_adam_with_clipped_gradients_series_by_series(torch):
    told, judged = [series(80, i) for i in range(3)], [series(60, 9)]
    weights, history = train(told, judged, 3, seed=4, epochs=1)
    gru, head = torch_net(torch, 64, 3, seed=4)
    parameters = [*gru.parameters(), *head.parameters()]
    adam, losses = torch.optim.Adam(parameters, lr=1e-3), []
    for features, states in told:
        adam.zero_grad()
        score = head(gru(torch.tensor(features, dtype=torch.float32)[:, None])[0][:, 0])
        loss = torch.nn.functional.cross_entropy(score, torch.tensor(states))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        adam.step()
        losses.append(loss.item())
    assert history["train_nats"] == pytest.approx([np.mean(losses)], abs=1e-6)
    for name, value in arrays_of(gru, head).items():
        # Adam's first steps are of the size of the rate wherever a gradient is nearly nothing
        assert weights[name] == pytest.approx(value, abs=2e-4)


def test_the_best_epoch_is_kept_and_training_stops_fifty_later(torch):
    noise = RNG(5).normal(size=(60, 2)), np.arange(60) % 2
    other = RNG(6).normal(size=(60, 2)), np.arange(60) // 3 % 2
    weights, history = train([noise], [other], 2, seed=1, hidden=8)
    best = history["best_epoch"]
    assert len(history["held_out_nats"]) == best + 50
    assert history["held_out_nats"][best - 1] == min(history["held_out_nats"])
    net = BiGRU(("a", "b"), np.zeros(2), np.ones(2), **weights)
    score = torch.tensor(net.logits(other[0]))
    loss = torch.nn.functional.cross_entropy(score, torch.tensor(other[1])).item()
    assert loss == pytest.approx(min(history["held_out_nats"]), abs=1e-5)


@pytest.mark.parametrize(("epochs", "rate"), [(22, 5e-4), (43, 2.5e-4)])
def test_the_rate_is_halved_after_twenty_epochs_without_a_better_one(torch, tmp_path, epochs, rate):
    features, states = series(70, 1)
    # the state that judges is never taught, so that the first epoch stays the best
    judged = (features, np.full(70, 3))
    options = {"hidden": 8, "epochs": epochs, "checkpoint": tmp_path / "net.pt"}
    _, history = train([(features, states)], [judged], 4, seed=1, **options)
    assert history["best_epoch"] == 1
    kept = torch.load(options["checkpoint"], weights_only=True)
    assert kept["adam"]["param_groups"][0]["lr"] == rate


def test_the_same_seed_gives_the_same_bytes_and_leaves_torch_as_it_was(torch):
    torch.manual_seed(7)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    first, again, other = (trained(seed, epochs=12) for seed in (1, 1, 2))
    assert same(first, again)
    assert not same(first, other)
    assert (torch.get_rng_state() == before).all()
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("killed_after", [3, 27])
def test_training_that_was_killed_ends_as_if_it_had_not_been(
    torch, tmp_path, monkeypatch, killed_after
):
    class Killed(BaseException):
        pass

    clip, place, count = torch.nn.utils.clip_grad_norm_, tmp_path / "net.pt", []

    def until_killed(*given):
        if len(count) == killed_after:
            raise Killed
        count.append(1)
        clip(*given)

    whole = trained(epochs=60)
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", until_killed)
    for _ in "ab":
        with pytest.raises(Killed):
            trained(epochs=60, checkpoint=place)
        count.clear()
    monkeypatch.undo()
    assert same(trained(epochs=60, checkpoint=place), whole)
    assert same(trained(epochs=60, checkpoint=place), whole)
    assert [path.name for path in tmp_path.iterdir()] == ["net.pt"]


def test_a_checkpoint_of_another_training_or_of_none_is_refused(torch, tmp_path):
    place = tmp_path / "net.pt"
    trained(epochs=2, checkpoint=place)
    for other in ({"seed": 2}, {"told": 3}):
        with pytest.raises(InputError, match="another file or remove it"):
            trained(epochs=2, checkpoint=place, **other)
    place.write_bytes(place.read_bytes()[:200])
    with pytest.raises(InputError, match="net.pt: no checkpoint"):
        trained(epochs=2, checkpoint=place)


def test_bands_of_active_requests_are_recovered_on_requests_never_seen(torch):
    tables = [
        activity_table(
            simulate(poisson(2.5, 150.0, RNG(seed)), Testbed().server),
            np.arange(1, 680) * 0.25, 0.25,
        )
        for seed in range(4)
    ]  # fmt: skip
    table = pd.concat(tables, ignore_index=True)
    active = table["active"].to_numpy()
    state = np.where(active > 0, 1 + np.searchsorted(BAND_EDGES, active, side="right"), 0)
    pieces = tuple((i, 679 * i, 679 * (i + 1)) for i in range(3))
    steps = TrainingBins(table, np.zeros_like(state), state, state >= 0, 4, pieces)
    net = fit_bigru(steps, PAPER_COLUMNS, seed=1, epochs=120)
    unseen = slice(3 * 679, 4 * 679)
    quiet = np.zeros(679, dtype=bool)
    path = net.path(table[unseen], quiet, RNG(1).random(679), 0)
    assert len(set(state[unseen])) == 4
    assert np.mean(path == state[unseen]) > 0.9


def test_where_torch_is_missing_the_mend_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    run = sitetrace.testbed.run("poisson", 1)
    with pytest.raises(InputError, match=r"pip install 'sitetrace\[torch\]'"):
        sitetrace.fit([run], seed=1, transitions="bigru", n_states=3)


def test_a_model_is_fitted_the_papers_way_and_can_be_cross_validated(torch, tmp_path, monkeypatch):
    monkeypatch.setattr(bigru, "STOP_AFTER", 1)
    run = sitetrace.testbed.run("poisson", 1)
    model = sitetrace.fit([run], seed=1, transitions="bigru", n_states=3)
    training = model.provenance["training"]
    assert model.transitions.columns == PAPER_COLUMNS
    assert len(training["train_nats"]) == len(training["held_out_nats"])
    assert len(training["train_nats"]) == training["best_epoch"] + 1
    sitetrace.save_model(model, tmp_path / "net.json")
    assert sitetrace.load_model(tmp_path / "net.json").provenance == model.provenance
    frame = prepare([run], Testbed().server, run.dt)
    options = {"emissions": "gaussian", "columns": None, "seed": 1}
    told = cross_validate(frame, idle_of(frame), run.dt, "bigru", 4, **options)
    assert -np.log(5) - 1 < told["log_likelihood"] < 0
