"""The feeder: one snapshot by hand, energy through the export, and what changes what."""

from dataclasses import replace

import numpy as np
import pytest
from synthetic_site import site_dataset

from sitetrace.core.files import InputError
from sitetrace.planning.series import intervals
from sitetrace.studies import feeder as feeders
from sitetrace.studies.feeder import Feeder, constant, feeder_for, solve, summary


@pytest.fixture(scope="module")
def day():
    return intervals(site_dataset(6 * 3600, 10.0), step_s=900)


def by_hand(feeder, power_w):
    """Voltage at the end of a series impedance that feeds a constant power, exact, per unit."""
    base = 1e6  # VA
    z_base = (feeder.source_kv * 1e3) ** 2 / base
    source = base / 1e6 / feeder.short_circuit_mva * complex(1, 4) / abs(complex(1, 4))
    line = feeder.line_km * complex(feeder.r_ohm_km, feeder.x_ohm_km) / z_base
    own = complex(feeder.loss_pct, feeder.x_pct) / 100 * base / (feeder.transformer_kva * 1e3)
    z = source + line + own
    p = power_w / base
    q = p * np.tan(np.arccos(feeder.power_factor))
    # u = V^2 solves u^2 + (2 (p r + q x) - E^2) u + |s|^2 |z|^2 = 0
    b = 2 * (p * z.real + q * z.imag) - feeder.source_pu**2
    u = (-b + np.sqrt(b * b - 4 * (p * p + q * q) * abs(z) ** 2)) / 2
    return np.sqrt(u), (p * p + q * q) / u * (z - source).real * base


def test_one_snapshot_agrees_with_the_formula_for_two_buses(day):
    feeder = Feeder(transformer_kva=2000.0, other_kw=0.0)
    solved = solve(constant(day, 1.6e6), feeder)
    voltage, losses_w = by_hand(feeder, 1.6e6)
    assert solved["voltage_pu"].iloc[0] == pytest.approx(voltage, abs=2e-4)
    assert solved["losses_kw"].iloc[0] * 1e3 == pytest.approx(losses_w, rel=0.005)
    assert solved["site_kw"].to_numpy() == pytest.approx(1600, rel=1e-3)
    assert solved["voltage_pu"].std() < 1e-6


def test_each_interval_gets_its_own_value_and_no_other(day):
    solved = solve(day, feeder_for(150e3))
    assert solved["site_kw"].to_numpy() == pytest.approx(day.power_w / 1e3, rel=1e-3)
    assert solved.index.equals(day.begin)
    order = np.argsort(day.power_w)
    assert (np.diff(solved["voltage_pu"].to_numpy()[order]) < 1e-6).all()


def test_more_load_and_more_line_mean_less_voltage_and_more_loss(day):
    feeder = Feeder(500.0, 500.0)
    near, far = (solve(day, replace(feeder, line_km=km)) for km in (1.0, 10.0))
    assert (far["voltage_pu"] < near["voltage_pu"]).all()
    assert (far["losses_kw"] > near["losses_kw"]).all()
    heavy = solve(constant(day, 3 * day.power_w.max()), feeder)
    assert heavy["voltage_pu"].max() < solve(day, feeder)["voltage_pu"].min()


def test_the_summary_holds_energy_and_extremes(day):
    feeder = feeder_for(150e3)
    solved = {"trace": solve(day, feeder), "mean": solve(constant(day, day.power_w.mean()), feeder)}
    table = summary(solved, feeder, dict.fromkeys(solved, 0.25)).set_index("described_by")
    assert table["energy_mwh"].to_numpy() == pytest.approx(day.power_w.mean() * 6 / 1e6, rel=1e-3)
    assert table.loc["trace", "lowest_pu"] < table.loc["mean", "lowest_pu"]
    assert table.loc["mean", "swing_pu"] == pytest.approx(0, abs=1e-6)
    assert table.loc["trace", "losses_kwh"] > table.loc["mean", "losses_kwh"]
    kva = table["transformer_pct"] * feeder.transformer_kva / 100
    assert (table["size_kva"] >= kva).all()


def test_a_site_too_large_for_the_feeder_is_told(day):
    with pytest.raises(InputError, match="no solution"):
        solve(constant(day, 60e6), Feeder(2000.0, 0.0))


def test_a_feeder_takes_as_many_sites_as_keep_within_its_limits_and_is_alike_at_any_size(day):
    lowest = []
    for size_kva in (300.0, 2000.0):
        feeder, part = feeder_for(980 * size_kva), constant(day, 900 * size_kva)
        taken, _ = feeders.sites_taken(part, feeder)
        for sites, inside in ((taken, True), (taken + 1, False)):
            larger = replace(feeder, transformer_kva=sites * size_kva)
            solved = solve(constant(part, sites * part.power_w[0]), larger).iloc[0]
            keeps = solved["line_a"] <= feeder.ampacity_a
            assert (keeps and solved["voltage_pu"] >= feeders.LOWEST_PU) == inside
        lowest.append(solve(part, feeder)["voltage_pu"].min())
    assert np.ptp(lowest) < 1e-5
