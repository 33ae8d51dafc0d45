"""Judging traces against a measured run, on its own clock and at 1 s; and simple baselines."""

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pandas as pd

from sitetrace.core.files import require
from sitetrace.core.registry import device
from sitetrace.core.types import Configuration, PowerTrace, Run, sampling_step
from sitetrace.evaluate.metrics import SCORES, noise_floor, scores
from sitetrace.measured.rundir import check_overlap
from sitetrace.serving.activity import activity_table
from sitetrace.serving.engine import Server, simulate
from sitetrace.serving.surrogates import ConstantRate

LEAST_COVERED, WATT_DECIMALS = 0.95, 6
CLOCKS, SPANS = ("native", "1s"), ("whole", "busy")
SAME_STEP = 0.05  # steps that differ by no more than this share count as one
LONGEST_GAP_STEPS = 4.5  # means of samples missing in shorter gaps are interpolated
CLOCK_NOISE_S, ROUNDING = 1e-6, 1e-3
PHASES = ("idle", "prefill", "decode")
ACTIVE, RISING, RISING_BINS = 1e-6, 0.05, 2
Array, Serving = np.ndarray, Server | ConstantRate


def evaluate(
    measured: Run | pd.DataFrame,
    traces: PowerTrace | Sequence[PowerTrace],
    *,
    requests: pd.DataFrame | None = None,
    activity: pd.DataFrame | None = None,
    start_s: float | None = None,
    stop_s: float | None = None,
    busy_end_s: float | None = None,
) -> dict:
    """Score generated draws of one trace on the seconds of a measured run.

    A sample at t is compared with the generated power of ``[t - dt, t)``: the nearest bin where
    both steps agree within 5 %, else the mean of the finer over the coarser. Up to 4 missing
    samples are interpolated in means (arXiv:2603.18383); bins at a longer gap are left out.

    Parameters
    ----------
    measured : Run or pandas.DataFrame
        A recording, or its samples alone (``time_s``, ``power_w``).
    traces : PowerTrace or sequence of PowerTrace
        Independent draws on one clock.
    requests, activity : pandas.DataFrame, optional
        Instead of the run's own; simulated in the bins of the samples, for a regression's floors.
    start_s, stop_s, busy_end_s : float, optional
        Seconds judged, after the first request; end of the last token (epoch s) if not in the run.

    Returns
    -------
    dict
        ``native`` and ``1s``, each with ``whole`` and ``busy`` (first arrival to last token): the
        keys of `scores`, medians over draws, and ``<key>_spread``, half of 16th to 84th percentile;
        ``noise_floor`` and ``published`` alike; ``n_draws``, ``covered_share``, ``busy_end_from``.

    Examples
    --------
    >>> import numpy as np
    >>> import sitetrace
    >>> run = sitetrace.testbed.run("poisson", seed=1)
    >>> model = sitetrace.load_model(sitetrace.shipped_model("testbed_timeline"))
    >>> trace = model.generate(run.requests, rng=np.random.default_rng(1), reading="meter")
    >>> result = sitetrace.evaluate(run, [trace])
    >>> bool(result["1s"]["whole"]["energy_error_pct"] < 2)
    True
    """
    draws, again = [traces] if isinstance(traces, PowerTrace) else list(traces), "generate it anew"
    require(draws and draws[0].power_w.size, "generated", "no power values", again)
    for number, draw in enumerate(draws):
        clocks = {(each.start_s, each.dt, each.power_w.size) for each in (draw, draws[0])}
        what = f"draw {number} has another begin, step or length than draw 0"
        require(len(clocks) == 1, "generated", what, "evaluate them one by one")
        finite = np.isfinite(draw.power_w)
        where = f"generated: draw {number}, row {int(np.argmin(finite))}"
        require(finite, where, "power_w is no finite number", again)
    run = _as_run(measured)
    if requests is not None:
        check_overlap("requests", requests, run.samples)
        run = replace(run, requests=requests)
    busy, dt_s, source = run.busy_span(), float(run.dt), "simulated"
    if busy is None and run.requests is not None:
        if busy_end_s is None:
            busy_end_s = simulate(run.requests, Server()).requests["end_s"].max()
            source = "simulated by a default server (8B on one A100)"
        busy = float(run.requests["arrival_s"].iloc[0]), float(busy_end_s), source
    middle_s = run.samples["time_s"].to_numpy() - dt_s / 2
    kept = np.ones(middle_s.size, dtype=bool)
    if (start_s, stop_s) != (None, None):
        require(run.requests is not None, "from, to", "there are no requests", "give --requests")
        since_s = middle_s - run.requests["arrival_s"].iloc[0]
        kept = since_s >= (-np.inf if start_s is None else start_s)
        kept &= since_s < (np.inf if stop_s is None else stop_s)
        mend = f"choose within {since_s[0]:.1f} to {since_s[-1]:.1f} s after the first request"
        where, enough = f"from {start_s}, to {stop_s}", kept.sum() >= 2
        require(enough, where, "fewer than two samples there", mend)
    window, middle_s = run.samples[kept], middle_s[kept]
    begin_s, end_s = draws[0].start_s, draws[0].start_s + float(draws[0].power_w.size * draws[0].dt)
    share = float(((middle_s >= begin_s) & (middle_s < end_s)).mean())
    what = f"{100 * share:.1f}% of the measured samples covered, {100 * LEAST_COVERED:.0f}% needed"
    lead_s, tail_s = begin_s - middle_s[0] + dt_s / 2, middle_s[-1] + dt_s / 2 - end_s
    mend = f"generate with --lead {max(lead_s, 0):.0f} s and --tail {max(tail_s, 0):.0f} s more"
    require(share >= LEAST_COVERED, f"generated from {begin_s:.2f} s", what, mend)
    result = {"native": {}, "1s": {}, "noise_floor": {}}
    for clock in CLOCKS:
        rows, power_w, generated_w, bins_s, width_s = pair(clock, window, run.dt, draws)
        result.setdefault("native_dt_s", width_s)
        known = clock == "native" and activity is not None and width_s == dt_s
        seen = activity[kept][rows] if known else None
        spans = _spans(bins_s, busy)
        result[clock] = _judge(spans, power_w, generated_w, width_s)
        floors = result["noise_floor"][clock] = {}
        for name, inside in spans.items():
            told = None if seen is None else seen[inside]
            floors[name] = _without_nan(noise_floor(power_w[inside], width_s, told))
    result["busy_end_from"] = busy[2] if busy else "unknown"
    result |= {"n_draws": len(draws), "covered_share": share}
    if run.published is not None:
        spans, power_w = _spans(middle_s, busy), window["power_w"].to_numpy()
        told = run.published[kept].items()
        result["published"] = {name: {"1s": _judge(spans, power_w, [w], 1.0)} for name, w in told}
    return result


