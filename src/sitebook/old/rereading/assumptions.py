"""What the site studies assume: nameplates, training means, limits, and who counts the PUE."""

from __future__ import annotations

import math

from sitebook.old.ledger.claims import claim
from sitebook.old.rereading.models import published_means
from sitebook.old.rereading.printed import counted, derived
from sitebook.old.rereading.site import RUN_CONFIG
from sitetrace.core.registry import read_paper_table


def _settings(*names: str) -> list[str]:
    return [f"settings:{name}:value" for name in names]


def nameplates() -> list[dict]:
    """Put the nameplates of the studies beside each other."""
    gpus, gpu_w, other, servers, pue, in_rack, chip = _settings(
        "facility_tdp_gpus",
        "facility_tdp_gpu",
        "overhead",
        "servers",
        "pue",
        "servers_per_rack",
        "chip_tdp_a100",
    )
    site = [gpus, gpu_w, other, servers, pue]
    eight = int(RUN_CONFIG.rpartition("tp")[2])

    def site_kw(count: float, watts: float, extra: float, n: float, factor: float) -> float:
        return (count * watts + extra) * n * factor / 1000

    rows = [
        derived(f"site nameplate, run {run}", site_kw, site,
                answers=f"facility_constants:{run}/tdp:power_kw")
        for run in "AB"
    ]  # fmt: skip
    synthetic = [gpus, gpu_w, *_settings("synthetic_servers", "synthetic_pue")]
    return [
        *rows,
        derived("nameplate of a server", lambda n, w, o: n * w + o, [gpus, gpu_w, other],
                answers="settings:facility_tdp_server:value"),
        derived("site nameplate, eight A100 a server",
                lambda w, o, n, factor: site_kw(eight, w, o, n, factor),
                [chip, other, servers, pue], "kW"),
        derived("nameplate of the synthetic site",
                lambda n, w, count, factor: n * w * count * factor / 1000, synthetic,
                answers="synthetic_site:tdp:peak_kw"),
        derived("nameplate of a rack in the facility",
                lambda n, w, o, k: (n * w + o) * k / 1000, [gpus, gpu_w, other, in_rack], "kW"),
        derived("nameplate of a rack in the oversubscription study", lambda kw: kw,
                _settings("rack_tdp"), "kW"),
    ]  # fmt: skip


def server_means() -> list[dict]:
    """Find the mean GPU power behind the facility's mean baseline, and whose it is."""
    means = published_means()
    rows = []
    for run in "AB":
        baseline = f"facility_constants:{run}/mean:power_kw"
        found = derived(
            f"mean GPU power of a server, run {run}",
            lambda kw, pue, servers, other: 1000 * kw / pue / servers - other,
            [baseline, *_settings("pue", "servers", "overhead")],
            "W",
        )
        rows.append(found)
        for source, table in (("mixture", "mixtures"), ("normalisation", "configurations")):
            above_pct = 100 * (found["value"] / means[f"{source}_w"] - 1)
            config = above_pct.abs().idxmin()
            name = f"run {run} above the nearest {source} mean, {config}"
            rows.append(counted(name, above_pct[config], "%", f"facility_constants + {table}"))
    return rows


def server_peaks() -> list[dict]:
    """Find the greatest power of a server's GPUs behind the diversity factor."""
    known = read_paper_table("configurations").set_index("config")
    # The paper's generator clips here: a peak at the clip, and its diversity, are set by the limit.
    clip_w = known["power_max_w"] + 0.05 * (known["power_max_w"] - known["power_min_w"])
    rows = []
    for run in "AB":
        cells = [f"facility:{run}/ours/0.25:{column}" for column in ("peak_kw", "diversity")]
        found = derived(
            f"greatest GPU power of a server, run {run}",
            lambda kw, factor, pue, servers, other: 1000 * kw / pue / servers / factor - other,
            [*cells, *_settings("pue", "servers", "overhead")],
            "W",
        )
        above_w = found["value"] - clip_w
        config = above_w.abs().idxmin()
        name = f"run {run} above the nearest clip, {config}"
        rows += [found, counted(name, above_w[config], "W", "facility + configurations")]
    return rows


def _capacity(rack_kw: float) -> int:
    return math.floor(float(claim("settings:row_limit:value")["value"]) / rack_kw)


def oversubscription() -> list[dict]:
    """Count racks below the row's limit again, with the PUE for all methods or for none."""
    pue = float(claim("settings:pue:value")["value"])
    racks = float(claim("settings:racks_available:value")["value"])
    # The mean's rack is the site's mean, PUE included, over the racks; the other methods' racks
    # leave it out. A generated rack is its share of the peak's P95: near equal terms, not exact.
    mean_kw = float(claim("facility_constants:B/mean:power_kw")["value"]) / racks
    table = read_paper_table("oversubscription").set_index("method")
    tables = "oversubscription + facility_constants + settings"
    tdp_kw = float(claim("settings:rack_tdp:value")["value"])
    rows = []
    for method, rack_kw in (("tdp", tdp_kw), ("mean", mean_kw)):
        count, cell = _capacity(rack_kw), f"oversubscription:{method}"
        rows += [
            counted(f"racks, {method}", count, "racks", tables, f"{cell}:racks"),
            derived(f"their peak, {method}", lambda n, kw=rack_kw: n * kw, [f"{cell}:racks"],
                    answers=f"{cell}:peak_p95_kw"),
        ]  # fmt: skip
    generated = table.drop(index=["tdp", "mean"])
    rows += [
        counted(f"racks with PUE, {method}", _capacity(pue * peak / n), "racks", tables)
        for method, n, peak in generated[["racks", "peak_p95_kw"]].itertuples()
    ]
    gpus, gpu_w, chip_w, other, in_rack = (
        float(claim(name)["value"])
        for name in _settings(
            "facility_tdp_gpus", "facility_tdp_gpu", "chip_tdp_a100", "overhead", "servers_per_rack"
        )
    )
    facility_kw = (gpus * gpu_w + other) * in_rack / 1000
    eight_kw = (8 * chip_w + other) * in_rack / 1000
    return [
        *rows,
        counted("power of a rack, mean with PUE", mean_kw, "kW", tables),
        counted("racks without PUE, mean", _capacity(mean_kw / pue), "racks", tables),
        counted("racks by the facility's own nameplate", _capacity(facility_kw), "racks", tables),
        counted("racks by the nameplate of eight A100", _capacity(eight_kw), "racks", tables),
    ]


def splitwise_revised() -> list[dict]:
    """Measure how the look-up table baseline changed between two runs of the facility."""

    def above_pct(now: float, before: float) -> float:
        return 100 * (now / before - 1)

    quantities = list(dict.fromkeys(read_paper_table("sizing")["quantity"]))
    rows = [
        derived(f"change of the {quantity.replace('_', ' ')}", above_pct,
                [f"sizing:{quantity}/{m}:value" for m in ("splitwise_b_prime", "splitwise_b")], "%")
        for quantity in quantities
    ]  # fmt: skip
    rows += [
        derived(f"mean above that of the paper's model, {method}", above_pct,
                ["sizing:mean/" + m + ":value" for m in (method, "ours")], "%")
        for method in ("splitwise_b", "splitwise_b_prime")
    ]  # fmt: skip
    cells = [f"oversubscription:{m}:racks" for m in ("splitwise_b_prime", "splitwise_b")]
    return [*rows, derived("change of the racks below the limit", above_pct, cells, "%")]
