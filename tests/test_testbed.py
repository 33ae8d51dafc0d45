"""The testbed writes its truth beside its runs, and each effect does what it says."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from sitetrace import testbed
from sitetrace.core.files import InputError, read_table
from sitetrace.measured.rundir import read_run
from sitetrace.serving.activity import activity_table
from sitetrace.serving.engine import simulate
from sitetrace.testbed import EPOCH_S, STATES, Testbed, simulate_run, true_states
from sitetrace.workload.streams import poisson

PLAIN = Testbed()
EXACT = Testbed(sigma_w=(0.0,) * 5)
IDLE = 0


def requests(seed=1, rate=2.5, seconds=120.0):
    stream = poisson(rate, seconds, np.random.default_rng(seed))
    return stream.assign(arrival_s=(EPOCH_S + stream["arrival_s"]).round(3))


def truth_of(bed, **changes):
    return simulate_run(bed, requests(**changes), np.random.default_rng(2))["truth"]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return testbed.write_dataset(tmp_path_factory.mktemp("testbed") / "runs", seed=3)


def test_runs_are_whole_and_call_themselves_simulated_and_a_seed_says_their_bytes(dataset):
    assert [path.name for path in dataset] == ["poisson", "poisson_low", "bursty", "effects"]
    for path in dataset:
        run, again, other = read_run(path), testbed.run(path.name, 3), testbed.run(path.name, 4)
        assert run.digest == again.digest != other.digest
        assert run.configuration.hardware == "testbed"
        assert "no measurement" in run.info["source"]
        assert run.engine is not None
        assert run.idle_before_load_w() == pytest.approx(80.0, abs=1.0)
        assert "ttft_s" in run.requests


def test_the_written_truth_is_what_the_meter_read(dataset):
    for path in dataset[::2]:
        truth, run = read_table(path / "truth.csv", ("time_s", "state", "power_w")), read_run(path)
        assert np.abs(run.samples["power_w"] - truth["power_w"]).max() < 0.011
        work, times_s = simulate(run.requests, PLAIN.server), truth["time_s"].to_numpy()
        assert np.mean(true_states(activity_table(work, times_s, 0.25)) == truth["state"]) > 0.999


def test_an_unknown_run_and_a_folder_that_is_there_are_refused(tmp_path):
    with pytest.raises(InputError, match="smooth: .*poisson, poisson_low, bursty, effects"):
        testbed.run("smooth", 3)
    for folder in (tmp_path, tmp_path / "no" / "folder"):
        with pytest.raises(InputError, match="there already|cannot be written"):
            testbed.write_dataset(folder, 1)
    assert list(tmp_path.iterdir()) == []


def test_states_have_their_mean_and_spread():
    exact, truth = truth_of(EXACT), truth_of(PLAIN, seconds=600.0)
    assert exact["power_w"].to_numpy() == pytest.approx(EXACT.mean_w[exact["state"]])
    assert set(truth["state"]) == set(range(len(STATES)))
    for k, sigma_w in enumerate(PLAIN.sigma_w):
        power_w = truth["power_w"][truth["state"] == k]
        n = power_w.size
        assert abs(power_w.mean() - PLAIN.mean_w[k]) < 4 * sigma_w / np.sqrt(n)
        assert abs(power_w.std() / sigma_w - 1) < 4 / np.sqrt(2 * n)


def test_states_by_hand():
    bins = pd.DataFrame(
        [[0, 0.0, 0.0], [1, 0.4, 0.0], [1, 1.0, 0.0], [3, 1.0, 0.1], [4, 1.0, 0.0], [8, 0.5, 0.0],
         [9, 1.0, 0.19], [2, 1.0, 0.2], [20, 1.0, 1.0]],
        columns=["active", "busy_share", "prefill_share"],
    )  # fmt: skip
    assert true_states(bins).tolist() == [0, 0, 1, 1, 2, 2, 3, 4, 4]


def test_phi_is_the_memory_of_the_noise_and_leaves_its_spread():
    truth = truth_of(replace(PLAIN, sigma_w=(10.0,) * 5, phi=0.7), seconds=900.0)
    noise = truth["power_w"].to_numpy() - PLAIN.mean_w[truth["state"]]
    memory = np.corrcoef(noise[:-1], noise[1:])[0, 1]
    assert abs(memory - 0.7) < 4 * np.sqrt((1 - 0.7**2) / noise.size)
    assert noise.std() == pytest.approx(10.0, rel=0.1)


def test_drift_warms_up_to_its_limit_while_it_works_and_spares_idle():
    truth = truth_of(EXACT, seconds=600.0)
    extra_w = truth_of(replace(EXACT, drift_w=12.0), seconds=600.0)["power_w"] - truth["power_w"]
    working = (truth["state"] > IDLE).to_numpy()
    assert (extra_w[~working] == 0).all()
    at_work_w = extra_w[working].to_numpy()
    assert (np.diff(at_work_w) >= -1e-9).all() and at_work_w[0] < 0.5
    assert at_work_w[-1] == pytest.approx(12.0, abs=0.2)


def test_active_idle_fades_after_work():
    truth = truth_of(replace(EXACT, active_idle_w=8.0))
    assert (truth["power_w"][:80] == 80.0).all()
    last_busy = np.flatnonzero(truth["state"] > IDLE)[-1]
    after = truth["power_w"].to_numpy()[last_busy + 1 :] - 80.0
    assert 7.0 < after[0] <= 8.0
    assert after[1:] / after[:-1] == pytest.approx(np.exp(-0.25 / 5.0), abs=0.01)
