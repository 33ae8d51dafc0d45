"""The chapter on the paper's configurations as models: what published numbers alone can give."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd

from sitebook.old.ledger.claims import claim
from sitebook.old.ledger.records import record
from sitetrace.core.files import InputError
from sitetrace.core.registry import device, read_paper_table
from sitetrace.core.types import Timeline
from sitetrace.evaluate.metrics import acf_lags, acf_r2
from sitetrace.power.published import OLDER, STATES, paper_model, surrogate
from sitetrace.power.states.model import StatesModel
from sitetrace.power.states.transitions import active_distribution
from sitetrace.serving.engine import simulate
from sitetrace.workload.streams import poisson

# the paper's campaign: requests a second, each for ten minutes
RATES_PER_S = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0)
RUN_S = 600.0
LONG_PROMPT, SHORT_PROMPT = 1000, 100
# what the paper publishes enough for, by the chapter's words
VARIANTS = {
    "coupled": {},
    "independent": {"states": "independent"},
    "AR(1)": {"states": "independent", "emissions": "ar1"},
    "log-normal TTFT": {"states": "independent", "serving": "log_normal_ttft"},
}
MARGINAL = ("acf_r2", "delta_energy_pct", "acf_r2_noprune", "delta_energy_pct_noprune")


@cache
def configurations() -> pd.DataFrame:
    """List the paper's configurations, and what power their nameplate allows."""
    table = read_paper_table("configurations").set_index("config")
    main = set(read_paper_table("run_summary")["config"])
    tdp_w = table["gpu"].map(lambda gpu: device(gpu)["tdp_w"])
    states = read_paper_table("mixtures")
    share_w = (states["weight"] * states["mean_w"]).groupby(states["config"]).sum()
    return table.assign(
        main=[name in main for name in table.index],
        nameplate_w=tdp_w * table["tensor_parallel"],
        mixture_mean_w=share_w,
    )


def offers() -> pd.DataFrame:
    """List what can be made of each configuration of the paper."""
    rows = [
        {"config": config} | {name: _why_not(config, how) for name, how in VARIANTS.items()}
        for config in read_paper_table("configurations")["config"]
    ]
    return pd.DataFrame(rows).set_index("config")


def _why_not(config: str, how: dict) -> str:
    try:
        paper_model(config, **how)
    except InputError as error:
        return str(error).partition(": ")[2]
    return ""


def offer_table() -> pd.DataFrame:
    """Count the models that the published numbers make, and why others are not made."""
    table = offers()
    rows = []
    for variant in table:
        missing = table[variant][table[variant] != ""]
        reasons = "; ".join(dict.fromkeys(text.partition(":")[0] for text in missing))
        rows.append({"model": variant, "made": len(table) - len(missing),
                     "not_made": len(missing), "why_not": reasons})  # fmt: skip
    return pd.DataFrame(rows)


def campaign(seed: int) -> pd.DataFrame:
    """Generate the paper's campaign for each main configuration, beside what it publishes."""
    table = configurations()
    table = table[table["main"]]
    rows = [_one_campaign(config, seed) for config in table.index]
    table = table.join(pd.DataFrame(rows, index=table.index))
    table["active_ratio"] = table.pop("active") / table["active_mean"]
    table["mixture_pct"] = 100 * (table["mixture_mean_w"] / table["power_mean_w"] - 1)
    for states in STATES:
        mean_w = table.pop(f"{states}_w")
        table[f"{states}_pct"] = 100 * (mean_w / table["power_mean_w"] - 1)
    return table


def _one_campaign(config: str, seed: int) -> dict[str, float]:
    models = {states: paper_model(config, states=states) for states in STATES}
    power_w: dict[str, list[np.ndarray]] = {states: [] for states in STATES}
    request_s = span_s = 0.0
    for i, rate in enumerate(RATES_PER_S):
        rng = np.random.default_rng([seed, i])
        timeline = simulate(poisson(rate, RUN_S, rng), models["coupled"].server, rng)
        ended = timeline.requests
        request_s += float((ended["end_s"] - ended["arrival_s"]).sum())
        span_s += float(ended["end_s"].max() - ended["arrival_s"].min())
        for states, model in models.items():
            power_w[states].append(_draw(model, timeline, rng))
    pairs = list(zip(power_w["coupled"], power_w["independent"], strict=True))
    found = {f"{name}_w": float(np.concatenate(parts).mean()) for name, parts in power_w.items()}
    coupled = models["coupled"].transitions
    empty = active_distribution(coupled.active_mean, coupled.active_sd).pmf(0)
    return found | {
        "empty_ratio": float(empty / coupled.weight[0]),
        "active": request_s / span_s,
        "marginal_acf_r2": float(np.median([acf_r2(*pair, acf_lags(0.25)) for pair in pairs])),
        "marginal_energy_pct": float(
            np.median([100 * abs(drawn.sum() / true.sum() - 1) for true, drawn in pairs])
        ),
    }


