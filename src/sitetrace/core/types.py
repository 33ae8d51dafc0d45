"""What is handed from step to step: configurations, power traces, runs and timelines."""

import math
import re
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import pandas as pd

from sitetrace.core.files import require

MAX_SPAN_S, LEAD_S, TAIL_S = 31 * 86400.0, 30.0, 10.0
LEAST_SAMPLES, LEAST_IDLE_SAMPLES = 60, 8
SEGMENT_COLUMNS = tuple("start_s end_s steps batch context prefill_tokens decode_tokens".split())
SEGMENT = np.dtype([(name, float) for name in SEGMENT_COLUMNS])


@dataclass(frozen=True)
class Configuration:
    """What a power model belongs to: a model on a GPU type at a tensor parallelism."""

    model: str  # such as Qwen/Qwen3-8B
    hardware: str  # GPU type, such as A100
    tensor_parallel: int  # GPUs that serve the model together

    @property
    def name(self) -> str:
        """Short name, such as ``Qwen/Qwen3-8B A100 tp1``."""
        return f"{self.model} {self.hardware} tp{self.tensor_parallel}"


@dataclass(frozen=True)
class PowerTrace:
    """Mean power of equidistant bins: the first is of ``[start_s, start_s + dt)``."""

    start_s: float  # on the clock of the requests
    dt: Fraction  # step in seconds; exact, so that long traces do not drift
    power_w: np.ndarray  # shape (n,)

    @property
    def dt_s(self) -> float:
        """Step in seconds."""
        return float(self.dt)

    @property
    def time_s(self) -> np.ndarray:
        """Begin of each bin, seconds, shape (n,)."""
        ticks = np.arange(self.power_w.size, dtype=np.int64) * self.dt.numerator
        return self.start_s + ticks / self.dt.denominator

    @property
    def energy_j(self) -> float:
        """Energy of the whole trace, joules."""
        return float(self.power_w.sum() * self.dt_s)

    def resample(self, dt: Fraction) -> "PowerTrace":
        """Return the trace at a coarser step, by mean, so that energy is kept."""
        ratio = dt / self.dt
        whole = ratio.denominator == 1 and ratio >= 1 and self.power_w.size % int(ratio) == 0
        what = f"{self.power_w.size} bins of {self.dt_s:g} s make no whole ones of {float(dt):g} s"
        require(whole, "trace", what, "take a multiple of the step that divides the length")
        if ratio == 1:
            return self
        return PowerTrace(self.start_s, dt, self.power_w.reshape(-1, int(ratio)).mean(axis=1))


def parse_step(text: object) -> Fraction:
    """Read a step as files hold it, ``1/4``; a power of ten in it could fill the memory."""
    if not isinstance(text, str) or not re.fullmatch(r"0*[1-9][0-9]{0,8}/0*[1-9][0-9]{0,8}", text):
        raise ValueError(f"dt_s {str(text)[:40]!r} is no fraction such as '1/4'")
    return Fraction(text)


def trace_clock(
    span_s: tuple[float, float], dt: Fraction, dt_s: float | None, lead_s: float, tail_s: float
) -> tuple[float, Fraction, int]:
    """Begin and step (`dt_s`) of a trace, and how many bins of the model's step `dt` it takes."""
    step = dt
    if dt_s is not None:
        step = Fraction(str(dt_s)) if 0 < dt_s <= MAX_SPAN_S else Fraction(0)
        what = f"--dt {dt_s:g} is no multiple of the model's step of {float(dt):g} s"
        require(step and (step / dt).denominator == 1, "trace", what, f"give {float(2 * dt):g}")
    start_s = span_s[0] - lead_s
    length_s = span_s[1] + tail_s - start_s
    what = f"would span {length_s / 86400:.3g} days"
    require(0 < length_s <= 2 * MAX_SPAN_S, "trace", what, "mend the arrivals, --lead or --tail")
    return start_s, step, math.ceil(length_s / float(step)) * int(step / dt)


