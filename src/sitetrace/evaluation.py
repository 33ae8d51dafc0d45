"""Judging generated traces against a measured run, on the run's own clock and at 1 s."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pandas as pd

from sitetrace.files import InputError
from sitetrace.floors import noise_floor
from sitetrace.metrics import SCORES, scores
from sitetrace.rundir import check_overlap, sampling_step
from sitetrace.serving import Server, simulate
from sitetrace.trace import PowerTrace, Run

LEAST_COVERED = 0.95
SAME_STEP = 0.05
LONGEST_GAP_STEPS = 4.5
CLOCK_NOISE_S = 1e-6
ROUNDING = 1e-3
WATT_DECIMALS = 6
CLOCKS = ("native", "1s")
SPANS = ("whole", "busy")


def evaluate(
    measured: Run | pd.DataFrame,
    traces: PowerTrace | Sequence[PowerTrace],
    *,
    requests: pd.DataFrame | None = None,
    start_s: float | None = None,
    stop_s: float | None = None,
    busy_end_s: float | None = None,
    activity: pd.DataFrame | None = None,
) -> dict:
    """Score generated draws of one trace on the seconds of a measured run.

    A meter's reading at t describes the past, so a sample at t is compared with the generated
    power of ``[t - dt, t)``: the nearest bin where both steps agree within 5 %, the mean where the
    generated step is finer; where it is coarser, the samples are averaged to the generated bins,
    and that is the native step. Seconds are counted from the first sample's begin and compared by
    their mean power. Missing samples up to 4 steps are interpolated in means, as in
    arXiv:2603.18383; bins that touch a longer gap are left out.

    Parameters
    ----------
    measured : Run or pandas.DataFrame
        A recording, or its samples alone (``time_s``, ``power_w``).
    traces : PowerTrace or sequence of PowerTrace
        Independent draws on one clock.
    requests : pandas.DataFrame, optional
        Request table that stands in for the run's own.
    start_s, stop_s : float, optional
        Judge only these seconds after the first request.
    busy_end_s : float, optional
        Simulated end of the last token (epoch s), used where the run does not tell it.

    activity : pandas.DataFrame, optional
        Simulated activity in the bins of the run's samples: adds the in-sample regression to the
        noise floors.

    Returns
    -------
    dict
        ``native`` and ``1s``, each with ``whole`` and ``busy`` (first arrival to last token): the
        keys of `sitetrace.metrics.scores`, each the median over draws, with ``<key>_spread``, half
        the distance from the 16th to the 84th percentile over draws (0 for one draw);
        ``noise_floor`` with the same two levels; ``busy_end_from``: ``end_s``, ``engine``,
        ``simulated``, ``simulated by a default server`` or ``unknown``; ``n_draws``,
        ``covered_share``, ``native_dt_s``; and ``published``, where others predicted the same
        seconds. A score without meaning is None, so that the result can be written as JSON.

    Raises
    ------
    InputError
        If draws differ in clock or are no numbers, less than 95 % of the samples are covered, or
        the seconds asked for do not exist.
    """
    draws = [traces] if isinstance(traces, PowerTrace) else list(traces)
    _check_draws(draws)
    samples, dt, run = _samples_of(measured)
    if requests is None and run is not None:
        requests = run.requests
    elif requests is not None:
        check_overlap("requests", requests, samples)
    kept = _inside(samples, dt, requests, start_s, stop_s)
    busy = _busy_span(run, requests, busy_end_s)
    window = samples[kept]
    share = _covered(draws[0], window["time_s"].to_numpy() - float(dt) / 2).mean()
    if share < LEAST_COVERED:
        raise InputError(_uncovered(draws[0], window, float(dt), share))
    result = {"native": {}, "1s": {}, "noise_floor": {}}
    for clock in CLOCKS:
        rows, power_w, generated_w, middle_s, width_s = _pair(clock, window, dt, draws)
        spans = _spans(middle_s, busy)
        result[clock] = _judge(spans, power_w, generated_w, width_s)
        told = None
        if activity is not None and clock == "native" and width_s == float(dt):
            told = activity[kept][rows]
        result["noise_floor"][clock] = {
            name: _without_nan(
                noise_floor(power_w[rows], width_s, None if told is None else told[rows])
            )
            for name, rows in spans.items()
        }
        if clock == "native":
            result["native_dt_s"] = width_s
    result |= {
        "busy_end_from": busy[2] if busy else "unknown",
        "n_draws": len(draws),
        "covered_share": float(share),
    }
    if run is not None and run.published is not None:
        spans = _spans(window["time_s"].to_numpy() - float(dt) / 2, busy)
        power_w = window["power_w"].to_numpy()
        result["published"] = {
            name: {"1s": _judge(spans, power_w, [predicted_w], 1.0)}
            for name, predicted_w in run.published[kept].to_dict("series").items()
        }
    return result


def aligned(measured: Run | pd.DataFrame, trace: PowerTrace) -> tuple[np.ndarray, np.ndarray]:
    """Recorded and generated power of the same bins, at the native step.

    Parameters
    ----------
    measured : Run or pandas.DataFrame
        A recording, or its samples alone.
    trace : PowerTrace
        One generated draw.

    Returns
    -------
    measured_w, generated_w : numpy.ndarray
        Power, watts, shape (n,).
    """
    samples, dt, _ = _samples_of(measured)
    _, power_w, generated_w, _, _ = _pair("native", samples, dt, [trace])
    return power_w, generated_w[0]


def _pair(
    clock: str, window: pd.DataFrame, dt: Fraction, draws: list[PowerTrace]
) -> tuple[np.ndarray, np.ndarray, list[np.ndarray], np.ndarray, float]:
    """Bins kept, their measured and generated power, their middle and their length."""
    begin_s, power_w, width_s = _bins(clock, window, dt, draws[0])
    rows = _covered(draws[0], begin_s + width_s / 2) & np.isfinite(power_w)
    begin_s, power_w = begin_s[rows], power_w[rows]
    reading = _picked if clock == "native" and _same_step(draws[0], width_s) else _mean_power
    generated_w = [reading(draw, begin_s, width_s) for draw in draws]
    return rows, power_w, generated_w, begin_s + width_s / 2, width_s


def _check_draws(draws: list[PowerTrace]) -> None:
    """Refuse draws that are empty, no numbers, or not on one clock."""
    if not draws or any(draw.power_w.size == 0 for draw in draws):
        raise InputError("generated: no power values: generate the trace anew")
    first = draws[0]
    for number, draw in enumerate(draws):
        if not np.isfinite(draw.power_w).all():
            row = int(np.argmin(np.isfinite(draw.power_w)))
            raise InputError(
                f"generated: draw {number}, row {row}: power_w is no finite number: generate the "
                "trace anew"
            )
        if (draw.start_s, draw.dt, draw.power_w.size) != (
            first.start_s,
            first.dt,
            first.power_w.size,
        ):
            raise InputError(
                f"generated: draw {number} has {draw.power_w.size} bins of {draw.dt_s:g} s from "
                f"{draw.start_s:.3f}, draw 0 has {first.power_w.size} of {first.dt_s:g} s from "
                f"{first.start_s:.3f}: evaluate traces of different clocks one by one"
            )


def _samples_of(measured: Run | pd.DataFrame) -> tuple[pd.DataFrame, Fraction, Run | None]:
    """Take samples, their step, and the run they come from, if any."""
    if isinstance(measured, Run):
        return measured.samples, measured.dt, measured
    if len(measured) < 2 or not np.isfinite(measured[["time_s", "power_w"]].to_numpy()).all():
        raise InputError(
            "measured: time_s, power_w need two or more finite rows: mend or remove the others"
        )
    return measured, sampling_step(measured["time_s"].to_numpy()), None


def _inside(
    samples: pd.DataFrame,
    dt: Fraction,
    requests: pd.DataFrame | None,
    start_s: float | None,
    stop_s: float | None,
) -> np.ndarray:
    """Which samples lie between two times counted from the first request."""
    if start_s is None and stop_s is None:
        return np.ones(len(samples), dtype=bool)
    if requests is None:
        raise InputError(
            "from, to: count from the first request, and there are no requests: give --requests"
        )
    since_s = samples["time_s"].to_numpy() - float(dt) / 2 - requests["arrival_s"].iloc[0]
    kept = np.ones(len(samples), dtype=bool)
    if start_s is not None:
        kept &= since_s >= start_s
    if stop_s is not None:
        kept &= since_s < stop_s
    if kept.sum() < 2:
        raise InputError(
            f"from {start_s}, to {stop_s}: fewer than two samples there; the recording goes from "
            f"{since_s[0]:.1f} to {since_s[-1]:.1f} s after the first request: choose within that"
        )
    return kept


def _busy_span(
    run: Run | None, requests: pd.DataFrame | None, busy_end_s: float | None
) -> tuple[float, float, str] | None:
    """First arrival, last token and how the latter is known; None without requests."""
    if requests is None:
        return None
    first_s = float(requests["arrival_s"].iloc[0])
    if run is not None and (told := replace(run, requests=requests).busy_span()):
        return told
    if "end_s" in requests:
        return first_s, float(requests["end_s"].max()), "end_s"
    if busy_end_s is not None:
        return first_s, float(busy_end_s), "simulated"
    ends = simulate(requests, Server()).requests["end_s"]
    return first_s, float(ends.max()), "simulated by a default server"


def _covered(trace: PowerTrace, middle_s: np.ndarray) -> np.ndarray:
    """Which bins have their middle within a trace."""
    stop_s = trace.start_s + float(trace.power_w.size * trace.dt)
    return (middle_s >= trace.start_s) & (middle_s < stop_s)


def _uncovered(trace: PowerTrace, window: pd.DataFrame, dt_s: float, share: float) -> str:
    """Say which span the trace has and which it ought to have."""
    begin_s, end_s = window["time_s"].iloc[0] - dt_s, window["time_s"].iloc[-1]
    stop_s = trace.start_s + float(trace.power_w.size * trace.dt)
    return (
        f"generated: {trace.start_s:.2f} to {stop_s:.2f} s covers {100 * share:.1f}% of the "
        f"measured samples, {begin_s:.2f} to {end_s:.2f} s, and {100 * LEAST_COVERED:.0f}% are "
        f"needed: generate with --lead {max(trace.start_s - begin_s, 0):.0f} s and --tail "
        f"{max(end_s - stop_s, 0):.0f} s more"
    )


def _same_step(trace: PowerTrace, width_s: float) -> bool:
    return abs(trace.dt_s - width_s) <= SAME_STEP * width_s


def _bins(
    clock: str, window: pd.DataFrame, dt: Fraction, trace: PowerTrace
) -> tuple[np.ndarray, np.ndarray, float]:
    """Begin and measured mean power of the bins of a clock, and their length."""
    time_s, dt_s = window["time_s"].to_numpy(), float(dt)
    begin_s = time_s[0] - dt_s
    if clock == "1s":
        count = int(time_s[-1] - begin_s + CLOCK_NOISE_S)
        begins_s = begin_s + np.arange(count)
        return begins_s, _measured_mean(window, dt_s, begins_s, 1.0), 1.0
    if trace.dt_s > dt_s and not _same_step(trace, dt_s):
        edges_s = trace.time_s
        whole = edges_s >= begin_s - CLOCK_NOISE_S
        whole &= edges_s + trace.dt_s <= time_s[-1] + CLOCK_NOISE_S
        begins_s = edges_s[whole]
        return begins_s, _measured_mean(window, dt_s, begins_s, trace.dt_s), trace.dt_s
    return time_s - dt_s, window["power_w"].to_numpy(), dt_s


def _measured_mean(
    window: pd.DataFrame, dt_s: float, begin_s: np.ndarray, width_s: float
) -> np.ndarray:
    """Mean measured power of bins; NaN where a bin touches a gap too long to interpolate."""
    time_s, power_w = window["time_s"].to_numpy(), window["power_w"].to_numpy()
    origin_s = time_s[0] - dt_s
    end_s = time_s - origin_s
    steps = np.diff(end_s) / dt_s
    long = steps > LONGEST_GAP_STEPS
    parts = np.where(long, 1, np.maximum(np.rint(steps), 1)).astype(int)
    place = np.concatenate([[0], np.cumsum(parts)])
    filled = np.arange(place[-1] + 1)
    filled_end_s = np.interp(filled, place, end_s)
    spent_j = np.interp(filled, place, power_w) * np.diff(filled_end_s, prepend=0.0)
    knots_s = np.concatenate([[0.0], filled_end_s])
    energy_j = np.concatenate([[0.0], np.cumsum(spent_j)])
    first, last = begin_s - origin_s, begin_s - origin_s + width_s
    spent_j = np.interp(last, knots_s, energy_j) - np.interp(first, knots_s, energy_j)
    hole_begin_s, hole_end_s = end_s[:-1][long], end_s[1:][long] - dt_s
    opened = np.searchsorted(hole_begin_s, last - CLOCK_NOISE_S)
    closed = np.searchsorted(hole_end_s, first + CLOCK_NOISE_S, side="right")
    # Plateaus of one power must stay one value, or KS tells them apart by their last bits.
    return np.where(opened > closed, np.nan, np.round(spent_j / width_s, WATT_DECIMALS))


def _picked(trace: PowerTrace, begin_s: np.ndarray, width_s: float) -> np.ndarray:
    """Power of the bin nearest to ``[begin_s, begin_s + width_s)``."""
    # Clocks half a step apart must not jump between two bins by rounding.
    offset = (begin_s - trace.start_s) / trace.dt_s + ROUNDING
    nearest = np.floor(offset + 0.5 * width_s / trace.dt_s).astype(int)
    return trace.power_w[np.clip(nearest, 0, trace.power_w.size - 1)]


def _mean_power(trace: PowerTrace, begin_s: np.ndarray, width_s: float) -> np.ndarray:
    """Mean power over ``[begin_s, begin_s + width_s)``, as far as the trace goes."""
    edges_s = np.arange(trace.power_w.size + 1) * trace.dt_s
    energy_j = np.concatenate([[0.0], np.cumsum(trace.power_w * trace.dt_s)])
    first = np.maximum(begin_s - trace.start_s, 0.0)
    last = np.minimum(begin_s - trace.start_s + width_s, edges_s[-1])
    spent_j = np.interp(last, edges_s, energy_j) - np.interp(first, edges_s, energy_j)
    return np.round(spent_j / (last - first), WATT_DECIMALS)


def _spans(middle_s: np.ndarray, busy: tuple[float, float, str] | None) -> dict[str, np.ndarray]:
    """Rows of the whole recording and of its busy seconds."""
    within = np.zeros(middle_s.shape, dtype=bool)
    if busy:
        within = (middle_s >= busy[0]) & (middle_s < busy[1])
    return {"whole": np.ones(middle_s.shape, dtype=bool), "busy": within}


def _judge(
    spans: dict[str, np.ndarray], power_w: np.ndarray, generated_w: list, width_s: float
) -> dict:
    """Median and spread over draws of every score, for each span."""
    result = {}
    for name, rows in spans.items():
        draws = [scores(power_w[rows], np.asarray(draw)[rows], width_s) for draw in generated_w]
        entry = {}
        for key in SCORES:
            low, median, high = np.percentile([draw[key] for draw in draws], [16, 50, 84])
            entry |= {key: median, f"{key}_spread": (high - low) / 2}
        entry["n_samples"] = int(entry["n_samples"])
        result[name] = _without_nan(entry)
    return result


def _without_nan(values: dict) -> dict:
    """Python numbers, None in place of NaN, which JSON does not know."""
    return {
        key: value if isinstance(value, int) else float(value) if np.isfinite(value) else None
        for key, value in values.items()
    }


def format_table(result: dict) -> str:
    """Lay a result of `evaluate` out for the terminal.

    Parameters
    ----------
    result : dict
        As `evaluate` returns it.

    Returns
    -------
    str
        One line a score, one column a clock and span, spread over draws behind the sign ±.
    """
    columns = [(clock, span) for clock in CLOCKS for span in SPANS]
    lines = [
        f"{result['n_draws']} draw(s), {100 * result['covered_share']:.1f}% of the samples "
        f"covered, native step {result['native_dt_s']:g} s, end of the busy seconds: "
        f"{result['busy_end_from']}",
        " " * 24 + "".join(f"{clock + ' ' + span:>20}" for clock, span in columns),
    ]
    for key in SCORES:
        cells = (_cell(result[clock][span], key) for clock, span in columns)
        lines.append(f"{key:24}" + "".join(f"{cell:>20}" for cell in cells))
    lines.append("noise floor of the measurement")
    for key in result["noise_floor"]["native"]["whole"]:
        cells = (_cell(result["noise_floor"][clock][span], key) for clock, span in columns)
        lines.append(f"  {key:22}" + "".join(f"{cell:>20}" for cell in cells))
    for name, judged in result.get("published", {}).items():
        lines.append(f"{name}, published by others")
        for key in SCORES:
            cells = (_cell(judged["1s"][span], key) for span in SPANS)
            lines.append(f"  {key:22}" + " " * 40 + "".join(f"{cell:>20}" for cell in cells))
    return "\n".join(lines)


def _cell(values: dict, key: str) -> str:
    """One number with its spread, a dash where it has no meaning."""
    if values[key] is None:
        return "-"
    if key == "n_samples":
        return str(values[key])
    spread = values.get(f"{key}_spread")
    return f"{values[key]:.3f}" + (f" ± {spread:.3f}" if spread else "")
