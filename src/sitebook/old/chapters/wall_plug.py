"""The chapter on GPU watts and wall-plug watts: recordings, fit, and what it does to a site."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from sitebook.old.ledger.claims import claim
from sitebook.old.ledger.records import record
from sitebook.old.wallplug.non_gpu import RECORDINGS, bounds
from sitebook.old.wallplug.wallplug import INDEX, INDEX_COLUMNS, list_recordings, overview, read_all
from sitetrace.core.files import InputError
from sitetrace.core.registry import dataset_path

TESTBED_LIMITS_W = {"capped at 250 W": 250.0, "capped at 400 W": 400.0}
TESTBED_GPUS = 8
TESTBED_BASE_W, TESTBED_SLOPE = 1500.0, 0.15
TESTBED_IDLE_W, TESTBED_LOADED_W = 60.0, 95.0
TESTBED_SHARE = 0.97
REACTIVE_VAR = 700.0
KEPT_W, LOST_SHARE = 3.0, 0.003
FACTOR_BINS, LEAST_SAMPLES, CALM = 40, 10, 0.02
PAPER_GPUS = 8
KW = 1e-3


def open_nodes(
    dataset: str, seed: int
) -> tuple[dict[str, pd.DataFrame], pd.DataFrame, pd.DataFrame]:
    """Open the recordings at the plug, and what is known of the GPUs behind them."""
    if dataset == "measured":
        return *_opened(dataset_path(RECORDINGS)), bounds()
    if dataset != "testbed":
        raise InputError(f"dataset={dataset!r}: say 'measured' or 'testbed'")
    with tempfile.TemporaryDirectory() as folder:
        limits = simulate_node(Path(folder), np.random.default_rng(seed))
        return *_opened(Path(folder)), limits


def _opened(folder: Path) -> tuple[dict[str, pd.DataFrame], pd.DataFrame]:
    recordings = list_recordings(folder)
    tables = read_all(recordings)
    return tables, overview(recordings, tables)


def simulate_node(folder: Path, rng: np.random.Generator) -> pd.DataFrame:
    """Write recordings of a node whose power besides the GPUs is known: two limits, two repeats."""
    index, limits = [], []
    for model, limit_w in TESTBED_LIMITS_W.items():
        known = {"idle_low_w": TESTBED_LOADED_W - 10, "idle_high_w": TESTBED_LOADED_W + 10}
        known |= {"load_low_w": 0.95 * limit_w, "load_high_w": limit_w}
        limits.append({"node": "testbed", "model": model} | known)
        for repeat in ("first", "second"):
            file = f"{model.replace(' ', '_')}_{repeat}.csv"
            _recorded(limit_w, rng).to_csv(folder / file, index=False)
            row = (file, "testbed", "testbed", TESTBED_GPUS, model, "Offline", repeat)
            index.append(dict(zip(INDEX_COLUMNS, row, strict=True)))
    pd.DataFrame(index).to_csv(folder / INDEX, index=False)
    return pd.DataFrame(limits)


def _recorded(limit_w: float, rng: np.random.Generator) -> pd.DataFrame:
    """Record one load of the testbed's node at 1 Hz; a sample is lost now and then."""
    # idle, eight GPUs that load one by one, ready, load, ready
    loaded = np.repeat(np.arange(TESTBED_GPUS + 1), [90, *[8] * TESTBED_GPUS])
    resting_w = TESTBED_GPUS * TESTBED_IDLE_W + loaded * (TESTBED_LOADED_W - TESTBED_IDLE_W)
    ready_w = np.full(20, TESTBED_GPUS * TESTBED_LOADED_W)
    busy_w = np.full(2100, TESTBED_GPUS * TESTBED_SHARE * limit_w) + rng.normal(0, 6, 2100)
    gpu_w = np.concatenate([resting_w, ready_w, busy_w, ready_w])
    power_w = gpu_w + TESTBED_BASE_W + TESTBED_SLOPE * gpu_w + rng.normal(0, KEPT_W, gpu_w.size)
    table = pd.DataFrame(
        {"time_s": np.arange(gpu_w.size, dtype=float), "power_w": power_w.round(1)}
    )
    table["voltage_v"] = 230.0
    table["power_factor"] = power_w / np.hypot(power_w, REACTIVE_VAR)
    table["current_a"] = table["power_w"] / table["voltage_v"] / table["power_factor"]
    table.loc[rng.random(len(table)) < LOST_SHARE, list(table)[1:]] = -1.0
    return table


