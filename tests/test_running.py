"""Servers that run: stretch by stretch as in one piece, whatever is asked in between."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sitetrace
from sitetrace.power import running
from sitetrace.power.modelfile import load_model
from sitetrace.serving.engine import Server, simulate
from sitetrace.serving.inflight import as_requests
from sitetrace.serving.surrogates import ConstantRate, LogNormalTTFT

MODEL = load_model(sitetrace.shipped_model("testbed_timeline"))
DECODE = LogNormalTTFT(-6.0, 0.7, 0.2, -2.0, 0.1, 0.02, 0.004, max_active=6)


def laid_out(requests):
    tokens = requests[["input_tokens", "output_tokens"]].to_numpy()
    return as_requests(requests["arrival_s"].to_numpy(), tokens)


def one_server(model):
    return running.start([model])


def in_stretches(server, requests, edges_s, noise):
    """Watts and fates of one server that is advanced from edge to edge, through its state."""
    requests, power_w, fates = laid_out(requests), [], []
    for until_s in edges_s:
        begin_s = server.clock_s
        inside = (requests["arrival_s"] >= begin_s) & (requests["arrival_s"] < until_s)
        new = requests[inside]
        given = noise
        if isinstance(noise, np.ndarray):
            given = noise[:, round(begin_s / server.dt_s) : round(until_s / server.dt_s)]
        power_w.append(server.advance(until_s, new, np.zeros(len(new), int), given)[0])
        fates.append(server.fates()[0])
        server = one_server(server.models[0]).resumed(server.state())
    return np.concatenate(power_w), np.concatenate(fates)


def test_stretch_by_stretch_is_as_in_one_piece():
    requests = sitetrace.workload.bursty(2.0, 3.0, 600.0, np.random.default_rng(5))
    noise = np.random.default_rng(6).standard_normal((1, 4 * 900), dtype=np.float32)
    whole, told = in_stretches(one_server(MODEL), requests, [900.0], noise)
    parts, again = in_stretches(one_server(MODEL), requests, np.arange(45.0, 901.0, 45.0), noise)
    # a segment that is cut in two warms up in two steps instead of one
    np.testing.assert_allclose(parts, whole, rtol=1e-3)
    assert parts.sum() == pytest.approx(whole.sum(), rel=1e-6)
    assert sorted(told.tolist()) == sorted(again.tolist())


def test_a_trace_is_what_a_running_server_draws():
    requests = sitetrace.workload.poisson(2.0, 300.0, np.random.default_rng(5))
    trace = MODEL.generate(requests, rng=np.random.default_rng(6), lead_s=0.0)
    bins = trace.power_w.size
    noise = np.random.default_rng(6).standard_normal((1, bins), dtype=np.float32)
    moved = requests.assign(arrival_s=requests["arrival_s"] - trace.start_s)
    power_w, _ = in_stretches(one_server(MODEL), moved, [0.25 * bins], noise)
    np.testing.assert_allclose(power_w, trace.power_w, rtol=1e-3)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    rate=st.floats(0.2, 6.0),
    length_s=st.sampled_from([7.0, 30.0, 60.0]),
    kv_tokens=st.sampled_from([9_000, 40_000, 400_000]),
    max_num_seqs=st.sampled_from([4, 64]),
    budget=st.sampled_from([64, 512, 8192]),
)
def test_requests_end_when_the_engine_says(seed, rate, length_s, kv_tokens, max_num_seqs, budget):
    """Also with cut prompts, queues and a cache that is too small; to the bit."""
    server = Server(kv_tokens=kv_tokens, max_num_seqs=max_num_seqs, max_num_batched_tokens=budget)
    requests = sitetrace.workload.poisson(rate, 240.0, np.random.default_rng(seed))
    requests["arrival_s"] -= requests["arrival_s"][0]
    told = simulate(requests, server).requests["end_s"].to_numpy()
    edges_s = np.arange(length_s, told.max() + 2 * length_s, length_s)
    server = one_server(replace(MODEL, server=server))
    _, fates = in_stretches(server, requests, edges_s, running.NO_NOISE)
    np.testing.assert_array_equal(np.sort(fates["end_s"]), np.sort(told))


@pytest.mark.parametrize("surrogate", [ConstantRate(900.0, 40.0), DECODE])
def test_a_surrogate_serves_in_stretches_as_in_one_piece(surrogate):
    model = replace(load_model(sitetrace.shipped_model("testbed")), server=surrogate)
    requests = sitetrace.workload.poisson(0.4, 300.0, np.random.default_rng(1))
    told = simulate(requests, surrogate, np.random.default_rng(2)).requests
    edges_s = [900.0] if surrogate is DECODE else np.arange(60.0, 901.0, 60.0)
    rngs = [np.random.default_rng(2)]
    power_w, fates = in_stretches(one_server(model), requests, edges_s, rngs)
    np.testing.assert_allclose(np.sort(fates["end_s"]), np.sort(told["end_s"]))
    waits_s = fates["start_s"] - fates["arrival_s"]
    assert waits_s.max() == pytest.approx((told["start_s"] - told["arrival_s"]).max(), abs=1e-9)
    assert power_w.min() > 0.0


def many(n_servers, seconds, together, seed):
    """Power of servers side by side, each with traffic of its own."""
    rng, parts, to = np.random.default_rng(seed), [], []
    for server in range(n_servers):
        parts.append(laid_out(sitetrace.workload.poisson(0.5, seconds, rng)))
        to += [server] * len(parts[-1])
    servers = running.start([MODEL] * n_servers)
    shape = (1 if together else n_servers, round(4 * seconds))
    noise = rng.standard_normal(shape, dtype=np.float32)
    edges = np.array([0, n_servers]) if together else None
    work = np.concatenate(parts), np.array(to)
    mean_w = running.start([MODEL] * n_servers).advance(seconds, *work).sum(axis=0)
    return servers.advance(seconds, *work, noise, edges).sum(axis=0) - mean_w


def test_one_draw_for_a_rack_has_the_noise_of_a_sum():
    """Variance and autocorrelation to lag 60, within 3% of the sum's."""

    def moments(together):
        noise_w = np.concatenate([many(8, 40_000.0, together, seed) for seed in range(3)])
        lags = [(noise_w[: noise_w.size - lag] * noise_w[lag:]).mean() for lag in range(61)]
        return np.array(lags)

    one_by_one, together = moments(False), moments(True)
    assert together[0] == pytest.approx(one_by_one[0], rel=0.03)
    np.testing.assert_allclose(together / together[0], one_by_one / one_by_one[0], atol=0.03)
