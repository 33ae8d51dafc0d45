"""Whole streams have the rates, gaps and lengths asked for, within four standard errors."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sitetrace.core.files import InputError
from sitetrace.core.types import MAX_SPAN_S
from sitetrace.workload.spec import check_traffic, open_stream
from sitetrace.workload.streams import DAY_S, bursty, diurnal, poisson, replay, switching, whole
from sitetrace.workload.table import validate_requests


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


def test_a_day_is_greatest_at_its_peak_hour_as_in_a_scenario():
    day = 0.5, 0.8, DAY_S
    tables = diurnal(*day, rng(3)), diurnal(*day, rng(3), peak_hour=5.0, begin_hour=14.0)
    for stream in (table["arrival_s"] for table in tables):  # both are greatest after 15 h
        for begin, end in ((0, 24), (0, 2), (5, 7), (11, 13), (14, 16)):
            edges = np.array([begin, end]) * DAY_S / 24
            phase = 2 * np.pi * (edges / DAY_S - 15 / 24)
            swing = 0.8 * np.diff(np.sin(phase))[0] * DAY_S / (2 * np.pi)
            expected = 0.5 * (edges[1] - edges[0] + swing)
            assert near(stream.between(*edges).sum(), expected, expected)


def test_a_name_means_the_same_stream_in_a_scenario():
    streams = {"cv": bursty(0.5, 3.0, DAY_S, rng(3)), "swing": diurnal(0.5, 0.8, DAY_S, rng(3))}
    for section in ({"pattern": "bursty", "cv": 3.0}, {"pattern": "diurnal", "swing": 0.8}):
        scenario = check_traffic({"rate_per_server": 0.5, **section})
        same = whole(open_stream(scenario, 1, ".", 0.0), DAY_S, rng(3))
        pd.testing.assert_frame_equal(same, streams[[*section][1]])


def test_two_rates_take_turns():
    stream = switching((1.0, 9.0), 50.0, 20_000.0, rng(4))["arrival_s"].to_numpy()
    counts = np.histogram(stream, np.arange(0, 20_001, 10))[0]
    # dwell times are drawn: the mean of 400 stays of 50 s moves the share by 1/sqrt(400)
    assert np.mean(counts) / 10 == pytest.approx(5.0, abs=4 * 4 / np.sqrt(400))
    assert np.var(counts) > 5 * np.mean(counts)
    even = switching((4.0, 4.0), 50.0, 1000.0, rng(4))
    assert near(len(even), 4000, 4000)


def test_lengths_are_those_of_chats_or_of_a_table():
    drawn = poisson(20.0, 1000.0, rng())
    assert drawn["input_tokens"].between(1, 4000).all()
    assert drawn["output_tokens"].between(1, 1000).all()
    assert drawn["input_tokens"].median() == pytest.approx(180, rel=0.05)
    assert drawn["output_tokens"].median() == pytest.approx(130, rel=0.05)
    like = poisson(5.0, 100.0, rng(), like=table_with_correlation())
    assert (like["output_tokens"] == 2 * like["input_tokens"] + 7).all()
    assert like["input_tokens"].nunique() > 100


def test_a_replay_is_the_recording_unless_thinned_or_warped():
    table = table_with_correlation()
    pd.testing.assert_frame_equal(replay(table, 1.0, 1.0, rng()), table)
    late = table.assign(arrival_s=table["arrival_s"] + 1.7e9)
    fast = replay(late, 1.0, 4.0, rng())["arrival_s"].to_numpy()
    assert fast[0] == 1.7e9
    assert fast - 1.7e9 == pytest.approx(table["arrival_s"].to_numpy() / 4)
    thin = replay(table, 0.3, 1.0, rng())
    assert near(len(thin), 600, 2000 * 0.3 * 0.7)
    assert set(thin["input_tokens"]) <= set(table["input_tokens"])
    at_once = table.iloc[:3].assign(arrival_s=5.0)
    for few in (at_once, table.iloc[:1]):
        pd.testing.assert_frame_equal(replay(few, 1.0, 1.0, rng()), few)


FEW = table_with_correlation(3)
LONG = FEW.assign(arrival_s=[0.0, 1.0, MAX_SPAN_S])
BAD = [
    *((poisson, rate, 10.0) for rate in (0.0, np.nan, np.inf, 1e9)),
    *((poisson, rate, duration_s) for rate, duration_s in ((1, np.nan), (1e-3, 1e9), (1e-6, 1.0))),
    (bursty, 1.0, 0.0, 10.0),
    (diurnal, 1.0, 1.1, 10.0),
    *((switching, *given, 10.0) for given in (((1.0, 2.0), 1e-300), ((-1.0, 2.0), 5.0))),
    *((replay, FEW, *given) for given in ((1.1, 1.0), (1.0, 0.0))),
    (replay, LONG, 1.0, 0.5),
]


@pytest.mark.parametrize("case", BAD, ids=lambda case: case[0].__name__)
def test_absurd_values_are_refused_in_one_line(case):
    drawn, *values = case
    with pytest.raises(InputError, match=": ") as told:
        drawn(*values, rng())
    assert "\n" not in str(told.value)


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
