"""Watts of an engine's steps: the surface, and the compiled passes that put it into bins."""

from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from sitetrace.core.types import Timeline
from sitetrace.serving.activity import amount_in_bins, as_segments
from sitetrace.serving.engine import counted
from sitetrace.serving.inflight import compiled, record
from sitetrace.serving.steps import LINEAR

WARM_S, LIMIT_S = 20.0, 0.5  # time constant of warmth, and how long prefill may exceed the limit
LIMITLESS_W = 1e6  # finite, so that a model file can hold it
# below SMALL an exponential is a quotient; a rest below FAINT is nothing, its arithmetic is slow
SMALL, FAINT = 0.1, 1e-9
# Power of a server: its `Surface`; of its board idle watts, extra power just after work with the
# time constant of its decay, standard deviation of noise without and at work, autocorrelation.
POWER = record(
    "idle_w decode_w per_sequence_w prefill_w scale_tokens warm_w batch_scale limit_w warm_idle_w "
    "board_w after_w after_s idle_sd_w work_sd_w phi"
)
# A board between stretches of time, all zeros when cold: how warm the last work has left it, 0 to
# 1; end of that work; energy drawn above its limit and not yet made up for; in the last bin noise
# in standard deviations, one of these, extra power after work, warmth by the share of work; 1 once
# there was a bin; the segment that reaches over the edge of the last bin, and its watts above idle.
BOARD = record("warm until_s stored_j noise sd_w glow_w heat begun open_start_s open_end_s open_w")


@dataclass(frozen=True)
class Surface:
    """Power of a server by what its engine does."""

    idle_w: float  # without work, watts
    decode_w: float  # decoding on a cold board, before any sequence is counted, watts
    per_sequence_w: float  # added by each decoding sequence, watts
    prefill_w: float  # limit for a step with very many prompt tokens, watts
    scale_tokens: float  # prompt tokens at which 63% of the way to that limit are gone
    warm_w: float = 0.0  # added to decoding on a warm board, watts: saturates and fades in 20 s
    # sequences from which one more adds less: ``batch_scale ln(1 + batch/batch_scale)`` count
    batch_scale: float = LINEAR
    limit_w: float = LIMITLESS_W  # held to when prefill would stay above for half a second, watts
    warm_idle_w: float = 0.0  # added to idle on a warm board, watts: it fades as `warm_w` does

    def step_power_w(self, batch: np.ndarray, prefill_tokens: np.ndarray) -> np.ndarray:
        """Watts of steps on a cold board: of decoding alone, and with prefill that saturates."""
        decode_w = self.decode_w + self.per_sequence_w * counted(batch, self.batch_scale)
        saturation = -np.expm1(-np.asarray(prefill_tokens, dtype=float) / self.scale_tokens)
        return decode_w + (self.prefill_w - decode_w) * saturation

    def above_idle_w(self, segments: pd.DataFrame) -> np.ndarray:
        """Watts of each segment above an idle board; all that a meter must know of the surface."""
        work, power = as_segments(segments), np.zeros(1, POWER)
        for name, value in asdict(self).items():
            power[name] = value
        above_w = np.empty(len(work))
        segment_power(work, len(work), power[0], np.zeros(1, BOARD)[0], above_w)
        return above_w

    def mean_power_w(self, timeline: Timeline, end_times_s: np.ndarray, dt_s: float) -> np.ndarray:
        """Mean watts of the bins ``[t - dt, t)``; energy is neither lost nor counted twice."""
        work = timeline.segments
        above_j = self.above_idle_w(work) * (work["end_s"] - work["start_s"]).to_numpy()
        return self.idle_w + amount_in_bins(work, above_j, end_times_s, dt_s) / dt_s


def since_work_s(timeline: Timeline, times_s: np.ndarray) -> np.ndarray:
    """Seconds since the last work that ended; infinite before the first has."""
    ends = timeline.segments["end_s"].to_numpy()
    last = np.searchsorted(ends, times_s, side="right") - 1
    return np.where(last >= 0, times_s - ends[np.maximum(last, 0)], np.inf)


def left_warmth(timeline: Timeline, times_s: np.ndarray) -> np.ndarray:
    """How warm the last work that ended has left the board, from 0 to 1."""
    start, end = (timeline.segments[name].to_numpy() for name in ("start_s", "end_s"))
    length = (end - start) / WARM_S
    fading = length * np.exp(-length) / -np.expm1(-length)
    at_end = 1.0 - (1.0 - warmth(start, end)) * fading
    last = np.maximum(np.searchsorted(end, times_s, side="right") - 1, 0)
    return at_end[last] * np.exp(-since_work_s(timeline, times_s) / WARM_S)


