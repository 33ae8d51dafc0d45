"""A small site of numbers that we make up, in the form of a simulated one."""

import json

import numpy as np
import pandas as pd
import xarray as xr

SCENARIO = {
    "name": "made up for tests",
    "seed": 1,
    "hours": 24,
    "start": "2026-07-01T00:00:00+02:00",
    "step_s": 1.0,
    "topology": {"rows": 2, "racks_per_row": 3, "servers_per_rack": 4},
    "fleet": [{"name": "chat", "model": "llama.json"}],
    "traffic": {"pattern": "diurnal", "rate_per_server": 0.5, "swing": 0.5, "peak_hour": 15},
    "non_gpu": {"constant_w": 1000},
    "pue": 1.3,
    "keep": [{"levels": ["site", "row", "rack"], "step_s": 1}],
}


def site_dataset(seconds=86_400, step_s=1.0, rows=2, racks=3, servers=4, seed=1, pue=1.3, hours=2):
    """Racks of AR(1) noise on a daily swing, summed to rows, site and facility."""
    from scipy.signal import lfilter

    rng = np.random.default_rng(seed)
    n = int(seconds / step_s)
    clock_h = np.arange(n) * step_s / 3600
    daily = 1 + 0.3 * np.sin((clock_h - 9) * np.pi / 12)
    noise = lfilter([0.2], [1, -0.9], rng.standard_normal((rows * racks, n)), axis=1)
    rack_w = 2500 * servers * (daily + 0.1 * noise).clip(0.3)
    row_w = rack_w.reshape(rows, racks, n).sum(axis=1)
    site_w = row_w.sum(axis=0)
    power = [pue * site_w, site_w, site_w - 1000 * rows * racks * servers, *row_w, *rack_w]
    units = ["facility", "site", "gpu"]
    units += [f"row-{r}" for r in range(rows)]
    units += [f"rack-{r}-{k}" for r in range(rows) for k in range(racks)]
    level = [name.partition("-")[0] for name in units]
    inside = {
        "facility": rows * racks * servers,
        "row": racks * servers,
        "rack": servers,
    }
    count = np.array([inside.get(each, rows * racks * servers) for each in level])
    start = np.datetime64("2026-07-01T00:00:00") - np.timedelta64(int(hours * 3600), "s")
    ticks = (np.arange(n) * round(step_s * 1e9)).astype("timedelta64[ns]")
    return xr.Dataset(
        {"power_w": (("time", "unit"), np.array(power, np.float32).T, {"units": "W"})},
        {
            "time": start.astype("datetime64[ns]") + ticks,
            "unit": np.array(units, object),
            "level": ("unit", np.array(level, object)),
            "row": ("unit", [int(u.split("-")[1]) if "-" in u else -1 for u in units]),
            "rack": ("unit", [int(u.split("-")[2]) if u.count("-") == 2 else -1 for u in units]),
            "servers": ("unit", count),
            "nameplate_w": (
                "unit",
                count * 3800.0 * np.array([pue if u == "facility" else 1 for u in level]),
            ),
        },
        {
            "title": "made up for tests",
            "data": "testbed",
            "scenario": json.dumps(SCENARIO),
            "models": json.dumps(
                {"chat": {"file": "llama.json", "sha256": "0" * 64, "configuration": "made up"}}
            ),
            "seed": 1,
            "step_s": step_s,
            "utc_offset_h": float(hours),
            "requests": json.dumps({"served": 100, "total": 100}),
            "sitetrace": "0.1.0",
            "Conventions": "CF-1.10",
        },
    )


def in_file(dataset, path):
    """Write a dataset as the simulation does."""
    encoding = {"time": {"units": f"nanoseconds since {pd.Timestamp(dataset.time.values[0])}"}}
    dataset.to_zarr(path, consolidated=False, encoding=encoding)
    return path
