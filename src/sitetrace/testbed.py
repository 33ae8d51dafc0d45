"""A simulated server of known truth: it shows that a method works, never what hardware does.

A fit should find again the law of its steps, the states, their power, the effects and the meter.
"""

import tempfile
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd

from sitetrace.core.files import named, replacing, require
from sitetrace.core.types import PowerTrace, Run, running_count
from sitetrace.measured.rundir import write_run
from sitetrace.meter import Meter, remembered
from sitetrace.power.timeline.surface import Surface
from sitetrace.serving.activity import activity_table
from sitetrace.serving.engine import Server, simulate
from sitetrace.workload.streams import LogNormalLengths

__all__ = ["run"]

DT = Fraction(1, 4)
EPOCH_S = 1_700_000_000.0
BEFORE_S, AFTER_S, DURATION_S = 20.0, 8.0, 180.0  # recorded around the load; how long it arrives
# state of a bin: idle, prefill, or else a band of active requests; where these are on the surface
STATES = ("idle", "decode 1 to 3", "decode 4 to 8", "decode 9 and more", "prefill")
BUSY_SHARE, PREFILL_SHARE = 0.5, 0.2
BAND_EDGES, BAND_CENTERS, PREFILL_TOKENS = (4, 9), (2, 6, 12), 500
THERMAL_S, ACTIVE_IDLE_S = 60.0, 5.0
RATES = {"poisson": 2.5, "poisson_low": 1.0, "bursty": 2.0, "effects": 2.5}  # requests a second
SURFACE = Surface(80.0, 240.0, 9.0, 520.0, 300.0)


@dataclass(frozen=True)
class Testbed:
    """The truth of a simulated server: its engine, power and meter, and the effects switched on."""

    __test__ = False  # no test class, whatever its name begins with

    server: Server = field(default_factory=Server)
    surface: Surface = SURFACE  # the mean of a state is the surface at its centre
    meter: Meter = field(default_factory=Meter)
    sigma_w: tuple[float, ...] = (0.3, 4.0, 4.0, 5.0, 14.0)  # within each of STATES
    phi: float = 0.0  # lag-one autocorrelation of power within a state
    drift_w: float = 0.0  # extra after a minute and more of warming up, saturating
    active_idle_w: float = 0.0  # extra just after work, decaying over some seconds
    cap_w: float = np.inf  # throttling: no bin draws more

    @property
    def mean_w(self) -> np.ndarray:
        """Mean power of each state of `STATES`, watts, shape (5,)."""
        batch, tokens = np.array([*BAND_CENTERS, 6]), np.array([0, 0, 0, PREFILL_TOKENS])
        return np.r_[self.surface.idle_w, self.surface.step_power_w(batch, tokens)]


ROUGH = Meter(window_s=0.1, lag_s=0.05, jitter_s=0.002, noise_w=1.0, quantum_w=0.1)
EFFECTS = Testbed(meter=ROUGH, phi=0.5, drift_w=12.0, active_idle_w=8.0, cap_w=430.0)


def run(name: str, seed: int) -> Run:
    """Simulate one run of the testbed's data set.

    Parameters
    ----------
    name : str
        ``poisson``, ``poisson_low``, ``bursty`` or ``effects`` (all effects switched on).
    seed : int
        Of requests and noise.

    Returns
    -------
    Run
        As read from its run directory.
    """
    named("run of the testbed", name, RATES)
    with tempfile.TemporaryDirectory() as folder:
        return _write(Path(folder) / name, seed)


def write_dataset(out: Path | str, seed: int) -> list[Path]:
    """Write the testbed's runs in the measured form, each with its ``truth.csv``, to a folder."""
    out = Path(out)
    require(not out.exists(), out, "is there already", "name a new folder")
    with replacing(out) as folder:
        folder.mkdir()
        for name in RATES:
            _write(folder / name, seed)
    return [out / name for name in RATES]


def _write(folder: Path, seed: int) -> Run:
    name, info = folder.name, {"model": "testbed-8b", "hardware": "testbed", "tensor_parallel": 1}
    rng = np.random.default_rng([seed, [*RATES].index(name)])
    requests = _drawn_requests(RATES[name], 2.0 if name == "bursty" else 1.0, rng)
    tables = simulate_run(EFFECTS if name == "effects" else Testbed(), requests, rng)
    info["source"] = "simulated by sitetrace.testbed on sitetrace's own engine; no measurement"
    tables["power"]["time_s"] = tables["power"]["time_s"].map("{:.3f}".format)
    written = write_run(folder, info, tables["requests"], tables["power"], tables["engine"])
    tables["truth"].to_csv(folder / "truth.csv", index=False)
    return written


