"""Our time as a multiple of the floor: drawing as many normal numbers in the same process.

Other than that: requests a second beside another simulator, and sites with their peak memory.
"""

import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from bench_others import print_rates
from bench_site import peak_mb, print_sites

import sitetrace
from sitetrace.power.states.model import StatesModel
from sitetrace.serving.engine import simulate
from sitetrace.site.plant import ServerPool
from sitetrace.site.racks import advance, begin

DAY_S = 86400.0
RATE_PER_S = 1.0
CALM_RATE_PER_S = 0.5
HOUR_S = 3600.0
REPEATS = 3


def best_s(work: Callable[[], object]) -> float:
    """Shortest of a few repeats: what the machine can do when nothing else runs."""
    times = []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return min(times)


def line(name: str, samples: int, took_s: float, rng: np.random.Generator) -> str:
    floor_s = best_s(lambda: rng.standard_normal(samples))
    return f"{name:34}{samples:>10,}{took_s:>10.3f}{floor_s:>10.4f}{took_s / floor_s:>10.1f}"


def day_in_hours(
    model: StatesModel, requests: pd.DataFrame, rng: np.random.Generator
) -> np.ndarray:
    """Draw one server as a site does, engine and power, hour by hour."""
    pool = ServerPool("bench", model, None, np.array([0]), None, "random", 1)
    arrival_s = requests["arrival_s"].to_numpy()
    tokens = requests[["input_tokens", "output_tokens"]].to_numpy()
    n_bins, state, hours = round(HOUR_S / float(model.dt)), begin(model), []
    for begin_s in np.arange(0.0, DAY_S, HOUR_S):
        new = slice(*np.searchsorted(arrival_s, [begin_s, begin_s + HOUR_S]))
        span_s = (begin_s, begin_s + HOUR_S)
        power_w, state = advance(pool, state, (arrival_s[new], tokens[new]), span_s, rng, n_bins)
        hours.append(power_w)
    return np.concatenate(hours)


def main() -> None:
    rng = np.random.default_rng(1)
    with tempfile.TemporaryDirectory() as folder:
        sitetrace.testbed.write_dataset(Path(folder) / "testbed", 1)
        run = sitetrace.read_run(Path(folder) / "testbed" / "poisson")
    model = sitetrace.fit([run], seed=1, kind="states")
    print(f"{'':34}{'samples':>10}{'s':>10}{'floor s':>10}{'floors':>10}")
    took_s = best_s(lambda: sitetrace.fit([run], seed=1, kind="states"))
    print(line("states: fit, all choices made", len(run.samples), took_s, rng))
    took_s = best_s(lambda: sitetrace.fit([run], seed=1, kind="timeline"))
    print(line("timeline: fit", len(run.samples), took_s, rng))
    requests = sitetrace.workload.poisson(RATE_PER_S, DAY_S, rng)
    timeline = simulate(requests, model.server)
    trace = model.draw(timeline, rng)
    samples = len(trace.power_w)
    took_s = best_s(lambda: simulate(requests, model.server))
    print(line(f"serving, a day at {RATE_PER_S:g} request/s", samples, took_s, rng))
    took_s = best_s(lambda: model.draw(timeline, rng))
    print(line("states: power, the same day", samples, took_s, rng))
    line_model = sitetrace.load_model(sitetrace.shipped_model("testbed_timeline"))
    calm = sitetrace.workload.poisson(CALM_RATE_PER_S, DAY_S, rng)
    chosen = {}
    for transitions in ("markov", "logit"):
        chosen[transitions] = sitetrace.fit([run], seed=1, kind="states", transitions=transitions)
        work = partial(day_in_hours, chosen[transitions], calm, rng)
        name = f"states ({transitions}): a day in hours"
        print(line(name, work().size, best_s(work), rng))
    for reading in ("power", "meter"):
        took_s = best_s(lambda reading=reading: line_model.generate(calm, rng=rng, reading=reading))
        name = f"timeline: a day at {CALM_RATE_PER_S:g}/s, {reading}"
        print(line(name, samples, took_s, rng))
    print(f"peak memory {peak_mb():.0f} MB")
    print_rates(line_model.server, rng)
    print_sites(chosen)


if __name__ == "__main__":
    main()
