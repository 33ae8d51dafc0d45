"""The authors' later model: what a step costs, that work is conserved, and what they published."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest

from sitebook.old.judging.powertrace_v1 import gpu_power_w, ledger, predict, serve
from sitebook.old.judging.powertrace_v1_costs import Law, coefficients, law_of
from sitebook.old.judging.powertrace_v1_serving import step_cost
from sitetrace import evaluate, read_run
from sitetrace.core.files import InputError
from sitetrace.core.types import Configuration, Run

DENSE = {
    "d_model": 4096,
    "n_layers": 36,
    "n_kv": 8,
    "head_dim": 128,
    "n_active": 8_190_427_136,
    "w_bytes": 16_380_854_272,
}
SPARSE = DENSE | {"moe_frac": 0.75, "n_experts": 64, "top_k": 16}
PARTS = {
    "transformer_active_params": 7_000_000_000,
    "transformer_weight_bytes": 14_000_000_000,
    "output_head_params": 600_000_000,
    "output_head_weight_bytes": 1_200_000_000,
    "input_embedding_params": 600_000_000,
    "input_embedding_weight_bytes": 1_200_000_000,
}
EASY = Law(
    launch_s=0.001,
    sample_s=0.0001,
    flop_rate=1e12,
    byte_rate=1e9,
    stream_rate=1e9,
    token_flop=1e9,
    head_flop=0.0,
    pair_flop=1e4,
    weight_bytes=5e6,
    head_bytes=0.0,
    row_bytes=0.0,
    expert_share=0.0,
    untouched_share=0.0,
    kv_bytes=1e3,
    window=0.0,
)


def run_of(requests, arch=DENSE, hardware="A100", gpus=1, span_s=60.0, **info):
    table = pd.DataFrame(requests, columns=["arrival_s", "input_tokens", "output_tokens"])
    times_s = table["arrival_s"].min() - 5 + 0.25 * np.arange(1, int(4 * span_s) + 1)
    samples = pd.DataFrame({"time_s": times_s, "power_w": 100.0})
    info = {"arch": arch} | info
    configuration = Configuration("m", hardware, gpus)
    return Run("r", configuration, table, samples, Fraction(1, 4), None, info, "")


def test_a_decode_step_takes_what_its_rooflines_say():
    # weights 5e6 B / 1e9 B/s beat 4 x 1e9 FLOP / 1e12 FLOP/s; attention reads 4 x 101 tokens
    flop, weights, decode, prefill, seconds = step_cost(EASY, 4, 100.0, 0, 0, 0.0, 0.0)
    assert (weights, decode, prefill) == (5e6, 4 * 101 * 1e3, 0)
    assert flop == 4 * 1e9 + 1e4 * 400
    assert seconds == pytest.approx(0.001 + 0.005 + 404e3 / 1e9 + 4 * 0.0001, rel=1e-12)


def test_a_prefill_step_is_bound_by_its_multiplications():
    # 100 prompt tokens behind nothing: 100 x 50 pairs, 50 tokens read and 100 written
    flop, _, _, prefill, seconds = step_cost(EASY, 0, 0.0, 100, 1, 5000.0, 150.0)
    assert prefill == 150e3
    assert flop == 100e9 + 5000 * 1e4
    assert seconds == pytest.approx(0.001 + 0.1 + 150e3 / 1e9, rel=1e-12)


def test_a_known_output_head_has_a_roofline_of_its_own():
    law = EASY._replace(head_flop=2e9, head_bytes=1e6, row_bytes=1e3, stream_rate=5e8)
    _, weights, _, _, seconds = step_cost(law, 4, 0.0, 0, 0, 0.0, 0.0)
    assert weights == 5e6 + 1e6 + 4e3
    assert seconds == pytest.approx(0.001 + 0.01 + 0.008 + 4e-6 + 4e-6 + 0.0004, rel=1e-12)


def test_experts_are_read_as_far_as_tokens_touch_them():
    law = EASY._replace(expert_share=0.8, untouched_share=0.75)
    assert step_cost(law, 1, 0.0, 0, 0, 0.0, 0.0)[1] == pytest.approx(5e6 * 0.4)
    assert step_cost(law, 2, 0.0, 0, 0, 0.0, 0.0)[1] == pytest.approx(5e6 * (0.2 + 0.8 * 7 / 16))


def test_half_of_the_layers_see_only_the_window():
    wide, narrow = (EASY._replace(window=w) for w in (0.0, 128.0))
    assert step_cost(wide, 1, 1000.0, 0, 0, 0.0, 0.0)[2] == 1001e3
    assert step_cost(narrow, 1, 1000.0, 0, 0, 0.0, 0.0)[2] == 565e3
    assert step_cost(narrow, 1, 100.0, 0, 0, 0.0, 0.0)[2] == 101e3


def test_the_law_of_a_known_model_has_its_published_size():
    law = law_of(run_of([(0, 10, 10)]))
    assert law.launch_s == pytest.approx(72 * 50.2e-6, rel=1e-3)
    assert law.weight_bytes / law.byte_rate == pytest.approx(
        16.380854e9 / (0.8611 * 2e12), rel=1e-3
    )
    assert law.token_flop / law.flop_rate == pytest.approx(
        16.380854e9 / (0.7203 * 312e12), rel=1e-3
    )
    assert (law.kv_bytes, law.pair_flop) == (4 * 36 * 8 * 128, 4 * 4096 * 36)


def test_parts_of_a_dense_model_are_read_one_by_one_and_fp8_halves_the_flop():
    law = law_of(run_of([(0, 10, 10)], DENSE | PARTS | {"fp8": 1}, "H100", 2))
    assert (law.weight_bytes, law.head_bytes, law.row_bytes) == (14e9, 1.2e9, 8192)
    assert (law.token_flop, law.head_flop) == (7e9, 1.2e9)
    assert law.stream_rate / law.byte_rate == pytest.approx(0.776, abs=1e-3)
    assert law.byte_rate == pytest.approx(2 * 3.35e12)
    sparse = law_of(run_of([(0, 10, 10)], SPARSE | PARTS))
    assert (sparse.weight_bytes, sparse.head_bytes) == (SPARSE["w_bytes"], 0)
    assert (sparse.token_flop, sparse.untouched_share) == (14e9, 0.75)


def test_a_lone_request_is_prefilled_in_chunks_and_then_decodes_token_by_token():
    steps, fate = serve(run_of([(100.0, 5000, 4)]))
    assert steps["prefill_tokens"].tolist() == [2048, 2048, 904, 0, 0, 0]
    assert steps["batch"].tolist() == [0, 0, 0, 1, 1, 1]
    assert np.array_equal(steps["start_s"][1:], steps["end_s"][:-1])
    first_s = coefficients()["serving"]["A100"]["first_token_s"]
    assert fate["ttft_s"][0] == pytest.approx(steps["end_s"][2] + first_s)
    assert fate["decode_s"][0] == pytest.approx(steps["end_s"][5] - steps["end_s"][2])
    law = law_of(run_of([(100.0, 5000, 4)]))
    second = step_cost(law, 0, 0.0, 2048, 0, 2048 * 3072.0, 3072 + 2048)
    assert steps["end_s"][1] - steps["start_s"][1] == pytest.approx(second[4])
    assert (steps["flop"][1], steps["prefill_kv_bytes"][1]) == (second[0], second[3])


def test_decode_comes_first_and_prefill_takes_the_rest_of_the_tokens():
    steps, _ = serve(run_of([(0, 10, 50), (0.1, 300, 2)], max_num_batched_tokens=100))
    mixed = steps[(steps["prefill_tokens"] > 0) & (steps["batch"] > 0)]
    assert mixed["prefill_tokens"].tolist() == [99, 99, 99, 3]


@pytest.mark.parametrize(
    ("arch", "info"),
    [
        (DENSE, {"max_num_seqs": 1}),
        (DENSE | {"w_bytes": 72e9 - 1000 * 147456}, {}),  # room for 1,000 tokens
    ],
    ids=["seats", "memory"],
)
def test_who_finds_no_room_waits_for_the_end_of_those_before(arch, info):
    steps, fate = serve(run_of([(0, 600, 20), (0, 600, 20)], arch, **info))
    assert steps["batch"].max() == 1
    first_s = coefficients()["serving"]["A100"]["first_token_s"]
    served_s = fate["ttft_s"][0] - first_s + fate["decode_s"][0]
    assert fate["ttft_s"][1] - first_s > served_s
    apart, _ = serve(run_of([(0, 600, 20), (0, 600, 20)]))
    assert apart["batch"].max() == 2


def test_no_work_is_lost_between_steps_and_bins():
    rng = np.random.default_rng(4)
    requests = [
        (t, int(n), int(m))
        for t, n, m in zip(
            np.sort(rng.uniform(0, 20, 60)), rng.integers(1, 900, 60), rng.integers(1, 200, 60)
        )
    ]
    run = run_of(requests)
    steps, _ = serve(run)
    work = ledger(steps, 7.0, -5.07, 400)
    assert steps["end_s"].iloc[-1] < 90
    tokens = sum(n for _, n, _ in requests)
    assert steps["prefill_tokens"].sum() == tokens
    assert steps["batch"].sum() == sum(m - 1 for _, _, m in requests)
    for name in ("flop", "weight_bytes"):
        assert work[name].sum() == pytest.approx(steps[name].sum(), rel=1e-9)
    decoded = steps["decode_kv_bytes"].sum()
    whole = decoded + steps["prefill_kv_bytes"].sum()
    assert work["kv_bytes"].sum() == pytest.approx(whole, rel=1e-9)
    assert work["cache_bytes"].sum() == pytest.approx(decoded + 7 * tokens, rel=1e-9)
    assert work["steps"].sum() == len(steps)
    length_s = steps["end_s"] - steps["start_s"]
    assert 0.25 * work["busy"].sum() == pytest.approx(length_s.sum(), rel=1e-9)
    assert 0.25 * work["batch"].sum() == pytest.approx((length_s * steps["batch"]).sum(), rel=1e-9)


def work_of(n=8, **given):
    names = ("busy", "batch", "flop", "weight_bytes", "kv_bytes", "cache_bytes", "steps")
    table = pd.DataFrame(0.0, index=range(n), columns=list(names))
    for name, value in given.items():
        table.loc[2, name] = value
    return table


@pytest.mark.parametrize(
    ("hardware", "peak", "bandwidth"), [("A100", 312, 2.0), ("H100", 990, 3.35)]
)
def test_a_dense_gpu_pays_for_busy_weights_flop_and_bytes(hardware, peak, bandwidth):
    run = run_of([(0, 10, 10)], DENSE | {"w_bytes": 40e9}, hardware, 2)
    used = {"flop": 0.25 * 0.5 * 2 * peak * 1e12, "weight_bytes": 0.25 * 2 * bandwidth * 0.64e12}
    power_w = gpu_power_w(run, work_of(busy=0.25, **used))
    c = coefficients()["dense"][hardware]
    extra_w = 0.25 * 0.25 * c["weights"] + 0.5 * c["compute"] + 0.4 * c["memory"]
    shape = [0, 0, 1, 0, 0, 0, 0, 0] if hardware == "A100" else [0, 0, 0, 1, 1, 1, 1, 0]
    shown = extra_w if hardware == "A100" else extra_w / 4
    assert power_w == pytest.approx(c["idle"] + shown * np.array(shape))


def test_a_sparse_gpu_pays_bytes_a_bin_later_and_for_iterations_and_batch():
    run = run_of([(0, 10, 10)], SPARSE, gpus=2)
    work = work_of(busy=1.0, batch=3.0, flop=0.25 * 0.36 * 2 * 312e12, steps=50.0)
    work.loc[2, "cache_bytes"] = 0.25 * 0.5 * 2 * 2.0e12
    c = coefficients()["moe"]["models"]["gpt-oss-20b"]["coefficients"]
    now_w = 0.6 * c["compute"] + 0.2 * c["iterations"] + np.log(4) * c["batch"]
    extra_w = np.array([0, 0, now_w, 0.5 * c["memory"], 0, 0, 0, 0])
    assert gpu_power_w(run, work) == pytest.approx(c["idle"] + c["several"] + extra_w)


def test_before_and_after_the_load_the_server_idles():
    for gpus in (1, 2):
        run = run_of([(1000.0, 200, 100)], gpus=gpus)
        trace = predict(run)
        assert (trace.start_s, trace.dt, trace.power_w.size) == (995.0, Fraction(1, 4), 240)
        quiet_w = trace.power_w[np.r_[:20, 80:240]]
        assert quiet_w == pytest.approx(70.11875 * gpus)
        assert trace.power_w[20:24].min() > 150 * gpus
        moved = predict(run, idle_w=90.0 * gpus)
        assert moved.power_w - trace.power_w == pytest.approx((90 - 70.11875) * gpus)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"info": {}}, "arch.d_model: is missing"),
        ({"info": {"arch": {k: v for k, v in DENSE.items() if k != "n_active"}}}, "arch.n_active"),
        ({"info": {"arch": DENSE | {"moe_frac": 0.9}}}, "arch.n_experts: is missing"),
        ({"info": {"arch": DENSE | {"w_bytes": "big"}}}, "w_bytes: 'big' is no sensible number"),
        ({"info": {"arch": DENSE | {"n_linear_layers": 3}}}, "keep keys and values"),
        ({"info": {"arch": DENSE | {"fp8": 1}}}, "no FP8 coefficient for A100"),
        ({"info": {"arch": DENSE, "max_num_seqs": 0}}, "max_num_seqs = 0 is no count"),
        ({"info": {"arch": DENSE | {"w_bytes": 73e9}}}, "fit beside the weights"),
        ({"configuration": Configuration("m", "testbed", 1)}, "knows A100 and H100"),
        ({"configuration": Configuration("m", "A100", 3)}, "no coefficients for m A100 tp3"),
        ({"requests": None}, "requests.csv is missing"),
    ],
)
def test_what_cannot_be_predicted_is_refused_with_the_reason(change, told):
    with pytest.raises(InputError, match=told):
        predict(replace(run_of([(0, 10, 10)]), **change))


@pytest.mark.parametrize("idle_w", [0.0, -5.0, np.nan, np.inf])
def test_an_idle_power_is_above_zero(idle_w):
    with pytest.raises(InputError, match="idle_w"):
        predict(run_of([(0, 10, 10)]), idle_w=idle_w)


def test_the_published_prediction_of_a_sparse_model_on_h100_comes_out(measured):
    run = read_run(measured / "qwen3-30b-a3b_h100_tp2_poisson_r2")
    theirs_w = run.published["predicted_w"].to_numpy()
    given = run.info["calibration"]
    ours = predict(run, idle_w=given["target_idle_w_per_gpu"] * 2)
    ours_w = ours.power_w[: 4 * theirs_w.size].reshape(-1, 4).mean(axis=1)
    assert np.abs(ours_w - theirs_w).max() < 1.0
    assert np.corrcoef(ours_w, theirs_w)[0, 1] > 0.99999
    assert ours_w.mean() == pytest.approx(theirs_w.mean(), rel=1e-4)
    reported = run.info["reported"]
    for trace, block in (
        (ours, "metrics_after_calibration"),
        (predict(run), "metrics_before_calibration_pure_zero_shot"),
    ):
        found = evaluate(run, trace)["1s"]["whole"]["energy_error_signed_pct"]
        assert -found == pytest.approx(reported[block]["energy_error_pct"], abs=0.01)


def test_the_published_times_to_first_token_come_out(measured):
    run = read_run(measured / "qwen3-30b-a3b_h100_tp2_poisson_r2")
    _, fate = serve(run)
    error_pct = 100 * (fate["ttft_s"] / run.requests["ttft_s"] - 1)
    reported = run.info["reported"]["timing"]
    found = (error_pct.median(), error_pct.abs().median(), error_pct.abs().quantile(0.9))
    names = ("ttft_s_median_signed_pct", "ttft_s_medabs_pct", "ttft_s_p90abs_pct")
    assert found == pytest.approx([reported[name] for name in names], abs=0.5)


@pytest.mark.parametrize("load", ["poisson_r4", "poisson_r2p5", "bursty_r2p5", "smooth_r2p5"])
def test_with_the_boards_own_idle_power_an_unseen_dense_model_is_met(measured, load):
    run = read_run(measured / f"qwen3-8b_a100_tp1_{load}")
    idle_w = run.idle_before_load_w()
    plain, moved = (evaluate(run, predict(run, idle_w=w))["1s"]["whole"] for w in (None, idle_w))
    assert moved["energy_error_pct"] < min(plain["energy_error_pct"], 2.5)
    assert moved["correlation"] > 0.95
