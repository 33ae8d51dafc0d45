"""Streams of any length come in chunks that leave no seam: rates, gaps, lengths and clients."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sitetrace.core.files import InputError
from sitetrace.workload.spec import check_traffic, open_stream

SEED = np.random.SeedSequence(5, spawn_key=(2,))
PATTERNS = {
    "poisson": {"rate_per_server": 0.5},
    "bursty": {"rate_per_server": 0.5, "cv": 2.0},
    "diurnal": {"rate_per_server": 0.5, "swing": 0.6, "peak_hour": 15.0},
    "replay": {"file": "requests.csv"},
    "clients": {"file": "rates.csv", "lengths": "lengths.csv", "rate_per_server": 0.5},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A recording of 50 requests, and two clients over two days of ten-minute windows."""
    folder, rng = tmp_path_factory.mktemp("traffic"), np.random.default_rng(1)
    recording = {
        "arrival_s": 1000.0 + np.sort(rng.uniform(0, 300, 50)).round(3),
        "input_tokens": np.arange(1, 51),
        "output_tokens": np.arange(51, 101),
        "session": np.arange(50) // 5,
    }
    pd.DataFrame(recording).to_csv(folder / "requests.csv", index=False)
    laws = [(3, 1.0, 2.0, "Gamma", 0.25), (7, 3.0, 1.0, "Weibull", 1.0)]
    rows = [
        (client, 600 * window, rate, cv, law, shape, 1 / rate / shape)
        for client, mean, cv, law, shape in laws
        for window in set(range(288)) - {100}
        for rate in [mean * (1 + window // 144)]
    ]
    columns = ["client", "window_start_s", "rate_rps", "cv", "pattern", "arg1", "arg2"]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "rates.csv", index=False)
    lengths = [(3, 0, "input_tokens", 150, 100, 300, 900, 9), (3, 0, "reason_ratio", *[0.5] * 5)]
    lengths += [(3, 0, "output_tokens", 40, 30, 80, 200, 9)]
    columns = ["client", "window_start_s", "field", "mean_tokens", "p50", "p90", "p99", "n_bins"]
    pd.DataFrame(lengths, columns=columns).to_csv(folder / "lengths.csv", index=False)
    return folder


def a_stream(folder, pattern, n_servers=4, **given):
    section = {"pattern": pattern, **PATTERNS.get(pattern, {}), **given}
    return open_stream(check_traffic(section), n_servers, folder, start_hour=0.0)


def all_of(stream, edges_s):
    """The requests of all chunks, the carry passed on through JSON."""
    chunks, carry = [], None
    for index, ends_s in enumerate(zip(edges_s[:-1], edges_s[1:], strict=True)):
        requests, carry = stream.chunk(index, *ends_s, SEED, carry)
        arrival_s, tokens, session = requests
        assert tokens.shape == (arrival_s.size, 2) and tokens.dtype == np.int64
        assert session is None or session.shape == arrival_s.shape
        assert np.all((ends_s[0] <= arrival_s) & (arrival_s < ends_s[1]))
        assert np.all(np.diff(arrival_s) >= 0) and np.all(tokens >= 1)
        chunks.append(requests)
        carry = json.loads(json.dumps(carry))
    arrival_s = np.concatenate([chunk.arrival_s for chunk in chunks])
    return arrival_s, np.concatenate([chunk.tokens for chunk in chunks]), chunks


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_resumed_stream_gives_the_same_requests(folder, pattern):
    given = {"thin": 0.5} if pattern == "replay" else {}
    carries, drawn = [None], []
    for index in range(4):
        ends_s = 500.0 * index, 500.0 * (index + 1)
        stream = a_stream(folder, pattern, **given)
        requests, carry = stream.chunk(index, *ends_s, SEED, carries[-1])
        carries.append(json.loads(json.dumps(carry)))
        drawn.append(requests)
    again = a_stream(folder, pattern, **given)
    requests, _ = again.chunk(2, 1000.0, 1500.0, SEED, carries[2])
    np.testing.assert_array_equal(requests.arrival_s, drawn[2].arrival_s)
    np.testing.assert_array_equal(requests.tokens, drawn[2].tokens)
    other = again.chunk(2, 1000.0, 1500.0, np.random.SeedSequence(6), carries[2])[0]
    assert not np.array_equal(other.arrival_s, drawn[2].arrival_s)
    assert not np.array_equal(drawn[2].arrival_s[:5], drawn[1].arrival_s[:5] + 500)


@pytest.mark.parametrize("pattern", ["poisson", "bursty", "diurnal", "clients"])
def test_the_mean_rate_does_not_depend_on_the_chunks(folder, pattern):
    stream = a_stream(folder, pattern)
    for chunk_s in (700.0, 86400.0):
        arrival_s, _, _ = all_of(stream, np.append(np.arange(0, 172800.0, chunk_s), 172800.0))
        assert arrival_s.size / 172800 / 4 == pytest.approx(0.5, rel=0.03)


@pytest.mark.parametrize("cv", [0.4, 1.0, 3.0])
def test_gaps_of_a_bursty_stream_keep_their_spread_over_the_seams(folder, cv):
    stream = a_stream(folder, "bursty", cv=cv)
    for edges_s in ([0.0, 60000.0], np.arange(0, 60001.0, 25.0)):
        gaps_s = np.diff(all_of(stream, edges_s)[0])
        assert gaps_s.std() / gaps_s.mean() == pytest.approx(cv, rel=0.06)


def test_a_renewal_stream_begins_in_its_steady_state(folder):
    stream = a_stream(folder, "bursty", n_servers=1, cv=4.0)
    seeds = np.random.SeedSequence(1).spawn(2000)
    first = [stream.chunk(0, 0.0, 20.0, seed, None)[0].arrival_s.size for seed in seeds]
    assert np.mean(first) == pytest.approx(10.0, rel=0.1)


@pytest.mark.parametrize("pattern", ["poisson", "diurnal"])
def test_single_servers_streams_add_up_to_the_pools(folder, pattern):
    stream, rng = a_stream(folder, pattern, 50), np.random.default_rng(3)
    counts = np.array([stream.server_chunk(50e3, 60e3, rng)[0].size for _ in range(50)])
    pool, _, _ = all_of(stream, [50e3, 60e3])
    assert counts.sum() == pytest.approx(pool.size, abs=6 * np.sqrt(pool.size))
    assert counts.var() / counts.mean() == pytest.approx(1, abs=0.6)


@given(st.lists(st.floats(0, 2000), min_size=1, max_size=12), st.floats(0.1, 10), st.floats(0, 3))
@settings(max_examples=40, deadline=None)
def test_no_request_of_a_replay_is_lost_or_doubled_at_a_seam(folder, inner_s, speed, offset_h):
    stream = a_stream(folder, "replay", speed=speed, offset_h=offset_h)
    arrival_s, tokens, _ = all_of(stream, np.unique([0.0, *inner_s, 2000.0]))
    whole_s, whole_tokens, _ = all_of(stream, [0.0, 2000.0])
    np.testing.assert_array_equal(tokens, whole_tokens)
    np.testing.assert_allclose(arrival_s, whole_s, atol=1e-6)
    assert np.all(np.diff(tokens[:, 0]) % 50 == 1)


def test_a_replay_repeats_the_recording_with_one_mean_gap_between(folder):
    stream, table = a_stream(folder, "replay"), pd.read_csv(folder / "requests.csv")
    arrival_s, tokens, (chunk,) = all_of(stream, [0.0, 2 * stream.period_s])
    recorded_s = table["arrival_s"] - table["arrival_s"].iloc[0]
    np.testing.assert_allclose(arrival_s[:50], recorded_s)
    np.testing.assert_allclose(arrival_s[50:] - arrival_s[:50], stream.period_s)
    assert arrival_s[50] - arrival_s[49] == pytest.approx(np.diff(recorded_s).mean())
    np.testing.assert_array_equal(tokens[:50], table[["input_tokens", "output_tokens"]])
    assert np.unique(chunk.session).size == 20


def test_clients_keep_their_shares_and_days_and_come_again(folder):
    stream = a_stream(folder, "clients", rate_per_server=None)
    arrival_s, _, _ = all_of(stream, np.arange(0, 345601.0, 86400.0))
    by_day = np.histogram(arrival_s, bins=86400.0 * np.arange(5))[0] / 86400
    np.testing.assert_allclose(by_day, [4, 8, 4, 8], rtol=0.03)
    lost = (arrival_s >= 60000) & (arrival_s < 60600)  # holds what the window before it held
    assert lost.sum() == pytest.approx(2400, rel=0.15)
    scaled = a_stream(folder, "clients", rate_per_server=0.1, offset_h=24.0)
    arrival_s, _, _ = all_of(scaled, [0.0, 86400.0])
    assert arrival_s.size / 86400 / 4 == pytest.approx(0.1 * 8 / 6, rel=0.05)


def test_lengths_of_clients_have_the_percentiles_and_mean_of_their_summaries(folder):
    stream = a_stream(folder, "clients", 40, rate_per_server=None)
    _, tokens, _ = all_of(stream, [0.0, 25000.0])
    np.testing.assert_allclose(tokens.mean(axis=0), [150, 40], rtol=0.02)
    for percent, expected in ((50, [100, 30]), (90, [300, 80]), (99, [900, 200])):
        np.testing.assert_allclose(np.percentile(tokens, percent, axis=0), expected, rtol=0.04)
    assert abs(np.corrcoef(tokens.T)[0, 1]) < 0.02
    # the second client has no summary: it borrows
    assert (stream.row[0] == 0).all() and (stream.row[1] == -1).all()
    drawn = stream.lengths(np.ones(20000, dtype=int), 5, np.random.default_rng(1))
    assert drawn[:, 0].mean() == pytest.approx(150, rel=0.05)


def test_lengths_of_a_law_have_its_medians_and_spreads(folder):
    law = {"input_median": 500.0, "input_sigma": 0.8, "output_median": 90.0, "output_sigma": 0.5}
    law |= {"input_limit": 10**6, "output_limit": 10**6}
    drawn = a_stream(folder, "poisson", lengths=law).lengths(100_000, np.random.default_rng(2))
    np.testing.assert_allclose(np.median(drawn, axis=0), [500, 90], rtol=0.02)
    np.testing.assert_allclose(np.log(drawn).std(axis=0), [0.8, 0.5], rtol=0.02)
    assert abs(np.corrcoef(np.log(drawn).T)[0, 1]) < 0.015


RATES = "client,window_start_s,rate_rps,cv,pattern,arg1,arg2\n"
LENGTHS = "client,window_start_s,field,mean_tokens,p50,p90,p99\n"
REQUESTS = "arrival_s,input_tokens,output_tokens\n"
BAD = [
    ("clients", "rates.csv", RATES + "1,0,1,1,Pareto,1,1\n", "line 2: not one row a client"),
    ("clients", "lengths.csv", LENGTHS + "3,0,input_tokens,9,8,7,6\n", "line 2: not"),
    ("replay", "requests.csv", REQUESTS + "0,1,1\n1e-9,1,1\n", "more than 1000: give"),
]


@pytest.mark.parametrize(("pattern", "name", "text", "said"), BAD)
def test_bad_recordings_get_one_line(folder, tmp_path, pattern, name, text, said):
    for file in ("rates.csv", "lengths.csv"):
        (tmp_path / file).write_text((folder / file).read_text())
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=f"{name}: .*{said}") as raised:
        a_stream(tmp_path, pattern)
    assert "\n" not in str(raised.value)
