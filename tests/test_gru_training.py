"""Training is torch's GRU and the paper's recipe, the same bytes however often it is killed."""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import sitetrace
from sitetrace.core.files import InputError
from sitetrace.power.states import bigru
from sitetrace.power.states.bigru import (
    BiGRU,
    both_ways,
    fit_bigru,
    gradient_along,
    hold_out,
    states_along,
    train,
)
from sitetrace.power.states.fit import cross_validate
from sitetrace.power.states.labels import TrainingBins, idle_of, prepare, unbroken
from sitetrace.serving.activity import COLUMNS, PAPER_COLUMNS, activity_table
from sitetrace.serving.engine import simulate
from sitetrace.testbed import BAND_EDGES, Testbed
from sitetrace.workload.streams import poisson

SAMPLE = json.loads((Path(__file__).parent / "samples" / "gru_from_torch.json").read_text())


def series(n, seed):
    """A series whose state follows from the sign of what it sees and has just seen."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, 2))
    return features, (features[:, 0] > 0).astype(int) + (np.roll(features[:, 0], 1) > 0)


def trained(seed=1, told=1, **options):
    return train([series(70, told)], [series(40, 2)], 3, seed=seed, hidden=8, **options)


def same(left, right):
    return left[1] == right[1] and all((left[0][k] == right[0][k]).all() for k in left[0])


def net_of(torch, hidden=64, n_states=7, seed=1):
    torch.manual_seed(seed)
    return torch.nn.GRU(2, hidden, bidirectional=True), torch.nn.Linear(2 * hidden, n_states)


def arrays_of(gru, head):
    arrays = {"head": head.weight.detach().numpy(), "head_bias": head.bias.detach().numpy()}
    for name, part in zip(bigru.WEIGHTS, bigru.PARTS, strict=False):
        ways = (getattr(gru, f"{part}_l0{way}").detach().numpy() for way in bigru.WAYS)
        arrays[name] = np.stack(list(ways))
    return arrays


def test_torch_still_gives_the_stored_sample(torch):
    gru, head = net_of(torch, 5, 3)
    for name, value in SAMPLE["weights"].items():
        assert arrays_of(gru, head)[name] == pytest.approx(np.array(value), abs=1e-6)
    with torch.no_grad():
        told = head(gru(torch.tensor(SAMPLE["series"])[:, None])[0][:, 0]).numpy()
    assert told == pytest.approx(np.array(SAMPLE["logits"]), abs=1e-5)


def test_the_gradient_is_torchs(torch):
    gru, _ = net_of(torch, 16)
    features, weight = torch.randn(200, 2), torch.randn(200, 32)
    theirs, ours = gru(features[:, None])[0][:, 0], both_ways(gru, features)
    assert ours.detach().numpy() == pytest.approx(theirs.detach().numpy(), abs=1e-6)
    expected, found = (
        torch.autograd.grad((states * weight).sum(), list(gru.parameters()))
        for states in (theirs, ours)
    )
    for left, right in zip(expected, found, strict=True):
        assert right.numpy() == pytest.approx(left.numpy(), abs=1e-5 * float(left.abs().max()))


def test_the_gradient_is_the_slope_of_the_states():
    rng = np.random.default_rng(3)
    drive, weight = rng.normal(size=(6, 9)), rng.normal(size=(9, 3))
    bias, told = rng.normal(size=9), rng.normal(size=(6, 3))

    def value(drive, bias):
        return (states_along(drive, weight, bias, np.zeros(3))[0] * told).sum()

    hidden, gates = states_along(drive, weight, bias, np.zeros(3))
    by_drive, by_pull = gradient_along(told, hidden, gates, weight)
    for k in range(9):
        step = np.zeros((6, 9))
        step[2, k] = 1e-6
        slope = (value(drive + step, bias) - value(drive - step, bias)) / 2e-6
        assert by_drive[2, k] == pytest.approx(slope, rel=1e-5, abs=1e-8)
        slope = (value(drive, bias + step[2]) - value(drive, bias - step[2])) / 2e-6
        assert by_pull[:, k].sum() == pytest.approx(slope, rel=1e-5, abs=1e-8)


def test_one_epoch_is_adam_with_clipped_gradients_series_by_series(torch):
    told, judged = [series(80, i) for i in range(3)], [series(60, 9)]
    weights, history = train(told, judged, 3, seed=4, epochs=1)
    gru, head = net_of(torch, 64, 3, seed=4)
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
    noise = np.random.default_rng(5).normal(size=(60, 2)), np.arange(60) % 2
    other = np.random.default_rng(6).normal(size=(60, 2)), np.arange(60) // 3 % 2
    weights, history = train([noise], [other], 2, seed=1, hidden=8)
    best = history["best_epoch"]
    assert len(history["held_out_nats"]) == best + 50
    assert history["held_out_nats"][best - 1] == min(history["held_out_nats"])
    net = BiGRU(("a", "b"), np.zeros(2), np.ones(2), **weights)
    score = torch.tensor(net.logits(other[0]))
    loss = torch.nn.functional.cross_entropy(score, torch.tensor(other[1])).item()
    assert loss == pytest.approx(min(history["held_out_nats"]), abs=1e-5)


def test_the_rate_is_halved_after_twenty_epochs_without_a_better_one(torch, tmp_path):
    features, states = series(70, 1)
    rates = []
    for epochs in (22, 23, 43, 44):
        options = {"hidden": 8, "epochs": epochs, "checkpoint": tmp_path / f"{epochs}.pt"}
        # the state that judges is never taught, so that the first epoch stays the best
        judged = (features, np.full(70, 3))
        _, history = train([(features, states)], [judged], 4, seed=1, **options)
        assert history["best_epoch"] == 1
        kept = torch.load(options["checkpoint"], weights_only=True)
        rates.append(kept["adam"]["param_groups"][0]["lr"])
    assert rates == [5e-4, 5e-4, 2.5e-4, 2.5e-4]


def test_the_same_seed_gives_the_same_bytes_and_leaves_torch_as_it_was(torch):
    torch.manual_seed(7)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    first, again, other = (trained(seed, epochs=12) for seed in (1, 1, 2))
    assert same(first, again)
    assert not same(first, other)
    assert (torch.get_rng_state() == before).all()
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("killed_after", [3, 10, 27])
def test_training_that_was_killed_ends_as_if_it_had_not_been(
    torch, tmp_path, monkeypatch, killed_after
):
    class Killed(BaseException):
        pass

    clip, place = torch.nn.utils.clip_grad_norm_, tmp_path / "net.pt"
    whole = trained(epochs=60)
    for _ in "ab":
        count = []

        def until_killed(*given):
            if len(count) == killed_after:  # noqa: B023
                raise Killed
            count.append(1)  # noqa: B023
            clip(*given)

        monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", until_killed)
        with pytest.raises(Killed):
            trained(epochs=60, checkpoint=place)
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
            simulate(poisson(2.5, 150.0, np.random.default_rng(seed)), Testbed().server),
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
    path = net.path(table[unseen], quiet, np.random.default_rng(1).random(679), 0)
    assert len(set(state[unseen])) == 4
    assert np.mean(path == state[unseen]) > 0.9


def test_recordings_validate_whole_and_the_end_of_a_single_one():
    several = tuple((i, 10 * i, 10 * i + 10) for i in range(20))
    fitting, validation = hold_out(several, seed=1)
    assert len(validation) == 3
    assert sorted(fitting + validation) == sorted(several)
    assert hold_out(several, seed=2)[1] != validation
    for seed in range(4):
        parts = hold_out(((0, 0, 10), (0, 10, 15), (1, 15, 40)), seed)
        first, second = ({recording for recording, _, _ in part} for part in parts)
        assert {0} | {1} == first | second
        assert first != second
    broken = ((0, 0, 50), (0, 60, 110))
    assert hold_out(((0, 0, 50),), 1) == ([(0, 0, 40)], [(0, 40, 50)])
    assert hold_out(broken, 1) == ([(0, 0, 50), (0, 60, 90)], [(0, 90, 110)])


def test_a_hole_or_a_block_held_out_breaks_a_series():
    frame = pd.DataFrame({"recording": [0] * 6 + [1] * 4, "begins": False})
    frame.loc[[0, 4, 6], "begins"] = True
    everything = np.ones(10, dtype=bool)
    assert unbroken(frame, everything) == ((0, 0, 4), (0, 4, 6), (1, 6, 10))
    keep = everything.copy()
    keep[1:3] = False
    assert unbroken(frame, keep) == ((0, 0, 1), (0, 3, 4), (0, 4, 6), (1, 6, 10))
    assert unbroken(frame, ~keep) == ((0, 1, 3),)


def test_where_torch_is_missing_the_mend_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    run = sitetrace.testbed.run("poisson", 1)
    with pytest.raises(InputError, match=r"pip install 'sitetrace\[torch\]'"):
        sitetrace.fit([run], seed=1, transitions="bigru", n_states=3)


def test_a_model_is_fitted_the_papers_way_and_says_how_its_loss_fell(torch, tmp_path, monkeypatch):
    monkeypatch.setattr(bigru, "STOP_AFTER", 1)
    run = sitetrace.testbed.run("poisson", 1)
    model = sitetrace.fit([run], seed=1, transitions="bigru", n_states=3)
    training = model.provenance["training"]
    assert model.transitions.columns == ("active", "delta_active")
    assert len(training["train_nats"]) == len(training["held_out_nats"])
    assert len(training["train_nats"]) == training["best_epoch"] + 1
    for name in ("first", "second"):
        sitetrace.save_model(model, tmp_path / f"{name}.json")
    read = sitetrace.load_model(tmp_path / "first.json")
    assert read.provenance == model.provenance
    assert (tmp_path / "first.npz").read_bytes() == (tmp_path / "second.npz").read_bytes()


def test_the_net_can_be_cross_validated_too(torch, monkeypatch):
    monkeypatch.setattr(bigru, "STOP_AFTER", 1)
    run = sitetrace.testbed.run("poisson", 1)
    frame = prepare([run], Testbed().server, run.dt)
    options = {"emissions": "gaussian", "columns": None, "seed": 1}
    told = cross_validate(frame, idle_of(frame), run.dt, "bigru", 4, **options)
    assert -np.log(5) - 1 < told["log_likelihood"] < 0
    assert set(COLUMNS) <= set(frame.columns)


def test_the_command_takes_a_checkpoint_for_the_net_alone(call, tmp_path):
    sitetrace.testbed.write_dataset(tmp_path / "testbed", 1)
    run = tmp_path / "testbed" / "poisson"
    for told, options in (
        ("--checkpoint", ["-o", tmp_path / "m.json", "--checkpoint", tmp_path / "c.pt"]),
        ("name it .json", ["-o", tmp_path / "m.npz", "--transitions", "bigru"]),
    ):
        code, _, err = call("fit", run, *options)
        assert code == 2
        assert told in err
