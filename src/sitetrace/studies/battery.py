"""What a power cap or a battery buys at a row whose power now and then exceeds its limit.

The trace is cut from outside: what the servers would do under a cap, and what their users would
wait, is not simulated. `capped` gives the two ends, all that is cut is lost or all of it is done
later. A battery gives power above the limit and recharges below it as fast as it may; energy is
lost while charging. The day is taken to repeat.
"""

import numpy as np
import pandas as pd
from numba import njit

from sitetrace.core.files import InputError

J_PER_KWH = 3.6e6
SHARE_HELD = 0.95
EFFICIENCY = 0.9  # of a lithium-ion battery with its converters, there and back; an assumption


def needed_kwh(
    power_w: np.ndarray, dt_s: float, limit_w: float, rate_w: float, efficiency: float = EFFICIENCY
) -> float:
    """Least battery that keeps a row below its limit, day after day like this one."""
    # infinite if its power (in and out) is too small, or if it is not full again a day later
    _check(rate_w, efficiency)
    power_w = np.ascontiguousarray(power_w, dtype=np.float64)
    return _deepest_j(power_w, limit_w, rate_w, dt_s, efficiency) / J_PER_KWH


def with_battery(
    power_w: np.ndarray,
    dt_s: float,
    limit_w: float,
    store_kwh: float,
    rate_w: float,
    efficiency: float = EFFICIENCY,
) -> pd.DataFrame:
    """Run a battery, full at first: what the row draws from the grid, and what is left of it."""
    _check(rate_w, efficiency)
    power_w = np.ascontiguousarray(power_w, dtype=np.float64)
    store_j = store_kwh * J_PER_KWH
    grid_w, left_j = _discharge(power_w, limit_w, store_j, rate_w, dt_s, efficiency)
    time_s = np.arange(power_w.size) * dt_s  # of each step's begin; energy is that at its end
    columns = {"power_w": power_w, "grid_w": grid_w, "stored_kwh": left_j / J_PER_KWH}
    return pd.DataFrame({"time_s": time_s} | columns)


def _check(rate_w: float, efficiency: float) -> None:
    """Refuse batteries that there are not."""
    if not 0.0 < efficiency <= 1.0:
        raise InputError(f"efficiency {efficiency:g}: say a number above 0 and at most 1")
    if rate_w < 0.0:
        raise InputError(f"rate {rate_w:g} W: say the battery's power, 0 or more")


def capped(power_w: np.ndarray, dt_s: float, limit_w: float) -> dict[str, float]:
    """Shave a row's power at its limit: how often, how much and how long it is above."""
    power_w = np.asarray(power_w, dtype=np.float64)
    over_w = np.maximum(power_w - limit_w, 0.0)
    above = over_w > 0.0
    edges = np.flatnonzero(np.diff(np.concatenate([[False], above, [False]])))
    spells = (edges[1::2] - edges[::2]) * dt_s
    # done later as soon as the limit allows: the most that is ever owed, as of a perfect battery
    backlog_kwh = needed_kwh(power_w, dt_s, limit_w, np.inf, 1.0)
    return {
        "share_pct": 100.0 * float(above.mean()),
        "greatest_kw": float(over_w.max()) / 1e3,
        "longest_s": float(spells.max(initial=0.0)),
        "cut_kwh": float(over_w.sum()) * dt_s / J_PER_KWH,
        "cut_pct": 100.0 * float(over_w.sum() / power_w.sum()),
        "backlog_kwh": backlog_kwh,
        "wait_s": backlog_kwh * J_PER_KWH / limit_w,
    }


def day_needs(
    racks_w: np.ndarray,
    dt_s: float,
    limit_w: float,
    rates_w: list[float],
    orders: np.ndarray,
    efficiency: float = EFFICIENCY,
) -> pd.DataFrame:
    """Least battery of each power for random subsets of one day's racks, see `random_orders`."""
    rows = []
    for draw, order in enumerate(orders):
        total_w = np.zeros(racks_w.shape[1])
        for size, rack in enumerate(order, start=1):
            total_w += racks_w[rack]
            over_w = total_w.max() - limit_w
            for rate_w in rates_w:
                need = 0.0 if over_w <= 0.0 else np.inf
                if 0.0 < over_w <= rate_w:
                    need = needed_kwh(total_w, dt_s, limit_w, rate_w, efficiency)
                rows.append((draw, size, rate_w, need))
    return pd.DataFrame(rows, columns=["draw", "racks", "rate_w", "needed_kwh"])


def racks_held(needs: pd.DataFrame, stores_kwh: list[float]) -> pd.DataFrame:
    """Count racks that a battery carries over the day, in 95% of all subsets and days."""
    rows = []
    for store_kwh in stores_kwh:
        held = (needs["needed_kwh"] <= store_kwh).groupby([needs["rate_w"], needs["racks"]]).mean()
        keeps = (held >= SHARE_HELD).groupby("rate_w").cumprod()
        racks = keeps.groupby("rate_w").sum()
        rows += [(rate_w, store_kwh, int(most)) for rate_w, most in racks.items()]
    table = pd.DataFrame(rows, columns=["rate_w", "store_kwh", "racks"])
    return table.sort_values(["rate_w", "store_kwh"], ignore_index=True)


@njit(cache=True, error_model="numpy")
def _deepest_j(power_w, limit_w, rate_w, dt_s, efficiency):
    """Greatest discharge of a battery without a bottom over a day that repeats; inf if endless."""
    depth_j, deepest_j, before_j = 0.0, 0.0, 0.0
    for _ in range(2):
        before_j = depth_j
        for power in power_w:
            over_w = power - limit_w
            if over_w > rate_w:
                return np.inf
            if over_w > 0.0:
                depth_j += over_w * dt_s
                deepest_j = max(deepest_j, depth_j)
            else:
                depth_j = max(0.0, depth_j - efficiency * min(-over_w, rate_w) * dt_s)
    return np.inf if depth_j > before_j * (1.0 + 1e-9) + 1e-6 else deepest_j


@njit(cache=True, error_model="numpy")
def _discharge(power_w, limit_w, store_j, rate_w, dt_s, efficiency):
    """Grid power and stored energy after each step; the battery is full at first."""
    grid_w, left_j = np.empty(power_w.size), np.empty(power_w.size)
    stored_j = store_j
    for i in range(power_w.size):
        over_w = power_w[i] - limit_w
        if over_w > 0.0:
            flow_w = min(over_w, rate_w, stored_j / dt_s)
            stored_j = max(0.0, stored_j - flow_w * dt_s)
            grid_w[i] = power_w[i] - flow_w
        else:
            flow_w = min(-over_w, rate_w, (store_j - stored_j) / (efficiency * dt_s))
            stored_j = min(store_j, stored_j + efficiency * flow_w * dt_s)
            grid_w[i] = power_w[i] + flow_w
        left_j[i] = stored_j
    return grid_w, left_j
