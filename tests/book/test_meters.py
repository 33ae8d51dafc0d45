"""What a meter prints of steps: counters, planted meters, parts switched off, what is left over."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from sitebook import meters
from sitetrace.core.types import PowerTrace
from sitetrace.meter import Meter, PowerNoise

RNG = np.random.default_rng(3)


@pytest.fixture(scope="module")
def case():
    return meters.opened("testbed")


def test_a_calibrated_engine_counts_what_the_counters_count(case):
    def off(server):
        seen = meters.counters(case.run, server)
        return (seen["running_simulated"] - seen["running"]).abs().mean() / seen["running"].mean()

    assert off(case.model.server) < 0.1
    assert off(replace(case.model.server, c0_s=2.0 * case.model.server.c0_s)) > 0.3


def test_a_profile_compares_only_fits_that_differ_in_what_is_asked():
    other = {"lag_s": 0.0, "update_s": 0.1, "tokens": 300.0, "batch": 8.0}
    tried = [{"window_s": window, "loss": loss} | other for window, loss in ((0.1, 5), (1.0, 9))]
    tried += [{"window_s": 0.1, "loss": 2} | other | {"lag_s": 0.05}]
    table = meters.profile(tried, ["window_s"])
    assert table.to_dict("list") == {"window_s": [0.1, 1.0], "above": [0, 4]}


def test_a_planted_meter_of_a_second_is_found(case):
    meter = Meter(window_s=1.0, lag_s=0.05, update_s=0.1)
    planted, seen = meters.planted(case.model, case.run, [meter], 1).to_dict("records")
    assert planted["middle_age_s"] == pytest.approx(0.6)
    assert seen["window_s"] == 1.0
    assert seen["middle_age_s"] == pytest.approx(0.6, abs=0.06)


def test_every_part_switched_off_is_gone_and_mean_power_keeps_the_energy(case):
    law, other = case.model.surface, Meter(window_s=1.0)
    models = meters.parts_off(case.model, case.run.requests, other)
    batch, prompts = np.array([1.0, 9.0]), np.array([0.0, 500.0])
    flat_w = models["no prefill"].surface.step_power_w(np.ones(2), prompts)
    assert flat_w[0] == flat_w[1] == law.step_power_w(np.ones(1), np.zeros(1))[0]
    level_w = models["one power for all batches"].surface.step_power_w(batch, np.zeros(2))
    assert level_w[0] == level_w[1]
    assert np.prod(level_w[0] - law.step_power_w(batch, np.zeros(2))) < 0
    assert models["no warming"].surface.warm_w == 0.0 < law.warm_w
    assert models["no noise"].residual == PowerNoise(0.0, 0.0, 0.0)
    assert models["no power after work"].idle.active_w == 0.0 < case.model.idle.active_w
    assert models["the other meter"].meter is other
    rng = np.random.default_rng(1)
    power, _ = models["mean power, no readings"](None, case.run, 1, rng)
    reading = meters.judging.as_metered(case.model, case.run, 1, rng, "expected")[0]
    assert power.energy_j == pytest.approx(reading.energy_j, rel=0.03)


def test_what_is_left_over_of_expected_readings_is_the_noise_put_in(case):
    samples = case.run.samples
    trace = PowerTrace(samples["time_s"].iloc[0] - 0.25, case.run.dt, np.zeros(len(samples)))
    wide = case._replace(model=replace(case.model, meter=replace(case.model.meter, window_s=1.0)))
    wide = wide._replace(board=replace(case.board, meter=wide.model.meter), begin_s=-np.inf)
    expected_w = -meters.left_over(wide, trace)["left_w"].to_numpy()
    noise_w = 3.0 * RNG.standard_normal(expected_w.size)
    left = meters.left_over(wide, replace(trace, power_w=expected_w + noise_w))
    assert left["left_w"].to_numpy() == pytest.approx(noise_w)
    decode = meters.by_regime(left).set_index("regime").loc["decode"]
    assert decode["sd_w"] == pytest.approx(3.0, rel=0.2)
    assert abs(decode["autocorrelation"]) < 0.2
    # noise without memory falls with the root of how many readings are averaged, a shift stays
    rms_w = meters.averaged(left, [1, 16], 0.25)
    assert rms_w[4.0] == pytest.approx(rms_w[0.25] / 4, rel=0.35)
    assert meters.averaged(left.assign(left_w=5.0), [1, 16], 0.25).to_list() == [5.0, 5.0]


def test_outliers_do_not_hide_the_memory_of_the_rest():
    steady = np.repeat(RNG.standard_normal(200), 2)
    steady[::40] = 500.0
    [row] = meters.by_regime(pd.DataFrame({"left_w": steady, "regime": "decode"})).to_dict(
        "records"
    )
    assert row["outliers"] == pytest.approx(10 / 400)
    assert row["sd_w"] > 50 > 2 > row["sd_of_the_middle_w"]
    assert row["autocorrelation"] > 0.3
