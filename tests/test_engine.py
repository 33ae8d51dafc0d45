"""The engine leaps over equal steps to the same end, loses nothing, and keeps its limits."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_site import requests_table

from sitetrace.core.files import InputError
from sitetrace.core.types import running_count
from sitetrace.serving.engine import Engine, Server, simulate
from sitetrace.serving.surrogates import ConstantRate, LogNormalTTFT

LAW = {"c0_s": 0.011, "c1_s": 7e-5, "c2_s": 9.1e-5, "c3_s": 3.3e-6, "c4_s": 2e-7}


def stream(rng, n, rate, mean_input, mean_output, start_s=0.0):
    arrival_s = start_s + np.cumsum(rng.exponential(1 / rate, n))
    lengths = (rng.geometric(1 / mean, n) for mean in (mean_input, mean_output))
    return requests_table(arrival_s, *lengths)


def plain_engine(requests, server):
    """One step at a time, lists and dicts: first token and end of each request, and each step."""
    waiting = [
        {"row": row, "arrival": r.arrival_s, "prompt": int(r.input_tokens),
         "asked": int(r.output_tokens), "computed": 0, "generated": 0, "decodes": False}
        for row, r in requests.sort_values("arrival_s", kind="stable").iterrows()
    ]  # fmt: skip
    running, first, end, steps, clock = [], {}, {}, [], 0.0
    while waiting or running:
        if not running and waiting[0]["arrival"] > clock:
            clock = waiting[0]["arrival"]
        left, preempted, decoding, chunks = server.max_num_batched_tokens, [], [], []
        for request in list(running):
            if request in preempted:
                continue
            rest = request["prompt"] + request["generated"] - request["computed"]
            need = min(rest, left)
            while request in running and kv(running) + need > server.kv_tokens:
                preempted.append(running.pop())
            if request in running:
                if request["decodes"]:
                    decoding.append(request["computed"] + 1)
                else:
                    chunks.append((need, request["computed"]))
                request["computed"] += need
                left -= need
        for request in preempted:
            request["computed"], request["decodes"] = 0, False
            waiting.insert(0, request)
        while not preempted and waiting and waiting[0]["arrival"] <= clock and left > 0:
            need = min(waiting[0]["prompt"] + waiting[0]["generated"], left)
            room = kv(running) + need <= server.kv_tokens
            if len(running) == server.max_num_seqs or not room:
                break
            request = waiting.pop(0)
            running.append(request)
            chunks.append((need, 0))
            request["computed"] = need
            left -= need
        begin = clock
        clock += (
            server.c0_s
            + server.c1_s * len(decoding)
            + server.c2_s * sum(chunk for chunk, _ in chunks)
            + server.c3_s * sum(decoding)
            + server.c4_s * sum(chunk * (prefix + chunk / 2) for chunk, prefix in chunks)
        )
        steps.append((begin, clock, len(decoding), sum(chunk for chunk, _ in chunks)))
        for request in list(running):
            if request["computed"] == request["prompt"] + request["generated"]:
                request["generated"] += 1
                request["decodes"] = True
                first.setdefault(request["row"], clock)
                if request["generated"] == request["asked"]:
                    end[request["row"]] = clock
                    running.remove(request)
    return pd.Series(first).sort_index(), pd.Series(end).sort_index(), np.array(steps)


def kv(running):
    return sum(request["computed"] for request in running)


def tight_server(rng):
    """A small engine, so that every limit binds."""
    seqs = int(rng.integers(1, 9))
    budget, kv_tokens = int(rng.integers(seqs, 64)), int(rng.integers(250, 500))
    return Server(**LAW, max_num_seqs=seqs, max_num_batched_tokens=budget, kv_tokens=kv_tokens)


def short_stream(rng):
    requests = stream(rng, 60, rng.uniform(0.5, 30), 30, 25)
    tokens = ["input_tokens", "output_tokens"]
    requests[tokens] = requests[tokens].clip(upper=120)
    return requests


@pytest.mark.parametrize("seed", range(60))
def test_leaping_equals_one_step_at_a_time(seed):
    rng = np.random.default_rng(seed)
    requests, server = short_stream(rng), tight_server(rng)
    first, end, steps = plain_engine(requests, server)
    timeline = simulate(requests, server)
    np.testing.assert_allclose(timeline.requests["first_token_s"], first, rtol=0, atol=1e-9)
    np.testing.assert_allclose(timeline.requests["end_s"], end, rtol=0, atol=1e-9)
    segments = timeline.segments
    assert segments["steps"].sum() == len(steps)
    assert segments["prefill_tokens"].sum() == steps[:, 3].sum()
    assert segments["decode_tokens"].sum() == steps[:, 2].sum()
    first_steps = np.cumsum(segments["steps"]) - segments["steps"]
    np.testing.assert_allclose(segments["start_s"], steps[first_steps, 0], rtol=0, atol=1e-9)
    assert segments["batch"].tolist() == steps[first_steps, 2].tolist()


def test_streams_of_these_tests_do_preempt_and_chunk():
    recomputed = chunked = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        requests, server = short_stream(rng), tight_server(rng)
        prefilled = simulate(requests, server).segments["prefill_tokens"]
        recomputed += prefilled.sum() > requests["input_tokens"].sum()
        chunked += (prefilled == server.max_num_batched_tokens).any()
    assert recomputed > 20 and chunked > 20


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("known_ahead", [True, False])
def test_slices_of_time_make_one_timeline(seed, known_ahead):
    rng = np.random.default_rng(seed)
    requests, server = short_stream(rng), tight_server(rng)
    whole = simulate(requests, server)
    engine, parts, fates = Engine(server), [], {}
    if known_ahead:
        engine.advance(0.0, requests)
    cuts = [*np.sort(rng.uniform(0, whole.requests["end_s"].max(), 40)), np.inf]
    for begin, until in zip([-np.inf, *cuts], cuts, strict=False):
        new = requests[requests["arrival_s"].between(begin, until, inclusive="left")]
        part = engine.advance(until, None if known_ahead else new)
        parts.append(part.segments)
        fates |= part.requests["end_s"].to_dict()
        assert engine.kv_tokens <= server.kv_tokens
        assert engine.running.size <= server.max_num_seqs
    ends = pd.Series(fates).sort_index()
    np.testing.assert_allclose(ends, whole.requests["end_s"], rtol=0, atol=1e-9)
    if known_ahead:
        assert ends.tolist() == whole.requests["end_s"].tolist()
    segments = pd.concat(parts)
    for column in ("steps", "prefill_tokens", "decode_tokens"):
        assert segments[column].sum() == whole.segments[column].sum()
    assert (segments["start_s"].to_numpy()[1:] >= segments["end_s"].to_numpy()[:-1]).all()


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), start_s=st.sampled_from([0.0, 1.7e9]))
def test_nothing_is_lost_and_limits_hold(seed, start_s):
    rng = np.random.default_rng(seed)
    requests, server = short_stream(rng), tight_server(rng)
    requests["arrival_s"] += start_s
    timeline = simulate(requests, server)
    fate, segments = timeline.requests, timeline.segments
    begin, finish = segments["start_s"].to_numpy(), segments["end_s"].to_numpy()
    assert (finish > begin).all() and (begin[1:] >= finish[:-1]).all()
    assert fate["start_s"].is_monotonic_increasing
    assert (fate["arrival_s"] <= fate["start_s"]).all()
    assert (fate["start_s"] < fate["first_token_s"]).all()
    assert (fate["first_token_s"] <= fate["end_s"]).all()
    assert segments["batch"].max() <= server.max_num_seqs
    tokens = segments["prefill_tokens"] + segments["batch"]
    assert tokens.max() <= server.max_num_batched_tokens
    assert (segments.loc[segments["prefill_tokens"] > 0, "steps"] == 1).all()
    assert (segments["decode_tokens"] == segments["batch"] * segments["steps"]).all()
    # A prefill that ends gives one token; without pre-emption each request has one.
    without_decode = requests["output_tokens"].sum() - segments["decode_tokens"].sum()
    assert without_decode >= len(requests)
    assert segments["prefill_tokens"].sum() >= requests["input_tokens"].sum()


def test_a_lone_request_takes_the_sum_of_its_steps():
    server = Server(**LAW, max_num_batched_tokens=256)
    fate = simulate(requests_table([5.0], 300, 4), server).requests.iloc[0]
    pairs = 256 * 128 + 44 * (256 + 22)
    ttft = 2 * LAW["c0_s"] + 300 * LAW["c2_s"] + pairs * LAW["c4_s"]
    decode = 3 * (LAW["c0_s"] + LAW["c1_s"]) + (301 + 302 + 303) * LAW["c3_s"]
    assert fate["first_token_s"] - 5.0 == pytest.approx(ttft, abs=1e-12)
    assert fate["end_s"] - fate["first_token_s"] == pytest.approx(decode, abs=1e-12)


def test_equal_arrivals_and_unsorted_rows_keep_their_places():
    server = Server(**LAW, max_num_seqs=1, max_num_batched_tokens=64)
    table = requests_table([2.0, 1.0, 1.0], [7, 8, 9], [1, 2, 3])
    fate = simulate(table, server).requests
    assert fate["input_tokens"].tolist() == [7, 8, 9]
    assert fate["start_s"].rank().tolist() == [3, 1, 2]
    assert fate["end_s"][1] == fate["start_s"][2]


def test_an_advance_shows_queue_and_running_and_can_change_the_law():
    server = Server(**LAW, max_num_seqs=2, max_num_batched_tokens=64)
    table = requests_table([0.0] * 4, 10, 400)
    engine = Engine(server)
    part = engine.advance(1.0, table)
    assert engine.running.tolist() == [0, 1] and engine.queue.tolist() == [2, 3]
    assert part.requests["end_s"].isna().all() and part.requests["first_token_s"].count() == 2
    assert 1.0 <= engine.clock_s < 1.1
    assert running_count(part, [0.5]) == [2]
    engine.server = dataclasses.replace(server, c0_s=2 * server.c0_s)
    slower = engine.advance(np.inf).requests["end_s"]
    assert slower[0] > 1.6 * simulate(table, server).requests["end_s"][0]


def test_a_request_beyond_the_cache_is_refused_by_its_row():
    table = requests_table([0.0, 1.0], [5, 90], 20)
    with pytest.raises(InputError, match="row 1 needs 110 tokens"):
        simulate(table, Server(kv_tokens=100))


@pytest.mark.parametrize("field", [{"c0_s": 0.0}, {"c2_s": np.nan}, {"max_num_seqs": 9000}])
def test_impossible_servers_are_refused_by_field(field):
    with pytest.raises(InputError, match=next(iter(field))):
        Server(**field)


def test_constant_rate_is_the_published_formula():
    requests = stream(np.random.default_rng(1), 200, 3.0, 300, 200, start_s=1.7e9)
    fate = simulate(requests, ConstantRate(1390.1, 52.92)).requests
    expected = requests["input_tokens"] / 1390.1 + requests["output_tokens"] / 52.92
    np.testing.assert_allclose(fate["end_s"] - fate["arrival_s"], expected, atol=1e-6)
    assert (fate["start_s"] == requests["arrival_s"]).all()


LOG_NORMAL = LogNormalTTFT(-3.7619, 0.1336, 0.1783, -2.5742, 0.1439, 0.01943, 0.00462, 32)


def test_log_normal_ttft_has_the_published_moments():
    requests = requests_table(np.arange(20_000) * 1e3, 400, 100)
    fate = simulate(requests, LOG_NORMAL, np.random.default_rng(2)).requests
    log_ttft = np.log(fate["first_token_s"] - fate["start_s"])
    assert log_ttft.mean() == pytest.approx(-3.7619 + 0.1336 * np.log(400), abs=0.01)
    spread = np.hypot(0.1783, np.exp(-2.5742 + 0.1439 * np.log(400)))
    assert log_ttft.std() == pytest.approx(spread, rel=0.03)
    tpot = (fate["end_s"] - fate["first_token_s"]) / 100
    assert tpot.mean() == pytest.approx(0.01943, rel=0.01)
    assert tpot.min() > 0


def test_log_normal_ttft_never_runs_more_than_its_limit_and_is_first_in_first_out():
    requests = stream(np.random.default_rng(3), 500, 40.0, 300, 200)
    timeline = simulate(requests, LOG_NORMAL, np.random.default_rng(4))
    fate = timeline.requests
    counts = running_count(timeline, fate["start_s"])
    assert counts.max() == LOG_NORMAL.max_active
    assert fate["start_s"].is_monotonic_increasing
    assert (fate["start_s"] >= fate["arrival_s"]).all()


@pytest.mark.parametrize("server", [ConstantRate(1390.1, 52.92), LOG_NORMAL])
def test_segments_of_surrogates_hold_all_tokens_and_the_active_requests(server):
    requests = stream(np.random.default_rng(7), 300, 2.0, 300, 200, start_s=1.7e9)
    timeline = simulate(requests, server, np.random.default_rng(8))
    segments = timeline.segments
    assert segments["prefill_tokens"].sum() == pytest.approx(requests["input_tokens"].sum())
    assert segments["decode_tokens"].sum() == pytest.approx(requests["output_tokens"].sum())
    begin, finish = segments["start_s"].to_numpy(), segments["end_s"].to_numpy()
    assert (finish > begin).all() and (begin[1:] >= finish[:-1]).all()
    middle = (begin + finish) / 2
    fate = timeline.requests
    decoding = [((fate["first_token_s"] <= t) & (t < fate["end_s"])).sum() for t in middle]
    assert segments["batch"].tolist() == decoding
    assert (running_count(timeline, middle) >= segments["batch"]).all()
    assert segments["context"].min() >= 0
