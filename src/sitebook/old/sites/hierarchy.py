"""How power gets smoother from server to site, and why that ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sitetrace.planning.series import blocks, mean_w, par, peak_w, resample, step_of

if TYPE_CHECKING:
    import xarray as xr

LEVELS = ("server", "rack", "row", "site")
FINE_S, QUARTER_S = 1.0, 900.0
COLUMNS = ("mean_kw", "sd_kw", "cov", "par_1s", "par_15min")


def cov(power_w: np.ndarray) -> float:
    """Coefficient of variation: standard deviation over mean."""
    mean = mean_w(power_w)
    return float(np.std(power_w, dtype=np.float64)) / mean if mean else np.nan


def paper_diversity(total_peak_w: float, part_peaks_w: np.ndarray) -> float:
    """Diversity factor as arXiv:2603.18383 has it: never above the coincidence factor."""
    return float(total_peak_w / (len(part_peaks_w) * np.max(part_peaks_w)))


def peaks_of(site: xr.Dataset, level: str) -> np.ndarray:
    """Find the peak of each unit of a level."""
    return np.max([block.max(axis=0) for block in blocks(site, level)], axis=0)


@dataclass(frozen=True)
class Moments:
    """First and second moments of the servers' power: all that sums of servers need."""

    mean_w: np.ndarray
    covariance_w2: np.ndarray

    def of(self, servers: np.ndarray) -> Moments:
        """Restrict to some servers."""
        return Moments(self.mean_w[servers], self.covariance_w2[np.ix_(servers, servers)])

    def cov_of_sum(self) -> float:
        """Coefficient of variation of the sum of all servers."""
        return float(np.sqrt(self.covariance_w2.sum()) / self.mean_w.sum())


@dataclass(frozen=True)
class Parts:
    """Variance of a server's power, by what becomes of it when servers are summed."""

    mean_w: float
    independent_w2: float
    shared_w2: float

    @property
    def floor(self) -> float:
        """Coefficient of variation to which a sum of ever more servers flattens."""
        return float(np.sqrt(max(self.shared_w2, 0.0)) / self.mean_w)

    def cov_of(self, servers: np.ndarray | int) -> np.ndarray:
        """Coefficient of variation of a sum of servers."""
        variance = self.independent_w2 / np.asarray(servers, dtype=float) + self.shared_w2
        return np.sqrt(np.maximum(variance, 0.0)) / self.mean_w


def moments(site: xr.Dataset, non_gpu_w: float = 0.0) -> Moments:
    """Moments of the servers' power, read piece by piece."""
    total, products, count, origin = 0.0, 0.0, 0, None
    for block in blocks(site, "server"):
        # about the first block's mean: squares of whole watts would lose digits
        origin = block.mean(axis=0, dtype=np.float64) if origin is None else origin
        away = block - origin
        total, count = total + away.sum(axis=0), count + len(away)
        products = products + away.T @ away
    away_mean = total / count
    covariance = products / count - np.outer(away_mean, away_mean)
    return Moments(origin + away_mean - non_gpu_w, covariance)


def separate(servers: Moments) -> Parts:
    """Separate the shared from the independent variance of servers alike.

    The mean covariance of two servers is what they share; the rest of a variance is its own.
    """
    n, own = len(servers.mean_w), float(np.trace(servers.covariance_w2))
    shared = (float(servers.covariance_w2.sum()) - own) / (n * (n - 1))
    return Parts(float(servers.mean_w.mean()), own / n - shared, shared)


def cov_by_servers(
    servers: Moments, sizes: list[int], subsets: int, rng: np.random.Generator
) -> pd.DataFrame:
    """Coefficient of variation of sums of randomly chosen servers."""
    n_all = len(servers.mean_w)
    single = float(np.mean(np.sqrt(np.diag(servers.covariance_w2)) / servers.mean_w))
    rows = []
    for size in (size for size in sizes if size <= n_all):
        found = [
            servers.of(rng.choice(n_all, size, replace=False)).cov_of_sum() for _ in range(subsets)
        ]
        low, high = np.percentile(found, [5, 95])
        row = {"servers": size, "cov": float(np.mean(found)), "cov_p5": low, "cov_p95": high}
        rows.append(row | {"theory": single / np.sqrt(size)})
    return pd.DataFrame(rows)


def power_law(table: pd.DataFrame) -> dict[str, float]:
    """Fit one slope to a fall that has none: ln CoV against ln servers, as the paper does."""
    from scipy.stats import linregress
    from sklearn.metrics import r2_score

    log_servers = np.log(table["servers"].to_numpy())
    line = linregress(log_servers, np.log(table["cov"]))
    fitted = np.exp(line.intercept + line.slope * log_servers)
    r2 = float(r2_score(table["cov"], fitted))
    return {"intercept": float(line.intercept), "slope": float(line.slope), "r2": r2}


def law_through_ends(table: pd.DataFrame) -> Parts:
    """Separate shared from independent variance by the two ends of a printed curve."""
    few, many = table["servers"].iloc[[0, -1]]
    first, last = table["cov"].iloc[[0, -1]] ** 2
    independent = (first - last) / (1 / few - 1 / many)
    return Parts(1.0, float(independent), float(last - independent / many))


def by_unit(site: xr.Dataset, non_gpu_w: float = 0.0) -> pd.DataFrame:
    """Mean, spread and peak-to-average ratio of every unit that was kept."""
    kept = [level for level in LEVELS if (site["level"] == level).any()]
    tables = [_of_level(site, level, non_gpu_w if level == "server" else 0.0) for level in kept]
    return pd.concat(tables, keys=kept, names=["level", "unit"])[list(COLUMNS)]


def _of_level(site: xr.Dataset, level: str, without_w: float) -> pd.DataFrame:
    """Pass once over the units of a level."""
    dt_s, count, total, squares, origin, peaks, quarters = step_of(site), 0, 0.0, 0.0, None, [], []
    for block in blocks(site, level, QUARTER_S):
        fine_w = resample(block, dt_s, FINE_S) - without_w
        origin = fine_w.mean(axis=0) if origin is None else origin
        away = fine_w - origin
        count, total = count + len(away), total + away.sum(axis=0)
        squares = squares + np.einsum("tu,tu->u", away, away)
        peaks.append(fine_w.max(axis=0))
        quarters.append(resample(fine_w, FINE_S, QUARTER_S))
    mean_w = origin + total / count
    sd_w = np.sqrt(np.maximum(squares / count - (total / count) ** 2, 0.0))
    table = pd.DataFrame({"mean_kw": mean_w / 1e3, "sd_kw": sd_w / 1e3, "cov": sd_w / mean_w})
    table["par_1s"] = np.max(peaks, axis=0) / mean_w
    return table.assign(par_15min=np.concatenate(quarters).max(axis=0) / mean_w)


def levels(units: pd.DataFrame) -> pd.DataFrame:
    """Median unit of each level, from server to site."""
    grouped = units.groupby("level", sort=False)
    table = grouped.median()
    table.insert(0, "units", grouped.size())
    return table.reset_index()


def par_by_resolution(power_w: np.ndarray, dt_s: float, steps_s: list[float]) -> pd.DataFrame:
    """Peak and peak-to-average ratio of means over ever longer steps."""
    means = {step_s: resample(power_w, dt_s, step_s) for step_s in steps_s}
    rows = [
        {"step_s": step_s, "peak_kw": peak_w(series) / 1e3, "par": par(series)}
        for step_s, series in means.items()
    ]
    return pd.DataFrame(rows)