def _draw(model: StatesModel, timeline: Timeline, rng: np.random.Generator) -> np.ndarray:
    """Power from the first arrival to the last token: the ends of a recording are not known."""
    return model.draw(timeline, rng, None, 0.0, 0.0).power_w


def ways_of_serving(config: str, engine: StatesModel) -> dict[str, StatesModel]:
    """Put both of the paper's surrogates and a calibrated engine before the same power states."""
    base = paper_model(config)
    return {
        "constant rate": base,
        "log-normal TTFT": replace(base, server=surrogate(config, "log_normal_ttft")),
        "engine": replace(base, server=engine.server),
    }


def served_table(
    models: dict[str, StatesModel], timelines: dict[str, Timeline], seed: int
) -> pd.DataFrame:
    """Say what each way of serving means for waiting, for the active count and for power."""
    rows = []
    for name, model in models.items():
        done = timelines[name].requests
        ttft_s = done["first_token_s"] - done["arrival_s"]
        prompt = done["input_tokens"]
        span_s = done["end_s"].max() - done["arrival_s"].min()
        power_w = _draw(model, timelines[name], np.random.default_rng(seed))
        rows.append({
            "serving": name,
            "ttft_short_s": ttft_s[prompt <= SHORT_PROMPT].median(),
            "ttft_long_s": ttft_s[prompt >= LONG_PROMPT].median(),
            "mean_active": (done["end_s"] - done["arrival_s"]).sum() / span_s,
            "mean_power_w": power_w.mean(),
        })  # fmt: skip
    return pd.DataFrame(rows)


def found(table: pd.DataFrame, waits: pd.DataFrame, config: str, engine: StatesModel) -> list[dict]:
    """Record what the published numbers alone give."""
    main = {"data": "paper", "dataset": f"{len(table)} main configurations"}

    def over(name: str, values: pd.Series, unit: str, **given: str) -> dict:
        ends = (values.min(), values.max())
        return record(name, values.median(), unit, interval=ends, **given)

    every = configurations()
    older = every[every["source"].str.startswith(OLDER)]
    beyond_pct = 100 * (older["mixture_mean_w"] / older["power_mean_w"] - 1)
    rows = [
        over("mean of the mixture beyond the training mean", table["mixture_pct"], "%", **main),
        over("mean of the mixture beyond the training mean", beyond_pct, "%", data="paper",
             dataset=f"{len(older)} configurations of an older fit"),
        over("campaign with coupled states beyond the training mean", table["coupled_pct"], "%",
             **main),
        over("campaign with independent states beyond the training mean",
             table["independent_pct"], "%", **main),
        over("active requests, simulated over published", table["active_ratio"], "", **main),
        over("assumed share of bins without a request over the lowest state's weight",
             table["empty_ratio"], "", **main),
        over("training mean over nameplate", table["power_mean_w"] / table["nameplate_w"], "",
             **main),
        over("training maximum over nameplate", table["power_max_w"] / table["nameplate_w"], "",
             **main),
        over("ACF R² of independent states, judged on coupled ones", table["marginal_acf_r2"], "",
             **main),
        over("energy of independent states against coupled ones, absolute",
             table["marginal_energy_pct"], "%", **main),
    ]  # fmt: skip
    for row in waits.itertuples():
        data = engine.provenance["data"] if row.serving == "engine" else "paper"
        given = {"data": data, "dataset": f"{config}, {row.serving}"}
        rows += [
            record(f"median TTFT, prompts up to {SHORT_PROMPT} tokens", row.ttft_short_s, "s",
                   **given),
            record(f"median TTFT, prompts from {LONG_PROMPT} tokens", row.ttft_long_s, "s",
                   **given),
            record("mean active requests", row.mean_active, "requests", **given),
        ]  # fmt: skip
    return rows + _marginal_claims()


def _marginal_claims() -> list[dict]:
    """Name the paper's scores of independent states, which its recordings alone could test."""
    table = read_paper_table("decomposition")
    rows = []
    for config in table.loc[table["strategy"] == "marginal", "config"]:
        for column in MARGINAL:
            name = f"decomposition:{config}/marginal:{column}"
            known = claim(name)
            rows.append(record(f"independent states: {known['what']}", None, known["unit"],
                               data="paper", dataset=config, claim=name))  # fmt: skip
    return rows