def _spans(middle_s: Array, busy: tuple[float, float, str] | None) -> dict[str, Array]:
    begin_s, end_s, _ = busy or (np.inf, np.inf, "")
    within = (middle_s >= begin_s) & (middle_s < end_s)
    return {"whole": np.ones(middle_s.shape, dtype=bool), "busy": within}


def _judge(spans: dict, power_w: Array, generated_w: list, width_s: float) -> dict:
    result = {}
    for name, rows in spans.items():
        draws = [scores(power_w[rows], np.asarray(draw)[rows], width_s) for draw in generated_w]
        told, entry = [list(draw.values()) for draw in draws], {}
        low, median, high = np.percentile(told, [16, 50, 84], axis=0)
        for key, middle, spread in zip(SCORES, median, (high - low) / 2, strict=True):
            entry |= {key: middle, f"{key}_spread": spread}
        result[name] = _without_nan(entry) | {"n_samples": int(entry["n_samples"])}
    return result


def _without_nan(values: dict) -> dict:
    return {key: float(value) if np.isfinite(value) else None for key, value in values.items()}


def aligned(measured: Run | pd.DataFrame, trace: PowerTrace) -> tuple[np.ndarray, np.ndarray]:
    """Take recorded and generated power of the same bins, at the native step."""
    run = _as_run(measured)
    _, power_w, (generated_w,), *_ = pair("native", run.samples, run.dt, [trace])
    return power_w, generated_w


