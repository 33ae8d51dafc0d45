"""Fit of the kind `timeline`: engine, surface and meter from readings, then noise and afterglow.

A reading's likelihood is the mean over its ages of a normal density around the surface's power. It
is maximised over surface and noise by gradients, over meter and saturation by trying values.
"""

import itertools
from dataclasses import replace
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import scipy

from sitetrace.core.files import require
from sitetrace.core.types import Run, Timeline
from sitetrace.meter import Meter, PowerNoise, ages_s
from sitetrace.power.idle import Idle
from sitetrace.power.load import load_of
from sitetrace.power.states.labels import idle_of, prepare
from sitetrace.power.timeline import surface as surfaces
from sitetrace.power.timeline.model import TimelineModel
from sitetrace.serving import calibration as engines
from sitetrace.serving.activity import amount_in_bins
from sitetrace.serving.engine import Server, counted, simulate
from sitetrace.serving.steps import LINEAR

DT = Fraction(1, 4)
LAW = ("decode_w", "per_sequence_w", "prefill_w", "warm_w")  # the part of `Surface` that is fitted
# what is tried of a meter, and of where power saturates (prompt tokens of a step; sequences)
TRIED = {
    "window_s": (0.025, 0.05, 0.1, 0.25, 0.5, 1.0),
    "lag_s": (-0.05, 0.0, 0.05, 0.1),
    "update_s": (0.05, 0.1, 0.15, 0.2),
    "tokens": (60.0, 120.0, 200.0, 300.0, 450.0, 700.0, 1100.0),
    "batch": (0.5, 2.0, 8.0, 32.0, LINEAR),
}
FIRST = {"window_s": 0.05, "lag_s": 0.0, "update_s": 0.1, "tokens": 300.0, "batch": 8.0}
TURNS = [["window_s"], *2 * [["lag_s", "update_s"], ["window_s"], ["tokens"], ["batch"]]]
EDGE_S, MOST_READINGS = 2.0, 5000  # before and after the load; more than so many are thinned
# by experience, what a board gains while it warms up (watts a GPU) and how sure that is; and the
# spread of the logarithm of the prefill scale around its usual value
WARM_W, WARM_SD_W, WARM_MAX_W, SCALE_SPREAD = 8.0, 3.0, 14.0, 0.5
OUTLIER_SHARE, ENERGY_SHARE = 0.02, 0.003  # unexplained readings; error that mean power may have
LEAST_SD_W, MOST_LOG_SD, PHI_MAX = 0.3, 9.0, 0.95
# By experience: watts a GPU just after work, log of the seconds they last, watts a GPU that a warm
# board idles more; how sure that is, and between what limits.
USUAL, SPREAD = np.array([5.0, np.log(0.25), 7.0]), np.array([5.0, 0.5, 2.0])
LEAST, MOST = np.array([0.0, -2.5, 0.0]), np.array([60.0, 3.0, 30.0])
AFTER_NOISE_W, LONGEST_AFTER_S = 1.0, 60.0
DECODE_SHARE = 0.03  # about what a further sequence adds to a decode step


class Seen(NamedTuple):
    """Readings of one run while it works, and the work that they saw."""

    timeline: Timeline  # as all times, on the clock of the first arrival
    times_s: np.ndarray
    power_w: np.ndarray
    idle_w: float
    parts_s: np.ndarray  # a reading is the mean over printings so long before it: 0, or quarters
    step_s: float  # from one reading to the next
    # another configuration has a multiple of the fitted one's GPUs, and its law scaled and shifted
    gpus: float = 1.0
    scaled: np.ndarray = np.ones(6)
    shifted: np.ndarray = np.zeros(6)
    batch_scale: float | None = None  # its own


class Reading(NamedTuple):
    """What readings tell of the surface, the meter and the noise."""

    setting: dict[str, float]  # one of those TRIED
    law: np.ndarray  # watts of LAW, logarithms of the noise's sd (W) in decode and full prefill
    loss: float = np.inf  # negative log-likelihood with priors
    converged: bool = False

    @property
    def meter(self) -> Meter:
        """The meter of the setting."""
        return Meter(**{name: self.setting[name] for name in ("window_s", "lag_s", "update_s")})


