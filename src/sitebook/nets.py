"""What the paper's net learns from how much data, and from which features: nets trained anew.

Labels are those of the shipped model of a split, for all nets alike. A cross-entropy stands beside
that of the null model, which knows no more than how frequent each state is in the bins that judge.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from sitebook.judging import open_run, split
from sitetrace import testbed
from sitetrace.core.files import InputError, named
from sitetrace.core.registry import data_dir, shipped_model
from sitetrace.core.types import Run, cut_run
from sitetrace.power.fitting import fit
from sitetrace.power.modelfile import load_model
from sitetrace.power.states.bigru import BiGRU, fit_bigru, hold_out
from sitetrace.power.states.labels import Piece, TrainingBins, label, prepare
from sitetrace.power.states.model import StatesModel
from sitetrace.power.states.transitions import log_likelihood
from sitetrace.serving.activity import COLUMNS, PAPER_COLUMNS
from sitetrace.serving.engine import simulate

SEED, DRAWS = 1, 1000
LABELS_FROM = {"testbed": "testbed", "measured": "qwen3-8b_a100_from_r4"}
A100 = "qwen3-8b_a100_tp1_"
GROWING, REPEATS = (1, 2, 4, 8, 16, 32), 3
# seeds of testbed recordings: repeat r fits on those from 100 (r + 1)
BLOCK, HELD_OUT_SEEDS = 100, (11, 12, 13, 14)
CUTS_S = (25.0, 50.0)
ADDED = ("poisson_r4", "poisson_r2p5", "smooth_r2p5", "burstgpt")
SHAREGPT = ("poisson_r4", "poisson_r2p5", "smooth_r2p5", "bursty_r2p5")
STUDY_RECORDINGS, STUDY_HIDDEN = 6, 32
SIX = "arriving input_arriving output_arriving active input_starting decode_tokens"
SETS = {"A": ("active",), "dA": ("delta_active",), "F2": PAPER_COLUMNS}
SETS |= {"F3": (*PAPER_COLUMNS, "log_input_arriving"), "F6": tuple(SIX.split())}


def net_table(name: str) -> pd.DataFrame:
    """Read a table of results that took the training of nets: `make nets` makes them."""
    known = {path.stem: path for path in sorted((data_dir() / "nets").glob("*.csv"))}
    return pd.read_csv(named("table of nets", name, known), dtype={"epochs": str})


def labelled(model: StatesModel, runs: list[Run]) -> TrainingBins:
    """Label recordings with a model's states, beside all features of the study."""
    frame = prepare(runs, model.server, model.dt)
    events = pd.concat([_events(run, model) for run in runs], ignore_index=True)
    labels = label(frame, model.idle, model.mixture)
    return replace(labels, table=pd.concat([frame[list(COLUMNS)], events], axis=1))


def _events(run: Run, model: StatesModel) -> pd.DataFrame:
    """Count what arrives and what starts in each bin of a recording."""
    fate = simulate(run.requests, model.server).requests.assign(one=1.0)
    ends = run.samples["time_s"].to_numpy()

    def summed(times: str, amount: str) -> np.ndarray:
        order = np.argsort(fate[times].to_numpy(), kind="stable")
        happened_s, total = fate[times].to_numpy()[order], np.cumsum(fate[amount].to_numpy()[order])
        sides = (np.searchsorted(happened_s, t, "right") for t in (ends - float(model.dt), ends))
        before, after = (np.r_[0.0, total][side] for side in sides)
        return after - before

    arriving = {"arriving": "one", "input_arriving": "input_tokens"}
    arriving |= {"output_arriving": "output_tokens"}
    table = pd.DataFrame({name: summed("arrival_s", each) for name, each in arriving.items()})
    table["log_input_arriving"] = np.log1p(table["input_arriving"])
    return table.assign(input_starting=summed("start_s", "input_tokens"))


def cross_entropy(net: BiGRU, steps: TrainingBins, pieces: list[Piece]) -> float:
    """Mean of -ln P(state) over unbroken stretches, each a series of its own."""
    total = n_bins = 0
    for _, begin, end in pieces:
        seen = (steps.previous[begin:end], steps.state[begin:end], np.ones(end - begin, dtype=bool))
        total -= log_likelihood(net, steps.table.iloc[begin:end], *seen) * (end - begin)
        n_bins += end - begin
    return float(total / n_bins)


def null_entropy(steps: TrainingBins, pieces: list[Piece]) -> float:
    """Entropy of the states' frequencies."""
    from scipy.stats import entropy

    state = np.concatenate([steps.state[begin:end] for _, begin, end in pieces])
    return float(entropy(np.bincount(state)))


def net_model(name: str, checkpoint: Path | None = None) -> StatesModel:
    """Fit the model of a split anew with the paper's net as its transitions."""
    shipped = load_model(shipped_model(name))
    part, told = split(name).fit[0], shipped.provenance
    run = open_run(part.run)
    if told["runs"] != [{"name": run.name, "sha256": run.digest}]:
        raise InputError(f"{name}: its shipped model was fitted on other files: make it anew first")
    how = {"n_states": shipped.mixture.n_states, "emissions": shipped.emissions.kind}
    how |= {"start_s": part.start_s, "stop_s": part.stop_s, "checkpoint": checkpoint}
    return fit([run], seed=told["seed"], transitions="bigru", **how)