def pair(clock: str, window: pd.DataFrame, dt: Fraction, draws: list[PowerTrace]) -> tuple:
    """Bins of a clock that are kept; measured and generated means; the bins' middles and length."""
    time_s, power_w = window["time_s"].to_numpy(), window["power_w"].to_numpy()
    trace, width_s = draws[0], float(dt)
    begin_s, reading = time_s - width_s, _mean_power
    if clock == "1s":
        count = int(time_s[-1] - begin_s[0] + CLOCK_NOISE_S)
        begin_s, width_s = begin_s[0] + np.arange(count), 1.0
        power_w = _measured_mean(window, float(dt), begin_s, width_s)
    elif abs(trace.dt_s - width_s) <= SAME_STEP * width_s:
        reading = _picked
    elif trace.dt_s > width_s:
        first_s, last_s = begin_s[0] - CLOCK_NOISE_S, time_s[-1] + CLOCK_NOISE_S
        begin_s, width_s = trace.time_s, trace.dt_s
        begin_s = begin_s[(begin_s >= first_s) & (begin_s + width_s <= last_s)]
        power_w = _measured_mean(window, float(dt), begin_s, width_s)
    middle_s, end_s = begin_s + width_s / 2, trace.start_s + float(trace.power_w.size * trace.dt)
    rows = (middle_s >= trace.start_s) & (middle_s < end_s) & np.isfinite(power_w)
    generated_w = [reading(draw, begin_s[rows], width_s) for draw in draws]
    return rows, power_w[rows], generated_w, middle_s[rows], width_s


def _as_run(measured: Run | pd.DataFrame) -> Run:
    if isinstance(measured, Run):
        return measured
    sound = len(measured) >= 2 and np.isfinite(measured[["time_s", "power_w"]]).all(axis=None)
    require(sound, "measured: time_s, power_w", "not two finite rows", "mend or remove the others")
    dt = sampling_step(measured["time_s"].to_numpy())
    return Run("measured", Configuration("", "", 1), None, measured, dt, None, {}, "")


def _measured_mean(window: pd.DataFrame, dt_s: float, begin_s: Array, width_s: float) -> Array:
    """Mean measured power of bins; NaN where a bin touches a gap too long to interpolate."""
    time_s, power_w = window["time_s"].to_numpy(), window["power_w"].to_numpy()
    origin_s = time_s[0] - dt_s
    end_s = time_s - origin_s
    steps = np.diff(end_s) / dt_s
    long = steps > LONGEST_GAP_STEPS
    parts = np.where(long, 1, np.maximum(np.rint(steps), 1)).astype(int)
    place = np.concatenate([[0], np.cumsum(parts)])
    filled = np.arange(place[-1] + 1)
    filled_w, filled_end_s = np.interp(filled, place, power_w), np.interp(filled, place, end_s)
    first_s, last_s = begin_s - origin_s, begin_s - origin_s + width_s
    mean_w = _mean_between(np.r_[0.0, filled_end_s], filled_w, first_s, last_s)
    opened = np.searchsorted(end_s[:-1][long], last_s - CLOCK_NOISE_S)
    closed = np.searchsorted(end_s[1:][long] - dt_s, first_s + CLOCK_NOISE_S, side="right")
    return np.where(opened > closed, np.nan, mean_w)


def _picked(trace: PowerTrace, begin_s: Array, width_s: float) -> Array:
    # clocks half a step apart must not jump between two bins by rounding
    offset = (begin_s - trace.start_s) / trace.dt_s + ROUNDING
    nearest = np.floor(offset + 0.5 * width_s / trace.dt_s).astype(int)
    return trace.power_w[np.clip(nearest, 0, trace.power_w.size - 1)]


def _mean_power(trace: PowerTrace, begin_s: Array, width_s: float) -> Array:
    edges_s, first_s = np.arange(trace.power_w.size + 1) * trace.dt_s, begin_s - trace.start_s
    last_s = np.minimum(first_s + width_s, edges_s[-1])
    return _mean_between(edges_s, trace.power_w, np.maximum(first_s, 0.0), last_s)


def _mean_between(edges_s: Array, power_w: Array, first_s: Array, last_s: Array) -> Array:
    """Mean between two times each of a power that is constant between edges."""
    energy_j = np.r_[0.0, np.cumsum(power_w * np.diff(edges_s))]
    spent_j = np.diff(np.interp([first_s, last_s], edges_s, energy_j), axis=0)[0]
    # plateaus of one power must stay one value, or KS tells them apart by their last bits
    return np.round(spent_j / (last_s - first_s), WATT_DECIMALS)


