"""The activity of bins counts every request and every token once."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_site import requests_of_20_s, requests_table

from sitetrace.core.types import SEGMENT_COLUMNS, Timeline
from sitetrace.serving.activity import activity_table
from sitetrace.serving.engine import Server, simulate
from sitetrace.serving.surrogates import ConstantRate

STEPS = (0.1, 0.25, 1.0)


def timeline(seed, start_s=0.0, server=None):
    rng = np.random.default_rng(seed)
    requests = requests_of_20_s(rng, int(rng.integers(1, 30)), 3000, start_s)
    return simulate(requests, server or Server())


def bins(work, dt_s, start_s=0.0):
    seconds = work.requests["end_s"].max() - start_s + 5.0
    return start_s - 2.0 + dt_s * np.arange(1, int((seconds + 2.0) / dt_s) + 1)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    dt_s=st.sampled_from(STEPS),
    start_s=st.sampled_from([0.0, 1.7e9]),
    server=st.sampled_from([Server(), Server(max_num_seqs=2), ConstantRate(2000.0, 40.0)]),
)
def test_bins_hold_what_the_timeline_holds(seed, dt_s, start_s, server):
    work = timeline(seed, start_s, server)
    ends = bins(work, dt_s, start_s)
    table = activity_table(work, ends, dt_s)
    # a float holds epoch seconds to a quarter of a microsecond
    lost = 1e-9 if start_s == 0 else 1e-5
    for name in ("prefill_tokens", "decode_tokens"):
        assert table[name].sum() == pytest.approx(work.segments[name].sum(), rel=lost)
    assert table[["busy_share", "prefill_share"]].stack().between(0, 1).all()
    assert (table["prefill_share"] <= table["busy_share"] + 1e-5).all()
    requests = work.requests
    counted = [((requests["arrival_s"] <= t) & (requests["end_s"] > t)).sum() for t in ends]
    assert (table["active"] == counted).all()
    assert (table["active"] >= 0).all()
    assert (table["delta_active"] == np.diff(counted, prepend=counted[0])).all()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), dt_s=st.sampled_from(STEPS))
def test_quiet_for_is_the_time_since_the_last_work(seed, dt_s):
    work = timeline(seed)
    ends = bins(work, dt_s)
    table = activity_table(work, ends, dt_s)
    begin, finish = work.segments["start_s"].to_numpy(), work.segments["end_s"].to_numpy()
    for t, since in zip(ends, table["quiet_for_s"], strict=True):
        begun = begin < t
        expected = max(t - finish[begun].max(), 0.0) if begun.any() else np.inf
        assert since == expected
    assert (table.loc[table["busy_share"] > 1e-9, "quiet_for_s"] < dt_s).all()


def test_one_request_by_hand():
    # 100 prompt tokens at 100 a second, then 50 tokens at 25 a second
    work = simulate(requests_table([0.0], 100, 50), ConstantRate(100.0, 25.0))
    table = activity_table(work, np.arange(0.0, 5.0), 1.0)
    assert table["active"].tolist() == [1, 1, 1, 0, 0]
    assert table["delta_active"].tolist() == [0, 0, 0, -1, 0]
    assert table["prefill_tokens"].tolist() == pytest.approx([0, 100, 0, 0, 0])
    assert table["decode_tokens"].tolist() == pytest.approx([0, 0, 25, 25, 0])
    assert table["busy_share"].tolist() == pytest.approx([0, 1, 1, 1, 0])
    assert table["prefill_share"].tolist() == pytest.approx([0, 1, 0, 0, 0])
    assert table["quiet_for_s"].tolist() == pytest.approx([np.inf, 0, 0, 0, 1])


def test_an_engine_that_never_worked_is_quiet():
    nothing = pd.DataFrame({name: np.empty(0) for name in SEGMENT_COLUMNS})
    waiting = pd.DataFrame({"arrival_s": [3.0], "end_s": [np.nan]})
    table = activity_table(Timeline(waiting, nothing), np.arange(1.0, 6.0), 1.0)
    assert table["active"].tolist() == [0, 0, 1, 1, 1]
    assert np.isinf(table["quiet_for_s"]).all()
    assert (table[["busy_share", "prefill_tokens", "decode_tokens"]] == 0).all(axis=None)
