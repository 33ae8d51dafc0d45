"""Exercises on the grid: the lowest voltage, what is lost on the way, and a second site."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pandas as pd

from sitebook.old.coursework.exercise import Exercise
from sitebook.old.coursework.sites import site_day
from sitetrace.planning.series import Intervals, intervals
from sitetrace.studies.feeder import Feeder, constant, feeder_for, solve

SERVERS, RATE, QUARTER_H = 8, 0.25, 0.25


@cache
def _site(seed: int) -> tuple[Intervals, Feeder]:
    site = site_day(2, SERVERS // 2, RATE, seed, "site", 60.0)
    nameplate_w = float(site["nameplate_w"].sel(unit="facility"))
    return intervals(site, "facility", 900), feeder_for(nameplate_w)


@cache
def _solved(seed: int, sites: int = 1, transformers: int = 1) -> pd.DataFrame:
    part, feeder = _site(seed)
    larger = replace(feeder, transformer_kva=transformers * feeder.transformer_kva)
    return solve(replace(part, power_w=sites * part.power_w), larger)


def _lowest_pu(seed: int) -> tuple[float, dict[str, float]]:
    solved, (part, feeder) = _solved(seed), _site(seed)
    usual = solve(constant(part, part.power_w.mean()), feeder)
    return solved["voltage_pu"].min(), {
        "that is the highest: the busiest quarter of an hour has the lowest": solved[
            "voltage_pu"
        ].max(),
        "that is the end of the line: the site is behind a transformer": solved["end_pu"].min(),
        "that is by the mean power, which hides the hour that decides": usual["voltage_pu"].min(),
    }


def _lost_pct(seed: int) -> tuple[float, dict[str, float]]:
    solved, (_, feeder) = _solved(seed), _site(seed)
    lost_kw, site_kw = solved["losses_kw"].mean(), solved["site_kw"].mean()
    right = 100 * lost_kw / (site_kw + feeder.other_kw)
    return right, {
        "that is over the site's energy alone: the line carries the others' too": 100
        * lost_kw
        / site_kw,
        "that is over the others' energy alone": 100 * lost_kw / feeder.other_kw,
        "that is the energy lost, in kWh": 24 * lost_kw,
        "a quarter of an hour at one kW is a quarter of a kWh": right / QUARTER_H,
    }


def _second_site(seed: int) -> tuple[float, dict[str, float]]:
    cases = (_solved(seed), _solved(seed, 2, 2), _solved(seed, 2, 1))
    one, two, crowded = (solved["losses_kw"].sum() for solved in cases)
    return two / one, {
        "the current of the site doubles, that of the line does not: others draw from it": 4.0,
        "losses do not grow in proportion, and the line has other load": 2.0,
        "that is the inverse: two sites go on top": one / two,
        "both sites share a transformer in that: give the second its own": crowded / one,
    }


EXERCISES = {
    "grid-1": Exercise(_lowest_pu, 0.0002, "pu"),
    "grid-2": Exercise(_lost_pct, 0.02, "%"),
    "grid-3": Exercise(_second_site, 0.005, ""),
}