def factor_by_load(tables: dict[str, pd.DataFrame], table: pd.DataFrame) -> pd.DataFrame:
    """Power factor against wall power."""
    rows = []
    for node, part in table.groupby("node"):
        samples = pd.concat([_calm(tables[name]) for name in part["name"]])
        bins = pd.cut(samples["power_w"], FACTOR_BINS)
        grouped = samples.groupby(bins, observed=True)[["power_w", "power_factor"]]
        medians = grouped.median()[grouped.size() >= LEAST_SAMPLES]
        told = {"node": node, "wall_kw": medians["power_w"] * KW}
        rows.append(pd.DataFrame(told | {"power_factor": medians["power_factor"]}))
    return pd.concat(rows, ignore_index=True)


def _calm(table: pd.DataFrame) -> pd.DataFrame:
    """Take the samples whose power is near that of both neighbours."""
    power_w = table["power_w"]
    change = np.maximum(power_w.diff().abs(), power_w.diff(-1).abs())
    return table[change < CALM * power_w]


def conversion(found: pd.DataFrame) -> pd.DataFrame:
    """Wall watts for each GPU watt, level by level."""
    rows = []
    for row in found.itertuples():
        middle_w = (row.gpu_low_w + row.gpu_high_w) / 2
        told = {"node": row.node, "level": row.level, "gpu_w": middle_w / row.gpus}
        told["wall_w"] = row.wall_w
        for end, gpu_w in (("", middle_w), ("_low", row.gpu_high_w), ("_high", row.gpu_low_w)):
            told[f"other_w{end}"] = row.wall_w - gpu_w
            told[f"wall_per_gpu_w{end}"] = row.wall_w / gpu_w
        rows.append(told)
    return pd.DataFrame(rows)


def paper_site(fitted: dict) -> pd.DataFrame:
    """Power and energy of the paper's site with a fitted power besides the GPUs."""
    servers = claim("settings:servers:value")["value"]
    paper_w = claim("settings:overhead:value")["value"]
    gpu_w = claim("hierarchy:site:mean_kw")["value"] / KW / servers - paper_w
    other_w = {"paper": paper_w}
    for name, line in (("low", fitted["low"]), ("fitted", fitted), ("high", fitted["high"])):
        other_w[name] = at_gpu_power(line, gpu_w)
    table = pd.DataFrame({"other_w": other_w}).rename_axis("non_gpu")
    table["it_kw"] = servers * (gpu_w + table["other_w"]) * KW
    hours = claim("settings:hours_per_year:value")["value"] * claim("settings:pue:value")["value"]
    table["energy_mwh"] = table["it_kw"] * hours * KW
    table["more_pct"] = 100 * (table["it_kw"] / table.loc["paper", "it_kw"] - 1)
    return table


def at_gpu_power(line: dict, gpu_w: float) -> float:
    """Power besides the GPUs of an eight-GPU server."""
    return PAPER_GPUS * line["base_w_per_gpu"] + line["per_gpu_w"] * gpu_w


def truth(dataset: str) -> str:
    """Say what the fit should have found, where that is known."""
    if dataset == "measured":
        return "no GPU watts were recorded beside the meter: the truth is not known"
    return (
        f"the simulated node: {TESTBED_BASE_W / TESTBED_GPUS:g} W a GPU and "
        f"{TESTBED_SLOPE:g} W for each watt of the GPUs"
    )


