"""A site on a Dask cluster: a real scheduler and two workers, processes on 127.0.0.1."""

import os
import re
import signal
import subprocess
import sys
from contextlib import ExitStack, contextmanager

import pytest

import sitetrace
from sitetrace.core.files import InputError
from sitetrace.site import simulate as site_module
from sitetrace.site import workers as site_workers
from tests.test_site import digest, scenario

# no dashboard, and an end of their own should the test die
LIFE_S = 120
SCHEDULER = ["scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--no-show"]
SCHEDULER += ["--idle-timeout", f"{LIFE_S}s"]
WORKER = ["worker", "--host", "127.0.0.1", "--nthreads", "1", "--no-dashboard", "--no-nanny"]
WORKER += ["--death-timeout", "20", "--lifetime", f"{LIFE_S}s", "--memory-limit", "0"]


@contextmanager
def dask(*arguments, until):
    """Start a process of Dask's command line; yield it and what its log says."""
    command = [sys.executable, "-m", "dask", *arguments]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            for line in process.stderr:
                if found := re.search(until, line):
                    yield process, found.group(0)
                    break
        finally:
            process.kill()


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with ExitStack() as stack:
        scheduler = dask(*SCHEDULER, until=r"tcp://127\.0\.0\.1:\d+")
        address = stack.enter_context(scheduler)[1]
        workers = [
            stack.enter_context(dask(*WORKER, address, until="Registered to"))[0] for _ in range(2)
        ]
        yield address, workers


def test_a_cluster_gives_the_same_bytes_though_a_worker_dies(cluster, tmp_path, monkeypatch):
    address, workers = cluster
    summed = site_module.site_power_w

    def simulate_and_kill(worker, name):
        def and_kill(*given):
            if given[-1].index == 1:
                os.kill(worker.pid, signal.SIGKILL)
            return summed(*given)

        with monkeypatch.context() as patch:
            patch.setattr(site_module, "site_power_w", and_kill)
            sitetrace.simulate_site(scenario(), tmp_path / name, cluster=address)

    simulate_and_kill(workers[0], "cluster.zarr")
    sitetrace.simulate_site(scenario(), tmp_path / "alone.zarr")
    assert workers[0].poll() is not None
    assert digest(tmp_path / "cluster.zarr") == digest(tmp_path / "alone.zarr")
    # and with nobody left it says so and goes on later, here
    monkeypatch.setattr(site_workers, "PATIENCE_S", 0.2)
    monkeypatch.setattr(site_module, "CHECKPOINT_EVERY_S", -1.0)
    with pytest.raises(InputError, match="no worker is left.*--resume"):
        simulate_and_kill(workers[1], "left.zarr")
    sitetrace.simulate_site(scenario(), tmp_path / "left.zarr", resume=True)
    assert digest(tmp_path / "left.zarr") == digest(tmp_path / "alone.zarr")


def test_an_address_where_nobody_answers_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(site_workers, "CONNECT_S", 1.0)
    with pytest.raises(InputError, match="cluster tcp://127.0.0.1:9: no scheduler answers"):
        sitetrace.simulate_site(scenario(), tmp_path / "site.zarr", cluster="tcp://127.0.0.1:9")
