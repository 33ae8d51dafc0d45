"""What the ACF R² of a whole recording can and cannot tell."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from sitebook.old.chapters import acf as chapter
from sitebook.old.judging import alternation, comparison
from sitebook.old.judging.splits import split
from sitetrace.evaluate.metrics import acf_r2

RNG = np.random.default_rng(7)


@pytest.fixture(scope="module")
def judged():
    parts = split("testbed")
    model = comparison.split_model("testbed", 8, 1)
    run = comparison.open_run(parts.judge[0].run)
    return run, parts.judge[0], chapter.methods(model, parts, run, 2, 1)


def test_shuffling_keeps_energy_distribution_and_idle():
    power_w, busy = RNG.normal(300, 20, 400), np.arange(400) >= 100
    mixed = alternation.shuffled(power_w, busy, np.random.default_rng(1))
    assert np.array_equal(mixed[~busy], power_w[~busy])
    assert np.array_equal(np.sort(mixed), np.sort(power_w))
    assert not np.array_equal(mixed, power_w)


def test_idle_ends_alone_give_a_trace_without_memory_a_high_score():
    busy_w, idle_w = RNG.normal(300, 15, 600), RNG.normal(80, 1, 100)
    effect = alternation.idle_effect(busy_w, idle_w, (0.0, 0.2), 0.25, 1).set_index("idle_share")
    assert effect.loc[0.0, "acf_r2"] < 0.2
    assert effect.loc[0.2, "acf_r2"] > 0.95
    assert effect.loc[0.2, "between"] > 0.9


def test_a_recording_of_two_levels_is_all_alternation(judged):
    run, part, found = judged
    busy = alternation.judged_power(run, part, found[chapter.COMPOSED])[1]
    levels_w = np.where(busy, 300.0, 80.0) + RNG.normal(0, 0.1, busy.size)
    flat = replace(run, samples=run.samples.iloc[: busy.size].assign(power_w=levels_w))
    told = alternation.alternation(flat, part, found[chapter.COMPOSED], 1)
    assert told["idle_share"] == pytest.approx((~busy).mean())
    assert told["between"] > 0.99
    assert told["two_levels"] > 0.99
    assert told["low"] <= told["shuffled"] <= told["high"]
    assert told["low"] > 0.99
    assert told["no_idle"] < 0


def test_variance_lies_between_levels_or_within_them():
    busy = np.arange(100) >= 50
    assert alternation.between_share(np.where(busy, 300.0, 80.0), busy) == pytest.approx(1.0)
    alternating = np.where(np.arange(100) % 2, 200.0, 100.0)
    assert alternation.between_share(alternating, busy) == pytest.approx(0.0)


def test_a_band_holds_its_autocorrelation_and_white_noise_stays_in_its_own():
    power = pd.DataFrame({"measured": RNG.normal(size=2000), 0: RNG.normal(size=2000)})
    bands = chapter.acf_bands(power, 0.25)
    assert (bands["low"] <= bands["measured"]).all() and (bands["measured"] <= bands["high"]).all()
    assert (bands["measured"].abs() < bands["white"]).mean() > 0.85
    assert bands.index[-1] == 12.5


def test_every_model_covers_the_recording_on_one_clock(judged):
    run, _, found = judged
    assert {chapter.COMPOSED, chapter.ON_OFF, chapter.INDEPENDENT, "states, bigru"} <= found.keys()
    clocks = {(t.start_s, t.dt, t.power_w.size) for traces in found.values() for t in traces}
    assert len(clocks) == 1


def test_on_off_power_draws_only_what_the_fitting_run_drew(judged):
    _, _, found = judged
    fitted = comparison.open_run(split("testbed").fit[0].run).samples["power_w"].to_numpy()
    assert np.isin(found[chapter.ON_OFF][0].power_w, fitted).all()


def test_scores_agree_with_the_metric_itself(judged):
    run, part, found = judged
    table = chapter.score(run, part, found).set_index("model")
    power, busy = alternation.judged_power(run, part, found[chapter.COMPOSED])
    each = [acf_r2(power["measured"].to_numpy(), power[k].to_numpy(), 50) for k in (0, 1)]
    assert table.loc[chapter.COMPOSED, "whole"] == pytest.approx(np.median(each))
    assert 0.5 < busy.mean() < 1.0
    assert table.loc["floor: no memory", "whole"] <= 0


def test_the_testbed_gets_no_verdict_about_hardware(judged):
    run, part, found = judged
    table = chapter.score(run, part, found)
    effect = alternation.idle_effect(
        RNG.normal(300, 9, 99), RNG.normal(80, 1, 9), (0.0, 0.3), 0.25, 1
    )
    paper = pd.DataFrame({"acf_r2_median": [0.9, 0.99]})
    alternating = pd.DataFrame([alternation.alternation(run, part, found[chapter.COMPOSED], 1)])
    rows = chapter.found(table, alternating, effect, paper, "testbed", run.name)
    assert {row["verdict"] for row in rows} == {None, "cannot be tested"}
    assert len({(row["name"], row["dataset"]) for row in rows}) == len(rows)
    assert "on-off" in chapter.conclusion(table, effect)
