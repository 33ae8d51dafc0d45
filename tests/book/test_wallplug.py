"""Wall-plug recordings: what is read, how phases are found, and what the fit gives back."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sitebook import wallplug
from sitetrace.core import registry
from sitetrace.core.files import InputError
from sitetrace.core.registry import data_dir


def recorded(power_w, lost=()):
    power_w = np.asarray(power_w, dtype=float)
    table = pd.DataFrame({"time_s": np.arange(power_w.size, dtype=float), "power_w": power_w})
    table["voltage_v"], table["power_factor"] = 230.0, 0.98
    table["current_a"] = table["power_w"] / 230.0 / 0.98
    table.loc[list(lost), list(wallplug.READINGS)] = -1.0
    return table


def plateau(idle_w=2000.0, ready_w=2200.0, load_w=6000.0):
    levels_w = np.repeat([ready_w, load_w, ready_w], [20, 600, 40])
    return np.concatenate([np.full(120, idle_w), np.linspace(idle_w, ready_w, 60), levels_w])


def written(table, folder):
    table.to_csv(folder / "trace.csv", index=False)
    return wallplug.read_wall_plug(folder / "trace.csv")


def test_a_lost_sample_is_no_power_and_no_step(tmp_path):
    table = written(recorded(plateau(), lost=[100, 400, 401]), tmp_path)
    told = wallplug.describe(table)
    assert told["lost"] == 3
    assert table.loc[400, ["power_w", "voltage_v", "power_factor"]].isna().all()
    assert told["step_up"] == told["step_down"] == 0.0
    assert told["median_w"] == 6000.0
    assert wallplug.steps(table).size == len(table) - 1 - 5


def test_phases_are_found_in_the_power_alone():
    spans = wallplug.phases(recorded(plateau()))
    assert spans["idle"][0] == 0.0
    assert 119 <= spans["idle"][1] < 165
    assert spans["ready"] == (190.0, 199.0)
    assert spans["load"] == (200.0, 799.0)
    assert 200 < spans["settled"][0] < spans["settled"][1] < 799


def test_a_recording_without_a_rise_is_refused():
    with pytest.raises(InputError, match="no rise"):
        wallplug.phases(recorded(np.full(300, 2000.0)))


def test_steps_and_peaks_are_shares_of_what_was_settled():
    power_w = plateau()
    power_w[500] = 6600.0
    told = wallplug.describe(recorded(power_w))
    assert told["step_up"] == pytest.approx(0.1)
    assert told["step_down"] == pytest.approx(0.1)
    assert told["any_up"] == pytest.approx(3800 / 6000)
    assert told["par_1s"] == pytest.approx(6600 / (6000 + 1), rel=1e-6)
    assert np.isnan(told["par_15min"])
    assert told["rise_s"] == 1.0


def known_levels(base_w, slope, width=0.0):
    """Levels of a node whose GPUs stand in the middle of their bounds."""
    gpu_w = np.array([900.0, 2700.0, 3900.0])
    known = {"node": "n", "level": ["ready", "load", "load"], "gpus": 8, "recordings": 2}
    known |= {"wall_w": gpu_w + base_w + slope * gpu_w}
    return pd.DataFrame(
        known | {"gpu_low_w": gpu_w * (1 - width), "gpu_high_w": gpu_w * (1 + width)}
    )


@settings(max_examples=40, deadline=None)
@given(st.floats(200, 4000), st.floats(0.02, 0.5), st.floats(0.0, 0.08))
def test_the_fit_gives_a_known_node_back_and_its_band_holds_it(base_w, slope, width):
    fitted = wallplug.fit_non_gpu(known_levels(base_w, slope, width))
    assert fitted["base_w_per_gpu"] == pytest.approx(base_w / 8, rel=1e-6)
    assert fitted["per_gpu_w"] == pytest.approx(slope, rel=1e-6)
    least, greatest = fitted["per_gpu_w_band"]
    assert least - 1e-9 <= slope <= greatest + 1e-9
    for gpu_w in (900.0, 3900.0):
        ends = wallplug.at_gpu_power(fitted, 8, gpu_w)
        assert ends["low"] - 1e-6 <= base_w + slope * gpu_w <= ends["high"] + 1e-6


def test_loads_that_leave_gpus_waiting_are_no_level():
    table = pd.DataFrame(
        {
            "node": "n", "model": "m", "gpus": 8, "ready_w": 2500.0,
            "median_w": [9000.0, 8000.0], "low_w": [8900.0, 6000.0], "high_w": [9100.0, 9000.0],
        }
    )  # fmt: skip
    limits = {"node": ["n"], "model": ["m"], "idle_low_w": 100.0, "idle_high_w": 120.0}
    limits |= {"load_low_w": 700.0, "load_high_w": 800.0}
    found = wallplug.levels(table, pd.DataFrame(limits)).set_index("level")
    assert found.loc["load", "wall_w"] == 9000.0
    assert found["recordings"].to_dict() == {"ready": 2, "load": 1}


def test_the_default_scales_with_gpus_and_stays_within_its_band():
    base_w, slope = registry.default_non_gpu(8)
    assert registry.default_non_gpu(4) == (pytest.approx(base_w / 2), slope)
    for gpu_w in (800.0, 4000.0):
        low, middle, high = (
            base + each * gpu_w
            for base, each in map(registry.default_non_gpu, (8,) * 3, ("low", None, "high"))
        )
        assert low < middle < high
    with pytest.raises(InputError, match="at least one"):
        registry.default_non_gpu(0)
    with pytest.raises(InputError, match="low"):
        registry.default_non_gpu(8, "middle")


def test_the_shipped_fit_can_be_made_again(measured, tmp_path):
    again = wallplug.write_nodes(tmp_path / "nodes.json")
    assert json.loads((tmp_path / "nodes.json").read_text()) == again
    shipped = json.loads((data_dir() / "nodes.json").read_text())
    assert again.keys() == shipped.keys()
    for node, fitted in shipped["nodes"].items():
        for name in ("base_w_per_gpu", "per_gpu_w"):
            assert again["nodes"][node][name] == pytest.approx(fitted[name], rel=1e-4)


def test_real_nodes_are_read_whole_and_the_constant_lies_below_every_band(measured):
    _, table, limits = wallplug.open_nodes("measured", 1)
    assert len(table) == 24 and table["lost"].sum() > 0
    assert (table["idle_w"] < table["ready_w"]).all()
    assert (table["ready_w"] < 0.7 * table["median_w"]).all()
    assert (table["power_factor_idle"] < table["power_factor_load"]).all()
    assert wallplug.repeats(table)["median_spread"].max() < 0.02
    levels = wallplug.levels(table, limits)
    assert (levels["wall_w"] - levels["gpu_high_w"] > 1000).all()


@pytest.mark.parametrize("seed", [1, 2])
def test_the_band_holds_the_simulated_nodes_truth(seed):
    tables, table, limits = wallplug.open_nodes("testbed", seed)
    assert table["lost"].gt(0).all() and all(
        (t["power_w"].dropna() > 0).all() for t in tables.values()
    )
    fitted = wallplug.fit_each(wallplug.levels(table, limits))["testbed"]
    least, greatest = fitted["per_gpu_w_band"]
    assert least < wallplug.TESTBED_SLOPE < greatest
    for gpu_w in (800.0, 3000.0):
        found = wallplug.at_gpu_power(fitted, wallplug.TESTBED_GPUS, gpu_w)
        true_w = wallplug.TESTBED_BASE_W + wallplug.TESTBED_SLOPE * gpu_w
        assert found["low"] < true_w < found["high"]
