"""Studies of a site: what becomes of shared and of independent variance, and what size fits."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from sitebook import sites
from sitetrace.core.files import InputError
from sitetrace.core.registry import read_paper_table
from sitetrace.evaluate.judge import phases
from sitetrace.planning import series
from sitetrace.serving.surrogates import ConstantRate
from sitetrace.studies import sizing

SHAPE = (2, 3, 4)  # rows, racks a row, servers a rack
HOURS = 3
SHARED_W, OWN_W, MEAN_W = 200.0, 500.0, 2000.0


def site_of(servers_w, dt_s=1.0, pue=1.3):
    """Lay servers' power out as `simulate_site` does."""
    n_rows, n_racks, each = SHAPE
    shaped = servers_w.reshape(len(servers_w), n_rows, n_racks, each)
    racks_w, rows_w = shaped.sum(axis=3), shaped.sum(axis=(2, 3))
    total_w = servers_w.sum(axis=1)
    parts = {"facility": pue * total_w, "site": total_w, "gpu": total_w}
    parts |= {"row": rows_w, "rack": racks_w.reshape(len(servers_w), -1), "server": servers_w}
    columns = [np.reshape(part, (len(servers_w), -1)) for part in parts.values()]
    level = np.repeat(list(parts), [column.shape[1] for column in columns])
    begin = np.datetime64("2001-01-01T00:00:00", "ns")
    time = begin + (np.arange(len(servers_w)) * round(dt_s * 1e9)).astype("timedelta64[ns]")
    coordinates = {"time": time, "level": ("unit", level)}
    power_w = (("time", "unit"), np.hstack(columns).astype(np.float32))
    return xr.Dataset({"power_w": power_w}, coords=coordinates)


@pytest.fixture(scope="module")
def servers_w():
    rng = np.random.default_rng(1)
    day = np.sqrt(2) * SHARED_W * np.sin(2 * np.pi * np.arange(HOURS * 3600) / 3600)
    own = OWN_W * rng.standard_normal((HOURS * 3600, int(np.prod(SHAPE))))
    return MEAN_W + day[:, None] + own


@pytest.fixture(scope="module")
def site(servers_w):
    return site_of(servers_w)


def test_shared_and_independent_variance_are_told_apart(site):
    mean_w, covariance_w2 = sites.moments(site)
    own, shared = sites.separate(mean_w, covariance_w2)
    assert mean_w.mean() == pytest.approx(MEAN_W, rel=0.01)
    assert np.sqrt(shared) == pytest.approx(SHARED_W / MEAN_W, rel=0.03)
    assert np.sqrt(own) == pytest.approx(OWN_W / MEAN_W, rel=0.03)


def test_a_few_servers_foretell_how_all_of_them_flatten(site):
    mean_w, covariance_w2 = sites.moments(site)
    own, shared = sites.separate(mean_w[:6], covariance_w2[:6, :6])
    rng = np.random.default_rng(1)
    cov = sites.cov_of_sums(mean_w, covariance_w2, [1, 4, 12, 24], rng)["value"]
    assert np.sqrt(own / cov.index.to_numpy() + shared) == pytest.approx(cov.to_numpy(), rel=0.05)
    assert cov[1] / np.sqrt(24) < 0.9 * cov[24]
    assert cov.is_monotonic_decreasing


def test_independent_servers_follow_the_root_and_have_no_floor(servers_w):
    rng = np.random.default_rng(2)
    own_w = MEAN_W + OWN_W * rng.standard_normal(servers_w.shape)
    mean_w, covariance_w2 = sites.moments(site_of(own_w))
    cov = sites.cov_of_sums(mean_w, covariance_w2, [1, 4, 24], rng)["value"]
    assert cov.to_numpy() == pytest.approx(cov[1] / np.sqrt(cov.index.to_numpy()), rel=0.05)
    assert sites.separate(mean_w, covariance_w2)[1] < 0.02**2


def test_moments_piece_by_piece_are_those_of_the_whole(site, servers_w, monkeypatch):
    monkeypatch.setattr(series, "BLOCK_VALUES", 24 * 1000)
    mean_w, covariance_w2 = sites.moments(site, 500.0)
    assert mean_w == pytest.approx(servers_w.mean(axis=0) - 500.0)
    assert covariance_w2 == pytest.approx(np.cov(servers_w.T, ddof=0), rel=1e-4, abs=1.0)
    assert sites.peaks_of(site, "server") == pytest.approx(servers_w.max(axis=0), rel=1e-6)


def test_the_papers_curve_is_that_of_two_parts_and_not_a_power_law():
    fall, (own, shared) = sites.paper_flattening()
    assert np.sqrt(own / fall.index.to_numpy() + shared) == pytest.approx(
        fall["value"].to_numpy(), rel=0.003
    )
    slope, intercept = np.polyfit(np.log(fall.index), np.log(fall["value"]), 1)
    line = np.exp(intercept) * fall.index.to_numpy() ** slope
    assert np.abs(line / fall["value"] - 1).max() > 0.1


