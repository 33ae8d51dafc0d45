"""A site: energy is conserved, memory and workers leave no trace, a killed run goes on."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import sitetrace
from sitetrace.core.files import InputError
from sitetrace.power.modelfile import load_model
from sitetrace.site import simulate as site_module
from sitetrace.site.scenario import check_scenario

HEADER = "arrival_s,input_tokens,output_tokens"


def scenario(folder=".", **changes):
    content = {
        "seed": 3,
        "hours": 0.1,
        "chunk_s": 60,
        "topology": {"rows": 2, "racks_per_row": 2, "servers_per_rack": 2},
        "fleet": [{"name": "all", "model": "testbed_timeline"}],
        "traffic": {"pattern": "poisson", "rate_per_server": 1.0},
        "non_gpu": {"base_w": 300, "per_gpu_w": 0.1},
        "pue": {"full": 1.2, "idle": 1.5},
        "keep": [
            {"levels": ["site", "row", "rack", "server"], "step_s": 1},
            {"levels": ["site"], "step_s": 0.25},
            {"levels": ["rack", "server"], "step_s": 20},
        ],
    }
    return check_scenario(content | changes, folder)


def digest(folder):
    total = hashlib.sha256()
    for path in sorted(Path(folder).rglob("*")):
        if path.is_file():
            total.update(str(path.relative_to(folder)).encode() + path.read_bytes())
    return total.hexdigest()


def simulate(path, folder=".", workers=1, resume=False, **changes):
    made = scenario(folder, **changes)
    return sitetrace.simulate_site(made, path, workers=workers, resume=resume)


@pytest.fixture(autouse=True)
def always_checkpoint(monkeypatch):
    """A checkpoint after each stretch."""
    monkeypatch.setattr(site_module, "CHECKPOINT_EVERY_S", -1.0)


def of_level(dataset, level):
    return dataset["power_w"].to_numpy()[:, dataset["level"].to_numpy() == level]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    path = tmp_path_factory.mktemp("site") / "site.zarr"
    simulate(path)
    return path


def test_any_xarray_user_can_read_it(made):
    dataset = xr.open_zarr(made)
    assert dict(dataset.sizes) == {"time": 360, "unit": 3 + 2 + 4 + 8}
    assert dataset["power_w"].attrs["units"] == "W"
    first = ["facility", "site", "gpu", "row-0", "row-1", "rack-0-0"]
    assert dataset["unit"].to_numpy()[:6].tolist() == first
    assert dataset["time"].to_numpy()[1] - dataset["time"].to_numpy()[0] == np.timedelta64(1, "s")
    assert {"scenario", "models", "seed", "requests", "sitetrace"} <= set(dataset.attrs)
    assert dataset.attrs["data"] == "testbed"
    inside = dataset["servers"].sel(unit=["site", "row-1", "rack-1-1"])
    assert inside.to_numpy().tolist() == [8, 4, 2]
    assert xr.open_zarr(made, group="0.25s").sizes["time"] == 1440


def test_levels_add_up_at_each_resolution(made):
    second, coarse = sitetrace.read_site(made), sitetrace.read_site(made, "20s")
    fine = sitetrace.read_site(made, "0.25s")
    site_w, gpu_w = of_level(second, "site")[:, 0], of_level(second, "gpu")[:, 0]
    for level in ("row", "rack", "server"):
        np.testing.assert_allclose(of_level(second, level).sum(axis=1), site_w, rtol=1e-12)
    np.testing.assert_allclose(site_w, 8 * 300 + 1.1 * gpu_w, rtol=1e-12)
    fine_w = of_level(fine, "site").reshape(-1, 4)
    np.testing.assert_allclose(fine_w.mean(axis=1), site_w, rtol=1e-12)
    for level in ("rack", "server"):
        whole = of_level(second, level).reshape(-1, 20, of_level(second, level).shape[1])
        np.testing.assert_allclose(whole.mean(axis=1), of_level(coarse, level), rtol=1e-12)


def test_the_facility_is_the_site_times_its_pue(made):
    fine = sitetrace.read_site(made, "0.25s")
    pue = of_level(fine, "facility") / of_level(fine, "site")
    nameplate_w = float(fine["nameplate_w"].sel(unit="site"))
    share = of_level(fine, "site") / nameplate_w
    np.testing.assert_allclose(pue, 1.5 - 0.3 * share, rtol=1e-12)
    assert float(fine["nameplate_w"].sel(unit="facility")) == pytest.approx(1.5 * nameplate_w)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    topology=st.tuples(*3 * [st.integers(1, 3)]),
    rate=st.floats(0.05, 3.0),
    step_s=st.sampled_from([0.5, 1.0, 6.0]),
    pattern=st.sampled_from(["poisson", "bursty", "diurnal"]),
    routing=st.sampled_from(["random", "round_robin", "least_loaded", "session"]),
)
def test_energy_is_conserved(tmp_path_factory, topology, rate, step_s, pattern, routing):
    """To one part in a billion, at every level, resolution, arrival pattern and routing."""
    topology = dict(zip(("rows", "racks_per_row", "servers_per_rack"), topology, strict=True))
    traffic = {"pattern": pattern, "rate_per_server": rate, "routing": routing}
    levels = {"levels": ["site", "row", "rack", "server"]}
    kept = [levels | {"step_s": 0.5}, levels | {"step_s": step_s * 2}]
    given = {"topology": topology, "traffic": traffic, "keep": kept, "pue": 1.3}
    path = tmp_path_factory.mktemp("energy") / "site.zarr"
    fine = simulate(path, hours=0.01, chunk_s=12, **given)
    coarse = sitetrace.read_site(path, f"{2 * step_s:g}s")
    energy_j = fine["power_w"].sum("time").to_numpy() * 0.5
    coarse_j = coarse["power_w"].sum("time").to_numpy() * 2 * step_s
    np.testing.assert_allclose(coarse_j, energy_j, rtol=1e-9)
    level = fine["level"].to_numpy()
    for name in ("row", "rack", "server"):
        assert energy_j[level == name].sum() == pytest.approx(energy_j[1], rel=1e-9)
    assert energy_j[0] == pytest.approx(1.3 * energy_j[1], rel=1e-9)


def test_workers_leave_no_trace(made, tmp_path):
    for workers in (2, 5):
        simulate(tmp_path / f"{workers}.zarr", workers=workers)
        assert digest(tmp_path / f"{workers}.zarr") == digest(made)


def test_a_site_does_not_begin_with_everything_switched_on(made):
    """The first minute is like the others."""
    power_w = of_level(sitetrace.read_site(made), "gpu").reshape(6, 60).mean(axis=1)
    idle_w = 8 * load_model(sitetrace.shipped_model("testbed_timeline")).idle.mean_w
    assert power_w[0] - idle_w > 0.7 * (power_w[1:].mean() - idle_w)


def test_servers_are_strangers_and_another_seed_is_another_day(made, tmp_path):
    power_w = of_level(sitetrace.read_site(made), "server")
    assert np.abs(np.corrcoef(power_w.T)[np.triu_indices(8, 1)]).max() < 0.35
    other_w = of_level(simulate(tmp_path / "other.zarr", seed=4), "server")
    assert (other_w != power_w).mean() > 0.99


@pytest.mark.parametrize(
    ("pattern", "routing"),
    [("poisson", "random"), ("bursty", "session"), ("poisson", "least_loaded")],
)
@pytest.mark.parametrize("model", ["testbed_timeline", "testbed"])
def test_cut_short_and_resumed_is_the_same(tmp_path, monkeypatch, pattern, routing, model):
    traffic = {"pattern": pattern, "rate_per_server": 1.0, "routing": routing}
    made = {"traffic": traffic, "fleet": [{"name": "all", "model": model}]}
    simulate(tmp_path / "whole.zarr", **made)
    summed = site_module.site_power_w
    for cuts in (1, 3):

        def cut(*given, cuts=cuts):
            if given[-1].index == cuts:
                raise KeyboardInterrupt
            return summed(*given)

        monkeypatch.setattr(site_module, "site_power_w", cut)
        with pytest.raises(KeyboardInterrupt):
            simulate(tmp_path / "cut.zarr", workers=2, resume=cuts > 1, **made)
    monkeypatch.setattr(site_module, "site_power_w", summed)
    with pytest.raises(InputError, match="cut short.*--resume"):
        simulate(tmp_path / "cut.zarr", **made)
    with pytest.raises(InputError, match="another scenario"):
        simulate(tmp_path / "cut.zarr", resume=True, **made, seed=5)
    simulate(tmp_path / "cut.zarr", resume=True, **made)
    assert digest(tmp_path / "cut.zarr") == digest(tmp_path / "whole.zarr")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cut.zarr", "whole.zarr"]


def test_a_killed_process_can_be_resumed(tmp_path):
    """SIGKILL in the middle; whatever it hits, the resumed run ends with the same bytes."""
    site_yaml = tmp_path / "site.yaml"
    site_yaml.write_text(
        "{seed: 3, hours: 12, topology: {rows: 2, racks_per_row: 3, servers_per_rack: 4},"
        " fleet: [{name: all, model: testbed_timeline}],"
        " traffic: {pattern: poisson, rate_per_server: 0.5}}"
    )
    code = (
        "from sitetrace.cli.main import main; from sitetrace.site import simulate as site;"
        "site.CHECKPOINT_EVERY_S = -1.0; main()"
    )
    part = tmp_path / "killed.zarr.part"
    out = ["-o", str(part.with_suffix(""))]
    command = [sys.executable, "-c", code, "site", str(site_yaml), *out]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        while not (part / "checkpoint.npz").exists() and process.poll() is None:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
    assert part.exists()
    assert b"PAR" in subprocess.run([*command, "--resume"], check=True, capture_output=True).stdout
    sitetrace.simulate_site(site_yaml, tmp_path / "whole.zarr", workers=2)
    assert digest(part.with_suffix("")) == digest(tmp_path / "whole.zarr")


def test_a_full_disk_is_said_and_nothing_is_lost(tmp_path, monkeypatch, made):
    write = site_module.store.write_checkpoint

    def full(path, done, states, carries):
        if done == 3:
            raise OSError(28, "No space left on device")
        write(path, done, states, carries)

    monkeypatch.setattr(site_module.store, "write_checkpoint", full)
    with pytest.raises(InputError, match="No space left.*--resume"):
        simulate(tmp_path / "site.zarr")
    monkeypatch.setattr(site_module.store, "write_checkpoint", write)
    simulate(tmp_path / "site.zarr", resume=True)
    assert digest(tmp_path / "site.zarr") == digest(made)


@pytest.mark.parametrize("renamed", [False, True])
def test_cut_short_at_the_very_end_and_resumed_is_the_same(tmp_path, monkeypatch, made, renamed):
    def end(store, *given):
        if renamed:
            store.rename(tmp_path / "away")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(site_module.store, "finish", end)
        simulate(tmp_path / "site.zarr")
    simulate(tmp_path / "site.zarr", resume=True)
    assert digest(tmp_path / "site.zarr") == digest(made)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut"])
def test_a_damaged_checkpoint_is_said(tmp_path, monkeypatch, content):
    monkeypatch.setattr(site_module.store, "finish", lambda *given: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        simulate(tmp_path / "site.zarr")
    (tmp_path / "site.zarr.part" / "checkpoint.npz").write_bytes(content)
    with pytest.raises(InputError, match="checkpoint.npz: damaged .*: remove its folder"):
        simulate(tmp_path / "site.zarr", resume=True)


@pytest.mark.parametrize("routing", ["random", "round_robin", "least_loaded", "session"])
def test_a_recording_is_replayed_over_and_over(tmp_path, routing):
    (tmp_path / "requests.csv").write_text(f"{HEADER}\n0,10,20\n1,30,40\n")
    pattern = {"pattern": "replay", "file": "requests.csv", "speed": 2, "routing": routing}
    made = simulate(tmp_path / "site.zarr", tmp_path, traffic=pattern)
    assert made.attrs["requests"] == 720
    assert (made.attrs["input_tokens"], made.attrs["output_tokens"]) == (14_400, 21_600)


def test_a_run_on_other_requests_is_not_resumed(tmp_path, monkeypatch):
    monkeypatch.setattr(site_module.store, "finish", lambda *given: 1 / 0)
    (tmp_path / "lengths.csv").write_text(f"{HEADER}\n0,10,20\n")
    pattern = {"pattern": "poisson", "rate_per_server": 1, "lengths": "lengths.csv"}
    with pytest.raises(ZeroDivisionError):
        simulate(tmp_path / "site.zarr", tmp_path, traffic=pattern)
    (tmp_path / "lengths.csv").write_text(f"{HEADER}\n0,10,21\n")
    with pytest.raises(InputError, match="of another scenario"):
        simulate(tmp_path / "site.zarr", tmp_path, resume=True, traffic=pattern)


@pytest.mark.parametrize("ending", [".nc", ".parquet"])
def test_small_sites_fit_in_other_forms(tmp_path, made, ending):
    dataset = simulate(tmp_path / f"site{ending}", keep=scenario().model_dump()["keep"][:1])
    first = sitetrace.read_site(made)
    for name in ("power_w", "time", "nameplate_w", "level"):
        np.testing.assert_array_equal(dataset[name], first[name])
    kinds = {name: type(value) for name, value in first.attrs.items()}
    assert {name: type(value) for name, value in dataset.attrs.items()} == kinds
    assert dataset["power_w"].attrs["units"] == "W"


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("testbed_bigru", "needs the whole day"),
        ("qwen3-30b-a3b_h100_cut", "pool all: step_s 0.25 is no multiple.*1 s"),
    ],
)
def test_bad_input_leaves_nothing_behind(tmp_path, model, said):
    with pytest.raises(InputError, match=said):
        simulate(tmp_path / "site.zarr", fleet=[{"name": "all", "model": model}])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("own.json", "bad.json", "line 3, key fleet[0].model: "),
        ("own.json", "own.json, idle_w: 9000", "line 3, key fleet[0].idle_w: "),
        ("poisson, rate_per_server: 1", "replay, file: bad.json", "line 4, key traffic: "),
        ("pue: 1.2", "step_s: 0.1", "line 5, key step_s: "),
    ],
)
def test_what_a_scenario_names_is_blamed_on_its_line(tmp_path, old, new, said):
    text = (
        "hours: 1\ntopology: {rows: 1, racks_per_row: 1, servers_per_rack: 1}\n"
        "fleet: [{name: all, model: own.json}]\n"
        "traffic: {pattern: poisson, rate_per_server: 1}\npue: 1.2\n"
    )
    (tmp_path / "site.yaml").write_text(text.replace(old, new))
    (tmp_path / "bad.json").write_text("{")
    shutil.copy(sitetrace.shipped_model("testbed_timeline"), tmp_path / "own.json")
    with pytest.raises(InputError) as caught:
        sitetrace.simulate_site(tmp_path / "site.yaml", tmp_path / "site.zarr")
    assert str(caught.value).startswith(f"{tmp_path / 'site.yaml'}: {said}")
    assert not list(tmp_path.glob("site.zarr*"))


@pytest.mark.parametrize("model", ["testbed_timeline", "testbed"])
def test_a_request_that_no_server_can_hold_is_refused(tmp_path, model):
    lengths = {"input_median": 400_000, "input_sigma": 0, "input_limit": 400_000}
    pattern = {"pattern": "poisson", "rate_per_server": 0.1, "lengths": lengths}
    fleet = [{"name": "all", "model": model}]
    with pytest.raises(InputError, match="pool all: .*tokens of KV cache"):
        simulate(tmp_path / "site.zarr", traffic=pattern, fleet=fleet)


def test_places_that_cannot_hold_it_are_refused(tmp_path):
    (tmp_path / "file.zarr").write_text("")
    (tmp_path / "mine.zarr").mkdir()
    (tmp_path / "mine.zarr" / "letter.txt").write_text("")
    refused = {"nowhere/site.zarr": "no folder", "site.nc": "one step"}
    for name, said in (refused | dict.fromkeys(["file.zarr", "mine.zarr"], "in the way")).items():
        with pytest.raises(InputError, match=said):
            simulate(tmp_path / name)
    xr.Dataset({"power_w": ("time", [1.0, 2.0])}).to_netcdf(tmp_path / "other.nc")
    refused = {"file.zarr": "no site", "nothing.zarr": "no such file", "other.nc": "dimensions"}
    for name, said in refused.items():
        with pytest.raises(InputError, match=said):
            sitetrace.read_site(tmp_path / name)
    (tmp_path / "site.zarr.part").write_text("")
    with pytest.raises(InputError, match="site.zarr.part: cannot be written .*: name another"):
        simulate(tmp_path / "site.zarr", resume=True)


def test_pools_differ_and_idle_belongs_to_the_board(tmp_path):
    fleet = [
        {"name": "one", "model": "testbed_timeline", "rows": [0]},
        {"name": "two", "model": "testbed_timeline", "idle_w": 120.0},
    ]
    quiet = {"pattern": "poisson", "rate_per_server": 1e-6}
    bare = {"traffic": quiet, "non_gpu": {"constant_w": 0}, "pue": 1.0}
    dataset = simulate(tmp_path / "site.zarr", fleet=fleet, **bare)
    rows_w = of_level(dataset, "row").mean(axis=0)
    model = load_model(sitetrace.shipped_model("testbed_timeline"))
    np.testing.assert_allclose(rows_w, [4 * model.idle.mean_w, 4 * 120.0], rtol=0.01)


def test_noise_is_drawn_for_what_is_kept_and_told(tmp_path):
    """The sum of servers has the same mean and spread, whether or not they are kept."""
    told = {}
    for levels in (["site", "rack"], ["site", "rack", "server"]):
        made = scenario(keep=[{"levels": levels, "step_s": 0.25}], hours=0.5)
        dataset = sitetrace.simulate_site(made, tmp_path / f"{len(levels)}.zarr")
        told[dataset.attrs["noise"]] = of_level(dataset, "rack")
    racks, servers = told.values()
    assert [name.rpartition(" draw a ")[2] for name in told] == ["rack and model", "server"]
    np.testing.assert_allclose(racks.mean(axis=0), servers.mean(axis=0), rtol=0.005)
    np.testing.assert_allclose(racks.std(axis=0), servers.std(axis=0), rtol=0.03)
