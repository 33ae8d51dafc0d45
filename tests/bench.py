"""Our time as a multiple of the floor: drawing as many normal numbers in the same process.

Other than that: requests a second beside another simulator, and sites with their peak memory.
After the tables each ratio, in floors, stands on a line of its own.
"""

import tempfile
from functools import partial
from pathlib import Path

import numpy as np
from bench_others import print_rates
from bench_site import best_s, peak_mb, print_sites

import sitetrace
from sitetrace.power import running
from sitetrace.serving.engine import simulate
from sitetrace.serving.inflight import as_requests

DAY_S, HOUR_S = 86400.0, 3600.0
RATE_PER_S, CALM_RATE_PER_S = 1.0, 0.5


def day_in_hours(model, requests, rng):
    """Draw one server as a site does, engine and power, hour by hour."""
    server, n_bins, hours = running.start([model]), round(HOUR_S / float(model.dt)), []
    arrival_s = requests["arrival_s"].to_numpy()
    tokens = requests[["input_tokens", "output_tokens"]].to_numpy()
    for begin_s in np.arange(0.0, DAY_S, HOUR_S):
        new = slice(*np.searchsorted(arrival_s, [begin_s, begin_s + HOUR_S]))
        came = as_requests(arrival_s[new], tokens[new])
        noise = server.noise([rng], n_bins, False)
        hours.append(server.advance(begin_s + HOUR_S, came, np.zeros(len(came), int), noise)[0])
        server.fates()
    return np.concatenate(hours)


def main():
    rng, ratios = np.random.default_rng(1), {}
    with tempfile.TemporaryDirectory() as folder:
        sitetrace.testbed.write_dataset(Path(folder) / "testbed", 1)
        run = sitetrace.read_run(Path(folder) / "testbed" / "poisson")

    def report(name, samples, work):
        took_s, floor_s = best_s(work), best_s(lambda: rng.standard_normal(samples))
        ratios[name] = took_s / floor_s
        print(f"{name:34}{samples:>10,}{took_s:>10.3f}{floor_s:>10.4f}{ratios[name]:>10.1f}")

    print(f"{'':34}{'samples':>10}{'s':>10}{'floor s':>10}{'floors':>10}")
    fit = partial(sitetrace.fit, [run], seed=1)
    model = fit(kind="states")
    report("states: fit, all choices made", len(run.samples), lambda: fit(kind="states"))
    report("timeline: fit", len(run.samples), lambda: fit(kind="timeline"))
    requests = sitetrace.workload.poisson(RATE_PER_S, DAY_S, rng)
    timeline = simulate(requests, model.server)
    day = len(model.draw(timeline, rng).power_w)
    name = f"serving, a day at {RATE_PER_S:g} request/s"
    report(name, day, lambda: simulate(requests, model.server))
    report("states: power, the same day", day, lambda: model.draw(timeline, rng))
    line_model = sitetrace.load_model(sitetrace.shipped_model("testbed_timeline"))
    calm = sitetrace.workload.poisson(CALM_RATE_PER_S, DAY_S, rng)
    chosen = {name: fit(kind="states", transitions=name) for name in ("markov", "logit")}
    for name, each in chosen.items():
        work = partial(day_in_hours, each, calm, rng)
        report(f"states ({name}): a day in hours", work().size, work)
    for reading in ("power", "meter"):
        work = partial(line_model.generate, calm, rng=rng, reading=reading)
        report(f"timeline: a day at {CALM_RATE_PER_S:g}/s, {reading}", day, work)
    print(f"peak memory {peak_mb():.0f} MB")
    print_rates(line_model.server, rng)
    ratios |= print_sites(chosen)
    print("\nfloors")
    for name, ratio in ratios.items():
        print(f"{name}: {ratio:.1f}")


if __name__ == "__main__":
    main()
