"""A server of kind `states`, drawn chunk by chunk, is the server drawn all at once."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sitetrace
from sitetrace.core.files import InputError
from sitetrace.power.published import paper_model
from sitetrace.power.states import stream as states_stream
from sitetrace.power.states.mixture import KINDS
from sitetrace.power.states.transitions import Coupled, Independent
from sitetrace.serving.activity import activity_columns, activity_table
from sitetrace.serving.engine import simulate
from sitetrace.serving.surrogates import ConstantRate, LogNormalTTFT, none_running, surrogate_chunk
from sitetrace.workload.whole import poisson

BINS = 1200
NAMES = {
    "logit": "testbed",
    "markov": "qwen3-30b-a3b_h100_cut",
    "trees": "qwen3-8b_a100_from_r4",
}


class Numbers:
    """A generator whose numbers are given, one for each bin."""

    def __init__(self, seed, bins=BINS):
        rng = np.random.default_rng(seed)
        self.uniform, self.normal, self.at = rng.random((2, bins)), rng.standard_normal(bins), 0

    def random(self, shape):
        self.at += shape[1]
        return self.uniform[:, self.at - shape[1] : self.at]

    def standard_normal(self, n):
        return self.normal[self.at - n : self.at]


class Queue:
    """A generator that hands out the arrays it was given, one a call."""

    def __init__(self, *arrays):
        self.arrays = list(arrays)

    def random(self, n):
        return self.choice(None, n)

    def standard_normal(self, n):
        return self.choice(None, n)

    def choice(self, _, size):
        found = self.arrays.pop(0)
        assert found.size == size
        return found


def model_of(transitions, emissions="gaussian", phi=0.7):
    model = sitetrace.load_model(sitetrace.shipped_model(NAMES.get(transitions, "testbed")))
    if transitions not in NAMES:
        weight = model.mixture.weight
        kinds = {"coupled": Coupled(2.0, 2.0, weight), "independent": Independent(weight)}
        model = replace(model, transitions=kinds[transitions], idle=None)
    phi = np.where(np.arange(model.mixture.n_states) % 3, phi, 0.0)
    return replace(model, emissions=replace(model.emissions, kind=emissions, phi=phi))


def timeline_of(model, seed=1, rate=0.3):
    hour = BINS * float(model.dt)
    stream = poisson(rate, 0.7 * hour, np.random.default_rng(seed))
    stream["arrival_s"] += 0.1 * hour
    return simulate(stream, model.server)


def all_at_once(model, timeline, numbers):
    """What `StatesModel.draw` makes of the same numbers: it draws noise for working bins alone."""
    ends = float(model.dt) * np.arange(1, BINS + 1)
    table = activity_table(timeline, ends, float(model.dt))
    states = model.draw_states(table, Queue(numbers.uniform[0]))
    empirical = model.emissions.kind == "empirical"
    noise = numbers.uniform[1] if empirical else numbers.normal
    queue = Queue(noise[states > 0])
    if model.idle is not None:
        spread = model.idle.deviation_w
        queue = Queue(spread[(numbers.uniform[1] * spread.size).astype(int)], noise[states > 0])
    return model.draw_power(states, table, queue)


def in_chunks(model, timeline, numbers, cuts):
    segments = timeline.segments.to_numpy(dtype=float)
    times = [np.sort(timeline.requests[name].to_numpy()) for name in ("arrival_s", "end_s")]
    carried, parts = states_stream.begin(model), []
    for first, last in zip([0, *cuts], [*cuts, BINS], strict=True):
        low, high = float(first * model.dt), float(last * model.dt)
        begun = segments[(segments[:, 0] >= low) & (segments[:, 0] < high)]
        events = tuple(part[(part >= low) & (part < high)] for part in times)
        power_w, carried = states_stream.work(
            model, carried, begun, events, low, last - first, numbers
        )
        parts.append(power_w)
    return np.concatenate(parts)


@pytest.mark.parametrize("emissions", KINDS)
@pytest.mark.parametrize("transitions", ["markov", "logit", "trees", "coupled", "independent"])
def test_one_chunk_is_the_trace_that_the_model_draws(transitions, emissions):
    model = model_of(transitions, emissions)
    timeline = timeline_of(model)
    power_w = in_chunks(model, timeline, Numbers(2), [])
    assert power_w == pytest.approx(all_at_once(model, timeline, Numbers(2)), abs=1e-9)
    assert np.ptp(power_w) > 50.0


@settings(max_examples=15, deadline=None)
@given(
    cuts=st.lists(st.integers(1, BINS - 1), unique=True, min_size=1, max_size=8).map(sorted),
    transitions=st.sampled_from(["markov", "logit", "trees", "coupled"]),
    emissions=st.sampled_from(KINDS),
    seed=st.integers(0, 1000),
)
def test_chunks_do_not_show(cuts, transitions, emissions, seed):
    model = model_of(transitions, emissions)
    timeline = timeline_of(model, seed)
    whole = in_chunks(model, timeline, Numbers(seed), [])
    assert in_chunks(model, timeline, Numbers(seed), cuts) == pytest.approx(whole, abs=1e-9)


def test_a_server_without_requests_idles_and_takes_as_many_numbers_as_a_busy_one():
    model = model_of("logit")
    idle, busy = np.random.default_rng(1), np.random.default_rng(1)
    none = (np.empty(0), np.empty(0))
    power_w, carried = states_stream.work(
        model, states_stream.begin(model), np.empty((0, 7)), none, 0.0, BINS, idle
    )
    assert power_w == pytest.approx(model.idle.mean_w, abs=3.0)
    assert carried["state"] == 0
    in_chunks(model, timeline_of(model), busy, [])
    assert idle.random() == busy.random()


def test_the_engine_may_work_over_the_edge_of_a_chunk_for_long():
    model = model_of("logit")
    dt_s = float(model.dt)
    # one segment over three chunks of 100 bins, given to the first alone
    long = np.array([[10.0, 70.0, 3000, 1, 500.0, 0.0, 3000.0]])
    carried, none, rng = states_stream.begin(model), np.empty((0, 7)), np.random.default_rng(1)
    means = []
    for chunk in range(4):
        events = (np.array([10.0]), np.array([70.0])) if chunk == 0 else (np.empty(0), np.empty(0))
        begun = long if chunk == 0 else none
        power_w, carried = states_stream.work(
            model, carried, begun, events, 100 * chunk * dt_s, 100, rng
        )
        means.append(power_w.mean())
        assert carried["activity"][0, -1] == (chunk < 2)
    assert means[1] > model.idle.mean_w + 30.0
    assert means[3] == pytest.approx(model.idle.mean_w, abs=2.0)
    assert carried["segments"].size == carried["ends_s"].size == 0


def test_what_is_carried_over_can_be_stored_as_arrays(tmp_path):
    model = model_of("logit", "ar1")
    timeline = timeline_of(model)
    carried = states_stream.begin(model)
    segments = timeline.segments.to_numpy(dtype=float)
    events = tuple(np.sort(timeline.requests[name].to_numpy()) for name in ("arrival_s", "end_s"))
    _, carried = states_stream.work(model, carried, segments, events, 0.0, 500, Numbers(1))
    np.savez(tmp_path / "carried.npz", **carried)
    with np.load(tmp_path / "carried.npz") as stored:
        again = {name: stored[name] for name in stored.files}
    after = [
        states_stream.work(
            model, kept, np.empty((0, 7)), (np.empty(0), np.empty(0)), 125.0, 200, Numbers(3)
        )[0]
        for kept in (carried, again)
    ]
    assert (after[0] == after[1]).all()


def test_a_net_that_needs_the_whole_series_is_refused():
    with pytest.raises(InputError, match="whole day") as told:
        states_stream.begin(sitetrace.load_model(sitetrace.shipped_model("testbed_bigru")))
    assert "\n" not in str(told.value)


SURROGATES = {
    "constant": ConstantRate(2000.0, 40.0),
    # a tight limit: requests wait over the edges of chunks
    "drawn": LogNormalTTFT(-3.0, 0.3, 0.1, -3.0, 0.1, 0.02, 0.005, 3),
}


class InPairs:
    """A generator of normal numbers of which the nth request always gets the same two."""

    def __init__(self, seed):
        self.seed, self.calls, self.served = seed, 0, 0

    def normal(self, mean, sd, size=None):
        n = np.size(mean) if size is None else size
        rng = np.random.default_rng([self.seed, self.calls % 2])
        drawn = rng.standard_normal(self.served + n)[self.served :]
        self.calls += 1
        self.served += n if self.calls % 2 == 0 else 0
        return mean + sd * drawn


@settings(max_examples=15, deadline=None)
@given(
    cuts=st.lists(st.integers(1, BINS - 1), unique=True, max_size=6).map(sorted),
    kind=st.sampled_from(sorted(SURROGATES)),
    seed=st.integers(0, 1000),
)
def test_a_surrogate_may_be_asked_in_chunks(cuts, kind, seed):
    requests = poisson(0.8, 250.0, np.random.default_rng(seed))
    whole = simulate(requests, SURROGATES[kind], InPairs(seed))
    arrival_s = requests["arrival_s"].to_numpy()
    tokens = requests[["input_tokens", "output_tokens"]].to_numpy()
    edges = [0.0, *(0.25 * np.array(cuts)), 3600.0]
    carried, rng, parts = none_running(), InPairs(seed), []
    for low, high in zip(edges[:-1], edges[1:], strict=True):
        new = (arrival_s >= low) & (arrival_s < high)
        *part, carried = surrogate_chunk(
            SURROGATES[kind], arrival_s[new], tokens[new], (low, high), carried, rng
        )
        assert part[0][:, :2].min(initial=low) >= low
        assert part[0][:, :2].max(initial=high) <= high
        parts.append(part)
    *tables, longest_wait_s = zip(*parts, strict=True)
    segments, ends = (np.concatenate(each) for each in tables)
    waits_s = whole.requests["start_s"] - whole.requests["arrival_s"]
    assert max(longest_wait_s) == pytest.approx(waits_s.max(), abs=1e-9)
    assert ends == pytest.approx(np.sort(whole.requests["end_s"]), abs=1e-9)
    assert carried["times"].size == 0
    times = [np.sort(requests["arrival_s"].to_numpy()), ends]
    bin_ends = 0.25 * np.arange(1, BINS + 1)
    expected = activity_table(whole, bin_ends, 0.25).to_numpy()
    assert activity_columns(segments, times, bin_ends, 0.25).T == pytest.approx(expected, abs=1e-6)


def test_a_published_model_runs_in_chunks_on_its_surrogate():
    model = paper_model("llama-3-70b_A100_tp8")
    requests = poisson(0.5, 200.0, np.random.default_rng(1))
    tokens = requests[["input_tokens", "output_tokens"]].to_numpy()
    events = requests["arrival_s"].to_numpy()
    span_s, n_bins = (0.0, 300.0), round(300.0 / float(model.dt))
    given = (events, tokens, span_s, none_running(), None)
    segments, ends, *_ = surrogate_chunk(model.server, *given)
    rng = np.random.default_rng(2)
    power_w, _ = states_stream.work(
        model, states_stream.begin(model), segments, (events, ends), 0.0, n_bins, rng
    )
    whole = model.draw(simulate(requests, model.server), rng, None, 0.0, 100.0)
    assert power_w.mean() == pytest.approx(whole.power_w.mean(), rel=0.05)