def warmth(start_s: np.ndarray, end_s: np.ndarray) -> np.ndarray:
    """Mean warmth of a board, cold at first, in each segment of work, from 0 to 1."""
    mean = np.empty(start_s.size)
    _fill_warmth(start_s, end_s, mean)
    return mean


@compiled
def _fill_warmth(start_s, end_s, mean):
    now, last_s = 0.0, 0.0
    for i in range(mean.size):
        gap, length = (start_s[i] - last_s) / WARM_S, (end_s[i] - start_s[i]) / WARM_S
        mean[i], now = _warmed(now, gap, length)
        last_s = end_s[i]


@compiled
def _decay(x):
    """Exponential of -x, for small x by a quotient that is right within 1e-4."""
    return (1.0 - 0.5 * x) / (1.0 + 0.5 * x) if x < SMALL else np.exp(-x)


@compiled
def _warmed(now, gap, length):
    """Cool in a gap, warm up in work (in time constants): mean warmth in it, and at its end."""
    if gap > 0.0:
        now *= _decay(gap)
    left = _decay(length)
    # the mean of a short segment is its middle
    share = 0.5 * (1.0 + left) if length < SMALL else (1.0 - left) / length
    return 1.0 - (1.0 - now) * share, 1.0 - (1.0 - now) * left


@compiled
def segment_power(segments, n, power, board, above_w):
    """Mean watts above idle of n segments: decode, prefill that saturates, warmth, the limit."""
    # energy above the limit fills a store that power below empties; a full one holds to the limit
    warm, stored_j, last_s = board.warm, board.stored_j, board.until_s
    decode_w, sequence_w, warm_w = power.decode_w, power.per_sequence_w, power.warm_w
    prefill_w, limit_w, idle_w = power.prefill_w, power.limit_w, power.idle_w
    room_j = max(prefill_w - limit_w, 0.0) * LIMIT_S
    for i in range(n):
        work = segments[i]
        length_s, gap_s = work.end_s - work.start_s, work.start_s - last_s
        mean, warm = _warmed(warm, gap_s / WARM_S, length_s / WARM_S)
        batch = work.batch
        if power.batch_scale < LINEAR:
            batch = power.batch_scale * np.log1p(batch / power.batch_scale)
        level_w = decode_w + sequence_w * batch + warm_w * mean
        if work.prefill_tokens > 0.0:
            left = np.exp(-work.prefill_tokens / power.scale_tokens)
            level_w += (prefill_w - level_w) * (1.0 - left)
        emptied_j = (limit_w - idle_w) * max(gap_s, 0.0)
        stored_j = max(stored_j - emptied_j, 0.0) + (level_w - limit_w) * length_s
        if stored_j > room_j:
            level_w -= (stored_j - room_j) / length_s
            stored_j = room_j
        stored_j = max(stored_j, 0.0)
        last_s = work.end_s
        above_w[i] = level_w - idle_w
    board.warm, board.stored_j, board.until_s = warm, stored_j, last_s


@compiled
def begin_bins(begin_s, dt_s, board, bins):
    """Empty the bins (share at work, watts above idle, rest), but for work that reaches in."""
    # rest: bins from the last work in a bin to its end, 0 where work goes on, -1 without work
    for b in range(bins.shape[1]):
        bins[0, b], bins[1, b], bins[2, b] = 0.0, 0.0, -1.0
    if board.open_end_s > begin_s:
        _spread_out(board.open_start_s, board.open_end_s, board.open_w, begin_s, dt_s, bins)
    if board.open_end_s <= begin_s + dt_s * bins.shape[1]:
        board.open_start_s = board.open_end_s = board.open_w = 0.0


@compiled
def lay(segments, n, power, board, begin_s, dt_s, bins, above_w):
    """Put the power of n successive segments into bins; the last may reach beyond them."""
    segment_power(segments, n, power, board, above_w)
    for i in range(n):
        _spread_out(segments[i].start_s, segments[i].end_s, above_w[i], begin_s, dt_s, bins)
    if n > 0 and segments[n - 1].end_s > begin_s + dt_s * bins.shape[1]:
        board.open_start_s, board.open_end_s = segments[n - 1].start_s, segments[n - 1].end_s
        board.open_w = above_w[n - 1]


