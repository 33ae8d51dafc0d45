"""A second look at the published site studies: arithmetic within and between their tables."""

from __future__ import annotations

import numpy as np
from scipy.stats import linregress

from sitebook.old.ledger.claims import claim, claims
from sitebook.old.rereading.models import published_means
from sitebook.old.rereading.printed import derived
from sitetrace.core.registry import read_paper_table

RUN_CONFIG = "llama-3-70b_A100_tp8"  # of run B


def ratio(first: float, second: float) -> float:
    """Divide."""
    return first / second


def power_ratios() -> list[dict]:
    """Form peak to average and load factor again from peaks and means."""
    rows = []
    for name in claims().query("table == 'facility' and column == 'par'")["row"]:
        peak, mean = (f"facility:{name}:{column}" for column in ("peak_kw", "mean_kw"))
        rows += [
            derived(f"PAR, {name}", ratio, [peak, mean], answers=f"facility:{name}:par"),
            derived(
                f"load factor, {name}", ratio, [mean, peak], answers=f"facility:{name}:load_factor"
            ),
        ]
    for step in claims().query("table == 'par_by_resolution' and column == 'par'")["row"]:
        cells = [f"par_by_resolution:{step}:peak_kw", "facility:A/ours/900:mean_kw"]
        rows.append(
            derived(f"PAR at {step} s", ratio, cells, answers=f"par_by_resolution:{step}:par")
        )
    for method in read_paper_table("synthetic_site")["method"]:
        cells = [f"synthetic_site:{method}:{column}" for column in ("peak_kw", "mean_kw")]
        answers = f"synthetic_site:{method}:par"
        rows.append(derived(f"PAR, synthetic site, {method}", ratio, cells, answers=answers))
    return rows


def sizing_values() -> list[dict]:
    """Derive the sizing table from the facility's, at 15 minutes."""
    per_hour = claim("settings:ramps_per_hour:value")["value"]
    rows = []
    for method, source in (("ours", "ours"), ("splitwise_b", "splitwise")):
        cell = f"facility:B/{source}/900:"
        ramps = [f"{cell}ramp_up_kw", f"{cell}ramp_down_kw"]
        rows += [
            derived(f"{quantity}, {method}", lambda kw: kw / 1000, [f"{cell}{quantity}_kw"],
                    answers=f"sizing:{quantity}/{method}:value")
            for quantity in ("peak", "mean")
        ]  # fmt: skip
        rows.append(
            derived(f"ramp, {method}", lambda up, down: per_hour * max(up, -down) / 1000, ramps,
                    answers=f"sizing:ramp/{method}:value")
        )  # fmt: skip
    for method in ("tdp", "mean"):
        cells = [f"facility_constants:B/{method}:power_kw"]
        rows.append(
            derived(f"peak, {method}", lambda kw: kw / 1000, cells,
                    answers=f"sizing:peak/{method}:value")
        )  # fmt: skip
    for method in dict.fromkeys(read_paper_table("sizing")["method"]):
        peak, mean = (f"sizing:{quantity}/{method}:value" for quantity in ("peak", "mean"))
        factor = "settings:transformer_factor:value"
        rows += [
            derived(f"{name}, {method}", ratio, cells, answers=f"sizing:{name}/{method}:value")
            for name, cells in (
                ("par", [peak, mean]),
                ("load_factor", [mean, peak]),
                ("transformer", [peak, factor]),
            )
        ]
    return rows


