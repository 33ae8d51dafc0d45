"""What the chapter on the kind timeline says of steps, meter, surface and their parts."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from sitebook.old.chapters import timeline as chapter
from sitebook.old.judging import parts_off
from sitebook.old.judging.reported import reported
from sitebook.old.looks import left_over, meter_study
from sitebook.old.looks.counters import counter_errors, counters
from sitetrace.evaluate.metrics import ks_distance
from sitetrace.meter import Meter, PowerNoise
from sitetrace.power.timeline.surface import WARM_S

RNG = np.random.default_rng(3)


@pytest.fixture(scope="module")
def case():
    return chapter.opened("testbed")


@pytest.fixture(scope="module")
def found(case):
    return chapter.parts(case, 2, 1)


def test_a_calibrated_engine_counts_what_the_counters_count(case):
    off = counter_errors(counters(case.run, case.model.server))
    assert off["requests"] < 0.1 * off["of"]
    slow = replace(case.model.server, c0_s=2.0 * case.model.server.c0_s)
    assert counter_errors(counters(case.run, slow))["requests"] > 3 * off["requests"]


def test_a_profile_compares_only_fits_that_differ_in_what_is_asked():
    other = {"lag_s": 0.0, "update_s": 0.1, "tokens": 300.0, "batch": 8.0}
    tried = [{"window_s": window, "loss": loss} | other for window, loss in ((0.1, 5), (1.0, 9))]
    tried += [{"window_s": 0.1, "loss": 2} | other | {"lag_s": 0.05}]
    table = meter_study.profile(tried, ["window_s"])
    assert table.to_dict("list") == {"window_s": [0.1, 1.0], "above": [0, 4]}
    assert len(meter_study.profile(tried, ["lag_s"])) == 2


def test_a_planted_meter_of_a_second_is_found(case):
    meter = Meter(window_s=1.0, lag_s=0.05, update_s=0.1)
    planted, seen = meter_study.planted(case.model, case.fitting, [meter], 1).to_dict("records")
    assert planted["middle age [s]"] == pytest.approx(0.6)
    assert seen["window [s]"] == 1.0
    assert seen["middle age [s]"] == pytest.approx(0.6, abs=0.06)


def test_what_a_meter_may_print_lies_around_what_is_expected(case):
    view = meter_study.microscope(case.board, case.timeline, case.begin_s, case.begin_s + 30)
    assert (view["low_w"] <= view["mean_w"] + 1e-6).all()
    assert (view["mean_w"] <= view["high_w"] + 1e-6).all()
    assert (view["high_w"] > view["low_w"] + 50.0).any()
    assert view["high_w"].max() <= view["power_w"].max() + 1e-6
    wide = replace(case.board, meter=Meter(window_s=1.0, update_s=0.1))
    smooth = meter_study.microscope(wide, case.timeline, case.begin_s, case.begin_s + 30)
    assert np.ptp(smooth["mean_w"]) < np.ptp(view["power_w"])


def test_a_day_of_work_adds_no_more_than_the_warming_term(case):
    table = chapter.warming(case).set_index("after [s]")["added [W a GPU]"]
    most_w = case.model.surface.warm_w / case.gpus
    assert table.is_monotonic_increasing
    assert table[chapter.DAY_S] <= most_w + 1e-9 < chapter.WARM_LIMIT_W
    # the mean warmth of the tenth second lies between that of its begin and of its end
    ends = -most_w * np.expm1(-np.array([9.0, 10.0]) / WARM_S)
    assert ends[0] < table[10.0] < ends[1]


def test_every_part_switched_off_is_gone(case):
    law = case.model.surface
    models = parts_off.without(case.model, 3.0, Meter(window_s=1.0))
    prompts = np.array([0.0, 500.0])
    flat = models["no prefill"].surface.step_power_w(np.ones(2), prompts)
    assert flat[0] == flat[1] == law.step_power_w(np.ones(1), np.zeros(1))[0]
    level = models["one power for all batches"].surface.step_power_w(
        np.array([1, 3, 9]), np.zeros(3)
    )
    assert level == pytest.approx(law.step_power_w(np.array([3, 3, 3]), np.zeros(3)))
    assert models["no warming"].surface.warm_w == 0.0 < law.warm_w
    assert models["no noise"].residual == PowerNoise(0.0, 0.0, 0.0)
    assert models["no power after work"].idle.active_w == 0.0 < case.model.idle.active_w
    assert models["the other meter"].meter.window_s == 1.0
    assert models[parts_off.FULL] is case.model


def test_the_other_meter_is_of_the_other_kind(case):
    assert chapter.other_meter(case.model).window_s == 1.0
    slow = replace(case.model, meter=Meter(window_s=1.0))
    assert chapter.other_meter(slow).window_s < 0.25


def test_all_draws_of_a_recording_are_on_one_clock_and_keep_energy(found):
    clocks = {(t.start_s, t.dt, t.power_w.size) for traces in found.values() for t in traces}
    assert len(clocks) == 1
    full = found[parts_off.FULL][0].energy_j
    for name in (parts_off.MEAN, parts_off.UNPLACED):
        assert found[name][0].energy_j == pytest.approx(full, rel=0.03)


def test_placing_keeps_the_distribution_and_gains_seconds(case, found):
    placed, unplaced = (found[name][0].power_w for name in (parts_off.FULL, parts_off.UNPLACED))
    assert ks_distance(placed, unplaced) < 0.1
    assert not np.array_equal(placed, unplaced)
    table = parts_off.score(case.run, case.part, found).set_index("part")
    seconds = table["correlation, 1 s, busy"]
    assert seconds[parts_off.FULL] > seconds[parts_off.UNPLACED]
    assert seconds[parts_off.FULL] > seconds["no prefill"]
    assert (table["KS_low"] <= table["KS"]).all() and (table["KS"] <= table["KS_high"]).all()


def test_a_minute_pairs_each_reading_with_its_own_bin(case, found):
    trace = found[parts_off.FULL][0]
    copied = replace(
        case.run, samples=pd.DataFrame({"time_s": trace.time_s + 0.25, "power_w": trace.power_w})
    )
    table = chapter.minute(case._replace(run=copied), trace, (0, 60))
    assert len(table) == pytest.approx(240, abs=1)
    assert np.array_equal(table["measured"], table["generated"])


def test_what_is_left_over_of_expected_readings_is_the_noise_put_in(case):
    samples = case.run.samples
    time_s = samples["time_s"].to_numpy()
    nothing = left_over.left_over(case.board, case.timeline, time_s, np.zeros(time_s.size))
    noise_w = 3.0 * RNG.standard_normal(time_s.size)
    left = left_over.left_over(
        case.board, case.timeline, time_s, noise_w - nothing["left_w"].to_numpy()
    )
    assert left["left_w"].to_numpy() == pytest.approx(noise_w)
    table = left_over.by_regime(left).set_index("regime")
    assert table.loc["decode", "sd [W]"] == pytest.approx(3.0, rel=0.2)
    assert abs(table.loc["decode", "autocorrelation"]) < 0.2
    assert np.isnan(table.loc["edge", "sd [W]"]) or table.loc["edge", "readings"] >= 20
    assert table["readings"].sum() == time_s.size
    assert np.abs(left_over.busy_memory(left, 8)).max() < 0.25


def test_outliers_do_not_hide_the_memory_of_the_rest():
    steady = np.repeat(RNG.standard_normal(200), 2)
    steady[::40] = 500.0
    left = pd.DataFrame({"left_w": steady, "regime": "decode"})
    row = left_over.by_regime(left).set_index("regime").loc["decode"]
    assert row["outliers"] == pytest.approx(10 / 400)
    assert row["sd [W]"] > 50 > 2 > row["sd, middle [W]"]
    assert row["autocorrelation"] > 0.3


def test_what_is_reported_spans_its_median():
    table = reported().set_index("model")
    for name in ("the paper's, reported", "later, reported"):
        low, middle, high = (table.loc[f"{name}: {how}"] for how in ("min", "median", "max"))
        known = middle[1:].dropna().index
        assert len(known) == 4
        assert ((low[known] <= middle[known]) & (middle[known] <= high[known])).all()


def test_the_testbed_gets_no_verdict_and_every_record_its_own_name(case, found):
    scored = parts_off.score(case.run, case.part, found)
    left, memory = chapter.remainder(case, found[parts_off.FULL][0], "testbed")
    assert set(memory) == {"testbed", "generated"}
    planted = pd.DataFrame([meter_study.described(name, Meter()) for name in ("planted", "found")])
    warm = chapter.warming(case)
    compared = chapter.beside([case], 1, 1)
    assert (compared["model"] != "later model, rebuilt").all()
    results = {"planted": planted, "warming": warm, "left": left}
    rows = chapter.found([case], results, scored, compared, "testbed")
    assert {row["verdict"] for row in rows} == {None}
    assert len({(row["name"], row["dataset"]) for row in rows}) == len(rows)
    assert "below 15 W" in chapter.conclusion(scored, warm, compared)


@pytest.mark.parametrize(
    ("split", "nrmse", "ks"),
    [("qwen3-8b_a100_from_r4", 0.08, 0.25), ("llama-3.1-70b_h100_cut", 0.06, 0.2)],
)
def test_measured_seconds_are_placed_and_the_distribution_kept(measured, split, nrmse, ks):
    case = chapter.opened(split)
    table = parts_off.score(case.run, case.part, chapter.parts(case, 3, 1)).set_index("part")
    full = table.loc[parts_off.FULL]
    assert full["NRMSE, 1 s"] < nrmse
    assert full["KS"] < ks
    assert full["correlation, 1 s, busy"] > table.loc["no prefill", "correlation, 1 s, busy"] + 0.05
    assert full["KS"] < table.loc["the other meter", "KS"] - 0.1
