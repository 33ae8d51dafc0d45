"""What a site that is cut short goes on from: the state of all servers and streams in one file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from sitetrace.files import InputError, replacing

State = dict[str, np.ndarray]


def write_checkpoint(path: Path, done: int, states: list[State], streams: list) -> None:
    """Write a checkpoint, whole or not at all.

    Parameters
    ----------
    path : Path
        File ending in ``.npz``.
    done : int
        Stretches of time that are stored.
    states : list of dict
        State of each server: arrays by name.
    streams : list
        State of each pool's stream and routing: anything that JSON holds, and arrays.
    """
    told = json.dumps({"done": done, "streams": streams}, default=np.ndarray.tolist)
    packed = {"told": np.array(told)}
    # servers of one kind have arrays of the same names, so that few long arrays hold them all
    for kind, names in enumerate(dict.fromkeys(tuple(state) for state in states)):
        members = [i for i, state in enumerate(states) if tuple(state) == names]
        packed[f"{kind} members"] = np.array(members)
        for name in names:
            parts = [states[i][name] for i in members]
            packed[f"{kind} {name}"] = np.concatenate(parts)
            packed[f"{kind} {name} lengths"] = np.array([len(part) for part in parts])
    with replacing(path) as temporary:
        np.savez(temporary, **packed)


def read_checkpoint(path: Path) -> tuple[int, list[State], list]:
    """Read a checkpoint.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    done : int
        Stretches of time that are stored.
    states : list of dict
        State of each server.
    streams : list
        State of each pool's stream and routing.

    Raises
    ------
    InputError
        If the file is damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as packed:
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
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise InputError(f"{path}: damaged ({error}): remove its folder and start anew") from error
    return told["done"], [states[i] for i in sorted(states)], told["streams"]
