"""How many racks a row of given limit holds: the paper's rule, and the risk at every number.

METHOD: the rule is that of the oversubscription study in the repository of arXiv:2603.18383; the
risk is ours. Rack traces have shape (racks, n): mean IT power of each step, watts. A random order
of the racks gives a random subset of every size at once, its first n racks; sizes of one order are
nested, so that a further rack never lowers a peak. All subsets of one simulated day share its
traffic, so they are no independent trials of a day.
"""

from fractions import Fraction

import numpy as np
import pandas as pd
import xarray as xr

from sitetrace.core.files import InputError
from sitetrace.planning.series import resample

MINUTES_PER_YEAR = 365 * 24 * 60
CONFIDENCE = 0.95
RESAMPLES = 999


def rack_powers(site: xr.Dataset) -> tuple[np.ndarray, float]:
    """Power of a site's racks, and the step in seconds."""
    found = np.flatnonzero(site["level"].to_numpy() == "rack")
    if not len(found):
        raise InputError("the site keeps no racks: add the level rack to the scenario's `keep`")
    steps = np.diff(site["time"].to_numpy()[:2]) / np.timedelta64(1, "ns")
    racks_w = site["power_w"].isel(unit=found).transpose("unit", "time").to_numpy()
    return np.ascontiguousarray(racks_w, dtype=np.float64), float(Fraction(int(steps[0]), 10**9))


