"""Stays, information and known states: what is put in comes out, and chance is told apart."""

import numpy as np
import pandas as pd
import pytest

from sitebook.old.chapters import states as chapter
from sitebook.old.judging import comparison
from sitebook.old.looks import known_states, stays
from sitebook.old.looks.information import given_active, information
from sitebook.old.looks.mlenergy import by_batch_limit, by_model, list_traces, read_trace
from sitebook.old.looks.paper_states import published_bic, published_states
from sitetrace.core.files import InputError
from sitetrace.power.idle import Idle
from sitetrace.power.states.mixture import Mixture, fit_mixture

IDLE = Idle(80.0, np.zeros(1), 0.0, 100.0, 1.0)
TWO = Mixture(np.array([200.0, 300.0]), np.array([2.0, 2.0]), np.array([0.5, 0.5]))


def loaded_frame(power_w, active=None):
    """Prepared samples of one recording that is loaded throughout."""
    size = len(power_w)
    active = np.ones(size) if active is None else active
    return pd.DataFrame(
        {
            "power_w": np.asarray(power_w, dtype=float),
            "active": active,
            "delta_active": np.diff(active, prepend=active[0]),
            "quiet_for_s": 0.0,
            "before_load": False,
            "fresh": False,
            "begins": np.arange(size) == 0,
            "recording": 0,
        }
    )


@pytest.fixture(scope="module")
def recordings():
    return chapter.recordings("testbed")


def test_stays_are_counted_and_a_hole_ends_one():
    frame = loaded_frame([200, 200, 300, 300, 300, 200])
    assert stays.stays(frame, IDLE, TWO)["bins"].to_list() == [2, 3, 1]
    frame.loc[4, "begins"] = True
    found = stays.stays(frame, IDLE, TWO)
    assert found["bins"].to_list() == [2, 2, 1, 1]
    assert found["state"].to_list() == [1, 2, 2, 1]


def test_samples_without_load_belong_to_no_stay():
    frame = loaded_frame([200, 80, 80, 200])
    frame.loc[1:2, "quiet_for_s"] = 5.0
    assert stays.stays(frame, IDLE, TWO)["bins"].to_list() == [1, 1]


def test_a_markov_chain_stays_geometrically_and_longer_than_independent_draws():
    rng = np.random.default_rng(3)
    state = np.cumsum(rng.random(6000) < 0.2) % 2
    found = stays.stays(loaded_frame(TWO.mean_w[state]), IDLE, TWO)
    table, curve = stays.dwell(found, TWO, 0.25), stays.survival(found, 0.25)
    assert table["stay_s"].to_numpy() == pytest.approx([1.25, 1.25], rel=0.1)
    assert (table["stay_s"] > 2 * table["independent_s"]).all()
    assert table["one_bin"].to_numpy() == pytest.approx(table["one_bin_geometric"], abs=0.05)
    assert (curve["found"] - curve["geometric"]).abs().max() < 0.05
    assert stays.mean_stay_s(found, 0.25) == pytest.approx(1.25, rel=0.1)


def test_stays_of_fixed_length_are_not_geometric():
    found = stays.stays(loaded_frame(np.tile(np.repeat(TWO.mean_w, 4), 50)), IDLE, TWO)
    table = stays.dwell(found, TWO, 0.25)
    assert (table["one_bin"] == 0).all() and (table["one_bin_geometric"] == 0.25).all()


def test_what_the_load_decides_it_tells_and_chance_tells_nothing():
    rng = np.random.default_rng(4)
    active = rng.integers(0, 10, 3000).astype(float)
    frame = loaded_frame(np.zeros(3000), active)
    decided = information(frame, (active > 4).astype(int), 1).set_index("features")
    assert decided.loc["A", "plug_in"] == pytest.approx(1.0)
    assert decided.loc["A", "shuffled"] < 0.01
    chance = information(frame, rng.integers(0, 10, 3000), 1).set_index("features")
    assert chance["above_chance"].abs().max() < 0.01
    assert chance.loc["F2", "plug_in"] > 0.05


def test_the_plug_in_estimate_grows_when_samples_are_few():
    rng = np.random.default_rng(5)
    few, many = (
        information(loaded_frame(np.zeros(n), rng.normal(size=n)), rng.integers(0, 10, n), 1)
        for n in (300, 6000)
    )
    assert few["plug_in"][0] > 5 * many["plug_in"][0]


def test_columns_of_the_map_sum_to_one_where_there_are_samples():
    active = np.array([0.0, 0, 1, 3, 3, 3])
    share, samples = given_active(loaded_frame(np.zeros(6), active), np.array([0, 0, 1, 1, 2, 2]))
    assert samples.to_list() == [2, 1, 0, 3]
    assert share.sum().to_list() == pytest.approx([1, 1, 0, 1])
    assert share[2].isna().all()


def test_the_testbeds_true_states_are_recovered(recordings):
    _, frame, idle, _ = recordings["testbed/poisson"]
    known = known_states.reference("", comparison.open_run("testbed/poisson"))
    fitted = fit_mixture(frame["power_w"].to_numpy(), known.n_states, 1)
    pairs = known_states.side_by_side(fitted, known)
    assert (pairs["difference_w"].abs() < 0.2 * pairs["known_sigma_w"]).all()
    assert (pairs["fitted_weight"] - pairs["known_weight"]).abs().max() < 0.02
    assert max(known_states.distances(frame, idle, known).values()) < 0.04


def test_samples_are_near_their_own_mixture_and_far_from_another():
    rng = np.random.default_rng(6)
    power_w = rng.normal(TWO.mean_w[rng.integers(0, 2, 4000)], 2.0)
    assert known_states.distance(power_w, TWO) < 0.03
    upper = known_states.above(TWO, 250.0)
    assert upper.weight.tolist() == [1.0] and upper.mean_w.tolist() == [300.0]
    assert known_states.distance(power_w, upper) == pytest.approx(0.5, abs=0.03)


