"""What is handed from step to step: configurations, power traces, runs and timelines."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import pandas as pd

from sitetrace.core.files import InputError

MAX_SPAN_S = 31 * 86400.0
LEAD_S, TAIL_S = 30.0, 10.0
LEAST_SAMPLES = 60
LEAST_IDLE_SAMPLES = 8
SEGMENT_COLUMNS = (
    "start_s",
    "end_s",
    "steps",
    "batch",
    "context",
    "prefill_tokens",
    "decode_tokens",
)
SEGMENT = np.dtype([(name, float) for name in SEGMENT_COLUMNS])
HELD_BYTES = 2**24


@dataclass(frozen=True)
class Configuration:
    """What a power model belongs to: a model on a GPU type at a tensor parallelism.

    Parameters
    ----------
    model : str
        Name of the language model, such as ``Qwen/Qwen3-8B``.
    hardware : str
        GPU type, such as ``A100``.
    tensor_parallel : int
        GPUs that serve the model together.
    """

    model: str
    hardware: str
    tensor_parallel: int

    @property
    def name(self) -> str:
        """Short name, such as ``Qwen/Qwen3-8B A100 tp1``."""
        return f"{self.model} {self.hardware} tp{self.tensor_parallel}"


@dataclass(frozen=True)
class PowerTrace:
    """Mean power of equidistant bins on an exact clock.

    Sample ``i`` covers ``[start_s + i*dt, start_s + (i+1)*dt)``.

    Parameters
    ----------
    start_s : float
        Begin of the first bin, seconds (the clock of the requests).
    dt : fractions.Fraction
        Step in seconds; exact, so that long traces do not drift.
    power_w : numpy.ndarray
        Mean power of each bin, watts, shape (n,).
    """

    start_s: float
    dt: Fraction
    power_w: np.ndarray

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

    def resample(self, dt: Fraction) -> PowerTrace:
        """Return the trace at a coarser step, by mean, so that energy is kept."""
        ratio = dt / self.dt
        if ratio.denominator != 1 or ratio < 1 or self.power_w.size % int(ratio):
            raise InputError(
                f"a trace of {self.power_w.size} bins of {self.dt_s:g} s has no whole bins of "
                f"{float(dt):g} s: take a multiple of the step that divides the length"
            )
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
    """Begin and step of a trace, and how many bins of the model's step `dt` it takes.

    It is a whole number of its own steps (`dt_s`, else the model's) long.
    """
    sound = dt_s is None or 0 < dt_s <= MAX_SPAN_S
    step = Fraction(str(dt_s)) if sound and dt_s is not None else dt
    if not sound or (step / dt).denominator != 1:
        raise InputError(
            f"--dt {dt_s:g} is no multiple of the model's step of {float(dt):g} s: "
            f"give {float(dt):g}, {float(2 * dt):g} or another multiple"
        )
    start_s = span_s[0] - lead_s
    length_s = span_s[1] + tail_s - start_s
    if not 0 < length_s <= 2 * MAX_SPAN_S:
        raise InputError(
            f"the trace would span {length_s / 86400:.3g} days: mend the arrivals, --lead or --tail"
        )
    return start_s, step, math.ceil(length_s / float(step)) * int(step / dt)


@dataclass(frozen=True)
class Run:
    """One measured (or simulated) recording of a server.

    Parameters
    ----------
    name : str
        Name of the run directory.
    configuration : Configuration
        Model, GPU type, tensor parallelism.
    requests : pandas.DataFrame or None
        ``arrival_s``, ``input_tokens``, ``output_tokens``[, ``ttft_s``][, ``end_s``], sorted.
    samples : pandas.DataFrame
        ``time_s``, ``power_w`` of the server; a sample describes ``[time_s - dt, time_s)``.
    dt : fractions.Fraction
        Usual distance of samples in seconds.
    engine : pandas.DataFrame or None
        Counters of the serving engine.
    info : dict
        All of ``run.json``.
    digest : str
        SHA-256 over the run's files.
    published : pandas.DataFrame or None
        Predictions of others for the same seconds, one column each.
    notes : tuple of str
        What reading had to do (sorting, leaving GPUs out), to be said aloud.
    """

    name: str
    configuration: Configuration
    requests: pd.DataFrame | None
    samples: pd.DataFrame
    dt: Fraction
    engine: pd.DataFrame | None
    info: dict
    digest: str
    published: pd.DataFrame | None = None
    notes: tuple[str, ...] = ()

    def busy_span(self) -> tuple[float, float, str] | None:
        """First arrival, last token (epoch s) and what tells the latter, ``end_s`` or ``engine``.

        None where nothing tells it.
        """
        if self.requests is None:
            return None
        first = float(self.requests["arrival_s"].iloc[0])
        if "end_s" in self.requests:
            return first, float(self.requests["end_s"].max()), "end_s"
        if self.engine is not None and (self.engine["running"] > 0).any():
            running = self.engine.loc[self.engine["running"] > 0, "time_s"]
            return first, float(running.iloc[-1]), "engine"
        return None

    def idle_before_load_w(self) -> float | None:
        """Median power of the samples before the first arrival, watts; None without any."""
        if self.requests is None:
            return None
        times, power_w = self.samples["time_s"], self.samples["power_w"]
        arrival_s = float(self.requests["arrival_s"].iloc[0])
        before = times < arrival_s
        if before.sum() >= LEAST_IDLE_SAMPLES:
            return float(power_w[before].median())
        # One sample does if it lies for the greater part before the load and is the lowest of all,
        # as a board that has not worked yet is.
        early = times.iloc[0] - float(self.dt) / 2 < arrival_s
        return float(power_w.iloc[0]) if early and power_w.iloc[0] == power_w.min() else None


def sampling_step(times_s: np.ndarray) -> Fraction:
    """Usual distance of samples as a simple exact fraction, such as 1/4 for 0.2501 s."""
    usual_s = Fraction(float(np.median(np.diff(times_s))))
    return max(usual_s.limit_denominator(100), Fraction(1, 100))


def cut_run(run: Run, start_s: float | None, stop_s: float | None) -> Run:
    """Keep the seconds of a run, after its first request, that a fit may see.

    Earlier arrivals stay, since they load the engine, but without their measured times.
    """
    if start_s is None and stop_s is None:
        return run
    first = float(run.requests["arrival_s"].iloc[0])
    begin = -np.inf if start_s is None else first + start_s
    end = np.inf if stop_s is None else first + stop_s
    requests = run.requests[run.requests["arrival_s"] < end].reset_index(drop=True)
    if "ttft_s" in requests:
        answered = requests["arrival_s"] + requests["ttft_s"]
        inside = (requests["arrival_s"] >= begin) & (answered < end)
        requests["ttft_s"] = requests["ttft_s"].where(inside)
    if "end_s" in requests:
        requests["end_s"] = requests["end_s"].where(requests["end_s"].between(begin, end))
    engine = run.engine
    if engine is not None:
        engine = engine[engine["time_s"].between(begin, end)].reset_index(drop=True)
    inside = run.samples["time_s"].between(begin, end)
    samples = run.samples[inside].reset_index(drop=True)
    published = run.published
    if published is not None:
        published = published[inside.to_numpy()].reset_index(drop=True)
    if requests.empty:
        raise InputError(f"run {run.name}: no request before {stop_s} s: widen --to")
    if len(samples) < LEAST_SAMPLES:
        raise InputError(
            f"run {run.name}: {len(samples)} power samples from {start_s} to {stop_s} s after the "
            f"first request, fewer than {LEAST_SAMPLES}: widen --from/--to"
        )
    return replace(run, requests=requests, engine=engine, samples=samples, published=published)


@dataclass
class Timeline:
    """What became of requests, and what the engine did when.

    Parameters
    ----------
    requests : pandas.DataFrame
        ``arrival_s``, ``start_s`` (first admitted), ``first_token_s``, ``end_s`` (seconds),
        ``input_tokens``, ``output_tokens``; rows as in the requests given; NaN where it has not
        happened yet.
    segments : pandas.DataFrame
        Disjoint stretches of work in time order, gaps where the engine is idle: ``start_s``,
        ``end_s``, ``steps``, ``batch`` (sequences decoding), ``context`` (their tokens, summed
        over sequences, mean over steps), ``prefill_tokens`` (of the whole segment, recomputed
        ones included), ``decode_tokens`` (without the first token that ends a prefill). Either
        one step with prefill or several steps of decode with the same sequences.
    """

    requests: pd.DataFrame
    segments: pd.DataFrame


def segment_frame(segments: np.ndarray) -> pd.DataFrame:
    """Tabulate segments, records of the dtype `SEGMENT`, as in `Timeline`."""
    table = np.ascontiguousarray(segments).view(float).reshape(-1, len(SEGMENT_COLUMNS))
    frame = pd.DataFrame(table, columns=list(SEGMENT_COLUMNS))
    return frame.astype({"steps": np.int64, "batch": np.int64})


def span_of(timeline: Timeline) -> tuple[float, float]:
    """Seconds at which the first request arrives and the last ends."""
    requests = timeline.requests
    return float(requests["arrival_s"].min()), float(requests["end_s"].max())


def running_count(timeline: Timeline, times_s: np.ndarray) -> np.ndarray:
    """Count the requests with ``start_s <= t < end_s``; a pre-empted one stays counted."""
    started, ended = (
        np.searchsorted(np.sort(timeline.requests[name].dropna()), times_s, side="right")
        for name in ("start_s", "end_s")
    )
    return started - ended


def hold_memory() -> None:
    """Let glibc keep memory that is given back, for which it must have seen a large block go.

    Else each trace, and each stretch of each server of a site, asks for the same pages again.
    """
    np.empty(HELD_BYTES, dtype=np.uint8)