def random_orders(racks: int, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Draw orders of the racks, shape (draws, racks)."""
    return rng.permuted(np.tile(np.arange(racks), (draws, 1)), axis=1)


def subset_peaks(
    racks_w: np.ndarray, orders: np.ndarray, limit_w: float
) -> tuple[np.ndarray, np.ndarray]:
    """Add rack after rack: peak of the sum, and in how many steps it is above a limit."""
    peak_w, above = np.empty(orders.shape), np.zeros(orders.shape, dtype=np.int64)
    for draw, order in enumerate(orders):
        total_w = np.zeros(racks_w.shape[1])
        for size, rack in enumerate(order):
            total_w += racks_w[rack]
            peak_w[draw, size] = total_w.max()
            if peak_w[draw, size] > limit_w:
                above[draw, size] = np.count_nonzero(total_w > limit_w)
    return peak_w, above


def constant_capacity(rack_w: float, limit_w: float) -> dict[str, float]:
    """Count racks of constant power, as `capacity` does."""
    racks = int(limit_w // rack_w)
    peak_kw = racks * rack_w / 1e3
    return {"racks": racks, "peak_p50_kw": peak_kw, "peak_p95_kw": peak_kw}


def capacity(
    racks_w: np.ndarray, limit_w: float, draws: int, rng: np.random.Generator
) -> dict[str, float]:
    """Racks by the paper's rule: the P95 of the peaks of random subsets keeps the limit."""

    def fitting(peak_w: np.ndarray) -> int:
        fits = np.percentile(peak_w, 95.0, axis=0) <= limit_w
        return fits.size if fits.all() else int(np.argmin(fits))

    available = len(racks_w)
    peak_w, _ = subset_peaks(racks_w, random_orders(available, draws, rng), np.inf)
    racks = fitting(peak_w)
    if racks == available:  # then with replacement, up to twice as many
        more = rng.integers(available, size=(draws, 2 * available))
        twice_w, _ = subset_peaks(racks_w, more, np.inf)
        peak_w = np.hstack([peak_w, twice_w[:, available:]])
        racks = fitting(peak_w)
    if not racks:
        return {"racks": 0, "peak_p50_kw": 0.0, "peak_p95_kw": 0.0}
    middle, high = np.percentile(peak_w[:, racks - 1], [50.0, 95.0]) / 1e3
    return {"racks": racks, "peak_p50_kw": float(middle), "peak_p95_kw": float(high)}


def by_terms(
    racks_w: np.ndarray, nameplate_w: float, printed_w: float, limit_w: float, pue: float,
    draws: int, seed: int,
) -> pd.DataFrame:  # fmt: skip
    """Count racks by nameplate, mean and trace: as published, by IT power, with the PUE for all."""
    traces, mean = {}, float(racks_w.mean())
    for factor in (1.0, pue):
        rng = np.random.default_rng(seed)
        traces[factor] = capacity(factor * racks_w, limit_w, draws, rng)
    found, terms = {}, {"as published": (printed_w, pue * mean, 1.0)}
    terms["IT power for all"] = (nameplate_w, mean, 1.0)
    terms["with PUE for all"] = (pue * nameplate_w, pue * mean, pue)
    for name, (plate_w, constant_w, factor) in terms.items():
        found[name, "nameplate"] = constant_capacity(plate_w, limit_w)
        found[name, "mean"] = constant_capacity(constant_w, limit_w)
        found[name, "generated"] = traces[factor]
    return pd.DataFrame.from_dict(found, "index").rename_axis(["terms", "method"])


def day_peaks(
    racks_w: np.ndarray,
    dt_s: float,
    limit_w: float,
    steps_s: list[float],
    draws: int,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Peak and share of time above the limit of random subsets of one day's racks, by step."""
    orders = random_orders(len(racks_w), draws, rng)
    draw, size = (each.ravel() for each in np.indices(orders.shape))
    tables = []
    for step_s in steps_s:
        means_w = np.ascontiguousarray(resample(racks_w.T, dt_s, step_s).T)
        peak_w, above = subset_peaks(means_w, orders, limit_w)
        columns = {"peak_w": peak_w.ravel(), "share_above": above.ravel() / means_w.shape[1]}
        tables.append(pd.DataFrame({"step_s": step_s, "draw": draw, "racks": size + 1} | columns))
    return pd.concat(tables, ignore_index=True)


def risk_curve(peaks: pd.DataFrame, limit_w: float) -> pd.DataFrame:
    """Probability that a day's peak exceeds the limit, by step and number of racks."""
    # peaks: rows of `day_peaks` with a column `day`
    from scipy.stats import beta, binomtest

    marked = peaks.assign(over=peaks["peak_w"] > limit_w)
    daily = marked.groupby(["step_s", "racks", "day"])[["over", "share_above"]].mean()
    over, minutes = (daily[name].unstack("day") for name in ("over", "share_above"))
    minutes = minutes * MINUTES_PER_YEAR
    probability, days, alpha = over.mean(axis=1), over.shape[1], 1.0 - CONFIDENCE
    # Clopper and Pearson's interval with one trial a day, which counts by the share of its subsets
    # that exceed: the sum need not be whole. It is on the safe side.
    on = over.sum(axis=1)
    low = np.nan_to_num(beta.ppf(alpha / 2, on, days - on + 1))
    high = np.nan_to_num(beta.ppf(1 - alpha / 2, on + 1, days - on), nan=1.0)
    # Wilson's interval of the first day alone, its subsets as trials: the narrow one.
    first, draws = over.iloc[:, 0], marked["draw"].nunique()
    counts = (first * draws).round().astype(int)
    wilson = [binomtest(k, draws).proportion_ci(CONFIDENCE, "wilson") for k in counts]
    first_low, first_high = np.transpose(wilson)
    minutes_low, minutes_high = _bootstrap(minutes.to_numpy())
    table = {
        "probability": probability,
        "low": np.minimum(low, probability),
        "high": np.maximum(high, probability),
        "first_day": first,
        "first_low": np.minimum(first_low, first),  # rounding
        "first_high": np.maximum(first_high, first),
        "minutes_a_year": minutes.mean(axis=1),
        "minutes_low": minutes_low,
        "minutes_high": minutes_high,
    }
    return pd.DataFrame(table).reset_index()


def _bootstrap(days: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Percentile interval of the mean over days; a day is kept whole, its hours are not alike."""
    from scipy.stats import bootstrap

    if days.shape[1] < 2:
        return np.full(len(days), np.nan), np.full(len(days), np.nan)
    found = bootstrap(
        (days,), np.mean, axis=1, n_resamples=RESAMPLES, confidence_level=CONFIDENCE,
        method="percentile", rng=np.random.default_rng(0),
    ).confidence_interval  # fmt: skip
    return found.low, found.high


def peak_spread(peaks: pd.DataFrame) -> pd.DataFrame:
    """Split the spread of the peak into that of subsets of one day and that between days (kW)."""
    # Subsets without replacement overlap: at n of N racks the sum of the rest is fixed too, so the
    # spread between subsets falls to nothing at N. That is a property of the rule, not of racks.
    parts = peaks.groupby(["step_s", "racks", "day"])["peak_w"]
    within = (parts.var() / 1e6).groupby(["step_s", "racks"]).mean() ** 0.5
    fresh = peaks.groupby(["step_s", "racks", "draw"])["peak_w"].var() / 1e6
    between = fresh.groupby(["step_s", "racks"]).mean() ** 0.5
    mean_kw = peaks.groupby(["step_s", "racks"])["peak_w"].mean() / 1e3
    columns = {"mean_kw": mean_kw, "within_kw": within, "between_kw": between}
    return pd.DataFrame(columns).reset_index()


def most_racks(curve: pd.DataFrame, probability: float, column: str = "probability") -> pd.Series:
    """Read a risk curve: how many racks keep the risk, by step; column `high` is the safe side."""
    kept = curve["racks"].where(curve[column] <= probability, 0)
    return kept.groupby(curve["step_s"]).max()
