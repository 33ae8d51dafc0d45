"""Models are judged on seconds they never saw, by one loop whose rows follow from the metrics."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from sitebook import judging, recordings
from sitetrace.core.registry import registry
from sitetrace.core.types import PowerTrace
from sitetrace.evaluate.metrics import energy_error_pct, nrmse
from sitetrace.measured.rundir import read_run

RNG = np.random.default_rng(7)


def made(scale, spread_w, draws):
    """A method that knows the recording: its power times a factor, drawn with some spread."""

    def generated(fitting, run, count, rng):
        dt, samples = run.dt, run.samples
        power_w, start_s = (
            scale * samples["power_w"].to_numpy(),
            samples["time_s"].iloc[0] - float(dt),
        )
        noise_w = rng.normal(0, spread_w, (draws, power_w.size))
        return (
            PowerTrace(start_s, dt, power_w),
            [PowerTrace(start_s, dt, power_w + each) for each in noise_w],
        )

    return generated


@pytest.fixture(scope="module")
def first():
    parts = judging.split("testbed")
    return replace(parts, judge=parts.judge[:1])


@pytest.mark.parametrize("name", judging.splits())
def test_no_second_is_both_fitted_and_judged(name):
    parts = judging.split(name)
    for judged in parts.judge:
        for fitted in (part for part in parts.fit if part.run == judged.run):
            assert fitted.stop_s is not None and fitted.stop_s <= judged.start_s
        assert judged.new


def test_what_is_exact_scores_so_and_a_factor_is_its_energy_error(first):
    table = judging.judge({"exact": made(1.0, 0.0, 1), "more": made(1.03, 0.0, 1)}, first, 1, 1)
    assert set(zip(table["clock"], table["span"], strict=True)) == {
        (clock, span) for clock in ("native", "1s") for span in ("whole", "busy")
    }
    told = table.query("clock == 'native' and span == 'whole'").set_index("method")
    assert told.loc["exact", ["energy_error_pct", "ks", "nrmse"]].tolist() == pytest.approx(
        [0, 0, 0]
    )
    assert told.loc["exact", ["acf_r2", "correlation"]].tolist() == pytest.approx([1, 1])
    assert told.loc["more", "energy_error_signed_pct"] == pytest.approx(3.0)
    run = judging.open_run(first.judge[0].run)
    energy_kwh = run.samples["power_w"].sum() * float(run.dt) / 3.6e6
    assert told["energy_kwh"].tolist() == pytest.approx([energy_kwh] * 2, rel=1e-9)


def test_placing_is_that_of_the_expected_reading_and_coverage_of_all_draws(first):
    table = judging.judge({"noisy": made(1.0, 20.0, 39)}, first, 39, 1)
    whole = table.query("clock == 'native' and span == 'whole'")
    assert len(whole) == 39 and whole["ks"].nunique() > 1
    assert whole["nrmse"].to_numpy() == pytest.approx(0.0)
    # the recording lies in the middle of every band: all draws are too far apart
    assert whole["coverage_50"].iloc[0] > 0.95 and whole["crps_w"].nunique() == 1


def test_a_part_is_named_for_people_and_told_apart_by_what_was_fitted(first):
    rows = judging.judge({"exact": made(1.0, 0.0, 1)}, first, 1, 1)
    assert set(judging.part_name(rows)) == {"poisson → poisson_low"}
    cut = rows.assign(split="llama-3.1-70b_h100_cut", part="llama-3.1-70b_h100_tp4_poisson_r4")
    assert set(judging.part_name(cut)) == {"llama-3.1-70b h100 tp4: first part → rest"}


def interval(measured_w, generated_w, seed=1, score=energy_error_pct):
    rng = np.random.default_rng(seed)
    return judging.block_interval(measured_w, generated_w, 0.25, score, rng)


def test_a_bootstrap_of_seconds_has_no_width_without_chance_and_covers_with_it():
    measured_w, other_w = RNG.normal(300, 20, (2, 2000))
    assert interval(measured_w, 1.03 * measured_w) == pytest.approx((3.0, 3.0))
    low, high = interval(measured_w, other_w)
    assert low < energy_error_pct(measured_w, other_w) < high
    assert interval(measured_w, other_w) == (low, high) != interval(measured_w, other_w, seed=2)
    assert interval(measured_w, other_w, score=nrmse)[0] > 0


def test_blocks_keep_the_memory_of_a_series():
    # a slow wave moves its mean from block to block far more than white noise of its variance
    flat_w, wave_w = np.full(2000, 300.0), 300 + 28.3 * np.sin(np.arange(2000) / 60)
    wide, narrow = (np.ptp(interval(w, flat_w)) for w in (wave_w, RNG.normal(300, 20, 2000)))
    assert wide > 3 * narrow


def test_shuffled_busy_seconds_score_by_the_step_from_idle_alone():
    busy_w, idle_w = RNG.normal(300, 15, 600), RNG.normal(80, 1, 100)
    alone = recordings.alternation(busy_w, np.ones(600, dtype=bool), 0.25, 1)
    assert alone["shuffled"] < 0.2 and alone["no_idle"] == pytest.approx(1.0)
    whole_w, busy = np.r_[idle_w, busy_w], np.arange(700) >= 100
    whole = recordings.alternation(whole_w, busy, 0.25, 1)
    assert whole["low"] <= whole["shuffled"] <= whole["high"] and whole["shuffled"] > 0.95
    assert whole["between"] > 0.9 and whole["no_idle"] < 0
    assert whole["idle_share"] == pytest.approx(1 / 7)
    levels = recordings.alternation(np.where(busy, 300.0, 80.0), busy, 0.25, 1)
    assert levels["between"] == pytest.approx(1.0) and levels["two_levels"] == pytest.approx(1.0)


def test_recordings_of_the_testbed_hold_what_was_put_into_them():
    table = recordings.overview(judging.runs_of("testbed")).set_index("run")
    assert set(table["step_s"]) == {0.25} and set(table["nameplate_w"]) == {400.0}
    assert table["idle_w"].tolist() == pytest.approx([80, 80, 80, 80], abs=9)
    assert (table["gaps"] == 0).all() and (table["risen_s"] <= 0.5).all()
    assert table["lag_s"].abs().max() <= 0.25


def test_splits_name_known_runs_of_one_configuration_and_no_second_is_both_fitted_and_judged():
    known = registry()
    for entry in judging.splits().values():
        for fit, judge in itertools.product(entry.fit, entry.judge):
            fit_end = float("inf") if fit.stop_s is None else fit.stop_s
            judged_from = float("-inf") if judge.start_s is None else judge.start_s
            assert fit.run != judge.run or fit_end <= judged_from, entry.name
        if entry.name != "testbed":
            assert {part.run for part in entry.fit + entry.judge} <= set(known)
            assert len({part.run.split("_tp")[0] for part in entry.fit + entry.judge}) == 1
        assert all("seconds" in part.new for part in entry.judge)
        assert entry.note


def test_runs_with_the_same_prompts_do_not_claim_new_ones(measured):
    def prompts(name):
        return read_run(measured / name).requests[["input_tokens", "output_tokens"]]

    for entry in judging.splits().values():
        for judge in entry.judge:
            fit = entry.fit[0].run
            if judge.run != fit and entry.name != "testbed":
                assert prompts(fit).equals(prompts(judge.run)) != ("prompts" in judge.new)
