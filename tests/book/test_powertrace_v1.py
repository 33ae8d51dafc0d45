"""The authors' later model: what a step costs, that work is conserved, and what they published."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest

from sitebook.powertrace_v1 import Law, coefficients, gpu_power_w, ledger, predict, serve, step_cost
from sitetrace import evaluate, read_run
from sitetrace.core.files import InputError
from sitetrace.core.types import Configuration, Run

DENSE = {"d_model": 4096, "n_layers": 36, "n_kv": 8, "head_dim": 128, "n_active": 8_190_427_136}
DENSE |= {"w_bytes": 16_380_854_272}
EASY = dict.fromkeys(Law._fields, 0.0) | {"launch_s": 1e-3, "sample_s": 1e-4, "flop_rate": 1e12}
EASY |= {"byte_rate": 1e9, "stream_rate": 1e9, "token_flop": 1e9, "pair_flop": 1e4}
EASY = Law(**EASY | {"weight_bytes": 5e6, "kv_bytes": 1e3})
WORK = ("busy", "batch", "flop", "weight_bytes", "kv_bytes", "cache_bytes", "steps")


def run_of(requests, arch=DENSE, hardware="A100", gpus=1, **info):
    table = pd.DataFrame(requests, columns=["arrival_s", "input_tokens", "output_tokens"])
    times_s = table["arrival_s"].min() - 5 + 0.25 * np.arange(1, 241)
    samples = pd.DataFrame({"time_s": times_s, "power_w": 100.0})
    configuration = Configuration("m", hardware, gpus)
    return Run("r", configuration, table, samples, Fraction(1, 4), None, {"arch": arch} | info, "")


def test_a_decode_step_reads_and_a_prefill_step_multiplies():
    # weights 5e6 B / 1e9 B/s beat 4 x 1e9 FLOP / 1e12 FLOP/s; attention reads 4 x 101 tokens
    flop, weights, decode, prefill, seconds = step_cost(EASY, 4, 100.0, 0, 0, 0.0, 0.0)
    assert (flop, weights, decode, prefill) == (4 * 1e9 + 1e4 * 400, 5e6, 4 * 101 * 1e3, 0)
    assert seconds == pytest.approx(0.001 + 0.005 + 404e3 / 1e9 + 4 * 0.0001, rel=1e-12)
    # 100 prompt tokens behind nothing: 100 x 50 pairs, 50 tokens read and 100 written
    flop, *_, seconds = step_cost(EASY, 0, 0.0, 100, 1, 5000.0, 150.0)
    assert flop == 100e9 + 5000 * 1e4
    assert seconds == pytest.approx(0.001 + 0.1 + 150e3 / 1e9, rel=1e-12)


def test_experts_are_read_as_far_as_tokens_touch_them_and_windows_hide_half():
    law = EASY._replace(expert_share=0.8, untouched_share=0.75)
    assert step_cost(law, 1, 0.0, 0, 0, 0.0, 0.0)[1] == pytest.approx(5e6 * 0.4)
    assert step_cost(law, 2, 0.0, 0, 0, 0.0, 0.0)[1] == pytest.approx(5e6 * (0.2 + 0.8 * 7 / 16))
    assert step_cost(EASY._replace(window=128.0), 1, 1000.0, 0, 0, 0.0, 0.0)[2] == 565e3


def test_a_lone_request_is_prefilled_in_chunks_and_then_decodes_token_by_token():
    steps, fate = serve(run_of([(100.0, 5000, 4)]))
    assert steps["prefill_tokens"].tolist() == [2048, 2048, 904, 0, 0, 0]
    assert steps["batch"].tolist() == [0, 0, 0, 1, 1, 1]
    first_s = coefficients()["serving"]["A100"]["first_token_s"]
    assert fate["ttft_s"][0] == pytest.approx(steps["end_s"][2] + first_s)


@pytest.mark.parametrize("few", [{"max_num_seqs": 1}, {"arch": DENSE | {"w_bytes": 71.853e9}}])
def test_who_finds_no_seat_or_no_memory_waits_for_the_end_of_those_before(few):
    requests = [(0, 600, 20), (0, 600, 20)]
    assert serve(run_of(requests, **few))[0]["batch"].max() == 1
    assert serve(run_of(requests))[0]["batch"].max() == 2


def test_no_work_is_lost_between_steps_and_bins():
    rng = np.random.default_rng(4)
    sizes = rng.integers(1, 900, 60), rng.integers(1, 200, 60)
    requests = list(zip(np.sort(rng.uniform(0, 20, 60)), *sizes, strict=True))
    steps, _ = serve(run_of(requests))
    work = ledger(steps, 7.0, -5.07, 400)
    assert steps["prefill_tokens"].sum() == sizes[0].sum()
    assert steps["batch"].sum() == (sizes[1] - 1).sum()
    for name in ("flop", "weight_bytes"):
        assert work[name].sum() == pytest.approx(steps[name].sum(), rel=1e-9)
    whole = steps["decode_kv_bytes"].sum() + steps["prefill_kv_bytes"].sum()
    assert work["kv_bytes"].sum() == pytest.approx(whole, rel=1e-9)


@pytest.mark.parametrize("hardware", ["A100", "H100"])
def test_a_dense_gpu_pays_for_busy_weights_flop_and_bytes(hardware):
    peak, bandwidth = {"A100": (312, 2.0), "H100": (990, 3.35)}[hardware]
    run = run_of([(0, 10, 10)], DENSE | {"w_bytes": 40e9}, hardware, 2)
    work = pd.DataFrame(0.0, index=range(8), columns=list(WORK))
    used = {"flop": 0.25 * 0.5 * 2 * peak * 1e12, "weight_bytes": 0.25 * 2 * bandwidth * 0.64e12}
    work.loc[2, ["busy", *used]] = [0.25, *used.values()]
    c = coefficients()["dense"][hardware]
    extra_w = 0.25 * 0.25 * c["weights"] + 0.5 * c["compute"] + 0.4 * c["memory"]
    # an H100 prints the mean of a second, a quarter of it late
    shape = [0, 0, 1, 0, 0, 0, 0, 0] if hardware == "A100" else [0, 0, 0, 1, 1, 1, 1, 0]
    shown_w = extra_w / sum(shape) * np.array(shape)
    assert gpu_power_w(run, work) == pytest.approx(c["idle"] + shown_w)


TESTBED = Configuration("m", "testbed", 1)


@pytest.mark.parametrize("change", [{"requests": None}, {"info": {}}, {"configuration": TESTBED}])
def test_what_cannot_be_predicted_is_refused(change):
    with pytest.raises(InputError, match=r"requests.csv: is missing|arch.d_model|knows A100"):
        predict(replace(run_of([(0, 10, 10)]), **change))


def test_the_published_prediction_of_a_sparse_model_on_h100_comes_out(measured):
    run = read_run(measured / "qwen3-30b-a3b_h100_tp2_poisson_r2")
    theirs_w = run.published["predicted_w"].to_numpy()
    ours = predict(run, idle_w=run.info["calibration"]["target_idle_w_per_gpu"] * 2)
    assert np.abs(ours.power_w.reshape(-1, 4).mean(axis=1) - theirs_w).max() < 1.0
    reported = run.info["reported"]["metrics_before_calibration_pure_zero_shot"]["energy_error_pct"]
    found_pct = evaluate(run, predict(run))["1s"]["whole"]["energy_error_signed_pct"]
    assert -found_pct == pytest.approx(reported, abs=0.01)