def learning_points(data: str) -> range:
    """Count the amounts of data of the learning curve."""
    return range(len(GROWING) if data == "testbed" else len(CUTS_S) + len(ADDED))


def _recordings(data: str, index: int, repeat: int) -> tuple[list[Run], list[Run]]:
    """Open recordings to fit, and those that judge; measured repeats differ in their seed."""
    if data == "testbed":
        first = BLOCK * (repeat + 1)
        fitting = [testbed.run("poisson", first + i) for i in range(GROWING[index])]
        return fitting, [testbed.run("poisson", seed) for seed in HELD_OUT_SEEDS]
    judging = [open_run(A100 + "bursty_r2p5")]  # whose prompts are not new
    if index < len(CUTS_S):
        return [cut_run(open_run(A100 + ADDED[0]), None, CUTS_S[index])], judging
    return [open_run(A100 + name) for name in ADDED[: index - len(CUTS_S) + 1]], judging


def learning_curve(data: str, index: int, folder: Path | None = None) -> dict:
    """Train the paper's net on one amount of data and judge it on recordings it never saw."""
    model, rows = load_model(shipped_model(LABELS_FROM[data])), []
    for repeat in range(REPEATS):
        steps, judges = (labelled(model, runs) for runs in _recordings(data, index, repeat))
        seed, record = SEED + repeat, {}
        checkpoint = folder and folder / f"learning_{data}_{index}_{repeat}.pt"
        net = fit_bigru(steps, PAPER_COLUMNS, seed=seed, checkpoint=checkpoint, record=record)
        row = {"recordings": steps.pieces[-1][0] + 1, "seconds": len(steps.table) * float(model.dt)}
        row["train_nats"] = cross_entropy(net, steps, hold_out(steps.pieces, seed)[0])
        row["held_out_nats"] = cross_entropy(net, judges, judges.pieces)
        row["null_nats"] = null_entropy(judges, judges.pieces)
        rows.append(row | {"best_epoch": record["best_epoch"]})
    table = pd.DataFrame(rows)
    middle, held_out = table.median().to_dict(), table["held_out_nats"]
    middle |= {name: int(middle[name]) for name in ("recordings", "best_epoch")}
    spread = {"held_out_low": float(held_out.min()), "held_out_high": float(held_out.max())}
    return {"data": data, **middle, **spread, "repeats": REPEATS}


def study_runs(data: str) -> list[Run]:
    """Open the recordings of the feature study, each of which judges once."""
    if data == "testbed":
        return [testbed.run("poisson", BLOCK + i) for i in range(STUDY_RECORDINGS)]
    return [open_run(A100 + name) for name in SHAREGPT]


def sources(data: str) -> list[dict]:
    """Name the recordings that any net of this study has seen or was judged on."""
    if data == "measured":
        runs = {A100 + name: open_run(A100 + name) for name in dict.fromkeys((*ADDED, *SHAREGPT))}
    else:
        fitting = (BLOCK * (r + 1) + i for r in range(REPEATS) for i in range(max(GROWING)))
        seeds = (*HELD_OUT_SEEDS, *fitting)
        runs = {f"testbed/poisson, seed {seed}": testbed.run("poisson", seed) for seed in seeds}
    return [{"name": name, "sha256": run.digest} for name, run in runs.items()]


def sufficiency(data: str, epochs: str, folder: Path | None = None) -> pd.DataFrame:
    """Redo the paper's feature study, leaving out one recording after the other."""
    steps = labelled(load_model(shipped_model(LABELS_FROM[data])), study_runs(data))
    n_runs, rows = steps.pieces[-1][0] + 1, []
    limits = {"hidden": STUDY_HIDDEN, "seed": SEED} | ({"epochs": 1} if epochs == "1" else {})
    for left_out in range(n_runs):
        fitting = tuple(piece for piece in steps.pieces if piece[0] != left_out)
        judging = [piece for piece in steps.pieces if piece[0] == left_out]
        null_nats = null_entropy(steps, judging)
        for features, columns in SETS.items():
            checkpoint = folder and folder / f"{data}_{features}_{epochs}_{left_out}.pt"
            seen = replace(steps, pieces=fitting)
            net = fit_bigru(seen, columns, checkpoint=checkpoint, **limits)
            row = {"features": features, "left_out": left_out, "null_nats": null_nats}
            rows.append(row | {"ce_nats": cross_entropy(net, steps, judging)})
    return _medians(pd.DataFrame(rows)).assign(data=data, epochs=epochs, recordings=n_runs)


def _medians(table: pd.DataFrame) -> pd.DataFrame:
    """Take medians over the recordings left out, with intervals."""
    from scipy.stats import bootstrap

    table["ir"] = 1 - table["ce_nats"] / table["null_nats"]
    gain, rows = table["null_nats"] - table["ce_nats"], []
    table["relative"] = gain / gain[table["features"] == "F6"].to_numpy()[table["left_out"]]
    for features, part in table.groupby("features", sort=False):
        how = {"n_resamples": DRAWS, "method": "percentile", "rng": np.random.default_rng(SEED)}
        low, high = bootstrap((part["ir"].to_numpy(),), np.median, **how).confidence_interval
        middle = part[["ce_nats", "null_nats", "ir", "relative"]].median()
        rows.append({"features": features, **middle, "ir_low": low, "ir_high": high})
    return pd.DataFrame(rows)
