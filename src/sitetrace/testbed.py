"""A simulated server of known truth: it shows that a method works, never what hardware does.

It stands on our own engine. Known, and to be found again by a fit, are the law of its steps, the
state of each bin, the power of each state, the effects that are switched on, and the meter.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd

from sitetrace.core.files import InputError, replacing
from sitetrace.core.types import PowerTrace, Run, Timeline, running_count
from sitetrace.measured.rundir import write_run
from sitetrace.meter import Meter, remembered
from sitetrace.power.timeline.surface import Surface
from sitetrace.serving.activity import activity_table
from sitetrace.serving.engine import Server, simulate
from sitetrace.workload.streams import bursty, poisson

__all__ = ["Testbed", "run", "write_dataset"]

DT = Fraction(1, 4)
EPOCH_S = 1_700_000_000.0
# what is recorded before the first arrival and after the last token, and how long requests arrive
BEFORE_S, AFTER_S, DURATION_S = 20.0, 8.0, 180.0
# The state of a bin: idle where less than half of it is work, prefill where a fifth of it is; else
# a band of the active requests. Where each is centred on the surface.
STATES = ("idle", "decode 1 to 3", "decode 4 to 8", "decode 9 and more", "prefill")
BUSY_SHARE, PREFILL_SHARE = 0.5, 0.2
BAND_EDGES, BAND_CENTERS, PREFILL_TOKENS = (4, 9), (2, 6, 12), 500
THERMAL_S, ACTIVE_IDLE_S = 60.0, 5.0
# mean requests a second of each run of the data set
RATES = {"poisson": 2.5, "poisson_low": 1.0, "bursty": 2.0, "effects": 2.5}
SURFACE = Surface(80.0, 240.0, 9.0, 520.0, 300.0)


@dataclass(frozen=True)
class Testbed:
    """The truth of a simulated server.

    Parameters
    ----------
    server : Server
        Its engine.
    surface : Surface
        Its power by what the engine does; a state's mean is the surface at the state's centre.
    meter : Meter
        How its power is printed.
    sigma_w : tuple of float
        Standard deviation within each of the five states of `STATES`, watts.
    phi : float
        Lag-one autocorrelation of power within a state.
    drift_w : float
        Extra power after a minute and more of warming up, watts (saturating).
    active_idle_w : float
        Extra idle power just after work, watts, decaying over some seconds.
    cap_w : float
        Throttling: no bin draws more, watts.
    """

    __test__ = False  # no test class, whatever its name begins with

    server: Server = field(default_factory=Server)
    surface: Surface = SURFACE
    meter: Meter = field(default_factory=Meter)
    sigma_w: tuple[float, ...] = (0.3, 4.0, 4.0, 5.0, 14.0)
    phi: float = 0.0
    drift_w: float = 0.0
    active_idle_w: float = 0.0
    cap_w: float = np.inf

    @property
    def mean_w(self) -> np.ndarray:
        """Mean power of each state of `STATES`, watts, shape (5,)."""
        decode_w = self.surface.step_power_w(np.array(BAND_CENTERS), np.zeros(3))
        prefill_w = self.surface.step_power_w(np.array([6]), np.array([PREFILL_TOKENS]))
        return np.concatenate([[self.surface.idle_w], decode_w, prefill_w])


EFFECTS = Testbed(
    meter=Meter(window_s=0.1, lag_s=0.05, jitter_s=0.002, noise_w=1.0, quantum_w=0.1),
    phi=0.5,
    drift_w=12.0,
    active_idle_w=8.0,
    cap_w=430.0,
)


def run(name: str, seed: int) -> Run:
    """Simulate one run of the testbed's data set.

    Parameters
    ----------
    name : str
        ``poisson``, ``poisson_low``, ``bursty`` or ``effects`` (all effects switched on).
    seed : int
        Seed of requests and noise.

    Returns
    -------
    Run
        As read from its run directory.

    Raises
    ------
    InputError
        If the data set has no run of that name.
    """
    cases = _cases(seed)
    if name not in cases:
        raise InputError(f"testbed has no run {name!r}: choose one of {', '.join(cases)}")
    with tempfile.TemporaryDirectory() as folder:
        return _write(Path(folder) / name, *cases[name])


def write_dataset(out: Path | str, seed: int) -> list[Path]:
    """Write the testbed's runs in the measured form, each with its ``truth.csv``.

    Parameters
    ----------
    out : Path or str
        Folder to be made.
    seed : int
        Seed of requests and noise.

    Returns
    -------
    list of Path
        The run directories.

    Raises
    ------
    InputError
        If the folder is there already or cannot be written.
    """
    out = Path(out)
    if out.exists():
        raise InputError(f"{out}: is there already: name a new folder")
    cases = _cases(seed)
    with replacing(out) as folder:
        folder.mkdir()
        for name, case in cases.items():
            _write(folder / name, *case)
    return [out / name for name in cases]


def _cases(seed: int) -> dict[str, tuple[Testbed, pd.DataFrame, np.random.Generator]]:
    """Testbed, requests and randomness of each run of the data set."""
    cases = {}
    for index, (name, rate) in enumerate(RATES.items()):
        rng = np.random.default_rng([seed, index])
        if name == "bursty":
            requests = bursty(rate, 2.0, DURATION_S, rng)
        else:
            requests = poisson(rate, DURATION_S, rng)
        requests = requests.assign(arrival_s=(EPOCH_S + requests["arrival_s"]).round(3))
        cases[name] = (EFFECTS if name == "effects" else Testbed(), requests, rng)
    return cases


def _write(folder: Path, testbed: Testbed, requests: pd.DataFrame, rng: np.random.Generator) -> Run:
    """Simulate a run and write it in the measured form, with its truth."""
    tables = simulate_run(testbed, requests, rng)
    info = {
        "model": "testbed-8b",
        "hardware": "testbed",
        "tensor_parallel": 1,
        "source": "simulated by sitetrace.testbed on sitetrace's own engine; no measurement",
    }
    tables["power"]["time_s"] = tables["power"]["time_s"].map("{:.3f}".format)
    run = write_run(folder, info, tables["requests"], tables["power"], tables["engine"])
    tables["truth"].to_csv(folder / "truth.csv", index=False)
    return run


def simulate_run(
    testbed: Testbed, requests: pd.DataFrame, rng: np.random.Generator
) -> dict[str, pd.DataFrame]:
    """Serve requests and record the server as a measured one is; beside it ``truth`` by bins."""
    timeline = simulate(requests, testbed.server)
    start_s = float(requests["arrival_s"].iloc[0]) - BEFORE_S
    stop_s = float(timeline.requests["end_s"].max()) + AFTER_S
    ends = start_s + np.arange(1, int((stop_s - start_s) / DT) + 1) * float(DT)
    table = activity_table(timeline, ends, float(DT))
    power_w = true_power_w(testbed, table, rng)
    power = testbed.meter.read(PowerTrace(start_s, DT, power_w), rng)
    fate = timeline.requests
    ttft_s = fate["first_token_s"] - fate["arrival_s"] + testbed.server.overhead_s
    return {
        "requests": requests.assign(ttft_s=ttft_s.round(4)),
        "power": power.round({"time_s": 3, "power_w": 2}),
        "engine": _counters(timeline, ends),
        "truth": pd.DataFrame({"time_s": ends, "state": true_states(table), "power_w": power_w}),
    }


def _counters(timeline: Timeline, times_s: np.ndarray) -> pd.DataFrame:
    """Count what a sampler of the engine's metrics would see."""
    arrived, started, answered = (
        np.searchsorted(np.sort(timeline.requests[name]), times_s, side="right")
        for name in ("arrival_s", "start_s", "first_token_s")
    )
    done = np.searchsorted(timeline.segments["end_s"].to_numpy(), times_s, side="right")
    amounts = timeline.segments[["prefill_tokens", "decode_tokens", "steps"]].cumsum().to_numpy()
    prompted, decoded, steps = np.vstack([np.zeros(3), amounts])[done].T.astype(int)
    return pd.DataFrame(
        {
            "time_s": times_s,
            "running": running_count(timeline, times_s),
            "waiting": arrived - started,
            "prompt_tokens": prompted,
            "generation_tokens": decoded + answered,
            "steps": steps,
        }
    )


