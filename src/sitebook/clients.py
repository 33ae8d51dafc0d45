"""Recorded traffic: hours of single requests and weeks by client, and how it bunches."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import gamma as gamma_function
from scipy.stats import ks_2samp, spearmanr

from sitetrace.core.registry import dataset_path
from sitetrace.workload.clients import (
    LENGTH_WINDOW_S,
    WINDOW_S,
    Clients,
    open_clients,
    read_lengths,
    read_rates,
)
from sitetrace.workload.spec import draw_traffic, fit_traffic, index_of_dispersion
from sitetrace.workload.streams import DAY_S, HOUR_S, replay, switching
from sitetrace.workload.table import read_azure

SCALES_S = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
MINUTE_S, LEAST_GAPS = 60.0, 20  # of a window whose variation is counted
CLOSE = 0.05
KNOWN = {
    "pattern": "bursty",
    "rate_per_server": 3.0,
    "cv": 2.5,
    "lengths": {"input_median": 700.0, "correlation": 0.4, "output_sigma": 0.7},
}


def recorded_hours(dataset: str, seed: int) -> dict[str, pd.DataFrame]:
    """Open recorded streams of an hour: Azure's of 2023, or two of known laws."""
    if dataset == "measured":
        folder, names = dataset_path("azure_llm_2023"), {"code": "code", "conversation": "conv"}
        return {
            f"Azure {name}": read_azure(folder / f"AzureLLMInferenceTrace_{file}.csv")[0]
            for name, file in names.items()
        }
    turns = switching((1.0, 6.0), 120.0, HOUR_S, np.random.default_rng(seed))
    return {"known law": draw_traffic(KNOWN, HOUR_S, seed), "rate in turns": turns}


def dispersion(arrival_s: np.ndarray, scales_s: tuple[float, ...] = SCALES_S) -> pd.Series:
    """Index of dispersion by the length of the windows: variance over mean of their counts."""
    found = {scale_s: index_of_dispersion(arrival_s, scale_s) for scale_s in scales_s}
    return pd.Series(found).rename_axis("window_s")


def gap_variation(arrival_s: np.ndarray, window_s: float = np.inf) -> float:
    """Coefficient of variation of the gaps, the median over windows."""
    window = np.floor((arrival_s - arrival_s[0]) / window_s)
    gaps = [np.diff(arrival_s[window == each]) for each in np.unique(window)]
    return float(np.median([gap.std() / gap.mean() for gap in gaps if gap.size >= LEAST_GAPS]))


class ClientRecording(NamedTuple):
    """Rates and lengths of many clients."""

    name: str
    rates: Path
    lengths: Path

    def stream(self, rate_per_s: float | None, offset_h: float = 0.0) -> Clients:
        """Open its stream at a mean rate."""
        return open_clients(self.rates, self.lengths, rate_per_s, offset_h * HOUR_S)


def drawn_like(table: pd.DataFrame, thin: float, draws: int, seed: int) -> dict[str, list]:
    """Draw streams like a recorded one: itself thinned, and two fits of its law."""
    span_s, rngs = float(np.ptp(table["arrival_s"])), np.random.default_rng(seed).spawn(draws)
    found = {"recorded": [table], "replay, thinned": [replay(table, thin, 1.0, g) for g in rngs]}
    for name, scale_s in (("fitted to gaps", None), ("fitted to counts of a minute", MINUTE_S)):
        law = fit_traffic(table, scale_s=scale_s)
        found[name] = [draw_traffic(law, span_s, seed + k) for k in range(draws)]
    return found


def measures(drawn: list[pd.DataFrame], recorded: pd.DataFrame) -> dict[str, float]:
    """Measure streams of one kind: how they bunch, and their lengths against the recorded ones."""
    arrival_s = [table["arrival_s"].to_numpy() for table in drawn]
    tokens = pd.concat(drawn)
    found = {
        "CV of the gaps": np.median([gap_variation(times_s) for times_s in arrival_s]),
        "CV within 10 min": np.median([gap_variation(times_s, WINDOW_S) for times_s in arrival_s]),
        "I(1 s)": np.median([index_of_dispersion(times_s, 1.0) for times_s in arrival_s]),
        "I(60 s)": np.median([index_of_dispersion(times_s, MINUTE_S) for times_s in arrival_s]),
        "rank correlation": spearmanr(tokens["input_tokens"], tokens["output_tokens"]).statistic,
    }
    for words, side in (("prompt", "input_tokens"), ("answer", "output_tokens")):
        found[f"KS, {words}"] = ks_2samp(tokens[side], recorded[side]).statistic
    return found


