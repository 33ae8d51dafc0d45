"""A small site of numbers that we make up, in the form of a simulated one; and requests."""

import json
from fractions import Fraction

import numpy as np
import pandas as pd
import xarray as xr

from sitetrace.core.types import Configuration, Run

SCENARIO = {
    "topology": {"rows": 2, "racks_per_row": 3, "servers_per_rack": 4},
    "fleet": [{"name": "chat", "model": "llama.json"}],
    "traffic": {"pattern": "diurnal", "rate_per_server": 0.5, "swing": 0.5, "peak_hour": 15},
    "non_gpu": {"constant_w": 1000},
    "pue": 1.3,
}
ROWS, RACKS, SERVERS, PUE = 2, 3, 4, 1.3


def site_dataset(seconds=86_400, step_s=1.0, seed=1, hours=2):
    """Racks of AR(1) noise on a daily swing, summed to rows, site and facility."""
    from scipy.signal import lfilter

    rng = np.random.default_rng(seed)
    n = int(seconds / step_s)
    clock_h = np.arange(n) * step_s / 3600
    daily = 1 + 0.3 * np.sin((clock_h - 9) * np.pi / 12)
    noise = lfilter([0.2], [1, -0.9], rng.standard_normal((ROWS * RACKS, n)), axis=1)
    rack_w = 2500 * SERVERS * (daily + 0.1 * noise).clip(0.3)
    row_w = rack_w.reshape(ROWS, RACKS, n).sum(axis=1)
    site_w, servers = row_w.sum(axis=0), ROWS * RACKS * SERVERS
    power = [PUE * site_w, site_w, site_w - 1000 * servers, *row_w, *rack_w]
    units = [(name, name, -1, -1, servers) for name in ("facility", "site", "gpu")]
    units += [(f"row-{row}", "row", row, -1, RACKS * SERVERS) for row in range(ROWS)]
    units += [(f"rack-{row}-{rack}", "rack", row, rack, SERVERS)
              for row in range(ROWS) for rack in range(RACKS)]  # fmt: skip
    columns = ["unit", "level", "row", "rack", "servers"]
    table = pd.DataFrame(units, columns=columns).set_index("unit")
    table["nameplate_w"] = 3800.0 * table["servers"] * np.where(table.index == "facility", PUE, 1)
    start = np.datetime64("2026-07-01T00:00:00", "ns") - np.timedelta64(int(hours * 3600), "s")
    ticks = (np.arange(n) * round(step_s * 1e9)).astype("timedelta64[ns]")
    model = {"file": "llama.json", "sha256": "0" * 64, "configuration": "made up"}
    return xr.Dataset(
        {"power_w": (("time", "unit"), np.array(power, np.float32).T, {"units": "W"})},
        {"time": start + ticks, "unit": table.index.to_numpy(object)}
        | {name: ("unit", table[name].to_numpy()) for name in table},
        {
            "title": "made up for tests",
            "data": "testbed",
            "scenario": json.dumps(SCENARIO),
            "models": json.dumps({"chat": model}),
            "seed": 1,
            "step_s": step_s,
            "utc_offset_h": float(hours),
        },
    )


def run_of(requests, samples, **changes):
    """Return a recording, sampled every quarter of a second if nothing else is said."""
    known = {"name": "made up", "configuration": Configuration("m", "A100", 1), "engine": None}
    known |= {"dt": Fraction(1, 4), "info": {}, "digest": "0"}
    return Run(**known | {"requests": requests, "samples": samples} | changes)


def requests_table(arrival_s, input_tokens, output_tokens):
    """Return requests; lengths may be one for all."""
    columns = {"arrival_s": arrival_s, "input_tokens": input_tokens}
    return pd.DataFrame(columns | {"output_tokens": output_tokens})


def requests_of_20_s(rng, n, longest_input, start_s=0.0):
    """Return requests at random times, with answers of up to 200 tokens."""
    arrival_s = start_s + np.sort(rng.uniform(0, 20, n))
    return requests_table(arrival_s, rng.integers(1, longest_input, n), rng.integers(1, 200, n))


def in_file(dataset, path):
    """Write a dataset as the simulation does."""
    encoding = {"time": {"units": f"nanoseconds since {pd.Timestamp(dataset.time.values[0])}"}}
    dataset.to_zarr(path, consolidated=False, encoding=encoding)
    return path
