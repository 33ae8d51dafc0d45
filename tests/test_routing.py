"""Every request gets one server: in turn, at random, by session, or the least loaded."""

import json

import numpy as np
import pandas as pd
import pytest
from synthetic_site import requests_table

from sitetrace.core.types import running_count
from sitetrace.serving.engine import Server, simulate
from sitetrace.serving.routing import ROUTINGS, route
from sitetrace.serving.surrogates import ConstantRate, LogNormalTTFT
from sitetrace.workload.streams import LogNormalLengths

LAW = Server()


def a_stream(n=6000, rate_per_s=20.0, seed=1):
    rng = np.random.default_rng(seed)
    return np.cumsum(rng.exponential(1 / rate_per_s, n)), LogNormalLengths()(n, rng)


def by_chunks(how, arrival_s, tokens, session, n_servers, chunks, law=LAW):
    """Route in chunks, the carry passed on through JSON."""
    servers, carry = [], None
    for number, rows in enumerate(np.array_split(np.arange(arrival_s.size), chunks)):
        part = None if session is None else session[rows]
        rng = np.random.default_rng([7, number])
        given = (arrival_s[rows], tokens[rows], part, n_servers, rng, carry, law)
        server, carry = route(how, *given)
        servers.append(server)
        carry = json.loads(json.dumps(carry))
    return np.concatenate(servers)


@pytest.mark.parametrize("how", ROUTINGS)
@pytest.mark.parametrize("chunks", [1, 13])
def test_every_request_gets_one_server_and_no_server_is_left_out(how, chunks):
    server = by_chunks(how, *a_stream(), None, 12, chunks)
    assert server.shape == (6000,)
    assert np.array_equal(np.unique(server), np.arange(12))
    np.testing.assert_array_equal(server, by_chunks(how, *a_stream(), None, 12, chunks))


@pytest.mark.parametrize("chunks", [1, 13])
def test_round_robin_takes_turns_over_the_seams(chunks):
    server = by_chunks("round_robin", *a_stream(), None, 7, chunks)
    np.testing.assert_array_equal(server, np.arange(6000) % 7)


def test_random_counts_spread_as_a_binomial():
    counts = np.bincount(by_chunks("random", *a_stream(60000), None, 50, 6))
    assert counts.var() / (60000 / 50 * (1 - 1 / 50)) == pytest.approx(1, abs=0.6)


def test_a_session_stays_with_its_server():
    session = np.random.default_rng(3).integers(0, 900, 6000)
    server = by_chunks("session", *a_stream(), session, 12, 5)
    table = pd.DataFrame({"session": session, "server": server})
    assert (table.groupby("session")["server"].nunique() == 1).all()
    homes = table.groupby("session")["server"].first().value_counts()
    assert homes.shape == (12,) and homes.max() < 2 * 900 / 12


def test_sessions_made_up_keep_requests_together_for_some_turns():
    # one server of a hundred: were each request on its own, a session's next would rarely follow
    server = by_chunks("session", *a_stream(60000), None, 3000, 4)
    counts = np.bincount(server, minlength=3000)
    alone = np.bincount(by_chunks("random", *a_stream(60000), None, 3000, 4), minlength=3000)
    assert counts.var() > 1.5 * alone.var()
    assert counts.mean() == alone.mean()


def spread_of_running(server, arrival_s, tokens, n_servers):
    """Standard deviation over servers of what runs at a time, in the real engine."""
    table, times_s = requests_table(arrival_s, *tokens.T), np.arange(20, arrival_s[-1], 1.0)
    running = [
        running_count(simulate(table[server == one].reset_index(drop=True), LAW), times_s)
        for one in range(n_servers)
    ]
    return np.std(running, axis=0).mean()


def test_the_least_loaded_server_evens_out_what_runs():
    arrival_s, tokens = a_stream(3000, 24.0)

    def spread(how, chunks=1):
        server = by_chunks(how, arrival_s, tokens, None, 6, chunks)
        return spread_of_running(server, arrival_s, tokens, 6)

    least = spread("least_loaded")
    assert least < 0.4 * spread("random") and least < 0.7 * spread("round_robin")
    assert spread("least_loaded", 25) == pytest.approx(least, rel=0.1)


def test_least_loaded_never_passes_by_an_idle_server():
    arrival_s, tokens = a_stream(3000, 3.0)
    ends_s = np.full(5, -np.inf)
    law = Server(c1_s=0.0)
    server = by_chunks("least_loaded", arrival_s, tokens, None, 5, 3, law)
    lasts_s = law.c2_s * tokens[:, 0] + law.c0_s * tokens[:, 1]
    for at_s, one, lasting_s in zip(arrival_s, server, lasts_s, strict=True):
        if (ends_s <= at_s).any():
            assert ends_s[one] <= at_s
        ends_s[one] = max(ends_s[one], at_s + lasting_s)


@pytest.mark.parametrize(
    ("server", "lasts_s"),
    [
        # 200 prompt tokens at 1000 a second, 50 answer tokens at 10 a second
        (ConstantRate(1000.0, 10.0), 0.2 + 5.0),
        # a TTFT of median 2 s, whose mean is exp(1/2) times that, and 50 answer tokens of 0.1 s
        (LogNormalTTFT(np.log(2.0), 0.0, 1.0, -99.0, 0.0, 0.1, 0.0, 8), 2 * np.exp(0.5) + 5.0),
    ],
)
def test_a_surrogate_is_expected_to_take_what_its_law_says(server, lasts_s):
    # the second finds one server taken, the third and the fourth find one idle
    arrival_s = np.array([0.0, 1.0, lasts_s + 0.1, lasts_s + 1.1])
    tokens, rng = np.tile([200, 50], (4, 1)), np.random.default_rng(1)
    went, carry = route("least_loaded", arrival_s, tokens, None, 2, rng, None, server)
    assert went.tolist() in ([0, 1, 0, 1], [1, 0, 1, 0])
    np.testing.assert_allclose(carry["ends"], arrival_s[2:] + lasts_s, rtol=1e-12)