def format_table(result: dict) -> str:
    """Lay a result of `evaluate` out for the terminal."""
    columns = [(clock, span) for clock in CLOCKS for span in SPANS]
    lines = [
        f"{result['n_draws']} draw(s), {100 * result['covered_share']:.1f}% of the samples "
        f"covered, native step {result['native_dt_s']:g} s, end of the busy seconds: "
        f"{result['busy_end_from']}",
        " " * 24 + "".join(f"{' '.join(column):>20}" for column in columns),
        *_rows("", [result[clock][span] for clock, span in columns]),
        "noise floor of the measurement",
        *_rows("  ", [result["noise_floor"][clock][span] for clock, span in columns]),
    ]
    for name, judged in result.get("published", {}).items():
        lines.append(f"{name}, published by others")
        lines += _rows("  ", [{}, {}, *(judged["1s"][span] for span in SPANS)])
    return "\n".join(lines)


def _rows(indent: str, entries: list[dict]) -> list[str]:
    lines = []
    for key in [key for key in entries[-1] if not key.endswith("_spread")]:
        lines.append(f"{indent + key:24}")
        for entry in entries:
            value, spread = entry.get(key, ""), entry.get(f"{key}_spread")
            cell = "-" if value is None else str(value)
            if isinstance(value, float):
                cell = f"{value:.3f}" + (f" ± {spread:.3f}" if spread else "")
            lines[-1] += f"{cell:>20}"
    return lines


def baselines(
    fitting: Run, server: Serving, requests: pd.DataFrame, start_s: float, dt: Fraction, size: int
) -> dict[str, PowerTrace]:
    """Power in `size` bins of a stream: a run's nameplate, mean, mean by phase, and replay."""
    asked = fitting.requests is not None
    require(asked, fitting.name, "no requests.csv", "phases need the requests of the run")
    power_w, served = fitting.samples["power_w"], fitting.configuration
    design_w = device(served.hardware)["tdp_w"] * served.tensor_parallel
    constant_w = {"nameplate": float(design_w), "mean": float(power_w.mean())}
    sampled_s = fitting.samples["time_s"].to_numpy()
    seen = activity_table(simulate(fitting.requests, server), sampled_s, float(fitting.dt))
    levels = power_w.groupby(phases(seen)).mean().reindex(PHASES).fillna(constant_w["mean"])
    ends_s = PowerTrace(start_s + float(dt), dt, np.empty(size)).time_s
    wanted = activity_table(simulate(requests, server), ends_s, float(dt))
    # the recording over and over; a sample holds from the one before to its own time
    begin_s = sampled_s[0] - float(fitting.dt)
    knots_s = np.r_[0.0, sampled_s - begin_s]
    energy_j = np.r_[0.0, np.cumsum(power_w * np.diff(knots_s))]
    since_s = start_s - float(requests["arrival_s"].iloc[0])
    edges_s = PowerTrace(since_s, dt, np.empty(size + 1)).time_s
    load_s = float(fitting.requests["arrival_s"].iloc[0]) - begin_s
    turns, rest_s = np.divmod(edges_s + load_s, knots_s[-1])
    replayed_j = np.diff(turns * energy_j[-1] + np.interp(rest_s, knots_s, energy_j))
    values_w = {name: np.full(size, value_w) for name, value_w in constant_w.items()}
    told_w = levels.loc[phases(wanted)].to_numpy()
    values_w |= {"phase look-up": told_w, "static replay": replayed_j / float(dt)}
    return {name: PowerTrace(start_s, dt, each_w) for name, each_w in values_w.items()}


def phases(activity: pd.DataFrame) -> np.ndarray:
    """Name the phase of each bin by the rule of the paper's repository."""
    # of the look-up table that grantwilkins/powertrace-sim (March 2026) compares itself with:
    # idle without an active request, prefill where their number rises for two bins on end
    active = activity["active"].to_numpy() > ACTIVE
    rising = pd.Series(active & (activity["delta_active"].to_numpy() > RISING))
    stretch = rising.groupby((rising != rising.shift()).cumsum()).transform("size")
    prefill = (rising & (stretch >= RISING_BINS)).to_numpy()
    return np.select([~active, prefill], ["idle", "prefill"], "decode")