def _drawn_requests(rate_per_s: float, cv: float, rng: np.random.Generator) -> pd.DataFrame:
    # a law of its own: shipped models name the testbed's recordings by digests, which must stay
    shape, arrival_s = cv**-2.0, np.zeros(1)
    while arrival_s[-1] < DURATION_S:
        count = int(1.1 * rate_per_s * (DURATION_S - arrival_s[-1])) + 16
        gaps_s = rng.gamma(shape, 1 / (shape * rate_per_s), count)
        arrival_s = np.append(arrival_s, arrival_s[-1] + np.cumsum(gaps_s))
    arrival_s = arrival_s[1:][arrival_s[1:] < DURATION_S]
    table, law = {"arrival_s": (EPOCH_S + arrival_s.round(6)).round(3)}, LogNormalLengths()
    for side in ("input", "output"):
        median, sigma, most = (getattr(law, f"{side}_{k}") for k in ("median", "sigma", "limit"))
        tokens = rng.lognormal(np.log(median), sigma, arrival_s.size)
        table[f"{side}_tokens"] = np.clip(tokens, 1, most).astype(np.int64)
    return pd.DataFrame(table)


def simulate_run(testbed: Testbed, requests: pd.DataFrame, rng) -> dict[str, pd.DataFrame]:
    """Serve requests and record the server as a measured one is; beside it ``truth`` by bins."""
    timeline = simulate(requests, testbed.server)
    fate, segments = timeline.requests, timeline.segments
    start_s = float(requests["arrival_s"].iloc[0]) - BEFORE_S
    stop_s = float(fate["end_s"].max()) + AFTER_S
    ends = start_s + np.arange(1, int((stop_s - start_s) / DT) + 1) * float(DT)
    table = activity_table(timeline, ends, float(DT))
    power_w = true_power_w(testbed, table, rng)
    ttft_s = fate["first_token_s"] - fate["arrival_s"] + testbed.server.overhead_s
    # what a sampler of the engine's metrics would see
    arrived, started, answered = (
        np.searchsorted(np.sort(fate[name]), ends, side="right")
        for name in ("arrival_s", "start_s", "first_token_s")
    )
    done = np.searchsorted(segments["end_s"].to_numpy(), ends, side="right")
    amounts = segments[["prefill_tokens", "decode_tokens", "steps"]].cumsum().to_numpy()
    prompted, decoded, steps = np.vstack([np.zeros(3), amounts])[done].T.astype(int)
    counters = {"time_s": ends, "running": running_count(timeline, ends)}
    counters |= {"waiting": arrived - started, "prompt_tokens": prompted}
    counters |= {"generation_tokens": decoded + answered, "steps": steps}
    power = testbed.meter.read(PowerTrace(start_s, DT, power_w), rng)
    return {
        "requests": requests.assign(ttft_s=ttft_s.round(4)),
        "power": power.round({"time_s": 3, "power_w": 2}),
        "engine": pd.DataFrame(counters),
        "truth": pd.DataFrame({"time_s": ends, "state": true_states(table), "power_w": power_w}),
    }


def true_states(table: pd.DataFrame) -> np.ndarray:
    """State of each bin by what the engine does in it."""
    band = 1 + np.searchsorted(BAND_EDGES, table["active"].to_numpy(), side="right")
    state = np.where(table["prefill_share"] >= PREFILL_SHARE, len(STATES) - 1, band)
    return np.where(table["busy_share"] < BUSY_SHARE, 0, state)


def true_power_w(testbed: Testbed, table: pd.DataFrame, rng: np.random.Generator) -> np.ndarray:
    """Power of each bin: the state's Gaussian and the effects that are switched on."""
    state = true_states(table)
    noise = remembered(rng.standard_normal(state.size), testbed.phi)
    power_w = testbed.mean_w[state] + np.asarray(testbed.sigma_w)[state] * noise
    worked_s = np.cumsum(table["busy_share"].to_numpy()) * float(DT)
    warmed_w = -np.expm1(-worked_s / THERMAL_S) * testbed.drift_w
    fading_w = testbed.active_idle_w * np.exp(-table["quiet_for_s"].to_numpy() / ACTIVE_IDLE_S)
    return np.minimum(power_w + np.where(state > 0, warmed_w, fading_w), testbed.cap_w)
