"""Who does a site's work: threads of this process, or the workers of a Dask cluster."""

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from sitetrace.core.files import InputError, require
from sitetrace.core.types import hold_memory

MOST_WORKERS = 1024
PATIENCE_S, CONNECT_S, SWITCH_S = 10.0, 10.0, 5e-4
# takes a function and its arguments; returns what waits for the result and gives it
Submit = Callable[..., Callable[[], Any]]


@contextmanager
def executor(workers: int, cluster: str | None) -> Iterator[Submit]:
    """Open what work is given to: so many threads, or the cluster at an address."""
    require(1 <= workers <= MOST_WORKERS, "workers", workers, f"give 1 to {MOST_WORKERS}")
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
        text = "cluster: Dask is not installed: pip install 'sitetrace[cluster]'"
        raise InputError(text) from None
    where, mend = f"cluster {address}", "mend or start workers and go on with --resume"
    try:
        client = Client(address, timeout=CONNECT_S)
    except (OSError, ValueError) as error:
        text = f"{where}: no scheduler answers ({error}): start one with dask scheduler"
        raise InputError(text) from None

    def result(future: Future) -> Any:
        idle_rounds = 0
        while True:
            try:
                return future.result(timeout=PATIENCE_S)
            except TimeoutError:
                idle_rounds = 0 if _has_workers(client) else idle_rounds + 1
                require(idle_rounds < 2, where, "no worker is left", mend)
            except (KilledWorker, FutureCancelledError) as error:
                raise InputError(f"{where}: workers died over and over ({error}): {mend}") from None

    def submit(function: Callable, *given: Any) -> Callable[[], Any]:
        future = client.submit(function, *given, pure=False)
        return lambda: result(future)

    with client:
        require(_has_workers(client), where, "it has no worker", "start one with dask worker")
        yield submit


def _has_workers(client: Any) -> bool:
    return bool(client.scheduler_info(n_workers=-1).get("workers"))