def true_states(table: pd.DataFrame) -> np.ndarray:
    """State of each bin by what the engine does in it."""
    band = 1 + np.searchsorted(BAND_EDGES, table["active"].to_numpy(), side="right")
    state = np.where(table["prefill_share"] >= PREFILL_SHARE, len(STATES) - 1, band)
    return np.where(table["busy_share"] < BUSY_SHARE, 0, state)


def true_power_w(testbed: Testbed, table: pd.DataFrame, rng: np.random.Generator) -> np.ndarray:
    """Power of each bin: the state's Gaussian and the effects that are switched on."""
    state = true_states(table)
    noise = rng.standard_normal(state.size) * np.sqrt(1 - testbed.phi**2)
    noise = remembered(noise, testbed.phi)
    power_w = testbed.mean_w[state] + np.asarray(testbed.sigma_w)[state] * noise
    worked_s = np.cumsum(table["busy_share"].to_numpy()) * float(DT)
    power_w += np.where(state > 0, -np.expm1(-worked_s / THERMAL_S) * testbed.drift_w, 0.0)
    fading = testbed.active_idle_w * np.exp(-table["quiet_for_s"].to_numpy() / ACTIVE_IDLE_S)
    return np.minimum(power_w + np.where(state == 0, fading, 0.0), testbed.cap_w)
