"""The chapter on power states: how many, how long, and what activity knows of them."""

from __future__ import annotations

import numpy as np
import pandas as pd

from sitebook.old.judging.comparison import TESTBED, open_run
from sitebook.old.judging.splits import splits
from sitebook.old.ledger.records import record
from sitebook.old.looks.information import information
from sitebook.old.looks.known_states import APART, INSIDE
from sitebook.old.looks.mlenergy import RATIOS, least_bic
from sitebook.old.looks.paper_states import published_bic, published_states
from sitebook.old.looks.stays import mean_stay_s, stays
from sitebook.old.rereading.models import states_by_bic
from sitetrace.core.registry import shipped_model
from sitetrace.power.idle import Idle
from sitetrace.power.modelfile import load_model
from sitetrace.power.states.labels import prepare, usable
from sitetrace.power.states.mixture import Mixture, bic_curve, fit_mixture

COUNTS = tuple(range(2, 9))
SIZES = (400, 1600, 6400)
DRAWN_COUNTS = (2, 3, 4, 5, 6, 8, 10)
PAPER_STATES = 10
# the nearest that public recordings come to the paper's two configurations
NEAREST = {
    "llama-3.1-70b_h100_tp4_poisson_r4": "deepseek-r1-distill-70b_H100_tp4",
    "qwen3-8b_h100_tp1_poisson_r4": "llama-3-8b_H100_tp2",
}


def mixtures(frame: pd.DataFrame, idle: Idle, n_states: int, seed: int) -> dict[str, Mixture]:
    """Fit the states of a recording twice: with its idle samples, and without."""
    power_w = frame["power_w"].to_numpy()
    working = power_w[usable(frame, idle)[1]]
    return {
        INSIDE: fit_mixture(power_w, n_states, seed),
        APART: fit_mixture(working, n_states, seed),
    }


def spent_on_idle(mixture: Mixture, idle: Idle) -> int:
    """Count the states of a mixture that lie in the band of idle power."""
    return int((mixture.mean_w <= idle.band_w).sum())


def recordings(dataset: str) -> dict[str, tuple]:
    """Prepare all recordings of a kind of data."""
    found = {}
    for name, entry in splits().items():
        parts = (*entry.fit, *entry.judge)
        if parts[0].run.startswith(TESTBED) != (dataset == "testbed"):
            continue
        model = load_model(shipped_model(name))
        for part in parts:
            if part.run not in found:
                frame = prepare([open_run(part.run)], model.server, model.dt)
                found[part.run] = (model.configuration.name, frame, model.idle, float(model.dt))
    return found


def by_configuration(found: dict[str, tuple], n_states: int, seed: int) -> dict[str, tuple]:
    """Pool the working samples of each configuration and fit its states."""
    pooled: dict[str, list] = {}
    for configuration, frame, idle, _ in found.values():
        working = usable(frame, idle)[1]
        pooled.setdefault(configuration, []).append(frame["power_w"].to_numpy()[working])
    samples = {name: np.concatenate(parts) for name, parts in pooled.items()}
    return {name: (each, fit_mixture(each, n_states, seed)) for name, each in samples.items()}


def informed(found: dict[str, tuple], n_states: int, seed: int) -> pd.DataFrame:
    """Share of the state's entropy that activity explains, in each recording."""
    tables = []
    for run, (_, frame, _, _) in found.items():
        # the paper's states: of a mixture over all samples, idle among them
        power_w = frame["power_w"].to_numpy()
        state = fit_mixture(power_w, n_states, seed).label(power_w)
        told = information(frame, state, seed)
        told.insert(0, "recording", run.removeprefix(TESTBED))
        tables.append(told)
    return pd.concat(tables, ignore_index=True)


def every_recording(found: dict[str, tuple], n_states: int, seed: int) -> pd.DataFrame:
    """Describe the states of each recording, one row each."""
    rows = []
    for run, (_, frame, idle, dt_s) in found.items():
        power_w = frame["power_w"].to_numpy()
        working = power_w[usable(frame, idle)[1]]
        mixture = fit_mixture(working, n_states, seed)
        rows.append(
            {"recording": run.removeprefix(TESTBED), "step_s": dt_s, "samples": len(frame)}
            | {"idle_share": float((power_w <= idle.band_w).mean())}
            | {"bic_takes": least_bic(bic_curve(working, COUNTS, seed))}
            | {"stay_s": mean_stay_s(stays(frame, idle, mixture), dt_s)}
        )
    return pd.DataFrame(rows)


def flatness(bic: pd.DataFrame, free_runs: pd.DataFrame, samples: int) -> pd.DataFrame:
    """Put what BIC says of a number of states beside what it does to a free run."""
    table = bic.merge(free_runs[["n_states", "ks"]], on="n_states")
    excess = table["bic"] - bic["bic"].min()
    told = {"bic_excess": excess, "nats_a_sample": excess / 2 / samples}
    columns = ["n_states", *told, "ks"]
    return table.assign(**told)[columns].assign(ks_change=table["ks"].diff())


