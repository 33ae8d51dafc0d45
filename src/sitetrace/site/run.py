"""How a site's work is carried out: threads or Dask, and checkpoints to go on from."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from sitetrace.core.files import InputError
from sitetrace.core.types import hold_memory

MOST_WORKERS = 1024
PATIENCE_S = 10.0
CONNECT_S = 10.0
SWITCH_S = 5e-4
Submit = Callable[..., Callable[[], Any]]
State = dict[str, np.ndarray]


@contextmanager
def executor(workers: int, cluster: str | None) -> Iterator[Submit]:
    """Open what work is given to."""
    if not 1 <= workers <= MOST_WORKERS:
        raise InputError(f"workers: {workers}: give 1 to {MOST_WORKERS}")
    if cluster is not None:
        with _cluster(cluster) as submit:
            yield submit
        return
    hold_memory()
    pool, interval_s = ThreadPoolExecutor(workers), sys.getswitchinterval()
    # compiled work is done in a millisecond and should not wait five for the interpreter
    sys.setswitchinterval(SWITCH_S)
    try:
        yield lambda function, *given: pool.submit(function, *given).result
    finally:
        sys.setswitchinterval(interval_s)
        pool.shutdown(cancel_futures=True)


@contextmanager
def _cluster(address: str) -> Iterator[Submit]:
    """Give work to Dask, which gives it to another worker when one dies."""
    try:
        from distributed import Client
        from distributed.client import FutureCancelledError
        from distributed.scheduler import KilledWorker
    except ImportError:
        raise InputError(
            "cluster: Dask is not installed: pip install 'sitetrace[cluster]'"
        ) from None
    try:
        client = Client(address, timeout=CONNECT_S)
    except (OSError, ValueError) as error:
        raise InputError(
            f"cluster {address}: no scheduler answers ({error}): start one with dask scheduler"
        ) from None
    lost = (KilledWorker, FutureCancelledError)

    def submit(function: Callable, *given: Any) -> Callable[[], Any]:  # noqa: ANN401
        future = client.submit(function, *given, pure=False)
        return lambda: _result(client, address, future, lost)

    with client:
        if not client.scheduler_info(n_workers=-1)["workers"]:
            raise InputError(f"cluster {address}: it has no worker: start one with dask worker")
        yield submit


def _result(client: Any, address: str, future: Future, lost: tuple) -> Any:  # noqa: ANN401
    """Wait for a result for as long as there is anybody who can work on it."""
    idle_rounds = 0
    while True:
        try:
            return future.result(timeout=PATIENCE_S)
        except TimeoutError:
            workers = client.scheduler_info(n_workers=-1).get("workers")
            idle_rounds = 0 if workers else idle_rounds + 1
            if idle_rounds == 2:
                raise InputError(
                    f"cluster {address}: no worker is left: start one and go on with --resume"
                ) from None
        except lost as error:
            raise InputError(
                f"cluster {address}: workers died over and over ({error}): mend them and go on "
                "with --resume"
            ) from None


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
