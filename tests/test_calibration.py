"""An engine is learned from what a recording tells of it, and what it does not tell is said."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from synthetic_site import run_of

from sitetrace.core.files import InputError
from sitetrace.core.types import Configuration, running_count
from sitetrace.measured.rundir import read_run
from sitetrace.serving.calibration import calibrate, from_architecture, judged, printed
from sitetrace.serving.engine import Server, simulate

R4, R2P5 = "qwen3-8b_a100_tp1_poisson_r4", "qwen3-8b_a100_tp1_poisson_r2p5"
ARCH = {"d_model": 4096, "n_layers": 36, "n_kv": 8, "head_dim": 128, "w_bytes": 1.6e10}
TRUTH = Server(
    c0_s=0.009, c1_s=6e-5, c2_s=7e-5, c3_s=1.1e-7, c4_s=3.78e-9, overhead_s=0.007, kv_tokens=300_000
)


def recorded(seed, rate=4.0, n=200):
    """A run made by a known engine, its counters sampled every 0.25 s after a test request."""
    rng = np.random.default_rng(seed)
    requests = pd.DataFrame({"arrival_s": 1.7e9 + np.cumsum(rng.exponential(1 / rate, n))})
    requests["input_tokens"] = rng.geometric(1 / 330, n)
    requests["output_tokens"] = rng.geometric(1 / 210, n)
    timeline = simulate(requests, TRUTH)
    fate = timeline.requests
    requests["ttft_s"] = fate["first_token_s"] - fate["arrival_s"] + TRUTH.overhead_s
    times = np.arange(1.7e9, fate["end_s"].max() + 1, 0.25)
    names = ("first_token_s", "end_s", "output_tokens")
    first, end, answer = (fate[name].to_numpy()[:, None] for name in names)
    begun = first <= times
    made = np.floor(np.clip((times - first) / np.maximum(end - first, 1e-9), 0, 1) * (answer - 1))
    engine = pd.DataFrame({"time_s": times, "running": printed(timeline, times)[0], "waiting": 0})
    engine["prompt_tokens"] = requests["input_tokens"].to_numpy() @ begun
    engine["generation_tokens"] = 17.0 + (begun + made).sum(axis=0)
    info = {"arch": ARCH, "max_num_seqs": 128, "max_num_batched_tokens": 4096}
    samples = pd.DataFrame({"time_s": times, "power_w": 300.0})
    return run_of(requests, samples, engine=engine, info=info)


def count_error(server, run, count=lambda *given: printed(*given)[0]):
    """Mean absolute error of a running count from the first arrival on."""
    seen = run.engine[run.engine["time_s"] >= run.requests["arrival_s"].iloc[0]]
    counted = count(simulate(run.requests, server), seen["time_s"].to_numpy())
    return np.abs(counted - seen["running"]).mean()


@pytest.fixture(scope="module")
def known_run():
    return recorded(1)


@pytest.fixture(scope="module")
def told_of(known_run):
    return calibrate([known_run])


def test_a_known_engine_is_recovered_and_followed_on_requests_never_seen(told_of):
    learned, _ = told_of
    step, true = (s.c0_s + s.c1_s * 11 + s.c3_s * 6000 for s in (learned, TRUTH))
    assert step == pytest.approx(true, rel=0.01)
    assert learned.c2_s == pytest.approx(TRUTH.c2_s, rel=0.15)
    assert learned.overhead_s == pytest.approx(TRUTH.overhead_s, abs=0.003)
    assert count_error(learned, recorded(2)) < 0.3
    assert count_error(learned, recorded(3, rate=2.5)) < 0.2


def test_limits_and_floors_come_from_the_run(told_of):
    learned, _ = told_of
    assert (learned.max_num_seqs, learned.max_num_batched_tokens) == (128, 4096)
    token_bytes = 4 * 36 * 8 * 128
    assert learned.kv_tokens == int((80e9 * 0.9 - 1.6e10) / token_bytes)
    assert learned.c3_s >= token_bytes / 2.0e12
    assert learned.c4_s == pytest.approx(4 * 4096 * 36 / (3.12e14 * 0.5))


def test_several_runs_and_equal_results_for_equal_runs():
    runs = [recorded(4, n=30), recorded(5, rate=2.0, n=30)]
    server, told = calibrate(runs)
    assert (server, told) == calibrate(runs)
    assert all(count_error(server, run) < 0.3 for run in runs)


def test_ttft_alone_tells_prefill_and_counters_alone_the_step_the_rest_stays(known_run):
    server, _ = calibrate([replace(known_run, engine=None)])
    assert (server.c1_s, server.overhead_s) == (Server.c1_s, Server.overhead_s)
    assert server.c2_s == pytest.approx(TRUTH.c2_s, rel=0.15)
    server, _ = calibrate([replace(known_run, requests=known_run.requests.drop(columns="ttft_s"))])
    assert server.overhead_s == Server.overhead_s
    assert count_error(server, known_run) < 0.3


BROKEN = [("requests", "ttft_s", "times to first token"), ("engine", "running", "running requests"),
          ("engine", "generation_tokens", "token counter")]  # fmt: skip


@pytest.mark.parametrize(("table", "column", "told"), BROKEN)
def test_a_calibration_that_cannot_work_says_why(table, column, told):
    run = recorded(7, n=24)
    changed = getattr(run, table)
    broken = replace(run, **{table: changed.assign(**{column: changed[column] * 20.0})})
    assert told in " ".join(calibrate([broken])[1]["calibration"]["failed"])


def test_a_coefficient_that_ran_away_is_a_failure_but_a_slow_network_is_none(known_run):
    told = judged([known_run], TRUTH, ["c1_s"])
    assert told["at_bound"] == ["c1_s"]
    assert "c1_s is more than 20 times" in told["failed"][0]
    slow = known_run.requests.assign(ttft_s=known_run.requests["ttft_s"] + 0.4)
    server, told = calibrate([replace(known_run, requests=slow)])
    assert server.overhead_s == pytest.approx(0.407, abs=0.01)
    assert told["calibration"]["failed"] == []


MEASURED = ("gemma-4-26b-a4b_a100_tp2_poisson_r4", "qwen3-8b_a100_tp1_burstgpt", R4)


@pytest.mark.parametrize("name", MEASURED)
def test_measured_runs_are_met_and_a_prefix_cache_that_the_engine_lacks_is_told(measured, name):
    assert calibrate([read_run(measured / name)])[1]["calibration"]["failed"] == []
    if name == R4:
        cached = calibrate([read_run(measured / "qwen3-8b_a100_tp1_agents_a")])[1]["calibration"]
        assert len(cached["failed"]) == 3


def test_what_stands_by_default_is_told_with_the_reason(known_run):
    def stands(**changes):
        server, defaults = from_architecture(replace(known_run, **changes), 1)
        assert (server.kv_tokens == 400_000) == (server.c4_s == 0.0) == bool(defaults)
        return set(defaults.values())

    assert stands() == set()
    assert stands(info={}) == {"no arch in run.json"}
    assert stands(configuration=Configuration("m", "RTX", 1)) == {"unknown GPU 'RTX'"}
    (lacking,) = stands(info={"arch": {name: ARCH[name] for name in ARCH if name != "n_kv"}})
    assert "arch lacks n_kv" in lacking


def test_what_is_missing_or_impossible_is_named(known_run):
    without = known_run.requests.drop(columns="ttft_s")
    with pytest.raises(InputError, match="neither ttft_s in requests.csv nor engine.csv"):
        calibrate([replace(known_run, requests=without, engine=None)])
    for value in ("many", 0, float("nan"), True):
        with pytest.raises(InputError, match="max_num_seqs"):
            calibrate([replace(known_run, info={"max_num_seqs": value})])


def test_weights_need_room_and_an_engine_may_have_taken_more_of_the_memory(known_run):
    def server(w_bytes, **stated):
        info = {"arch": ARCH | {"w_bytes": w_bytes}} | stated
        return from_architecture(replace(known_run, info=info), 100)[0]

    with pytest.raises(InputError, match="w_bytes: 7.5e.*1 A100.*gpu_memory_utilization"):
        server(75e9)
    assert 100 < server(75e9, gpu_memory_utilization=0.97).kv_tokens < 50_000


@pytest.mark.parametrize(
    ("fitted", "judged", "most"), [(R4, R4, 0.5), (R4, R2P5, 0.3), (R2P5, R4, 0.8)]
)
def test_running_count_of_measured_runs(measured, fitted, judged, most):
    server, _ = calibrate([read_run(measured / fitted)])
    run = read_run(measured / judged)
    assert count_error(server, run, running_count) <= most
    assert count_error(server, run) <= most / 2