def by_minute(table: pd.DataFrame, share: float = 1.0) -> pd.Series:
    """Count requests a second by minute, over the share of them that was kept."""
    since_s = table["arrival_s"].to_numpy() - table["arrival_s"].iloc[0]
    counts, edges_s = np.histogram(since_s, np.arange(0, since_s[-1], MINUTE_S))
    return pd.Series(counts / MINUTE_S / share, index=edges_s[1:] / MINUTE_S)


def client_recordings(dataset: str, folder: Path | str) -> list[ClientRecording]:
    """Find recordings of many clients, or make one of a known law."""
    names = ["m-small", "deepseek-r1"] if dataset == "measured" else ["three clients"]
    folder = dataset_path("servegen") if dataset == "measured" else Path(folder)
    made = [
        ClientRecording(name, folder / f"{name}_rates.csv", folder / f"{name}_lengths.csv")
        for name in names
    ]
    if dataset != "measured":
        _write_known_clients(made[0])
    return made


def _write_known_clients(recording: ClientRecording) -> None:
    """Three clients with days of their own; the last has no lengths, and two windows are lost."""
    start_s = WINDOW_S * np.setdiff1d(np.arange(DAY_S / WINDOW_S), [60, 61])
    rates, lengths = [], []
    laws = ((10.0, 1.0, "Gamma", 1.0), (5.0, 3.0, "Gamma", 1 / 9), (8.0, 1.0, "Weibull", 1.0))
    for client, (mean, cv, law, shape) in enumerate(laws):
        rate = mean * (1 + 0.6 * np.cos(2 * np.pi * (start_s / DAY_S - 0.25 * client - 0.3)))
        columns = {"client": client, "window_start_s": start_s, "rate_rps": rate, "cv": cv}
        columns |= {"pattern": law, "arg1": shape, "arg2": 1 / (rate * shape)}
        rates.append(pd.DataFrame(columns))
        for at_s in np.arange(0, DAY_S, LENGTH_WINDOW_S) if client < 2 else ():
            for field, p50 in (("input_tokens", 200 * (1 + client)), ("output_tokens", 90.0)):
                row = (client, at_s, field, 1.35 * p50, p50, 2.5 * p50, 6 * p50)
                lengths.append(row)
    columns = ["client", "window_start_s", "field", "mean_tokens", "p50", "p90", "p99"]
    pd.concat(rates).to_csv(recording.rates, index=False)
    pd.DataFrame(lengths, columns=columns).to_csv(recording.lengths, index=False)


def law_moments(rates: pd.DataFrame) -> pd.DataFrame:
    """Rate (one over the mean gap) and coefficient of variation of the law of each row of rates."""
    shape, scale = rates["arg1"], rates["arg2"]
    gamma = rates["pattern"] == "Gamma"
    mean_s = scale * np.where(gamma, shape, gamma_function(1 + 1 / shape))
    spread = gamma_function(1 + 2 / shape) / gamma_function(1 + 1 / shape) ** 2 - 1
    return pd.DataFrame(
        {"rate_rps": 1 / mean_s, "cv": np.where(gamma, shape**-0.5, np.sqrt(spread))}
    )


def fitted_laws(recording: ClientRecording) -> pd.DataFrame:
    """Count the requests whose fitted law reproduces their rate and variation."""
    rates = read_rates(recording.rates)
    close = (law_moments(rates) / rates[["rate_rps", "cv"]] - 1).abs() < CLOSE
    weight, rows = rates["rate_rps"], []
    for law, part in rates.groupby("pattern"):
        share = close.loc[part.index].mul(part["rate_rps"], axis=0).sum() / part["rate_rps"].sum()
        rows.append(
            {
                "recording": recording.name,
                "law": law,
                "rows": len(part),
                "requests_pct": 100 * part["rate_rps"].sum() / weight.sum(),
                "rate_reproduced_pct": 100 * share["rate_rps"],
                "cv_reproduced_pct": 100 * share["cv"],
            }
        )
    return pd.DataFrame(rows)


