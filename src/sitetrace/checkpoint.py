"""What a site that is cut short goes on from: the state of all servers and streams in one file."""

from __future__ import annotations

import json
import os
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from sitetrace.files import InputError

State = dict[str, np.ndarray]


def write_checkpoint(path: Path, done: int, states: list[State], streams: list) -> None:
    """Write a checkpoint, whole or not at all."""
    told = json.dumps({"done": done, "streams": streams}, default=np.ndarray.tolist)
    packed = {"told": np.array(told)}
    # servers of one kind have arrays of the same names, so that few long arrays hold them all
    kinds: dict[tuple, list[int]] = {}
    for i, state in enumerate(states):
        form = tuple((name, value.shape[1:], value.dtype.str) for name, value in state.items())
        kinds.setdefault(form, []).append(i)
    for kind, (form, members) in enumerate(kinds.items()):
        packed[f"{kind} members"] = np.array(members)
        for name, *_ in form:
            parts = [states[i][name] for i in members]
            packed[f"{kind} {name}"] = np.concatenate(parts)
            packed[f"{kind} {name} lengths"] = np.array([len(part) for part in parts])
    fresh = path.with_name(f"new-{path.name}")
    np.savez(fresh, **packed)
    os.replace(fresh, path)


def read_checkpoint(path: Path) -> tuple[int, list[State], list]:
    """Read a checkpoint."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as packed:
            told = json.loads(str(packed["told"]))
            kinds = [name.removesuffix(" members") for name in packed if name.endswith(" members")]
            states: dict[int, State] = {}
            for kind in kinds:
                members = packed[f"{kind} members"].tolist()
                names = [n for n in packed if n.startswith(f"{kind} ") and f"{n} lengths" in packed]
                for name in names:
                    edges = np.cumsum(packed[f"{name} lengths"])[:-1]
                    for i, part in zip(members, np.split(packed[name], edges), strict=True):
                        states.setdefault(i, {})[name.removeprefix(f"{kind} ")] = part
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise InputError(f"{path}: damaged ({error}): remove its folder and start anew") from error
    return told["done"], [states[i] for i in sorted(states)], told["streams"]
