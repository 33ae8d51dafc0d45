"""Streams have the rates, gaps and lengths asked for, within four standard errors."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sitetrace.core.files import InputError
from sitetrace.core.types import MAX_SPAN_S
from sitetrace.workload.lengths import LogNormalLengths
from sitetrace.workload.streams import DAY_S, bursty, diurnal, lengths, poisson, replay, switching
from sitetrace.workload.table import read_requests, validate_requests, write_requests


def rng(seed=1):
    return np.random.default_rng(seed)


def near(count, expected, variance):
    return abs(count - expected) < 4 * np.sqrt(variance)


def table_with_correlation(n=2000):
    prompt = rng(5).integers(10, 1000, n)
    return pd.DataFrame(
        {"arrival_s": np.arange(n) * 0.5, "input_tokens": prompt, "output_tokens": 2 * prompt + 7}
    )


@pytest.mark.parametrize("rate", [0.2, 3.0, 40.0])
def test_a_poisson_stream_counts_as_poisson(rate):
    counts = [len(poisson(rate, 200.0, rng(seed))) for seed in range(30)]
    assert near(np.sum(counts), 30 * 200 * rate, 30 * 200 * rate)
    dispersion = np.var(counts, ddof=1) / np.mean(counts)
    # of 30 counts the variance is known within 4 sqrt(2/29)
    assert abs(dispersion - 1) < 4 * np.sqrt(2 / 29)


@pytest.mark.parametrize("cv", [0.3, 1.0, 2.0, 3.0])
def test_gaps_have_the_rate_and_the_spread_asked_for(cv):
    gaps = np.diff(bursty(5.0, cv, 8000.0, rng(2))["arrival_s"])
    assert near(gaps.mean(), 0.2, (0.2 * cv) ** 2 / gaps.size)
    # the kurtosis of gamma gaps sets how well their variance is known
    relative = np.sqrt((2 + 6 * cv**2) / gaps.size)
    assert abs(gaps.var() / (0.2 * cv) ** 2 - 1) < 4 * relative


def test_a_day_is_least_at_its_begin_and_greatest_at_noon():
    stream = diurnal(0.5, 0.8, DAY_S, rng(3))["arrival_s"]
    assert near(len(stream), 0.5 * DAY_S, 0.5 * DAY_S)
    hours = DAY_S / 24
    for begin, end in ((0, 2), (5, 7), (11, 13), (17, 19)):
        edges = np.array([begin, end]) * hours
        phase = 2 * np.pi * edges / DAY_S
        swing = 0.8 * np.diff(np.sin(phase))[0] * DAY_S / (2 * np.pi)
        expected = 0.5 * (2 * hours - swing)
        assert near(stream.between(*edges).sum(), expected, expected)


def test_two_rates_take_turns():
    stream = switching((1.0, 9.0), 50.0, 20_000.0, rng(4))["arrival_s"].to_numpy()
    counts = np.histogram(stream, np.arange(0, 20_001, 10))[0]
    # dwell times are drawn: the mean of 400 stays of 50 s moves the share by 1/sqrt(400)
    assert np.mean(counts) / 10 == pytest.approx(5.0, abs=4 * 4 / np.sqrt(400))
    assert np.var(counts) > 5 * np.mean(counts)
    even = switching((4.0, 4.0), 50.0, 1000.0, rng(4))
    assert near(len(even), 4000, 4000)


def test_default_lengths_are_those_of_chats():
    drawn = lengths(20_000, rng())
    assert drawn["input_tokens"].between(1, LogNormalLengths.input_limit).all()
    assert drawn["output_tokens"].between(1, LogNormalLengths.output_limit).all()
    assert drawn["input_tokens"].median() == pytest.approx(180, rel=0.05)
    assert drawn["output_tokens"].median() == pytest.approx(130, rel=0.05)


def test_lengths_drawn_from_a_table_keep_their_correlation():
    drawn = poisson(5.0, 100.0, rng(), like=table_with_correlation())
    assert (drawn["output_tokens"] == 2 * drawn["input_tokens"] + 7).all()
    assert drawn["input_tokens"].nunique() > 100


def test_a_replay_is_the_recording_unless_thinned_or_warped():
    table = table_with_correlation()
    pd.testing.assert_frame_equal(replay(table, 1.0, 1.0, rng()), table)
    fast = replay(table, 1.0, 4.0, rng())
    assert fast["arrival_s"].to_numpy() == pytest.approx(table["arrival_s"].to_numpy() / 4)
    thin = replay(table, 0.3, 1.0, rng())
    assert near(len(thin), 600, 2000 * 0.3 * 0.7)
    assert set(thin["input_tokens"]) <= set(table["input_tokens"])


def test_a_warped_replay_keeps_its_first_arrival():
    table = table_with_correlation().assign(arrival_s=lambda t: t["arrival_s"] + 1.7e9)
    assert replay(table, 1.0, 2.0, rng())["arrival_s"].iloc[0] == 1.7e9


BAD = {
    "no rate": lambda: poisson(0.0, 10.0, rng()),
    "rate below zero": lambda: poisson(-1.0, 10.0, rng()),
    "rate NaN": lambda: poisson(np.nan, 10.0, rng()),
    "rate infinite": lambda: poisson(np.inf, 10.0, rng()),
    "rate of a planet": lambda: poisson(1e9, 10.0, rng()),
    "no duration": lambda: poisson(1.0, 0.0, rng()),
    "duration NaN": lambda: poisson(1.0, np.nan, rng()),
    "duration of years": lambda: poisson(1e-3, 1e9, rng()),
    "duration too short": lambda: poisson(1e-6, 1.0, rng()),
    "no spread": lambda: bursty(1.0, 0.0, 10.0, rng()),
    "spread NaN": lambda: bursty(1.0, np.nan, 10.0, rng()),
    "swing above one": lambda: diurnal(1.0, 1.1, 10.0, rng()),
    "swing NaN": lambda: diurnal(1.0, np.nan, 10.0, rng()),
    "no dwell": lambda: switching((1.0, 2.0), 0.0, 10.0, rng()),
    "dwell of an instant": lambda: switching((1.0, 2.0), 1e-300, 10.0, rng()),
    "dwell NaN": lambda: switching((1.0, 2.0), np.nan, 10.0, rng()),
    "one rate below zero": lambda: switching((-1.0, 2.0), 5.0, 10.0, rng()),
    "one rate NaN": lambda: switching((1.0, np.nan), 5.0, 10.0, rng()),
    "nothing kept": lambda: replay(table_with_correlation(3), 1e-9, 1.0, rng()),
    "share above one": lambda: replay(table_with_correlation(3), 1.1, 1.0, rng()),
    "share NaN": lambda: replay(table_with_correlation(3), np.nan, 1.0, rng()),
    "speed zero": lambda: replay(table_with_correlation(3), 1.0, 0.0, rng()),
    "speed NaN": lambda: replay(table_with_correlation(3), 1.0, np.nan, rng()),
    "replay of years": lambda: replay(
        table_with_correlation(3).assign(arrival_s=[0.0, 1.0, MAX_SPAN_S]), 1.0, 0.5, rng()
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_absurd_values_are_refused_in_one_line(name):
    with pytest.raises(InputError) as told:
        BAD[name]()
    assert "\n" not in str(told.value)
    assert ": " in str(told.value)


def test_a_written_stream_reads_as_it_was(tmp_path):
    table = poisson(3.0, 50.0, rng())
    write_requests(tmp_path / "requests.csv", table)
    pd.testing.assert_frame_equal(read_requests(tmp_path / "requests.csv"), table)
    assert [path.name for path in tmp_path.iterdir()] == ["requests.csv"]
    with pytest.raises(InputError, match="cannot be written"):
        write_requests(tmp_path / "missing" / "requests.csv", table)


STREAMS = {
    "poisson": poisson,
    "bursty": lambda rate, duration, rng: bursty(rate, 2.5, duration, rng),
    "diurnal": lambda rate, duration, rng: diurnal(rate, 0.9, duration, rng),
    "switching": lambda rate, duration, rng: switching((rate, rate / 4), 20.0, duration, rng),
}


@pytest.mark.parametrize("name", STREAMS)
@settings(max_examples=25, deadline=None)
@given(rate=st.floats(0.05, 20), duration=st.floats(1, 500), seed=st.integers(0, 2**32))
def test_every_stream_is_a_sound_table_within_its_duration(name, rate, duration, seed):
    try:
        table = STREAMS[name](rate, duration, rng(seed))
    except InputError as error:
        assert "no request arrives" in str(error)
        return
    pd.testing.assert_frame_equal(validate_requests(table, "stream"), table)
    assert table["arrival_s"].between(0, duration + 1e-6).all()
    pd.testing.assert_frame_equal(STREAMS[name](rate, duration, rng(seed)), table)