@dataclass(frozen=True)
class Run:
    """One measured (or simulated) recording of a server."""

    name: str  # of the run directory
    configuration: Configuration  # of the server
    requests: pd.DataFrame | None  # as `read_requests` reads them, by arrival
    samples: pd.DataFrame  # time_s, power_w of the server: the mean of [time_s - dt, time_s)
    dt: Fraction  # usual distance of samples in seconds
    engine: pd.DataFrame | None  # counters of the serving engine
    info: dict  # all of run.json
    digest: str  # SHA-256 over the run's files
    published: pd.DataFrame | None = None  # predictions of others for the samples, a column each
    notes: tuple[str, ...] = ()  # what reading had to do, to be said aloud

    def busy_span(self) -> tuple[float, float, str] | None:
        """First arrival, last token (epoch s) and what tells the latter; None if nothing does."""
        if self.requests is None:
            return None
        first_s = float(self.requests["arrival_s"].iloc[0])
        if "end_s" in self.requests:
            return first_s, float(self.requests["end_s"].max()), "end_s"
        if self.engine is None or not (self.engine["running"] > 0).any():
            return None
        working_s = self.engine.loc[self.engine["running"] > 0, "time_s"]
        return first_s, float(working_s.iloc[-1]), "engine"

    def idle_before_load_w(self) -> float | None:
        """Median power of the samples before the first arrival, watts; None without any."""
        if self.requests is None:
            return None
        times, power_w = self.samples["time_s"], self.samples["power_w"]
        arrival_s = float(self.requests["arrival_s"].iloc[0])
        before = times < arrival_s
        if before.sum() >= LEAST_IDLE_SAMPLES:
            return float(power_w[before].median())
        # one sample does if most of it lies before the load and it is the lowest: a cold board's
        early = times.iloc[0] - float(self.dt) / 2 < arrival_s
        return float(power_w.iloc[0]) if early and power_w.iloc[0] == power_w.min() else None


def sampling_step(times_s: np.ndarray) -> Fraction:
    """Usual distance of samples as a simple exact fraction, such as 1/4 for 0.2501 s."""
    usual_s = Fraction(float(np.median(np.diff(times_s))))
    return max(usual_s.limit_denominator(100), Fraction(1, 100))


def cut_run(run: Run, start_s: float | None, stop_s: float | None) -> Run:
    """Keep the seconds after the first request that a fit may see; of earlier ones the arrivals."""
    if start_s is None and stop_s is None:
        return run
    first_s = float(run.requests["arrival_s"].iloc[0])
    begin_s = first_s + (-np.inf if start_s is None else start_s)
    end_s = first_s + (np.inf if stop_s is None else stop_s)
    requests = run.requests[run.requests["arrival_s"] < end_s].reset_index(drop=True)
    require(len(requests), f"run {run.name}", f"no request before {stop_s} s", "widen --to")
    if "ttft_s" in requests:
        answered_s = requests["arrival_s"] + requests["ttft_s"]
        seen = (requests["arrival_s"] >= begin_s) & (answered_s < end_s)
        requests["ttft_s"] = requests["ttft_s"].where(seen)
    if "end_s" in requests:
        requests["end_s"] = requests["end_s"].where(requests["end_s"].between(begin_s, end_s))
    inside = run.samples["time_s"].between(begin_s, end_s).to_numpy()
    what = f"{inside.sum()} power samples from {start_s} to {stop_s} s, below {LEAST_SAMPLES}"
    require(inside.sum() >= LEAST_SAMPLES, f"run {run.name}", what, "widen --from/--to")
    kept = {"samples": run.samples[inside]}
    if run.engine is not None:
        kept["engine"] = run.engine[run.engine["time_s"].between(begin_s, end_s)]
    if run.published is not None:
        kept["published"] = run.published[inside]
    kept = {name: table.reset_index(drop=True) for name, table in kept.items()}
    return replace(run, requests=requests, **kept)


@dataclass
class Timeline:
    """What became of requests, and what the engine did when."""

    # arrival_s, start_s (first admitted), first_token_s, end_s (NaN where not yet), and tokens
    requests: pd.DataFrame
    # One step with prefill, or several of decode with the same sequences, in time order: start_s,
    # end_s, steps, batch (sequences decoding), context (sum of their tokens, mean over steps),
    # prefill_tokens (recomputed ones too), decode_tokens (without the first, which ends a prefill)
    segments: pd.DataFrame


def segment_frame(segments: np.ndarray) -> pd.DataFrame:
    """Tabulate segments, records of the dtype `SEGMENT`, as in `Timeline`."""
    table = np.ascontiguousarray(segments).view(float).reshape(-1, len(SEGMENT_COLUMNS))
    return pd.DataFrame(table, columns=[*SEGMENT_COLUMNS]).astype({"steps": int, "batch": int})


def span_of(timeline: Timeline) -> tuple[float, float]:
    """Seconds at which the first request arrives and the last ends."""
    return float(timeline.requests["arrival_s"].min()), float(timeline.requests["end_s"].max())


def running_count(timeline: Timeline, times_s: np.ndarray) -> np.ndarray:
    """Count the requests with ``start_s <= t < end_s``; a pre-empted one stays counted."""
    told_s = (np.sort(timeline.requests[name].dropna()) for name in ("start_s", "end_s"))
    started, ended = (np.searchsorted(each_s, times_s, side="right") for each_s in told_s)
    return started - ended


def hold_memory() -> None:
    """Let glibc keep freed memory for the next trace: it must have seen a large block go."""
    np.empty(2**24, dtype=np.uint8)