@compiled
def _spread_out(start_s, end_s, power_w, begin_s, dt_s, bins):
    busy, above_w, rest, rate = bins[0], bins[1], bins[2], 1.0 / dt_s
    first = max((start_s - begin_s) * rate, 0.0)
    last = min((end_s - begin_s) * rate, float(busy.size))
    if last <= first:
        return
    b, e = int(first), int(last)
    if b < e:
        busy[b] += 1.0 + b - first
        above_w[b] += (1.0 + b - first) * power_w
        rest[b] = 0.0
        for k in range(b + 1, e):
            busy[k], above_w[k], rest[k] = 1.0, power_w, 0.0
        first = float(e)
    if e < busy.size and last > first:
        busy[e] += last - first
        above_w[e] += (last - first) * power_w
        rest[e] = 1.0 + e - last


@compiled
def settle(power, board, dt_s, bins, mean_w, sd_w):
    """Mean watts of bins, work and idle and afterglow, and the deviation of their noise."""
    busy, above_w, rest = bins[0], bins[1], bins[2]
    fade, cooling = np.exp(-dt_s / power.after_s), np.exp(-dt_s / WARM_S)
    glow_w, heat, after_w, idle_w = board.glow_w, board.heat, power.after_w, power.board_w
    warm_w, idle_sd_w = power.warm_idle_w, power.idle_sd_w
    more_w = power.work_sd_w - idle_sd_w
    for b in range(busy.size):
        share = min(busy[b], 1.0)
        if rest[b] == 0.0:
            glow_w = after_w
        elif rest[b] > 0.0:
            glow_w = after_w * np.exp(-rest[b] * dt_s / power.after_s)
        else:  # numbers too small for their exponent are slow
            glow_w = glow_w * fade if glow_w > FAINT else 0.0
        mean_w[b] = idle_w + above_w[b] + (1.0 - share) * (glow_w + warm_w * heat)
        heat = heat * cooling + share * (1.0 - cooling) if heat + share > FAINT else 0.0
        sd_w[b] = idle_sd_w + more_w * share
    board.glow_w, board.heat = glow_w, heat


@compiled
def add_noise(phi, normals, mean_w, sd_w, board, total_w):
    """Add the watts of a server to a total, with AR(1) noise of the deviations given."""
    noise, fresh = board.noise, np.sqrt(1.0 - phi * phi)
    gain = fresh if board.begun > 0.0 else 1.0
    for b in range(normals.size):
        noise = phi * noise + gain * normals[b]
        gain = fresh
        total_w[b] += max(mean_w[b] + noise * sd_w[b], 0.0)
    board.noise, board.begun = noise, 1.0


@compiled
def gather(mean_w, sd_w, board, variance, covariance, total_w):
    """Add a server to its rack: watts, variance of its noise by bin, covariance with the last."""
    covariance[0] += sd_w[0] * board.sd_w
    for b in range(1, sd_w.size):
        covariance[b] += sd_w[b] * sd_w[b - 1]
    for b in range(sd_w.size):
        total_w[b] += max(mean_w[b], 0.0)
        variance[b] += sd_w[b] * sd_w[b]
    board.sd_w = sd_w[-1]


@compiled
def add_shared_noise(phi, normals, variance, covariance, before, board, total_w):
    """Add one draw of noise that has variance and lag-one covariance of a sum of AR(1) noises."""
    # Of independent noises x_i with deviations s_i the sum y has Var y_t = sum s_it^2 and
    # Cov(y_t, y_t-1) = phi sum s_it s_it-1. `before` is the variance in the bin before the first.
    for b in range(normals.size):
        variance[b] = np.sqrt(variance[b])
    noise, last_w = board.noise, np.sqrt(before)
    for b in range(normals.size):
        both = variance[b] * last_w
        covariance[b] = phi * covariance[b] / both if both > 0.0 else 0.0
        last_w = variance[b]
    if board.begun == 0.0:
        covariance[0] = 0.0
    for b in range(normals.size):
        r = covariance[b]
        noise = r * noise + np.sqrt(max(1.0 - r * r, 0.0)) * normals[b]
        total_w[b] = max(total_w[b] + noise * variance[b], 0.0)
    board.noise, board.begun = noise, 1.0
