"""Exercises on oversubscription: racks by nameplate, the paper's rule, and the next day."""

from __future__ import annotations

import numpy as np

from sitebook.old.coursework.exercise import Exercise
from sitebook.old.coursework.sites import site_day
from sitetrace.studies.capacity import rack_powers, random_orders, subset_peaks

RACKS, SERVERS_PER_RACK, RATE, BUSIER = 12, 2, 0.1, 1.25
LIMIT_W, DRAWS, CHOSEN, PERCENTILE = 7000.0, 200, 10, 95


def _racks_w(seed: int, busier: bool = False) -> np.ndarray:
    rate = RATE * BUSIER if busier else RATE
    day = site_day(RACKS, SERVERS_PER_RACK, rate, seed + busier, "rack", 1.0)
    return rack_powers(day)[0]


def _peaks_w(seed: int, busier: bool = False) -> np.ndarray:
    orders = random_orders(RACKS, DRAWS, np.random.default_rng(seed))
    return subset_peaks(_racks_w(seed, busier), orders, np.inf)[0]


def _by_nameplate(seed: int) -> tuple[float, dict[str, float]]:
    day = site_day(RACKS, SERVERS_PER_RACK, RATE, seed, "rack", 1.0)
    nameplate_w, racks_w = float(day["nameplate_w"][0]), _racks_w(seed)
    return LIMIT_W // nameplate_w, {
        "racks come whole: round down": LIMIT_W / nameplate_w,
        "that is by the mean power of a rack": LIMIT_W // racks_w.mean(),
        "that is by the peaks that racks have seen: take what is printed on them": LIMIT_W
        // racks_w.max(axis=1).mean(),
    }


def _rule_kw(seed: int) -> tuple[float, dict[str, float]]:
    peaks_kw, racks_kw = _peaks_w(seed) / 1e3, _racks_w(seed) / 1e3
    chosen_kw = peaks_kw[:, CHOSEN - 1]
    return np.percentile(chosen_kw, PERCENTILE), {
        "that is the median of the subsets": np.median(chosen_kw),
        "that is one rack more: the first column is one rack": np.percentile(
            peaks_kw[:, CHOSEN], PERCENTILE
        ),
        "that is the greatest of the subsets": chosen_kw.max(),
        "that is the percentile over the seconds of the first racks: take it over peaks": (
            np.percentile(racks_kw[:CHOSEN].sum(axis=0), PERCENTILE)
        ),
    }


def _next_day(seed: int) -> tuple[float, dict[str, float]]:
    first_w, next_w = (_peaks_w(seed, busier)[:, CHOSEN - 1] for busier in (False, True))
    held_w = np.percentile(first_w, PERCENTILE)
    right = 100 * (next_w > held_w).mean()
    return right, {
        "that is what the rule promises, from the first day alone": 100.0 - PERCENTILE,
        "that is the share that stays below": 100 - right,
        "that holds the next day against the median: take the 95th percentile": 100
        * (next_w > np.median(first_w)).mean(),
    }


EXERCISES = {
    "oversubscription-1": Exercise(_by_nameplate, 0.1, "racks"),
    "oversubscription-2": Exercise(_rule_kw, 0.01, "kW"),
    "oversubscription-3": Exercise(_next_day, 1.0, "%"),
}