def test_power_gets_smoother_from_server_to_site(site, servers_w):
    units = sites.by_unit(site, 500.0)
    by_level = units.groupby("level", sort=False)
    assert by_level.size().to_dict() == {"server": 24, "rack": 6, "row": 2, "site": 1}
    table = by_level.median()
    assert table["cov"].is_monotonic_decreasing
    assert table["par_1s"].is_monotonic_decreasing
    assert (table["par_15min"] < table["par_1s"]).all()
    assert 1e3 * units.loc[("server", 0), "mean_kw"] == pytest.approx(servers_w[:, 0].mean() - 500)
    assert 1e3 * table.loc["site", "mean_kw"] == pytest.approx(servers_w.sum(axis=1).mean())


def test_a_level_that_was_not_kept_is_named(site):
    with pytest.raises(InputError, match="rack: no such level"):
        series.power_at(site.isel(unit=site["level"] == "server"), "rack")
    assert series.step_of(site) == 1.0


def test_a_square_wave_has_the_ramps_and_the_connection_of_its_two_powers():
    power_w = np.tile(np.repeat([1e6, 3e6], 1800), 6)
    numbers = sizing.sizing_numbers(power_w, 1.0)
    assert numbers["peak"] == 3.0
    assert numbers["mean"] == 2.0
    assert numbers["par"] == 1.5
    assert numbers["load_factor"] == pytest.approx(2 / 3)
    assert numbers["ramp"] == 8.0
    assert numbers["transformer"] == pytest.approx(3 / 0.9)
    assert numbers["energy_year"] == pytest.approx(2 * 8760)
    for step in ("1s", "60s", "300s", "900s"):
        assert numbers[f"up_{step}"] == 2.0
        assert numbers[f"down_{step}"] == -2.0
    table = sizing.facility_numbers(power_w, 1.0, [1.0, 900.0])
    assert table.loc[900.0, "ramp_up_kw"] == 2000.0
    assert set(read_paper_table("facility").columns) - {"run", "method", "diversity"} == {
        "step_s", *table.columns
    }  # fmt: skip


@settings(max_examples=20)
@given(st.lists(st.floats(1.0, 1e3), min_size=2, max_size=8))
def test_the_interval_over_seeds_holds_its_mean_and_one_seed_has_none(values):
    runs = pd.DataFrame({"method": "a", "seed": range(len(values)), "peak": values})
    row = sizing.over_seeds(runs).loc[("a", "peak")]
    assert row["low"] <= row["value"] * (1 + 1e-12)
    assert row["value"] <= row["high"] * (1 + 1e-12)
    assert row["least"] <= row["value"] * (1 + 1e-12)
    assert row["seeds"] == len(values)
    alone = sizing.over_seeds(runs.head(1)).loc[("a", "peak")]
    assert np.isnan(alone["low"])


def test_what_no_seed_changes_has_an_interval_of_no_width():
    runs = pd.DataFrame({"method": "nameplate", "seed": [1, 2, 3], "peak": 2.5, "up_1s": 0.0})
    table = sizing.over_seeds(runs)
    assert table.loc[("nameplate", "peak"), ["low", "high"]].tolist() == [2.5, 2.5]
    assert table.loc[("nameplate", "up_1s"), ["low", "high"]].tolist() == [0.0, 0.0]


def test_confidence_covers_the_true_mean_as_often_as_it_says():
    drawn = np.random.default_rng(1).normal(10.0, 1.0, (5, 400))
    runs = pd.DataFrame(drawn).assign(method="a", seed=range(5))
    table = sizing.over_seeds(runs)
    held = ((table["low"] <= 10.0) & (table["high"] >= 10.0)).sum()
    assert 0.92 < held / 400 < 0.98


def test_the_look_up_of_a_site_is_the_sum_of_its_servers():
    lookup = sites.PhaseLookup(100.0, 900.0, 500.0, ConstantRate(1000.0, 25.0))
    rng = np.random.default_rng(1)
    requests = pd.DataFrame({"arrival_s": np.sort(rng.uniform(0, 60, 40))})
    requests["input_tokens"] = rng.integers(1, 2000, 40)
    requests["output_tokens"] = rng.integers(1, 200, 40)
    server_of = rng.integers(0, 3, 40)
    server_of[server_of == 1] = 2
    expected = np.full(240, lookup.idle_w)  # server 1 has nothing to do
    for server in (0, 2):
        mine = requests[server_of == server]
        ends_s = mine["arrival_s"] + mine["input_tokens"] / 1000.0 + mine["output_tokens"] / 25.0
        clock_s = 0.25 * np.arange(1, 241)
        active = np.array([(mine["arrival_s"] <= t).sum() - (ends_s <= t).sum() for t in clock_s])
        table = pd.DataFrame(
            {"active": active, "delta_active": np.diff(active, prepend=active[:1])}
        )
        powers = {"idle": 100.0, "prefill": 900.0, "decode": 500.0}
        expected += [powers[phase] for phase in phases(table)]
    tokens = requests[["input_tokens", "output_tokens"]].to_numpy()
    arrival_s = requests["arrival_s"].to_numpy()
    found = sites.lookup_gpu_w(lookup, arrival_s, tokens, server_of, 240)
    assert found == pytest.approx(expected)


def test_the_look_up_of_a_run_orders_its_phases_and_keeps_the_nameplate_above_all(tmp_path):
    setup = sites.fitted("testbed", "poisson", 0.5, (1, 1, 2), 1.0, tmp_path)
    nameplate_w, mean_w, lookup = sites.simple_powers(setup)
    assert lookup.idle_w < lookup.decode_w < lookup.prefill_w < nameplate_w
    assert lookup.idle_w < mean_w < nameplate_w
