"""A recorded stream in a few numbers, from which streams of any length can be drawn."""

import json

import numpy as np

from sitetrace.core.files import require
from sitetrace.workload.spec import check_traffic, open_stream
from sitetrace.workload.streams import DAY_S, Table, whole
from sitetrace.workload.table import TOKENS

LEAST_REQUESTS, LEAST_WINDOWS = 20, 3
LEAST_CV, MOST_CV = 0.05, 50.0


def fit_traffic(requests: Table, scale_s: float | None = None, begin_hour: float = 0.0) -> dict:
    """Fit the traffic section of a scenario: its hours' swing, from two days on, else gamma gaps.

    The gaps have the recorded spread, or with `scale_s` windows of it their counts' dispersion.
    """
    arrival_s = requests["arrival_s"].to_numpy()
    few = arrival_s.size < LEAST_REQUESTS or arrival_s[-1] == arrival_s[0]
    mend = f"give {LEAST_REQUESTS} that do not arrive at once"
    require(not few, "fit", f"{arrival_s.size} requests are too few to fit", mend)
    gaps_s, span_s = np.diff(arrival_s), arrival_s[-1] - arrival_s[0]
    fitted = {"pattern": "bursty", "rate_per_server": 1 / gaps_s.mean()}
    if (days := int((span_s + gaps_s.mean()) // DAY_S)) >= 2:
        require(scale_s is None, "scale_s", "a day's swing has none", "leave it out")
        of_days_s = arrival_s[arrival_s < arrival_s[0] + days * DAY_S]
        harmonic = 2 * np.exp(2j * np.pi * of_days_s / DAY_S).mean()
        hour = (np.angle(harmonic) / (2 * np.pi) * 24 + begin_hour) % 24
        fitted |= {"pattern": "diurnal", "swing": min(1.0, abs(harmonic)), "peak_hour": hour}
    else:
        cv = gaps_s.std() / gaps_s.mean()
        if scale_s is not None:
            cv = np.sqrt(index_of_dispersion(arrival_s, scale_s))
            mend = f"give so short windows that {LEAST_WINDOWS} fit into {span_s:g} s"
            require(not np.isnan(cv), f"scale_s {scale_s:g} s", "no window", mend)
        fitted["cv"] = np.clip(cv, LEAST_CV, MOST_CV)
    logarithm, lengths = np.log(requests[[*TOKENS]]), {}
    for side, column in zip(("input", "output"), TOKENS, strict=True):
        lengths[f"{side}_median"] = np.exp(logarithm[column].mean())
        lengths[f"{side}_sigma"] = logarithm[column].std(ddof=0)
        lengths[f"{side}_limit"] = int(requests[column].max())
    constant = logarithm.nunique().min() == 1
    lengths["correlation"] = 0.0 if constant else logarithm.corr().iloc[0, 1].clip(-1, 1)
    # six digits, as plain numbers that YAML can write
    text = json.dumps(fitted | {"lengths": lengths}, default=float)
    return json.loads(text, parse_float=lambda number: float(f"{float(number):.6g}"))


def draw_traffic(section: dict, duration_s: float, seed: int, begin_hour: float = 0.0) -> Table:
    """Draw requests of one server from a traffic section of a scenario or of `fit_traffic`."""
    stream = open_stream(check_traffic(section), 1, ".", begin_hour)
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(0,)))
    return whole(stream, duration_s, rng)


def index_of_dispersion(arrival_s: np.ndarray, window_s: float) -> float:
    """Return variance over mean of the counts in windows: 1 for Poisson, NaN for too few."""
    windows = (arrival_s[-1] - arrival_s[0]) // window_s if window_s > 0 else 0
    if windows < LEAST_WINDOWS:
        return np.nan
    ends_s = arrival_s[0] + window_s * np.arange(windows + 1)
    counts = np.diff(np.searchsorted(arrival_s, ends_s))
    return float(counts.var(ddof=1) / counts.mean())
