"""The chapter on traffic: recorded streams, and what is drawn from them, by the same measures."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.stats import ks_2samp, spearmanr

from sitebook.old.ledger.records import record
from sitetrace.core.registry import dataset_path
from sitetrace.workload.spec import draw_traffic, fit_traffic, index_of_dispersion
from sitetrace.workload.streams import replay, switching
from sitetrace.workload.table import read_azure

HOUR_S, PART_S = 3600.0, 600.0
SCALES_S = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
COUNTED_S = 60.0
PERCENTILES = (50, 90, 99)
RECORDED, THINNED = "recorded", "replay, thinned"
BY_GAPS, BY_COUNTS = "fitted to gaps", "fitted to counts of a minute"
KNOWN = {
    "known law": {
        "pattern": "bursty",
        "rate_per_server": 3.0,
        "cv": 2.5,
        "lengths": {"input_median": 700.0, "correlation": 0.4, "output_sigma": 0.7},
    }
}
MEASURES = {
    "rate_rps": "requests a second",
    "cv_of_gaps": "CV of the gaps",
    "cv_within_600_s": "CV of the gaps within 10 min",
    "dispersion_1_s": "index of dispersion, 1 s",
    "dispersion_60_s": "index of dispersion, 60 s",
    "rank_correlation": "rank correlation of prompt and answer",
    **{f"input_p{percent}": f"prompt, P{percent} [tokens]" for percent in PERCENTILES},
    "input_ks": "prompt, KS to the recorded",
    **{f"output_p{percent}": f"answer, P{percent} [tokens]" for percent in PERCENTILES},
    "output_ks": "answer, KS to the recorded",
}


def recordings(dataset: str, seed: int) -> dict[str, pd.DataFrame]:
    """Open recorded streams of an hour."""
    if dataset == "measured":
        folder = dataset_path("azure_llm_2023")
        return {
            f"Azure {name}": read_azure(folder / f"AzureLLMInferenceTrace_{file}.csv")[0]
            for name, file in (("code", "code"), ("conversation", "conv"))
        }
    streams = {name: draw_traffic(law, HOUR_S, seed) for name, law in KNOWN.items()}
    rng = np.random.default_rng(seed)
    streams["rate in turns"] = switching((1.0, 6.0), 120.0, HOUR_S, rng)
    return streams


def drawn_like(
    table: pd.DataFrame, thin: float, draws: int, seed: int
) -> dict[str, list[pd.DataFrame]]:
    """Draw streams from a recorded one: itself thinned, and the fitted laws."""
    span_s = float(table["arrival_s"].iloc[-1] - table["arrival_s"].iloc[0])
    rngs = np.random.default_rng(seed).spawn(draws)
    drawn = {
        RECORDED: [table],
        THINNED: [replay(table, thin, 1.0, rng) for rng in rngs],
    }
    for kind, scale_s in ((BY_GAPS, None), (BY_COUNTS, COUNTED_S)):
        section = fit_traffic(table, scale_s=scale_s)
        drawn[kind] = [draw_traffic(section, span_s, seed + i) for i in range(draws)]
    return drawn


def dispersion(tables: list[pd.DataFrame]) -> np.ndarray:
    """Index of dispersion at all scales."""
    return np.array(
        [
            [index_of_dispersion(table["arrival_s"].to_numpy(), scale_s) for scale_s in SCALES_S]
            for table in tables
        ]
    )


def gap_variation(table: pd.DataFrame, window_s: float = np.inf) -> np.ndarray:
    """Coefficient of variation of the gaps, by window."""
    arrival_s = table["arrival_s"].to_numpy()
    window = np.floor((arrival_s - arrival_s[0]) / window_s)
    gaps = [np.diff(arrival_s[window == each]) for each in np.unique(window)]
    return np.array([gap.std() / gap.mean() for gap in gaps if gap.size >= 20])


def compare(drawn: dict[str, list[pd.DataFrame]]) -> pd.DataFrame:
    """Measure recorded and drawn streams alike."""
    recorded, rows = drawn[RECORDED][0], []
    for kind, tables in drawn.items():
        measures = [_measures(table, recorded) for table in tables]
        rows.append({"stream": kind} | pd.DataFrame(measures).median().to_dict())
    return pd.DataFrame(rows)


def _measures(table: pd.DataFrame, recorded: pd.DataFrame) -> dict[str, float]:
    arrival_s = table["arrival_s"].to_numpy()
    found = {
        "rate_rps": (len(table) - 1) / (arrival_s[-1] - arrival_s[0]),
        "cv_of_gaps": gap_variation(table)[0],
        "cv_within_600_s": np.median(gap_variation(table, PART_S)),
        "dispersion_1_s": index_of_dispersion(arrival_s, 1.0),
        "dispersion_60_s": index_of_dispersion(arrival_s, COUNTED_S),
        "rank_correlation": spearmanr(table["input_tokens"], table["output_tokens"]).statistic,
    }
    for side in ("input", "output"):
        tokens = table[f"{side}_tokens"]
        for percent in PERCENTILES:
            found[f"{side}_p{percent}"] = np.percentile(tokens, percent)
        found[f"{side}_ks"] = ks_2samp(tokens, recorded[f"{side}_tokens"]).statistic
    return found


def found(
    tables: dict[str, pd.DataFrame],
    days: dict[str, pd.DataFrame],
    laws: pd.DataFrame,
    bare: dict[str, tuple[int, float]],
    dataset: str,
) -> list[dict]:
    """Record what recorded streams are like, and how near the drawn ones come."""
    rows = []
    for name, table in tables.items():
        table = table.set_index("stream")
        given = {"data": dataset, "dataset": name}
        recorded = table.loc[RECORDED]
        for column, text in (
            ("cv_of_gaps", "variation of gaps"),
            ("dispersion_60_s", "index of dispersion at 60 s"),
            ("rank_correlation", "rank correlation of input and output"),
        ):
            rows.append(record(f"{text}, recorded", recorded[column], "", **given))
        for kind in (THINNED, BY_GAPS, BY_COUNTS):
            value = table.loc[kind, "dispersion_60_s"] / recorded["dispersion_60_s"]
            text = f"index of dispersion at 60 s over the recorded one, {kind}"
            rows.append(record(text, value, "", **given))
        for side in ("input", "output"):
            text = f"KS distance of {side} lengths, log-normal"
            rows.append(record(text, table.loc[BY_GAPS, f"{side}_ks"], "", **given))
    for name, table in days.items():
        given = {"data": dataset, "dataset": name}
        error = table["generated"] / table["recorded"] - 1
        peak = table["recorded"].max() / table["recorded"].mean()
        rows.append(record("peak over mean of the rate by 10 minutes, recorded", peak, "", **given))
        text = "rate by 10 minutes, generated less recorded, root mean square"
        rows.append(record(text, 100 * np.sqrt((error**2).mean()), "%", **given))
        text = "share of requests whose clients have no lengths"
        rows.append(record(text, 100 * bare[name][1], "%", **given))
    for law in laws.itertuples():
        text = f"{law.law}: share of requests whose fitted law has the recorded variation"
        given = {"data": dataset, "dataset": law.recording}
        rows.append(record(text, law.cv_reproduced_pct, "%", **given))
    if dataset == "measured":
        text = "requests of the paper's day: the trace is not at hand"
        rows.append(record(text, None, "requests", data=dataset, dataset="Azure 2024-05-16"))
    return rows


def conclusion(tables: dict[str, pd.DataFrame]) -> str:
    """Say for each recording at which scale the fitted law is right."""
    lines = []
    for name, table in tables.items():
        table = table.set_index("stream")
        ratio = table["dispersion_60_s"] / table.loc[RECORDED, "dispersion_60_s"]
        said = {
            kind: "holds" if 0.5 < ratio[kind] < 2 else "misses" for kind in (BY_GAPS, BY_COUNTS)
        }
        lines.append(
            f"{name}: bunching in windows of a minute: the law fitted to gaps {said[BY_GAPS]} it, "
            f"the law fitted to counts {said[BY_COUNTS]} it"
        )
    return "\n".join(lines)