def test_bic_counts_states_that_stand_apart_from_few_samples_on():
    assert set(chapter.bic_by_samples(TWO, 1)["bic_takes"]) == {2}


def test_idle_inside_takes_states_that_idle_apart_leaves_to_the_load(recordings):
    _, frame, idle, _ = recordings["testbed/poisson"]
    both = chapter.mixtures(frame, idle, 6, 1)
    assert chapter.spent_on_idle(both[known_states.INSIDE], idle) >= 1
    assert chapter.spent_on_idle(both[known_states.APART], idle) == 0


def test_flatness_counts_from_the_least_bic():
    bic = pd.DataFrame({"n_states": [2, 3, 4], "bic": [120.0, 100.0, 110.0]})
    table = chapter.flatness(bic, pd.DataFrame({"n_states": [2, 4], "ks": [0.3, 0.1]}), 50)
    assert table["bic_excess"].to_list() == [20.0, 10.0]
    assert table["nats_a_sample"].to_list() == [0.2, 0.1]
    assert table["ks_change"].iloc[1] == pytest.approx(-0.2)


def test_the_published_tables_hold_what_the_page_says():
    states, bic = published_states(), published_bic()
    assert states["config"].nunique() == 33 and len(states) == 330
    assert states.groupby("config")["weight"].sum().to_numpy() == pytest.approx(1.0, abs=1e-6)
    assert states["mean"].between(0.1, 1.2).all()
    assert set(bic["n_states"]) == set(range(6, 21, 2)) and bic["config"].nunique() == 25
    least = bic.loc[bic.groupby("config")["bic"].idxmin(), "n_states"].value_counts()
    assert least.to_dict() == {20: 10, 14: 6, 18: 6, 16: 2, 12: 1}


@pytest.fixture
def benchmark(tmp_path):
    """Write two traces of one model in the benchmark's form; the numbers are ours."""
    rng = np.random.default_rng(8)
    rows = []
    for limit, level, sigma in ((16, 800.0, 10.0), (8, 600.0, 5.0)):
        name = f"model_num_gpus_2_max_num_seqs_{limit}.csv"
        power_w = rng.normal(level, sigma, 900)
        trace = pd.DataFrame({"relative_time_s": np.arange(900) / 10, "power_total_W": power_w})
        trace.to_csv(tmp_path / name, index=False)
        rows.append(("model", 2, limit, f"traces/{name}"))
    columns = ["model_label", "num_gpus", "max_num_seqs", "trace_file"]
    pd.DataFrame(rows, columns=columns).to_csv(tmp_path / "traces_summary.csv", index=False)
    return tmp_path


def test_benchmark_traces_are_described_a_gpu_by_batch_limit(benchmark):
    limits = by_batch_limit(benchmark)
    assert limits["batch_limit"].to_list() == [8, 16]
    assert limits["mean_w"].to_numpy() == pytest.approx([300.0, 400.0], rel=0.01)
    assert limits["sd_w"].to_numpy() == pytest.approx([2.5, 5.0], rel=0.1)
    [row] = by_model(limits, 1).to_dict("records")
    assert row["mean_ratio"] == pytest.approx(4 / 3, rel=0.01)
    assert (row["bic_takes, least"], row["bic_takes, greatest"]) == (1, 1)
    assert read_trace(limits["path"][0]).dt_s == 0.1


def test_a_benchmark_file_that_is_not_one_is_named(benchmark):
    trace = next(benchmark.glob("model*"))
    pd.DataFrame({"relative_time_s": [0.0, 0.1, 0.9], "power_total_W": 1.0}).to_csv(trace)
    with pytest.raises(InputError, match="no even step"):
        read_trace(trace)
    trace.unlink()
    with pytest.raises(InputError, match=trace.name):
        list_traces(benchmark)
    with pytest.raises(InputError, match="no column num_gpus"):
        pd.DataFrame({"model_label": []}).to_csv(benchmark / "traces_summary.csv")
        list_traces(benchmark)


def records_of(recordings, dataset="testbed"):
    told = chapter.informed(recordings, 6, 1)
    every = chapter.every_recording(recordings, 6, 1)
    pairs = known_states.side_by_side(TWO, TWO)
    drawn = pd.DataFrame({"samples": [400], "true_states": 2, "bic_takes": 2})
    beside = ("poisson", {known_states.INSIDE: 0.1, known_states.APART: 0.2}, pairs)
    rows = chapter.found(dataset, every, told, beside, drawn, pd.DataFrame())
    return rows, chapter.conclusion(every, pairs, "poisson")


def test_the_testbed_gets_no_verdict_and_no_name_comes_twice(recordings):
    rows, said = records_of({"testbed/poisson": recordings["testbed/poisson"]})
    assert {row["verdict"] for row in rows} <= {None, "cannot be tested"}
    assert len({(row["name"], row["dataset"]) for row in rows}) == len(rows)
    assert "poisson: BIC takes" in said


def test_the_nearest_recording_answers_the_papers_shares(measured):
    run = "llama-3.1-70b_h100_tp4_poisson_r4"
    told = chapter.informed({run: chapter.recordings("measured")[run]}, 10, 1)
    rows = chapter._information_records(told, "measured", run)
    claimed = {row["claim"] for row in rows}
    named = "conditional_information:deepseek-r1-distill-70b_H100_tp4/{}:information_share"
    assert claimed == {named.format(features) for features in ("A", "dA", "F2")}
    assert all(row["verdict"].startswith(("reproduced", "not")) for row in rows)