def found(
    table: pd.DataFrame,
    spread: pd.DataFrame,
    levels: pd.DataFrame,
    fits: dict,
    node: str,
    dataset: str,
) -> list[dict]:
    """Record what the plug says."""
    rows = []
    for name, fitted in fits.items():
        given = {"data": dataset, "dataset": name}
        base = [end["base_w_per_gpu"] for end in (fitted, fitted["low"], fitted["high"])]
        rows.append(record("non-GPU power at no GPU power, a GPU", base[0], "W", **given,
                           interval=(min(base), max(base))))  # fmt: skip
        rows.append(record("non-GPU power, a watt of the GPUs", fitted["per_gpu_w"], "W/W",
                           interval=tuple(fitted["per_gpu_w_band"]), **given))  # fmt: skip
        most = conversion(levels[levels["node"] == name]).iloc[-1]
        ends = (most["wall_per_gpu_w_low"], most["wall_per_gpu_w_high"])
        rows.append(record("wall watts for each GPU watt, greatest load", most["wall_per_gpu_w"],
                           "W/W", interval=ends, **given))  # fmt: skip
        rows += _of_node(table[table["node"] == name], spread[spread["node"] == name], given)
    return rows + _of_paper(fits[node], {"data": dataset, "dataset": node})


def _of_node(table: pd.DataFrame, spread: pd.DataFrame, given: dict) -> list[dict]:
    """Record what needs no GPU watts, over the recordings of a node."""
    named = {
        "power factor at idle": ("power_factor_idle", ""),
        "power factor under load": ("power_factor_load", ""),
        "wall power with models loaded, waiting": ("ready_w", "W"),
        "rise at the begin of the load": ("rise_s", "s"),
        "greatest one-second step up while settled, share of the median": ("step_up", ""),
        "greatest one-second step down while settled, share of the median": ("step_down", ""),
        "greatest one-second step of all, share of the median": ("any_up", ""),
        "peak to average of the load at 1 s": ("par_1s", ""),
        "peak to average of the load at 15 min": ("par_15min", ""),
        "rise of settled over early load": ("climb", ""),
    }
    table = table.assign(climb=table["median_w"] / table["early_w"] - 1)
    rows = []
    for name, (column, unit) in named.items():
        values = table[column].dropna()
        if len(values):
            ends = (float(values.min()), float(values.max()))
            median = float(values.median())
            rows.append(record(name, median, unit, interval=ends, **given))
    ends = (float(spread["median_spread"].min()), float(spread["median_spread"].max()))
    median = float(spread["median_spread"].median())
    return [*rows, record("spread of repeats, settled power", median, "", interval=ends, **given)]


def _of_paper(fitted: dict, given: dict) -> list[dict]:
    """Hold the paper's constant against a fit, and its site's energy."""
    site = paper_site(fitted)
    gpu_w = claim("settings:tdp_8_h100:value")["value"]
    ends = {name: fitted[name] for name in ("low", "high")} | {"fitted": fitted}
    full = {name: at_gpu_power(line, gpu_w) for name, line in ends.items()}
    told = (
        (
            "non-GPU power at the mean GPU power of the paper's site",
            site["other_w"],
            "W",
            "overhead",
        ),
        ("non-GPU power at its node study's nameplate of eight H100", full, "W", "tdp_overhead"),
        ("power of the paper's site, change with this node", site["more_pct"], "%", None),
    )
    rows = []
    for name, values, unit, setting in told:
        named = None if setting is None else f"settings:{setting}:value"
        ends = (values["low"], values["high"])
        rows.append(record(name, values["fitted"], unit, interval=ends, claim=named, **given))
    return rows


def conclusion(fits: dict, node: str) -> str:
    """Say what a GPU watt becomes at the plug."""
    fitted, site = fits[node], paper_site(fits[node])
    low, high = fitted["per_gpu_w_band"]
    more = site["more_pct"].round().astype(int)
    return (
        f"a GPU watt more is {1 + fitted['per_gpu_w']:.2f} W at the plug "
        f"({1 + low:.2f} to {1 + high:.2f}), besides {fitted['base_w_per_gpu']:.0f} W a GPU\n"
        f"with such servers the paper's site would draw {more['fitted']}% more "
        f"({more['low']} to {more['high']}%)"
    )
