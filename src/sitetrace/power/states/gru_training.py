"""Training of the bidirectional GRU with torch, as arXiv:2603.18383 does it.

Adam at a rate of 1e-3, gradient norm clipped to 1; the loss is the cross-entropy, mean over the
bins, without class weights; each series is one step of the optimiser, in order, from the zero
state. The rate is halved after 20 epochs without a better validation loss, training stops after
50, and the best epoch is kept. torch holds the weights, the loss and the optimiser; the recurrence
is that of `bigru`, so that a recording takes hundredths of a second.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from sitetrace.core.files import InputError, replacing
from sitetrace.power.states.bigru import WEIGHTS, BiGRU, gradient_along, states_along
from sitetrace.power.states.labels import Piece, TrainingBins

HIDDEN = 64
MOST_EPOCHS = 1000
RATE, CLIP_NORM = 1e-3, 1.0
HALVE_AFTER, STOP_AFTER = 20, 50
VALIDATION_SHARE, LAST_SHARE = 0.15, 0.2
SAVE_EVERY = 10
STATEFUL = ("net", "adam", "schedule")
SCALE_FLOOR = 1e-6
# torch's names of the two directions, and of what each has, in the order of `WEIGHTS`
WAYS = ("", "_reverse")
PARTS = ("weight_ih", "bias_ih", "weight_hh", "bias_hh")
# standardised features, shape (bins, columns), and states of an unbroken series
Series = tuple[np.ndarray, np.ndarray]


def fit_bigru(
    steps: TrainingBins,
    columns: tuple[str, ...],
    *,
    seed: int,
    checkpoint: Path | str | None = None,
    record: dict | None = None,
    **limits: int,
) -> BiGRU:
    """Train the net as the paper does, on all bins: idle is one of its states."""
    # `record` is given the loss by epoch; `limits` are ``hidden`` and ``epochs`` of `train`.
    fitting, validation = hold_out(steps.pieces, seed)
    features = steps.table[list(columns)].to_numpy(dtype=float)
    seen = np.concatenate([features[begin:end] for _, begin, end in fitting])
    center, scale = seen.mean(axis=0), np.maximum(seen.std(axis=0), SCALE_FLOOR)
    scaled = (features - center) / scale
    series, held_out = (
        [(scaled[begin:end], steps.state[begin:end]) for _, begin, end in part]
        for part in (fitting, validation)
    )
    options = {"seed": seed, "checkpoint": checkpoint} | limits
    weights, history = train(series, held_out, steps.n_states, **options)
    if record is not None:
        record.update(history)
    return BiGRU(columns, center, scale, **weights)


def hold_out(pieces: tuple[Piece, ...], seed: int) -> tuple[list[Piece], list[Piece]]:
    """Split unbroken stretches into those that teach and those that validate."""
    # Of several recordings the last 15% of a permutation validate, of a single one its last fifth.
    recordings = sorted({recording for recording, _, _ in pieces})
    if len(recordings) > 1:
        order = np.random.default_rng(seed).permutation(recordings)
        last = set(order[-max(1, int(VALIDATION_SHARE * len(order))) :].tolist())
        fitting = [piece for piece in pieces if piece[0] not in last]
        return fitting, [piece for piece in pieces if piece[0] in last]
    fitting, validation = [], []
    left = int((1 - LAST_SHARE) * sum(end - begin for _, begin, end in pieces))
    for recording, begin, end in pieces:
        cut = min(begin + left, end)
        left -= cut - begin
        fitting += [(recording, begin, cut)] * (cut > begin)
        validation += [(recording, cut, end)] * (end > cut)
    return fitting, validation


def train(
    series: list[Series],
    held_out: list[Series],
    n_states: int,
    *,
    seed: int,
    hidden: int = HIDDEN,
    epochs: int = MOST_EPOCHS,
    checkpoint: Path | str | None = None,
) -> tuple[dict[str, np.ndarray], dict]:
    """Train a net until its validation loss no longer falls: its weights, and loss by epoch."""
    from tqdm import tqdm

    with _deterministic(seed) as torch:
        setting = _fingerprint(series, held_out, n_states, seed, hidden, epochs)
        state = _State(torch, len(series[0][0][0]), hidden, n_states)
        if checkpoint is not None and Path(checkpoint).is_file():
            state.restore(checkpoint, setting)
        fitting, validation = (
            [
                (torch.from_numpy(x.astype(np.float32)), torch.from_numpy(y.astype(np.int64)))
                for x, y in part
            ]
            for part in (series, held_out)
        )
        # nothing is drawn after the first weights, so that training which was killed and goes on
        # from its checkpoint ends in the same bytes
        with tqdm(total=epochs, initial=len(state.losses), disable=None, leave=False) as bar:
            while len(state.losses) < epochs and state.waited() < STOP_AFTER:
                state.epoch(fitting, validation)
                bar.update()
                bar.set_postfix_str(f"held out {state.losses[-1][1]:.3f} nats")
                if checkpoint is not None and len(state.losses) % SAVE_EVERY == 0:
                    state.save(checkpoint, setting)
        if checkpoint is not None:
            state.save(checkpoint, setting)
        return state.weights(), state.history()


class _State:
    """All that training is at the end of an epoch."""

    def __init__(self, torch: Any, n_features: int, hidden: int, n_states: int) -> None:  # noqa: ANN401
        self.torch = torch
        self.gru = torch.nn.GRU(n_features, hidden, bidirectional=True)
        self.head = torch.nn.Linear(2 * hidden, n_states)
        self.net = torch.nn.ModuleList([self.gru, self.head])
        self.adam = torch.optim.Adam(self.net.parameters(), lr=RATE)
        self.schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(
            self.adam, factor=0.5, patience=HALVE_AFTER, threshold=0.0
        )
        self.losses: list[tuple[float, float]] = []
        self.best = {}

    def loss(self, features: Any, states: Any) -> Any:  # noqa: ANN401
        """Cross-entropy of a series, mean over its bins."""
        score = self.head(both_ways(self.gru, features))
        return self.torch.nn.functional.cross_entropy(score, states)

    def epoch(self, fitting: list, validation: list) -> None:
        """Take one step for each series, then validate."""
        torch, told = self.torch, []
        for features, states in fitting:
            self.adam.zero_grad()
            loss = self.loss(features, states)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.net.parameters(), CLIP_NORM)
            self.adam.step()
            told.append((loss.item(), len(states)))
        with torch.no_grad():
            heard = [(self.loss(*each).item(), len(each[1])) for each in validation]
        means = tuple(_mean(part) for part in (told, heard))
        if not self.losses or means[1] < min(each[1] for each in self.losses):
            self.best = {name: value.clone() for name, value in self.net.state_dict().items()}
        self.losses.append(means)
        self.schedule.step(means[1])

    def waited(self) -> int:
        """Count epochs since the best one."""
        return len(self.losses) - self.history()["best_epoch"] if self.losses else 0

    def history(self) -> dict:
        """Give the best epoch (from 1) and the loss by epoch."""
        told, heard = (list(part) for part in zip(*self.losses, strict=True))
        best = int(np.argmin(heard)) + 1
        return {"best_epoch": best, "train_nats": told, "held_out_nats": heard}

    def weights(self) -> dict[str, np.ndarray]:
        """Lay the best weights out as the model has them, both directions in one array."""
        best = {name: value.numpy() for name, value in self.best.items()}
        found = {
            name: np.stack([best[f"0.{part}_l0{way}"] for way in WAYS])
            for name, part in zip(WEIGHTS, PARTS, strict=False)
        }
        return found | {"head": best["1.weight"], "head_bias": best["1.bias"]}

    def save(self, path: Path | str, setting: str) -> None:
        """Write a checkpoint, whole or not at all."""
        content = {"setting": setting, "losses": self.losses, "best": self.best}
        content |= {name: getattr(self, name).state_dict() for name in STATEFUL}
        with replacing(path) as temporary:
            self.torch.save(content, temporary)

    def restore(self, path: Path | str, setting: str) -> None:
        """Go on from a checkpoint of the same training."""
        try:
            content = self.torch.load(path, weights_only=True)
            same = content["setting"] == setting
        except Exception as error:  # torch raises whatever its unpickler meets
            raise InputError(f"{path}: no checkpoint ({type(error).__name__}): remove it") from None
        if not same:
            raise InputError(
                f"{path}: checkpoint of a training on other data or settings: name another file "
                "or remove it"
            )
        for name in STATEFUL:
            getattr(self, name).load_state_dict(content[name])
        self.losses = [tuple(each) for each in content["losses"]]
        self.best = content["best"]


def _mean(part: list[tuple[float, int]]) -> float:
    """Mean loss over all bins of several series."""
    return sum(loss * bins for loss, bins in part) / sum(bins for _, bins in part)


def both_ways(gru: Any, features: Any) -> Any:  # noqa: ANN401
    """States of both directions side by side, as ``gru(features)[0]`` gives them."""
    import torch

    parts = []
    for way in WAYS:
        weight_i, bias_i, weight_h, bias_h = (getattr(gru, f"{part}_l0{way}") for part in PARTS)
        series = features.flip(0) if way else features
        drive = torch.nn.functional.linear(series, weight_i, bias_i)
        states = _recurrence().apply(drive, weight_h, bias_h)
        parts.append(states.flip(0) if way else states)
    return torch.cat(parts, dim=1)


@cache
def _recurrence() -> Any:  # noqa: ANN401
    """Make the recurrence known to torch's differentiation."""
    import torch

    class Recurrence(torch.autograd.Function):
        @staticmethod
        def forward(ctx, drive, weight, bias):  # noqa: ANN001, ANN205
            start = np.zeros(weight.shape[1], dtype=np.float32)
            arrays = [part.detach().numpy() for part in (drive, weight, bias)]
            hidden, gates = map(torch.from_numpy, states_along(*arrays, start))
            ctx.save_for_backward(hidden, gates, weight)
            return hidden

        @staticmethod
        def backward(ctx, slope):  # noqa: ANN001, ANN205
            hidden, gates, weight = (part.detach() for part in ctx.saved_tensors)
            arrays = (hidden.numpy(), gates.numpy(), weight.numpy())
            found = gradient_along(slope.contiguous().numpy(), *arrays)
            by_drive, by_pull = map(torch.from_numpy, found)
            before = torch.cat([torch.zeros_like(hidden[:1]), hidden[:-1]])
            return by_drive, by_pull.T @ before, by_pull.sum(0)

    return Recurrence


def require_torch() -> Any:  # noqa: ANN401
    """Import torch, or say how to get it."""
    try:
        import torch
    except ImportError:
        raise InputError(
            "transitions bigru: training needs torch: pip install 'sitetrace[torch]'"
        ) from None
    return torch


@contextmanager
def _deterministic(seed: int) -> Iterator[Any]:
    """One thread, seeded, deterministic; afterwards torch is as it was."""
    torch = require_torch()
    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield torch
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(strict)


def _fingerprint(series: list[Series], held_out: list[Series], *settings: int) -> str:
    """Digest of what a training depends on."""
    total = hashlib.sha256(repr((settings, len(series))).encode())
    for features, states in (*series, *held_out):
        total.update(repr(features.shape).encode())
        total.update(np.ascontiguousarray(features).tobytes())
        total.update(states.astype(np.int64).tobytes())
    return total.hexdigest()
