"""Sites beside drawing as many normal numbers, and their peak memory, each in a process of its own.

The floor is drawn in that process too: one thread, in pieces of a day of one server, so that
neither side pays for arrays larger than its caches.
"""

import math
import multiprocessing
import resource
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import sitetrace
from sitetrace.site.scenario import check_scenario

PIECE, STEPS_PER_H = 345_600, 14_400
RATE_PER_SERVER = 0.5
ROW, SITE, CAMPUS = (1, 6, 4), (10, 6, 4), (50, 10, 20)
SHIPPED = "llama-3.1-70b_h100_cut_timeline"


@dataclass(frozen=True)
class Job:
    """A site to be simulated: rows, racks of a row, servers of a rack; and for how long."""

    name: str
    shape: tuple[int, int, int]
    hours: float
    model: str = SHIPPED
    workers: int = 2
    repeats: int = 1

    @property
    def samples(self):
        """Steps of all servers."""
        return int(math.prod(self.shape) * self.hours * STEPS_PER_H)

    def scenario(self):
        """Poisson traffic on servers that are all alike."""
        names = ("rows", "racks_per_row", "servers_per_rack")
        settings = {"hours": self.hours, "seed": 1, "non_gpu": {"constant_w": 1000}}
        settings["topology"] = dict(zip(names, self.shape, strict=True))
        settings["fleet"] = [{"name": "all", "model": self.model}]
        settings["traffic"] = {"pattern": "poisson", "rate_per_server": RATE_PER_SERVER}
        return check_scenario(settings)


def peak_mb():
    """Greatest memory of this process so far, MiB."""
    # Linux hands what getrusage tells from a parent to its child; /proc tells of the child alone.
    status = Path("/proc/self/status")
    if status.exists():
        lines = status.read_text().splitlines()
        return next(int(x.split()[1]) for x in lines if x.startswith("VmHWM")) / 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def floor_s(samples):
    """Seconds to draw normal numbers piece by piece."""
    rng = np.random.default_rng(1)
    begin = time.perf_counter()
    for first in range(0, samples, PIECE):
        rng.standard_normal(min(PIECE, samples - first))
    return time.perf_counter() - begin


def measure(job):
    """Simulate a site: seconds, seconds of its floor, peak memory in MiB."""
    with tempfile.TemporaryDirectory() as folder:
        small = Job("warm-up: what is compiled, is", ROW, 0.5, job.model)
        sitetrace.simulate_site(small.scenario(), Path(folder) / "small.zarr")
        scenario, times = job.scenario(), []
        for repeat in range(job.repeats):
            out = Path(folder) / f"{repeat}.zarr"
            begin = time.perf_counter()
            sitetrace.simulate_site(scenario, out, workers=job.workers)
            times.append(time.perf_counter() - begin)
    peak = peak_mb()
    floors = [floor_s(job.samples) for _ in range(job.repeats)]
    return min(times), min(floors), peak


def jobs(models):
    """All sites of the bench."""
    both = (1, 2)
    day = [Job(f"timeline: 240 servers, a day, {n} w.", SITE, 24, SHIPPED, n, 2) for n in both]
    states = [
        Job(f"{kind}: 24 servers (a tenth), a day, {n} w.", ROW, 24, path, n, 2)
        for kind, path in models.items()
        for n in both
    ]
    hours = [Job(f"timeline: 240 servers, {n} h, 2 w.", SITE, n) for n in (1, 6)]
    return [*day, *states, *hours, Job("timeline: 10,000 servers, an hour, 2 w.", CAMPUS, 1)]


def print_sites(states):
    """Print a line for each site; w. are workers, MB those of the process; return the floors."""
    print(f"\n{'sites':46}{'samples':>14}{'s':>10}{'floor s':>10}{'floors':>10}{'MB':>8}")
    ratios, spawn = {}, multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        models = {kind: str(Path(folder) / f"{kind}.json") for kind in states}
        for kind, model in states.items():
            sitetrace.save_model(model, models[kind])
        for job in jobs(models):
            with ProcessPoolExecutor(1, mp_context=spawn) as alone:
                took_s, drawn_s, peak = alone.submit(measure, job).result()
            ratios[job.name] = took_s / drawn_s
            times = f"{took_s:>10.2f}{drawn_s:>10.2f}{ratios[job.name]:>10.1f}"
            print(f"{job.name:46}{job.samples:>14,}{times}{peak:>8.0f}", flush=True)
    return ratios