def without_lengths(recording: ClientRecording) -> tuple[int, float]:
    """Count the clients without token lengths, and their share of the requests."""
    rates = read_rates(recording.rates)
    bare = ~rates["client"].isin(read_lengths(recording.lengths)["client"])
    share = rates.loc[bare, "rate_rps"].sum() / rates["rate_rps"].sum()
    return rates.loc[bare, "client"].nunique(), float(share)


def over_days(recording: ClientRecording, rate_per_s: float, days: int, seed: int) -> pd.DataFrame:
    """Draw days of a stream of clients and lay them beside what was recorded."""
    stream, carry = recording.stream(rate_per_s), None
    seeds = np.random.SeedSequence(seed)
    per_part = int(LENGTH_WINDOW_S / WINDOW_S)
    rows = []
    for index in range(int(days * DAY_S / LENGTH_WINDOW_S)):
        ends_s = (index * LENGTH_WINDOW_S, (index + 1) * LENGTH_WINDOW_S)
        drawn, carry = stream.chunk(index, *ends_s, seeds, carry)
        edges_s = ends_s[0] + WINDOW_S * np.arange(per_part + 1)
        mean = drawn.tokens.mean(axis=0)
        columns = {"time_s": edges_s[:-1], "input_generated": mean[0], "output_generated": mean[1]}
        columns["generated"] = np.histogram(drawn.arrival_s, edges_s)[0] / WINDOW_S
        rows.append(pd.DataFrame(columns))
    made = pd.concat(rows, ignore_index=True)
    return made.join(_recorded_windows(recording, rate_per_s, stream.rates.shape[1], len(made)))


def _recorded_windows(
    recording: ClientRecording, rate_per_s: float, period: int, count: int
) -> pd.DataFrame:
    """Sum the recorded rates, and average the recorded mean lengths over the requests."""
    rates = read_rates(recording.rates)
    total = rates.groupby("window_start_s")["rate_rps"].sum()
    total = total.reindex(WINDOW_S * np.arange(period))
    found = pd.DataFrame({"recorded": total / total.ffill().bfill().mean() * rate_per_s})
    rates["part_s"] = rates["window_start_s"] // LENGTH_WINDOW_S * LENGTH_WINDOW_S
    sizes = rates.groupby(["client", "part_s"])["rate_rps"].sum().rename("size").reset_index()
    lengths = read_lengths(recording.lengths).rename(columns={"window_start_s": "part_s"})
    known = lengths.merge(sizes, on=["client", "part_s"])
    known["tokens"] = known["mean_tokens"] * known["size"]
    sums = known.groupby(["field", "part_s"])[["tokens", "size"]].sum()
    mean = (sums["tokens"] / sums["size"]).unstack("field")
    for side in ("input", "output"):
        at = found.index // LENGTH_WINDOW_S * LENGTH_WINDOW_S
        found[f"{side}_recorded"] = mean[f"{side}_tokens"].reindex(at).to_numpy()
    return found.iloc[np.arange(count) % period].reset_index(drop=True)


def scaled_or_thinned(
    recording: ClientRecording, rate_per_s: float, hour: float, seed: int
) -> dict[str, np.ndarray]:
    """Bring an hour of all clients to a small rate in two ways: arrivals, and those recorded."""
    full, seeds = recording.stream(None, hour), np.random.SeedSequence(seed)
    all_s = full.chunk(0, 0.0, HOUR_S, seeds, None)[0].arrival_s
    slowed_s = recording.stream(rate_per_s, hour).chunk(0, 0.0, HOUR_S, seeds, None)[0].arrival_s
    share = rate_per_s / full.rates.sum(axis=0).mean()
    thinned_s = all_s[np.random.default_rng(seed).random(all_s.size) < share]
    return {"recorded": all_s, "each client slowed": slowed_s, "thinned": thinned_s}
