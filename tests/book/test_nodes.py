"""A node of another laboratory: its watts are those of the GPUs and one constant."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import sitetrace
from sitebook import nodes
from sitetrace.core.registry import shipped_model
from sitetrace.testbed import Testbed

KNOWN_W = 250.0


@pytest.fixture(scope="module")
def model():
    return sitetrace.load_model(shipped_model("testbed_timeline"))


@pytest.fixture(scope="module")
def simulated():
    return nodes.simulated(KNOWN_W, 1)


def loads(rate):
    return pd.DataFrame({"input_tokens": [200.0], "output_tokens": [100.0]}, index=[rate])


def test_the_known_constant_is_found_again(model, simulated):
    rate = simulated["rate"]
    rate = rate[(rate.index >= 1.0) & (rate.index <= model.fitted["requests_per_s"])]
    constant_w = rate["node_w"] - nodes.served(model, rate, "rate")["gpu_w"]
    assert constant_w.median() == pytest.approx(KNOWN_W, rel=0.08)


def test_requests_in_flight_are_rate_times_stay(model):
    surface = replace(model.surface, idle_w=0.0, decode_w=0.0, per_sequence_w=1.0, warm_w=0.0)
    surface = replace(surface, prefill_w=0.0, scale_tokens=1e12, limit_w=1e6, warm_idle_w=0.0)
    counted = nodes.served(replace(model, surface=surface), loads(2.0), "rate").iloc[0]
    assert counted["gpu_w"] == pytest.approx(2.0 * 99 * counted["tpot_ms"] / 1e3, rel=0.1)


def test_a_batch_takes_a_step_for_each_token_of_its_answers(model):
    told = nodes.served(model, loads(4), "batch").iloc[0]
    assert told["elapsed_s"] == pytest.approx(100 * told["tpot_ms"] / 1e3, rel=0.1)


def test_a_cached_prompt_costs_its_context_and_no_time_to_compute(model):
    law = nodes.remembering(model.server, 150)
    assert law.c1_s - model.server.c1_s == pytest.approx(150 * model.server.c3_s)
    waits = [nodes.served(model, loads(1.0), "finite", cached).iloc[0] for cached in (0, 150)]
    saved_ms = 1e3 * 150 * model.server.c2_s
    assert waits[0]["ttft_ms"] - waits[1]["ttft_ms"] == pytest.approx(saved_ms, rel=0.3)
    assert waits[0]["tpot_ms"] == pytest.approx(waits[1]["tpot_ms"], rel=0.02)


def test_the_simulated_node_is_measured_as_the_published_one(simulated):
    assert set(simulated) == {"rate", "shorter", "finite", "batch"}
    assert np.all(simulated["rate"]["node_w"] > KNOWN_W + Testbed().surface.idle_w)
