"""The paper's bidirectional GRU: it predicts without torch, and is trained with it.

With s the logistic function, x the input and h the state before, each bin takes (as torch.nn.GRU)

    r = s(U_r x + c_r + W_r h + b_r)            z = s(U_z x + c_z + W_z h + b_z)
    n = tanh(U_n x + c_n + r (W_n h + b_n))     h' = (1 - z) n + z h

Compiled, these small steps take a tenth of torch's time. Training is that of arXiv:2603.18383: Adam
with clipped gradients, a step for each series, the best epoch by validation loss kept.
"""

import hashlib
import math
import pickle
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numba
import numpy as np

from sitetrace.core.files import InputError, replacing, require
from sitetrace.power.states.labels import Piece, TrainingBins
from sitetrace.power.states.transitions import Factors, Separable, Table, whatever_was_before

CHUNK = 8192  # bins that are worked on at once
WEIGHTS = ("input_weight", "input_bias", "hidden_weight", "hidden_bias", "head", "head_bias")
HIDDEN, MOST_EPOCHS = 64, 1000
RATE, CLIP_NORM, HALVE_AFTER, STOP_AFTER = 1e-3, 1.0, 20, 50
VALIDATION_SHARE, LAST_SHARE, SCALE_FLOOR = 0.15, 0.2, 1e-6
# torch's names of both directions, and of the parts of each in the order of `WEIGHTS`
WAYS, PARTS = ("", "_reverse"), ("weight_ih", "bias_ih", "weight_hh", "bias_hh")


@dataclass(frozen=True)
class BiGRU(Separable):
    """Bidirectional GRU over the activity of a whole series, and a softmax in each bin."""

    reach: ClassVar[None] = None  # the net sees the whole schedule, its future too
    columns: tuple[str, ...]
    center: np.ndarray  # standardisation of the columns, as `scale`
    scale: np.ndarray
    input_weight: np.ndarray  # of both directions: U, then c, W and b
    input_bias: np.ndarray
    hidden_weight: np.ndarray
    hidden_bias: np.ndarray
    head: np.ndarray  # from both directions' states to the scores of the states of power
    head_bias: np.ndarray

    def _factors(self, table: Table) -> Factors:
        seen = np.column_stack([np.asarray(table[name], float) for name in self.columns])
        score = self.logits((seen - self.center) / self.scale)
        return whatever_was_before(np.exp(score - score.max(axis=1, keepdims=True)), len(score))

    def logits(self, scaled: np.ndarray) -> np.ndarray:
        """Scores of the states in each bin, given standardised columns of a whole series."""
        weights = [getattr(self, name).astype(float) for name in WEIGHTS]
        input_weight, input_bias, hidden_weight, hidden_bias, head, head_bias = weights
        n_bins, hidden = len(scaled), hidden_weight.shape[2]
        score = np.tile(head_bias, (n_bins, 1))
        for way in (0, 1):
            order = slice(None, None, 1 - 2 * way)  # the second direction begins at the last bin
            series, total = scaled[order], score[order]
            part = np.ascontiguousarray(head[:, way * hidden : (way + 1) * hidden].T)
            state = np.zeros(hidden)
            for begin in range(0, n_bins, CHUNK):
                drive = series[begin : begin + CHUNK] @ input_weight[way].T + input_bias[way]
                states, _ = states_along(drive, hidden_weight[way], hidden_bias[way], state)
                total[begin : begin + CHUNK] += states @ part
                state = states[-1]
        return score


@numba.njit(cache=True)
def states_along(drive, weight, bias, start):
    """Follow the states along a series of one direction: states, and gates for the gradient."""
    # `drive` is U x + c, shape (bins, 3 hidden), `weight` W, `bias` b; gates r, z, n, W_n h + b_n
    n_bins, size, columns = drive.shape[0], start.size, weight.T.copy()
    hidden = np.empty((n_bins, size), dtype=drive.dtype)
    gates = np.empty((n_bins, 4 * size), dtype=drive.dtype)
    before, one = start, drive.dtype.type(1)
    for i in range(n_bins):
        pull = bias.copy()
        for j in range(size):
            for k in range(3 * size):
                pull[k] += before[j] * columns[j, k]
        for j in range(size):
            r = one / (one + math.exp(-(drive[i, j] + pull[j])))
            z = one / (one + math.exp(-(drive[i, size + j] + pull[size + j])))
            inner = pull[2 * size + j]
            n = math.tanh(drive[i, 2 * size + j] + r * inner)
            hidden[i, j] = (one - z) * n + z * before[j]
            gates[i, j], gates[i, size + j] = r, z
            gates[i, 2 * size + j], gates[i, 3 * size + j] = n, inner
        before = hidden[i]
    return hidden, gates


