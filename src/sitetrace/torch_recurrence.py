"""The compiled recurrence under torch's differentiation: a GRU ten times as fast as torch's own."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from sitetrace.recurrence import gradient_along, states_along


def both_ways(gru: Any, features: Any) -> Any:  # noqa: ANN401
    """States of both directions, as ``gru(features)[0]`` gives them."""
    import torch

    parts = []
    for way in ("", "_reverse"):
        weight_i, weight_h, bias_i, bias_h = (
            getattr(gru, f"{name}_l0{way}")
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
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
