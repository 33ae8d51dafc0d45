"""A model carried over: what the roofline says of steps and power, and what it refuses."""

import numpy as np
import pytest

import sitetrace
from sitetrace.core.files import InputError
from sitetrace.core.registry import registry_entry
from sitetrace.core.types import Configuration
from sitetrace.meter import Meter
from sitetrace.power.modelfile import load_model
from sitetrace.serving.engine import Server
from sitetrace.studies.carry import bandwidth_share, carried, carried_server, machine

DENSE = {"d_model": 4096, "n_layers": 36, "n_kv": 8, "head_dim": 128, "n_active": 8e9}
DENSE |= {"w_bytes": 16e9}
SPARSE = DENSE | {"moe_frac": 0.9, "n_experts": 128, "top_k": 8, "n_active": 3e9}


def made(gpus=1, name="dense", arch=DENSE, **changes):
    return machine(Configuration(name, "A100", gpus), {"arch": arch | changes})


ONE = made()


@pytest.fixture(scope="module")
def model():
    return load_model(sitetrace.shipped_model("qwen3-8b_a100_from_r2p5_timeline"))


def test_a_dense_model_reads_all_its_weights_whatever_the_batch():
    assert ONE.read_s(1.0) == ONE.read_s(64.0) == pytest.approx(16e9 / 2.0e12)
    # 2 (keys, values) x 2 bytes x 36 layers x 8 heads x 128 for each token of context
    assert ONE.read_s(4.0, 1000.0) - ONE.read_s(4.0) == pytest.approx(4000 * 147_456 / 2.0e12)


def test_a_mixture_of_experts_reads_more_with_each_sequence_but_ever_less_more():
    taken = made(arch=SPARSE).read_s(np.array([1.0, 2.0, 4.0, 1e4])) * 2.0e12 / 16e9
    assert taken[0] == pytest.approx(0.1 + 0.9 / 16)
    assert taken[1] - taken[0] > (taken[2] - taken[1]) / 2 > 0
    assert taken[3] == pytest.approx(1.0)


def test_twice_the_weights_take_twice_the_reading_and_the_same_time_a_layer():
    plain = Server(c0_s=0.012, c1_s=0.0)
    server = carried_server(plain, ONE, made(w_bytes=32e9))
    assert server.c0_s == pytest.approx(0.012 + 0.008)
    assert server.c2_s == pytest.approx(Server.c2_s)
    assert carried_server(plain, ONE, made(n_layers=72)).c0_s == pytest.approx(0.016)


def test_a_model_carried_to_its_own_server_is_itself(model):
    same = carried(model, ONE, ONE, model.idle.mean_w, model.meter)
    step = np.array([2.0, 12.0]), np.array([300.0, 300.0])
    one_w, two_w = (each.surface.step_power_w(*step) for each in (model, same))
    np.testing.assert_allclose(two_w, one_w, rtol=1e-6)
    assert same.server.c0_s == pytest.approx(model.server.c0_s, rel=1e-9)
    assert "carried over" in same.provenance["rule"]


def test_sliding_windows_carried_to_their_own_server_hold_what_they_held():
    model = load_model(sitetrace.shipped_model("gemma-4-26b-a4b_a100_cut_timeline"))
    info = registry_entry("gemma-4-26b-a4b_a100_tp2_poisson_r4")["run"]
    assert info["arch"]["swa_global_ratio"] == 5.0
    home = machine(model.configuration, info)
    same = carried(model, home, home, model.idle.mean_w, model.meter).server
    assert same.kv_tokens == model.server.kv_tokens
    # of its layers one in six reads a token far behind
    assert home.read_s(1.0, 6.0) - home.read_s(1.0) == pytest.approx(245_760 / 4.0e12)


def test_weights_that_leave_no_room_on_the_gpus_are_refused_with_the_mend():
    with pytest.raises(InputError, match="llama A100 tp1: .*w_bytes.*1 A100: raise tensor_par"):
        made(name="llama", w_bytes=141e9)
    two = carried_server(Server(), ONE, made(2, w_bytes=141e9))
    assert two.kv_tokens == int(3e9 / 147_456) > Server.max_num_batched_tokens
    one = carried_server(Server(), ONE, made(w_bytes=71e9))
    assert one.kv_tokens == int(1e9 / 147_456) < Server.max_num_batched_tokens


def test_more_gpus_of_a_kind_draw_more_and_an_idle_board_stays_its_own(model):
    two = made(2)
    moved = carried(model, ONE, two, 170.0, Meter(window_s=1.0))
    assert moved.surface.idle_w == moved.idle.mean_w == 170.0
    assert moved.meter.window_s == 1.0 > model.meter.window_s
    # of the target's idle law nothing but its watts is known
    assert moved.idle.deviation_w is model.idle.deviation_w
    above = [each.surface.prefill_w - each.idle.mean_w for each in (model, moved)]
    assert above[1] == pytest.approx(2 * above[0], rel=0.02)
    assert moved.surface.limit_w == 800.0
    assert moved.server.c0_s < model.server.c0_s
    assert bandwidth_share(two, moved.server, 4.0) < bandwidth_share(ONE, model.server, 4.0)


@pytest.mark.parametrize("arch", [None, DENSE | {"n_layers": 0}, SPARSE | {"top_k": "8"}])
def test_an_architecture_that_is_not_told_is_refused(arch):
    with pytest.raises(InputError, match="arch"):
        machine(Configuration("dense", "A100", 1), {"arch": arch})
