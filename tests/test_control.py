"""A row under a policy: the servers of before, orders that act late, what any policy must keep."""

import copy
import importlib
from dataclasses import replace

import numpy as np
import pytest

from sitetrace import load_model, shipped_model, studies
from sitetrace.control import row
from sitetrace.control.clock import CAP_CLOCKS
from sitetrace.control.signals import Actuator, Orders, Telemetry
from sitetrace.core.files import InputError
from sitetrace.power import running
from sitetrace.serving.engine import simulate
from sitetrace.serving.inflight import as_requests
from sitetrace.workload.streams import poisson

MODEL = load_model(shipped_model("testbed_timeline"))
SECONDS, TICK_S = 160.0, 1.0
REQUESTS = poisson(4.0, SECONDS, np.random.default_rng(5))
MODULES = [importlib.import_module(f"sitetrace.studies.{name}") for name in studies.WITH_POLICIES]
POLICIES = {
    f"{module.__name__.rpartition('.')[2]}: {name}": (module, name)
    for module in MODULES
    for name in module.policies([MODEL] * 3)
}


def run(policy=None, requests=REQUESTS, models=(MODEL,) * 3, **how):
    rng = np.random.default_rng(7)
    return row.run(models, requests, policy, seconds=SECONDS, tick_s=TICK_S, rng=rng, **how)


def made(label):
    module, name = POLICIES[label]
    return copy.deepcopy(module.policies([MODEL] * 3)[name])


def same(one, other):
    return np.array_equal(one.server_w, other.server_w) and np.array_equal(
        one.times_s, other.times_s, equal_nan=True
    )


class Logged:
    """A policy that keeps what it said."""

    def __init__(self, policy):
        self.policy, self.said = policy, []

    def __call__(self, view):
        self.said.append(self.policy(view))
        return self.said[-1]


USUAL = run()


@pytest.mark.parametrize("label", POLICIES)
def test_without_its_actuator_a_policy_is_no_control_to_the_bit(label):
    assert same(run(made(label), actuator=Actuator(cut=True)), USUAL)
    assert not same(run(made(label)), USUAL)


@pytest.mark.parametrize("label", POLICIES)
def test_nothing_moves_before_the_command_and_its_latency(label):
    policy = Logged(made(label))
    acting = run(policy, actuator=Actuator(30.0, replaces=False))
    at_rest = repr(Orders())
    command = next(k for k, said in enumerate(policy.said) if repr(said) != at_rest)
    moved = np.flatnonzero((acting.server_w != USUAL.server_w).any(axis=1))
    assert moved.size and moved[0] >= command + 30


@pytest.mark.parametrize("label", POLICIES)
def test_future_arrivals_change_no_past_order(label):
    later = REQUESTS["arrival_s"] > 80.0
    other = REQUESTS.assign(output_tokens=np.where(later, 5, REQUESTS["output_tokens"]))
    policies = [Logged(made(label)) for _ in range(2)]
    runs = [run(p, r) for p, r in zip(policies, (REQUESTS, other), strict=True)]
    for one, two in zip(*(policy.said[:80] for policy in policies), strict=True):
        assert repr(one) == repr(two)
    assert np.array_equal(runs[0].server_w[:80], runs[1].server_w[:80])


def test_orders_at_rest_are_no_control_to_the_bit():
    assert same(run(lambda view: Orders()), USUAL)


def test_the_row_is_its_servers_one_by_one():
    rng = np.random.default_rng(7)
    noise = rng.standard_normal((3, round(4 * SECONDS)), dtype=np.float32)
    went = (rng.random(len(REQUESTS)) * 3).astype(int)
    for s in range(3):
        own = REQUESTS[went == s]
        fates = simulate(own, MODEL.server).requests
        for column, name in enumerate(("first_token_s", "end_s")):
            seen = USUAL.times_s[went == s, column]
            there = ~np.isnan(seen)
            assert there.mean() > 0.8
            np.testing.assert_allclose(seen[there], fates[name][there], rtol=0, atol=1e-9)
        tokens = own[["input_tokens", "output_tokens"]].to_numpy()
        new = as_requests(own["arrival_s"].to_numpy(), tokens)
        to, one = np.zeros(len(own), int), running.start([MODEL])
        power_w = one.advance(SECONDS, new, to, noise[s : s + 1])[0].reshape(-1, 4).mean(axis=1)
        # a segment that is cut by a tick warms up in two steps
        np.testing.assert_allclose(USUAL.server_w[:, s], power_w, rtol=1e-3)


def test_telemetry_is_late_and_orders_hold_until_the_next():
    seen = []

    def watch(view):
        seen.append(view)
        return Orders(clock=0.6) if view.time_s >= 100.0 else Orders()

    arm = run(watch, telemetry=Telemetry(window_s=4.0, delay_s=3.0), actuator=Actuator(2.0))
    assert np.isnan(seen[6].power_w).all() and not np.isnan(seen[7].power_w).any()
    np.testing.assert_allclose(seen[50].power_w, arm.server_w[43:47].mean(axis=0))
    np.testing.assert_array_equal(seen[50].queued, arm.queued[47])
    np.testing.assert_array_equal(arm.server_w[:102], USUAL.server_w[:102])


def test_a_newer_order_replaces_one_that_does_not_act_yet():
    lock, release = Orders(clock=0.5), Orders()

    def hasty(view):
        return lock if 40.0 <= view.time_s < 50.0 else release

    assert same(run(hasty, actuator=Actuator(40.0)), USUAL)
    assert not same(run(hasty, actuator=Actuator(40.0, replaces=False)), USUAL)


def test_a_cap_holds_the_mean_of_seconds_and_nothing_else():
    high = run(lambda view: Orders(cap_w=2000.0))
    assert same(high, USUAL)
    cap_w = MODEL.idle.mean_w + 0.7 * (USUAL.server_w.mean() - MODEL.idle.mean_w)
    capped = run(lambda view: Orders(cap_w=cap_w))
    assert capped.server_w[10:].mean() < cap_w < USUAL.server_w.mean()
    assert (capped.server_w[10:] > 1.2 * cap_w).mean() < 0.2 * (USUAL.server_w > 1.2 * cap_w).mean()
    assert np.nanmedian(capped.tpot_s) > np.nanmedian(USUAL.tpot_s)
    assert CAP_CLOCKS[-1] == 1.0


def test_a_mixed_row_changes_configurations_and_loses_no_request():
    """Two servers of another law; one changes to it at 60 s and is down for 10 s."""
    fast = replace(MODEL, server=replace(MODEL.server, c0_s=0.5 * MODEL.server.c0_s))
    mixed = (MODEL, fast, fast)
    arm = run(None, models=mixed)
    assert np.nanmedian(arm.tpot_s) < np.nanmedian(USUAL.tpot_s)
    orders = Orders(), Orders(model=[fast] * 3, down_s=10.0)
    changed = run(lambda view: orders[view.time_s >= 60.0])
    np.testing.assert_array_equal(changed.server_w[:60], USUAL.server_w[:60])
    assert changed.server_w[61:69].max() < MODEL.idle.mean_w + 40.0
    before = REQUESTS["arrival_s"] < 100.0
    assert not np.isnan(changed.times_s[before, 1]).any()


def test_a_tick_that_cuts_a_bin_is_refused():
    with pytest.raises(InputError, match="multiple"):
        row.run([MODEL], REQUESTS, seconds=3.0, tick_s=0.3, rng=np.random.default_rng(1))
