"""How far a model carries: judged on seconds that it did not see, with what is told of a server."""

import numpy as np
import pytest

from sitebook import judging
from sitebook.powertrace_v1 import given_idle_w, later_model
from sitetrace.studies.carry import carried, machine

H100 = ("qwen3-8b_h100_cut", "llama-3.1-70b_h100_cut")


def test_another_boards_idle_watts_count_in_full_at_idle_and_less_under_load():
    model, run = judging.timeline_model("testbed"), judging.open_run("testbed/poisson_low")
    idle_w = model.idle.mean_w + 10.0
    here, there = (
        model.generate(run.requests, rng=np.random.default_rng(1), idle_w=w, lead_s=30.0)
        for w in (None, idle_w)
    )
    moved_w = there.power_w - here.power_w
    assert moved_w[:80] == pytest.approx(10.0)
    loaded = here.power_w > model.surface.decode_w
    assert -1e-6 < moved_w[loaded].min()
    assert moved_w[loaded].mean() < 9.0


@pytest.mark.parametrize("target", H100)
def test_a_fit_beats_what_is_carried_over_and_the_later_model_on_unseen_seconds(measured, target):
    [source] = set(H100) - {target}
    models = {name: judging.timeline_model(name) for name in H100}
    runs = {name: judging.open_run(judging.split(name).judge[0].run) for name in H100}
    ends = [machine(runs[name].configuration, runs[name].info) for name in (source, target)]
    guess = carried(models[source], *ends, given_idle_w(runs[target]), models[source].meter)
    methods = {"fitted": models[target], "carried": guess, "later": later_model}
    table = judging.judge(methods, judging.split(target), 3, 1)
    assert judging.split(target).judge[0].start_s == judging.split(target).fit[0].stop_s
    whole = table.query("clock == 'native' and span == 'whole'").groupby("method")
    median = whole[["ks", "nrmse"]].median()
    assert (median.loc["fitted"] < median.loc[["carried", "later"]].min()).all()


def test_what_a_source_says_of_idle_stands_in_where_a_recording_begins_with_the_load(measured):
    run = judging.open_run("qwen3-30b-a3b_h100_tp2_poisson_r2")
    assert run.idle_before_load_w() is None
    assert given_idle_w(run) == pytest.approx(2 * 118.285)
