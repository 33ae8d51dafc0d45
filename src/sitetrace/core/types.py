"""What is handed from step to step: configurations, power traces, runs and timelines."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import pandas as pd

from sitetrace.core.files import require

MAX_SPAN_S = 31 * 86400.0
LEAD_S, TAIL_S = 30.0, 10.0
LEAST_SAMPLES = 60
LEAST_IDLE_SAMPLES = 8
SEGMENT_COLUMNS = tuple("start_s end_s steps batch context prefill_tokens decode_tokens".split())


@dataclass(frozen=True)
class Configuration:
    """What a power model belongs to: a model on a GPU type at a tensor parallelism.

    Parameters
    ----------
    model, hardware : str
        Such as ``Qwen/Qwen3-8B`` and ``A100``.
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
    """Mean power of equidistant bins: sample ``i`` is of ``[start_s + i*dt, start_s + (i+1)*dt)``.

    Parameters
    ----------
    start_s : float
        Begin of the first bin, seconds (the clock of the requests).
    dt : fractions.Fraction
        Step in seconds; exact, so that long traces do not drift.
    power_w : numpy.ndarray
        Shape (n,).
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
        whole = ratio.denominator == 1 and ratio >= 1 and self.power_w.size % int(ratio) == 0
        what = f"no whole bins of {float(dt):g} s in {self.power_w.size} of {self.dt_s:g} s"
        require(whole, "trace", what, "take a multiple of the step that divides the length")
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
    step = dt
    if dt_s is not None:
        step = Fraction(str(dt_s)) if 0 < dt_s <= MAX_SPAN_S else Fraction(0)
        mend = f"give {float(dt):g}, {float(2 * dt):g} or another multiple"
        what = f"no multiple of the model's step of {float(dt):g} s"
        require(step > 0 and (step / dt).denominator == 1, f"--dt {dt_s:g}", what, mend)
    start_s = span_s[0] - lead_s
    length_s = span_s[1] + tail_s - start_s
    what = f"would span {length_s / 86400:.3g} days"
    require(0 < length_s <= 2 * MAX_SPAN_S, "trace", what, "mend the arrivals, --lead or --tail")
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
        """First arrival, last token (epoch s) and what tells the latter; None if nothing does."""
        if self.requests is None:
            return None
        first_s = float(self.requests["arrival_s"].iloc[0])
        if "end_s" in self.requests:
            return first_s, float(self.requests["end_s"].max()), "end_s"
        if self.engine is not None and (self.engine["running"] > 0).any():
            working = self.engine[self.engine["running"] > 0]
            return first_s, float(working["time_s"].iloc[-1]), "engine"
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
    first_s = float(run.requests["arrival_s"].iloc[0])
    begin_s = -np.inf if start_s is None else first_s + start_s
    end_s = np.inf if stop_s is None else first_s + stop_s
    requests = run.requests[run.requests["arrival_s"] < end_s].reset_index(drop=True)
    require(len(requests), f"run {run.name}", f"no request before {stop_s} s", "widen --to")
    if "ttft_s" in requests:
        answered_s = requests["arrival_s"] + requests["ttft_s"]
        seen = (requests["arrival_s"] >= begin_s) & (answered_s < end_s)
        requests["ttft_s"] = requests["ttft_s"].where(seen)
    if "end_s" in requests:
        requests["end_s"] = requests["end_s"].where(requests["end_s"].between(begin_s, end_s))
    inside = run.samples["time_s"].between(begin_s, end_s).to_numpy()
    kept = {"samples": run.samples[inside].reset_index(drop=True), "requests": requests}
    if run.engine is not None:
        seen = run.engine["time_s"].between(begin_s, end_s)
        kept["engine"] = run.engine[seen].reset_index(drop=True)
    if run.published is not None:
        kept["published"] = run.published[inside].reset_index(drop=True)
    what = f"{inside.sum()} power samples from {start_s} to {stop_s} s, below {LEAST_SAMPLES}"
    require(inside.sum() >= LEAST_SAMPLES, f"run {run.name}", what, "widen --from/--to")
    return replace(run, **kept)


@dataclass
class Timeline:
    """What became of requests, and what the engine did when.

    Parameters
    ----------
    requests : pandas.DataFrame
        Rows as given: ``arrival_s``, ``start_s`` (first admitted), ``first_token_s``, ``end_s``
        (NaN where not yet), ``input_tokens``, ``output_tokens``.
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
    """Name the columns of segments, shape (m, 7), as in `Timeline`."""
    frame = pd.DataFrame(segments, columns=list(SEGMENT_COLUMNS))
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
    """Let glibc keep memory that is given back, for which it must have seen a large block go."""
    # else each trace, and each stretch of each server of a site, asks for the same pages again
    np.empty(2**24, dtype=np.uint8)