def bic_by_samples(known: Mixture, seed: int) -> pd.DataFrame:
    """Ask BIC for the number of states in samples drawn from a mixture itself."""
    rng = np.random.default_rng(seed)
    rows = []
    for size in SIZES:
        state = rng.choice(known.n_states, size, p=known.weight)
        power_w = rng.normal(known.mean_w[state], known.sigma_w[state])
        taken = least_bic(bic_curve(power_w, DRAWN_COUNTS, seed))
        rows.append({"samples": size, "true_states": known.n_states, "bic_takes": taken})
    return pd.DataFrame(rows)


def found(
    dataset: str,
    every: pd.DataFrame,
    told: pd.DataFrame,
    beside: tuple[str, dict[str, float], pd.DataFrame],
    drawn: pd.DataFrame,
    ends: pd.DataFrame,
) -> list[dict]:
    """Record how many states there are, how long they last, and what is known of them."""
    rows = []
    for row in every.itertuples():
        own = {"data": dataset, "dataset": row.recording}
        rows.append(record("number of states of least BIC", row.bic_takes, "states", **own))
        rows.append(record("mean stay in a state", row.stay_s, "s", **own))
    recording, apart, pairs = beside
    rows += _information_records(told, dataset, recording)
    own = {"data": dataset, "dataset": recording}
    for name, value in apart.items():
        rows.append(record(f"KS to the known mixture, {name}", value, "", **own))
    for row in pairs.itertuples():
        name = f"mean of state {row.state} less the known mean"
        rows.append(record(name, row.difference_w, "W", **own))
    mean_w = [(pairs[f"{of}_mean_w"] * pairs[f"{of}_weight"]).sum() for of in ("fitted", "known")]
    rows.append(record("mean of the mixture less the known one", mean_w[0] - mean_w[1], "W", **own))
    for row in drawn.itertuples():
        name = f"number of states of least BIC in {row.samples} draws of the known mixture"
        rows.append(record(name, row.bic_takes, "states", **own))
    for row in ends.to_dict("records"):
        own = {"data": dataset, "dataset": f"ML.ENERGY {row['model']}"}
        for name in RATIOS:
            ratio = f"{name} of power, greatest batch limit over least"
            rows.append(record(ratio, row[f"{name}_ratio"], "", **own))
    return rows + published_records()


def _information_records(told: pd.DataFrame, dataset: str, recording: str) -> list[dict]:
    """Answer the paper's shares by those above chance; ends: plug-in less shifted, and as it is."""
    rows = []
    for row in told[told["recording"].isin([recording, *NEAREST])].itertuples():
        ends = (min(row.plug_in - row.shifted, row.above_chance), row.plug_in)
        config = NEAREST.get(row.recording)
        claim = f"conditional_information:{config}/{row.features}:information_share"
        rows.append(
            record(f"information on the state, {row.features}", row.above_chance, "", data=dataset,
                   dataset=row.recording, interval=ends, claim=claim if config else None)
        )  # fmt: skip
    return rows


def published_records() -> list[dict]:
    """Record what the published mixtures and their BIC say by themselves."""
    bic = published_bic()
    per_sample = bic["bic"] / (2 * bic["samples"])
    excess = per_sample - per_sample.groupby(bic["config"]).transform("min")
    states = published_states()
    lowest = states[states["state"] == 0]["weight"]
    counts = {row["name"]: row for row in states_by_bic()}
    own = {"data": "paper", "dataset": "run_summary"}
    ten = excess[bic["n_states"] == PAPER_STATES]
    rows = [
        counts[f"BIC least at K = {PAPER_STATES}"],
        counts[f"BIC least at K = {bic['n_states'].max()}"],
    ]
    rows.append(
        record("BIC at K = 10 above its least, median over configurations", ten.median(),
               "nats a sample", interval=(ten.min(), ten.max()), **own)
    )  # fmt: skip
    own["dataset"] = "mixtures"
    rows.append(
        record("weight of the lowest state, median over configurations", lowest.median(), "",
               interval=(lowest.min(), lowest.max()), **own)
    )  # fmt: skip
    return [
        *rows,
        record("states above nameplate", int((states["mean"] > 1).sum()), "states", **own),
    ]


def conclusion(every: pd.DataFrame, pairs: pd.DataFrame, recording: str) -> str:
    """Say how many states BIC takes and how near the fit comes to the known states."""
    row = every.set_index("recording").loc[recording]
    sigma = (pairs["difference_w"].abs() / pairs["known_sigma_w"]).median()
    return (
        f"{recording}: BIC takes {row['bic_takes']:.0f} states above idle; "
        f"a stay lasts {row['stay_s']:.1f} s on average\n"
        f"state by state, the fitted means lie {sigma:.1f} known standard deviations away (median)"
    )