def observe_power(run: Run, server: Server, idle_w: float) -> Seen:
    """Put a run's readings beside the work that its requests make."""
    origin_s = float(run.requests["arrival_s"].iloc[0])
    timeline = simulate(run.requests.assign(arrival_s=run.requests["arrival_s"] - origin_s), server)
    times = run.samples["time_s"].to_numpy() - origin_s
    near = (times > -EDGE_S) & (times < float(timeline.segments["end_s"].iloc[-1]) + EDGE_S)
    parts_s = np.arange(4 if run.dt == 1 and run.published is not None else 1) / 4
    power_w = run.samples["power_w"].to_numpy()[near]
    return Seen(timeline, times[near], power_w, idle_w, parts_s, float(run.dt))


def fit_reading(seen: list[Seen], gpus: int) -> tuple[Reading, list[dict]]:
    """Find surface, noise, meter and scales of a server; and all that was tried, with its loss."""
    thin = slice(None, None, max(-(-sum(len(each.times_s) for each in seen) // MOST_READINGS), 1))
    seen = [each._replace(times_s=each.times_s[thin], power_w=each.power_w[thin]) for each in seen]
    loaded = np.concatenate([each.power_w[each.power_w > 1.3 * each.idle_w] for each in seen])
    require(loaded.size, "readings", "none rises above idle under load", "check the clocks")
    middle, top = np.quantile(loaded, [0.4, 0.99])  # where decode and prefill begin
    law = [middle, gpus, top + 20.0 * gpus, WARM_W * gpus, *np.log([5.0 * gpus, 20.0 * gpus])]
    found, tried = Reading(FIRST, np.array(law)), []
    for names in TURNS:
        results = []
        for values in itertools.product(*(TRIED[name] for name in names)):
            setting = found.setting | dict(zip(names, values, strict=True))
            # once a window is found, only its neighbours are tried
            if not tried or 0.3 < setting["window_s"] / found.setting["window_s"] < 3:
                results.append(best_law(seen, found._replace(setting=setting), gpus))
        tried += [result.setting | {"loss": result.loss} for result in results]
        found = min(results, key=lambda result: result.loss)
    return found, tried


def best_law(seen: list[Seen], start: Reading, gpus: int) -> Reading:
    """Minimise the loss over the surface and the noise, the setting given."""
    views = [(each, shares(each, start)) for each in seen]
    unit = np.array([10.0, 1.0, 50.0, 5.0, 0.3, 0.5]) * np.array([gpus, 1, gpus, gpus, 1, 1])
    low = [0.0, 0.0, 0.0, 0.0, np.log(LEAST_SD_W), np.log(LEAST_SD_W)]
    high = [np.inf, np.inf, np.inf, WARM_MAX_W * gpus, MOST_LOG_SD, MOST_LOG_SD]
    bounds = list(zip(low / unit, high / unit, strict=True))
    how = {"method": "L-BFGS-B", "bounds": bounds, "options": {"maxiter": 80, "ftol": 1e-7}}
    found = scipy.optimize.minimize(
        lambda point: _loss(point * unit, views, gpus), start.law / unit, **how
    )
    unusual = np.log(start.setting["tokens"] / FIRST["tokens"]) / SCALE_SPREAD
    loss = float(found.fun) + unusual**2 / 2
    return Reading(start.setting, found.x * unit, loss, bool(found.success))


def shares(seen: Seen, reading: Reading) -> np.ndarray:
    """Say what each reading may have seen, for each of its possible ages, shape (6, n, ages)."""
    # share of the window at work, batch and warmth by it; the three again by how prefill saturates
    meter, setting, work = reading.meter, reading.setting, seen.timeline.segments
    start, end = work["start_s"].to_numpy(), work["end_s"].to_numpy()
    batch = counted(work["batch"], seen.batch_scale or setting["batch"])
    full = -np.expm1(-work["prefill_tokens"].to_numpy() / setting["tokens"])
    plain = [(end - start) * each for each in (1.0, batch, surfaces.warmth(start, end))]
    ends = seen.times_s[:, None, None] - seen.parts_s[:, None] - ages_s(meter)
    amounts = plain + [amount * full for amount in plain]
    columns = [amount_in_bins(work, each, ends.ravel(), meter.window_s) for each in amounts]
    return np.reshape(columns, (6, *ends.shape)).mean(axis=2) / meter.window_s


def expected(seen: Seen, share: np.ndarray, law: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Watts of readings by the surface, shape (n, ages): linear in `shares`; and the run's law."""
    own = law * seen.scaled + seen.shifted
    decode_w, per_sequence_w, prefill_w, warm_w = own[:4]
    busy, batch, warm, full, full_batch, full_warm = share
    base = (decode_w - seen.idle_w) * busy + per_sequence_w * batch + warm_w * warm
    lifted = (prefill_w - decode_w) * full - per_sequence_w * full_batch - warm_w * full_warm
    return seen.idle_w + base + lifted, own


def _loss(law: np.ndarray, views: list[tuple[Seen, np.ndarray]], gpus: int) -> float:
    # negative log-likelihood of the readings, their age unknown, with priors
    total, spent_w, meant_w = 0.0, 0.0, 0.0
    for seen, share in views:
        power_w, own = expected(seen, share, law)
        # noise grows with the share of saturated prefill in what was seen
        sigma_w = np.hypot(np.exp(own[4]), np.exp(own[5]) * share[3])
        # a normal density (2.507 is the root of 2 pi), and a few readings anywhere in their range
        density = np.exp(-0.5 * ((seen.power_w[:, None] - power_w) / sigma_w) ** 2) / sigma_w
        reach_w = np.ptp(seen.power_w) + 1.0
        likely = (1 - OUTLIER_SHARE) * density.mean(axis=1) / 2.507 + OUTLIER_SHARE / reach_w
        total -= np.log(likely).sum()
        spent_w += seen.power_w.sum()
        meant_w += power_w.mean(axis=1).sum()
    total += 0.5 * ((law[3] / gpus - WARM_W) / WARM_SD_W) ** 2
    # modes alone would lose energy: its mean is held to a fraction of a percent
    return total + 0.5 * ((meant_w / spent_w - 1.0) / ENERGY_SHARE) ** 2


def fit_timeline(runs: list[Run], provenance: dict) -> TimelineModel:
    """Fit engine, surface, meter and noise of the first run's configuration."""
    models, configurations = [], dict.fromkeys(run.configuration for run in runs)
    groups = [[run for run in runs if run.configuration == each] for each in configurations]
    for group in groups:
        server, told = engines.calibrate(group)
        if all(run.engine is None for run in group):
            server, far = learn_decode(group, server), told["calibration"]["at_bound"]
            told["calibration"] |= engines.judged(group, server, far)
        models.append(fit_power(group, server, provenance | told))
    home, *others = models
    if not others:
        return home
    # Other configurations of its GPU type add to its meter, warming up and prefill.
    told, runs, others_seen = home.provenance, groups[0], []
    home_w = runs[0].idle_before_load_w() or home.idle.mean_w
    failed, defaults = list(told["calibration"]["failed"]), dict(told["defaults"])
    for other, group in zip(others, groups[1:], strict=True):
        name, own, theirs = other.configuration.name, other.surface, other.provenance
        failed += [f"{name}: {each}" for each in engines.failed_parts(theirs)]
        defaults |= {f"{name}: {what}": why for what, why in theirs["defaults"].items()}
        gpus = other.configuration.tensor_parallel / home.configuration.tensor_parallel
        scaled, more = np.array([0.0, 0.0, gpus, gpus, 1.0, 1.0]), np.log(gpus)
        for each in _seen_by(group, other.server, other.idle):
            prefill_w = each.idle_w - gpus * home_w
            shifted = np.array([own.decode_w, own.per_sequence_w, prefill_w, 0.0, more, more])
            others_seen.append(Seen(*each[:6], gpus, scaled, shifted, own.batch_scale))
    after = (home.idle.active_w, home.decay_s, home.surface.warm_idle_w, told["power"]["converged"])
    told = told | {"calibration": told["calibration"] | {"failed": failed}, "defaults": defaults}
    return fit_power(runs, home.server, told, after, others_seen)


def learn_decode(runs: list[Run], server: Server) -> Server:
    """Learn the time of decode steps from power, where no counter tells it."""
    # power rises with the batch; what a step loses the overhead gains: times to first token stay
    gpus = runs[0].configuration.tensor_parallel
    idle = idle_of(prepare(runs, server, runs[0].dt))

    def changed(point: np.ndarray) -> Server:
        c0_s = server.c0_s * np.exp(point[0])
        c1_s = DECODE_SHARE * server.c0_s * np.exp(point[1])
        overhead_s = max(server.overhead_s + server.c0_s - c0_s, 0.0)
        return replace(server, c0_s=float(c0_s), c1_s=float(c1_s), overhead_s=float(overhead_s))

    point, how = np.array([-0.3, 0.0]), {"maxfev": 40, "xatol": 0.01}
    for reach in (0.4, 0.15):
        found, _ = fit_reading(_seen_by(runs, changed(point), idle), gpus)

        def loss(point: np.ndarray, found: Reading = found) -> float:
            return best_law(_seen_by(runs, changed(point), idle), found, gpus).loss

        point, _ = engines.descended(loss, point, reach * np.diag([1.0, 2.0]), **how)
    return changed(point)


def fit_power(
    runs: list[Run], server: Server, provenance: dict, after: tuple | None = None, others=()
) -> TimelineModel:
    """Fit surface, meter and noise of one configuration behind a calibrated engine."""
    # after: what `fit_afterglow` gave of its own readings; others are added to these
    configuration, gpus = runs[0].configuration, runs[0].configuration.tensor_parallel
    idle = idle_of(prepare(runs, server, runs[0].dt))
    seen = [*_seen_by(runs, server, idle), *others]
    found, tried = fit_reading(seen, gpus)
    after = after or fit_afterglow(runs, seen, idle.band_w, found.meter, gpus)
    active_w, decay_s, warm_idle_w, ended = after
    found = found._replace(converged=found.converged and ended)
    residual, misfit = fit_residual(seen, found, float(np.std(idle.deviation_w)))
    gpu = engines.known_device(configuration.hardware)
    unknown = {} if gpu else {"limit_w": f"unknown GPU {configuration.hardware!r}"}
    limit_w = gpu["tdp_w"] * gpus if gpu else surfaces.LIMITLESS_W
    law = dict(zip(LAW, found.law[:4].tolist(), strict=True))
    law |= {"scale_tokens": found.setting["tokens"], "batch_scale": found.setting["batch"]}
    surface = surfaces.Surface(idle.mean_w, limit_w=limit_w, warm_idle_w=warm_idle_w, **law)
    told = {"selection": provenance["selection"] | {"meter": tried}, "power": misfit}
    told["defaults"] = provenance.get("defaults", {}) | unknown
    power_w = np.concatenate([run.samples["power_w"] for run in runs])
    # what the fit has seen, so that generating can warn outside of it
    loads = [load_of(each.timeline) for each in seen]
    fitted = {name: max(load[name] for load in loads) for name in loads[0]}
    fitted["requests_per_s"] = round(fitted["requests_per_s"], 3)
    parts = (configuration, DT, server, replace(idle, active_w=active_w), decay_s, surface)
    limits = (float(power_w.min()), float(power_w.max()))
    return TimelineModel(*parts, found.meter, residual, limits, fitted, provenance | told)


def _seen_by(runs: list[Run], server: Server, idle: Idle) -> list[Seen]:
    # a board that never idles takes the others' idle power
    return [observe_power(run, server, run.idle_before_load_w() or idle.mean_w) for run in runs]


def fit_residual(seen: list[Seen], found: Reading, idle_sd_w: float) -> tuple[PowerNoise, dict]:
    """Take the noise that readings have around the expected ones, and say how far these are off."""
    pairs, errors = [], []
    for each in seen:
        share = shares(each, found)
        errors.append(expected(each, share, found.law)[0].mean(axis=1) - each.power_w)
        left_w = -errors[-1] / each.gpus
        # how long noise lasts is told by successive readings that saw decoding alone, at any age
        calm = (share[0].min(axis=1) > 0.98) & (share[3].max(axis=1) < 0.05)
        # of readings with the step of the first run, the others' tell of another distance
        near = (np.diff(each.times_s) < 1.5 * each.step_s) & (each.step_s == seen[0].step_s)
        pairs.append(np.array([left_w[:-1], left_w[1:]])[:, calm[1:] & calm[:-1] & near])
    pairs, decode_sd_w, phi = np.concatenate(pairs, axis=1), float(np.exp(found.law[4])), 0.0
    pairs = pairs[:, (np.abs(pairs) < 4 * decode_sd_w).all(axis=0)]
    if pairs.shape[1] >= 20:
        # a reading is a mean of bins: from its correlation with the next to that of bins
        apart = np.subtract.outer(seen[0].parts_s, seen[0].parts_s) / float(DT)
        next_to = np.abs(apart + seen[0].step_s / float(DT))
        tried = np.linspace(0.0, PHI_MAX, 96)
        told = [(each**next_to).mean() / (each ** np.abs(apart)).mean() for each in tried]
        phi = float(np.interp(np.corrcoef(pairs)[0, 1], told, tried))
    errors = np.concatenate(errors) / np.concatenate([each.power_w for each in seen]).mean()
    off = engines.rounded({"mean_error": np.abs(errors).mean(), "energy_error": errors.mean()})
    off = {"power": off | {"points": errors.size}}
    failed = engines.failures(off)
    failed += ["the search of the surface stopped before it converged"] * (not found.converged)
    misfit = {"misfit": off, "converged": found.converged, "failed": failed}
    return PowerNoise(idle_sd_w, decode_sd_w, phi), misfit


def fit_afterglow(runs: list[Run], seen: list[Seen], band_w: float, meter: Meter, gpus: int):
    """Learn what is left after work: extra watts, the seconds they last, watts of a warm board."""
    # The fewer the readings, the nearer to what experience says. The last says if it converged.
    parts = []
    for run, each in zip(runs, seen, strict=True):
        times_s = run.samples["time_s"].to_numpy() - float(run.requests["arrival_s"].iloc[0])
        power_w, work = run.samples["power_w"].to_numpy(), each.timeline.segments
        seen_s = times_s - meter.lag_s
        since_s = surfaces.since_work_s(each.timeline, seen_s)
        # a reading counts from when its window, however old, holds no work
        clear_s = since_s - meter.update_s - meter.window_s
        begun, ended = (np.searchsorted(work[k], seen_s, "right") for k in ("start_s", "end_s"))
        rows = (begun == ended) & (clear_s >= 0) & (clear_s < LONGEST_AFTER_S) & (power_w <= band_w)
        warm = surfaces.left_warmth(each.timeline, times_s)
        parts.append([since_s[rows], warm[rows], power_w[rows] - each.idle_w])
    since_s, warm, extra_w = np.concatenate(parts, axis=1)
    scale = np.array([gpus, 1.0, gpus])

    def errors(point: np.ndarray) -> np.ndarray:
        after_w, log_s, warm_w = point
        left = after_w * np.exp(-since_s / np.exp(log_s)) + warm_w * warm - extra_w
        return np.concatenate([left / AFTER_NOISE_W, (point / scale - USUAL) / SPREAD])

    limits = (LEAST * scale, MOST * scale)
    found = scipy.optimize.least_squares(errors, USUAL * scale, bounds=limits)
    after_w, log_s, warm_w = found.x
    return float(after_w), float(np.exp(log_s)), float(warm_w), bool(found.success)