@numba.njit(cache=True)
def gradient_along(slope, hidden, gates, weight):
    """Carry a loss's gradient by each state back to U x + c and W h + b, shape (bins, 3 hidden)."""
    (n_bins, size), one = hidden.shape, hidden.dtype.type(1)
    by_drive = np.empty((n_bins, 3 * size), dtype=hidden.dtype)
    by_pull, carried = np.empty_like(by_drive), np.zeros(size, dtype=hidden.dtype)
    for i in range(n_bins - 1, -1, -1):
        for j in range(size):
            r, z = gates[i, j], gates[i, size + j]
            n, inner = gates[i, 2 * size + j], gates[i, 3 * size + j]
            before = hidden[i - 1, j] if i > 0 else hidden.dtype.type(0)
            total = slope[i, j] + carried[j]
            by_n = total * (one - z) * (one - n * n)
            by_drive[i, j] = by_pull[i, j] = by_n * inner * r * (one - r)
            by_z = total * (before - n) * z * (one - z)
            by_drive[i, size + j] = by_pull[i, size + j] = by_z
            by_drive[i, 2 * size + j], by_pull[i, 2 * size + j] = by_n, by_n * r
            carried[j] = total * z
        for k in range(3 * size):
            for j in range(size):
                carried[j] += by_pull[i, k] * weight[k, j]
    return by_drive, by_pull


def fit_bigru(
    steps: TrainingBins, columns: tuple[str, ...], *, record: dict | None = None, **how: Any
) -> BiGRU:
    """Train the net on all bins, idle one of its states; `record` is given the loss by epoch."""
    parts = hold_out(steps.pieces, how["seed"])
    features = steps.table[list(columns)].to_numpy(dtype=float)
    seen = np.concatenate([features[begin:end] for _, begin, end in parts[0]])
    center, scale = seen.mean(axis=0), np.maximum(seen.std(axis=0), SCALE_FLOOR)
    scaled = (features - center) / scale
    series = [[(scaled[b:e], steps.state[b:e]) for _, b, e in part] for part in parts]
    weights, history = train(*series, steps.n_states, **how)
    (record if record is not None else {}).update(history)
    return BiGRU(columns, center, scale, **weights)


def hold_out(pieces: tuple[Piece, ...], seed: int) -> tuple[list[Piece], list[Piece]]:
    """Split unbroken stretches into those that teach and those that validate."""
    # of several recordings the last 15% of a permutation validate, of a single one its last fifth
    recordings, fitting, validation = sorted({piece[0] for piece in pieces}), [], []
    if len(recordings) > 1:
        order = np.random.default_rng(seed).permutation(recordings)
        last = order[-max(1, int(VALIDATION_SHARE * len(order))) :]
        for piece in pieces:
            (validation if piece[0] in last else fitting).append(piece)
        return fitting, validation
    left = int((1 - LAST_SHARE) * sum(end - begin for _, begin, end in pieces))
    for recording, begin, end in pieces:
        cut = min(begin + left, end)
        left -= cut - begin
        fitting += [(recording, begin, cut)] * (cut > begin)
        validation += [(recording, cut, end)] * (end > cut)
    return fitting, validation


