"""A server of kind `states`, drawn in stretches of time, is the server drawn all at once."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sitetrace
from sitetrace.core.types import SEGMENT
from sitetrace.power.states.mixture import KINDS
from sitetrace.power.states.model import advance, begin
from sitetrace.power.states.transitions import Coupled, Independent, Markov
from sitetrace.serving.activity import activity_table, as_segments
from sitetrace.serving.engine import simulate
from sitetrace.workload.streams import poisson

BINS, RNG = 1200, np.random.default_rng
NAMES = {"bigru": "testbed_bigru", "logit": "testbed", "trees": "qwen3-8b_a100_from_r4"}
ALL = ["logit", "markov", "trees", "coupled", "independent"]
NOTHING = (np.empty(0, SEGMENT), (np.empty(0), np.empty(0)))


class Numbers:
    """A generator whose numbers are given, one for each bin."""

    def __init__(self, seed, bins=BINS):
        rng = RNG(seed)
        self.uniform, self.normal, self.at = rng.random((2, bins)), rng.standard_normal(bins), 0

    def random(self, shape):
        self.at += shape[1]
        return self.uniform[:, self.at - shape[1] : self.at]

    def standard_normal(self, n):
        return self.normal[self.at - n : self.at]


def model_of(transitions, emissions="gaussian", phi=0.7):
    model = sitetrace.load_model(sitetrace.shipped_model(NAMES.get(transitions, "testbed")))
    k, weight = model.mixture.n_states, model.mixture.weight
    phi = np.where(np.arange(k) % 3, phi, 0.0)
    model = replace(model, emissions=replace(model.emissions, kind=emissions, phi=phi))
    if transitions == "markov":
        chance = RNG(1).dirichlet(np.full(k + 1, 0.3), (3, k + 1))
        chance = 0.3 * chance + 0.7 * np.eye(k + 1)
        return replace(model, transitions=Markov(np.array([1.5, 3.5]), "active", chance))
    if transitions in ("coupled", "independent"):
        drawn = Coupled(2.0, 2.0, weight) if transitions == "coupled" else Independent(weight)
        return replace(model, transitions=drawn, idle=None)
    return model


def timeline_of(model, seed=1, rate=0.3):
    hour = BINS * float(model.dt)
    stream = poisson(rate, 0.7 * hour, RNG(seed))
    stream["arrival_s"] += 0.1 * hour
    return simulate(stream, model.server)


def in_chunks(model, timeline, numbers, cuts):
    segments = as_segments(timeline.segments)
    times = [np.sort(timeline.requests[name].to_numpy()) for name in ("arrival_s", "end_s")]
    carried, parts = begin(model), []
    for first, last in zip([0, *cuts], [*cuts, BINS], strict=True):
        low, high = float(first * model.dt), float(last * model.dt)
        begun = segments[(segments["start_s"] >= low) & (segments["start_s"] < high)]
        events = tuple(part[(part >= low) & (part < high)] for part in times)
        power_w, carried = advance(model, carried, begun, events, low, last - first, numbers)
        parts.append(power_w)
    return np.concatenate(parts)


def from_table(model, timeline, begin_s, numbers, n_bins=BINS):
    """Power of bins from a whole table of their activity."""
    uniform = numbers.random((2, n_bins))
    empirical = model.emissions.kind == "empirical"
    noise = uniform[1] if empirical else numbers.standard_normal(n_bins)
    table = activity_table(timeline, model.bin_ends(begin_s, n_bins), float(model.dt))
    states = model.draw_states(table, uniform[0])
    return model.power_of(states, table["quiet_for_s"].to_numpy(), uniform[1], noise)[0]


@pytest.mark.parametrize("emissions", KINDS)
@pytest.mark.parametrize("transitions", ALL)
def test_one_stretch_is_what_a_table_of_the_same_bins_and_numbers_gives(transitions, emissions):
    model = model_of(transitions, emissions)
    timeline = timeline_of(model)
    power_w = in_chunks(model, timeline, Numbers(2), [])
    assert power_w == pytest.approx(from_table(model, timeline, 0.0, Numbers(2)), abs=1e-9)
    assert np.ptp(power_w) > 50.0


@settings(max_examples=15, deadline=None)
@given(
    cuts=st.lists(st.integers(1, BINS - 1), unique=True, min_size=1, max_size=8).map(sorted),
    transitions=st.sampled_from(ALL),
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
    idle, busy = RNG(1), RNG(1)
    power_w, carried = advance(model, begin(model), *NOTHING, 0.0, BINS, idle)
    assert power_w == pytest.approx(model.idle.mean_w, abs=3.0)
    assert carried["state"] == 0
    in_chunks(model, timeline_of(model), busy, [])
    assert idle.random() == busy.random()


@pytest.mark.parametrize("transitions", ["logit", "coupled", "bigru"])
def test_a_trace_is_one_stretch_of_the_running_server(transitions):
    model = model_of(transitions, "ar1")
    timeline = timeline_of(model)
    trace = model.draw(timeline, RNG(4))
    n_bins = trace.power_w.size
    told = from_table(model, timeline, trace.start_s, RNG(4), n_bins)
    assert (trace.power_w == told).all()


@pytest.mark.parametrize(
    ("transitions", "emissions"),
    [("markov", "gaussian"), ("markov", "ar1"), ("logit", "ar1"), ("coupled", "ar1")]
    + [("independent", "empirical"), ("bigru", "ar1_deviation")],
)
def test_the_expected_reading_is_the_mean_of_many_draws(transitions, emissions):
    model = model_of(transitions, emissions, phi=0.9)
    # what is clipped has another mean
    model, draws, block = replace(model, power_range_w=(0.0, 1e5)), 300, 20
    timeline = timeline_of(model)
    told = model.draw(timeline, RNG(1), None, 0.0, reading="expected")
    rng = RNG(2)
    bins = told.power_w.size  # all of them: a net looks ahead
    table = activity_table(timeline, model.bin_ends(told.start_s, bins), told.dt_s)
    drawn = np.empty((draws, 800 // block))
    for draw in range(draws):
        power_w = model.draw_power(model.draw_states(table, rng.random(bins)), table, rng)
        drawn[draw] = power_w[:800].reshape(-1, block).mean(axis=1)
    error = drawn.std(axis=0, ddof=1) / np.sqrt(draws)
    z = (drawn.mean(axis=0) - told.power_w[:800].reshape(-1, block).mean(axis=1)) / error
    # 99.999% in each block; all together no further than chance alone
    assert np.abs(z).max() < 4.4
    assert 0.2 < np.mean(z**2) < 2.5


def test_trees_give_the_mean_of_some_draws_as_expected_reading_and_a_board_counts():
    model = model_of("trees")
    timeline = timeline_of(model)

    def drawn(**how):
        return model.draw(timeline, RNG(1), **how).power_w

    first, draw = drawn(reading="expected"), drawn()
    assert (first == drawn(reading="expected")).all()
    assert first.mean() == pytest.approx(draw.mean(), rel=0.05)
    assert first[:100].std() < 0.3 * draw[:100].std()
    moved = drawn(reading="expected", idle_w=model.idle.mean_w + 20.0)
    assert moved[:50] - first[:50] == pytest.approx(20.0, abs=0.5)