def interconnection_values() -> list[dict]:
    """Derive the interconnection summary from one run of the facility.

    Its peak is called a percentile "across seeds": if one run's across bins is the same, it is not.
    """
    cell = "facility:A/ours/900:"
    hours = "settings:hours_per_year:value"
    formulas = {
        "peak_p95": (lambda kw: kw / 1000, [f"{cell}load_p95_kw"]),
        "mean": (lambda kw: kw / 1000, [f"{cell}mean_kw"]),
        "par": (ratio, [f"{cell}peak_kw", f"{cell}mean_kw"]),
        "load_factor": (ratio, [f"{cell}mean_kw", f"{cell}peak_kw"]),
        "ramp_up_max": (lambda kw: kw / 1000, [f"{cell}ramp_up_kw"]),
        "energy_year": (lambda kw, h: kw * h / 1000, [f"{cell}mean_kw", hours]),
    }
    return [
        derived(name.replace("_", " "), *formula, answers=f"interconnection:{name}:value")
        for name, formula in formulas.items()
    ]


def hierarchy_levels() -> list[dict]:
    """Check the hierarchy within itself and against the facility."""
    rows = [
        derived(f"CoV, {level}", ratio, [f"hierarchy:{level}:{c}" for c in ("sd_kw", "mean_kw")],
                answers=f"hierarchy:{level}:cov")
        for level in read_paper_table("hierarchy")["level"]
    ]  # fmt: skip
    rows += [
        derived(f"PAR, site, {word}", ratio,
                [f"facility:B/ours/{step}:{c}" for c in ("peak_kw", "mean_kw")],
                answers=f"hierarchy:site:par_{word}")
        for word, step in (("1s", 1), ("15min", 900))
    ]  # fmt: skip
    mean, pue, servers, overhead = (
        "hierarchy:site:mean_kw",
        "settings:pue:value",
        "settings:servers:value",
        "settings:overhead:value",
    )
    rows.append(
        derived("site mean with PUE", lambda kw, factor: kw * factor, [mean, pue],
                answers="facility:B/ours/1:mean_kw")
    )  # fmt: skip
    trained_w = published_means().loc[RUN_CONFIG, "mixture_w"]
    rows.append(
        derived(
            "mean of a server's GPUs on that day over its training mean",
            lambda kw, n, other: (1000 * kw / n - other) / trained_w,
            [mean, servers, overhead],
        )
    )
    return rows


def cov_refit() -> list[dict]:
    """Refit how the coefficient of variation falls with the number of servers."""
    from sklearn.metrics import r2_score

    servers = np.log(read_paper_table("cov_by_servers")["servers"].to_numpy())
    cells = claims().query("table == 'cov_by_servers' and column == 'cov'").index.to_list()

    def fit(*cov: float):  # noqa: ANN202
        return linregress(servers, np.log(cov))

    def explained(*cov: float) -> float:
        return r2_score(cov, np.exp(fit(*cov).intercept + fit(*cov).slope * servers))

    answers = {part: f"cov_fit:{part}:value" for part in ("intercept", "slope", "r2")}
    return [
        derived("intercept", lambda *c: fit(*c).intercept, cells, answers=answers["intercept"]),
        derived("slope", lambda *c: fit(*c).slope, cells, answers=answers["slope"]),
        derived("R² of the CoV itself", explained, cells, answers=answers["r2"]),
        derived("R² of its logarithm, which is fitted", lambda *c: fit(*c).rvalue ** 2, cells),
    ]


def cov_theory() -> list[dict]:
    """Compare the fall of the coefficient of variation with that of independent servers.

    Theirs is CoV₁/√N, a slope of -1/2; servers that share a rhythm flatten, with no one slope.
    """
    servers = read_paper_table("cov_by_servers")["servers"].to_numpy()
    cells = [f"cov_by_servers:{n}:cov" for n in servers]
    rows = [
        derived(f"CoV if {n} servers were independent", lambda one, n=n: one / n**0.5, cells[:1],
                answers=f"cov_by_servers:{n}:cov_theory")
        for n in servers
    ]  # fmt: skip
    for i in range(len(servers) - 1):
        few, many = servers[i : i + 2]

        def slope(first: float, second: float, span: float = np.log(many / few)) -> float:
            return np.log(second / first) / span

        rows.append(derived(f"slope from {few} to {many} servers", slope, cells[i : i + 2]))
    return rows