def train(
    fitting, held_out, n_states: int, *, seed, hidden=HIDDEN, epochs=MOST_EPOCHS, checkpoint=None
) -> tuple[dict[str, np.ndarray], dict]:
    """Train a net until its validation loss no longer falls: its weights, and loss by epoch."""
    from tqdm import tqdm

    torch = require_torch()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        gru = torch.nn.GRU(fitting[0][0].shape[1], hidden, bidirectional=True)
        net = torch.nn.ModuleList([gru, torch.nn.Linear(2 * hidden, n_states)])
    adam = torch.optim.Adam(net.parameters(), lr=RATE)
    halving = {"factor": 0.5, "patience": HALVE_AFTER, "threshold": 0.0}
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(adam, **halving)
    # nothing is drawn from here on: who goes on from a checkpoint ends in the same bytes
    parts = {"net": net, "adam": adam, "schedule": schedule}
    setting = pickle.dumps((fitting, held_out, n_states, seed, hidden, epochs))
    kept = {"setting": hashlib.sha256(setting).hexdigest(), "losses": [], "best": {}}
    if checkpoint is not None and Path(checkpoint).is_file():
        stored = {}
        with suppress(Exception):  # torch raises whatever its unpickler meets
            stored = dict(torch.load(checkpoint, weights_only=True))
        same, mend = stored.get("setting") == kept["setting"], "name another file or remove it"
        require(same, checkpoint, "no checkpoint of this training", mend)
        for name, part in parts.items():
            part.load_state_dict(stored.pop(name))
        kept = stored
    series = [
        [(torch.from_numpy(x.astype("f4")), torch.from_numpy(y.astype("i8"))) for x, y in part]
        for part in (fitting, held_out)
    ]
    losses, threads = kept["losses"], torch.get_num_threads()
    torch.set_num_threads(1)  # several would sum in another order
    try:
        for _ in tqdm(range(len(losses), epochs), disable=None, leave=False):
            if len(losses) - _best(losses) >= STOP_AFTER:
                break
            losses.append((_epoch(net, series[0], adam), _epoch(net, series[1], None)))
            schedule.step(losses[-1][1])
            if _best(losses) == len(losses):
                kept["best"] = {name: each.clone() for name, each in net.state_dict().items()}
            if checkpoint is not None:
                states = {name: part.state_dict() for name, part in parts.items()}
                with replacing(checkpoint) as temporary:
                    torch.save(kept | states, temporary)
    finally:
        torch.set_num_threads(threads)
    best = {name: value.numpy() for name, value in kept["best"].items()}
    weights = {"head": best["1.weight"], "head_bias": best["1.bias"]}
    for name, part in zip(WEIGHTS, PARTS, strict=False):
        weights[name] = np.stack([best[f"0.{part}_l0{way}"] for way in WAYS])
    taught, heard = map(list, zip(*losses, strict=True))
    return weights, {"best_epoch": _best(losses), "train_nats": taught, "held_out_nats": heard}


def _epoch(net: Any, part: list[tuple[Any, Any]], adam: Any) -> float:
    # mean cross-entropy over the bins of some series, each a step of the optimiser, if any
    torch, total = require_torch(), 0.0
    with torch.set_grad_enabled(adam is not None):
        for features, states in part:
            loss = torch.nn.functional.cross_entropy(net[1](both_ways(net[0], features)), states)
            if adam is not None:
                adam.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(net.parameters(), CLIP_NORM)
                adam.step()
            total += loss.item() * len(states)
    return total / sum(len(states) for _, states in part)


def _best(losses: list[tuple[float, float]]) -> int:
    # epoch (from 1) of the least validation loss; 0 before the first
    return int(np.argmin([heard for _, heard in losses])) + 1 if losses else 0


def both_ways(gru: Any, features: Any) -> Any:
    """States of both directions side by side, as ``gru(features)[0]`` gives them."""
    torch, parts = require_torch(), []
    for way in WAYS:
        weight_i, bias_i, weight_h, bias_h = (getattr(gru, f"{part}_l0{way}") for part in PARTS)
        series = features.flip(0) if way else features
        drive = torch.nn.functional.linear(series, weight_i, bias_i)
        states = _recurrence().apply(drive, weight_h, bias_h)
        parts.append(states.flip(0) if way else states)
    return torch.cat(parts, dim=1)


@cache
def _recurrence() -> Any:
    torch = require_torch()

    class Recurrence(torch.autograd.Function):
        @staticmethod
        def forward(ctx, drive, weight, bias):
            arrays = [part.detach().numpy() for part in (drive, weight, bias)]
            start = np.zeros_like(arrays[1][0])
            hidden, gates = map(torch.from_numpy, states_along(*arrays, start))
            ctx.save_for_backward(hidden, gates, weight)
            return hidden

        @staticmethod
        def backward(ctx, slope):
            hidden = ctx.saved_tensors[0].detach()
            arrays = (part.detach().numpy() for part in (slope.contiguous(), *ctx.saved_tensors))
            by_drive, by_pull = map(torch.from_numpy, gradient_along(*arrays))
            before = torch.cat([torch.zeros_like(hidden[:1]), hidden[:-1]])
            return by_drive, by_pull.T @ before, by_pull.sum(0)

    return Recurrence


def require_torch() -> Any:
    """Import torch, or say how to get it."""
    try:
        import torch
    except ImportError:
        mend = "pip install 'sitetrace[torch]'"
        raise InputError(f"transitions bigru: training needs torch: {mend}") from None
    return torch
