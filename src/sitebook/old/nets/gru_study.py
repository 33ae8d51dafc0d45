"""What the paper's net learns from how much data, and from which features: nets trained anew.

Labels are those of the shipped model of a split, for all nets alike. A cross-entropy stands beside
that of the null model, which knows no more than how frequent each state is in the bins that judge.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from sitebook.old.judging.comparison import open_run
from sitebook.old.judging.splits import split
from sitebook.old.nets.gru_features import cross_entropy, labelled, null_entropy
from sitetrace import testbed
from sitetrace.core.files import InputError
from sitetrace.core.registry import shipped_model
from sitetrace.core.types import Run, cut_run
from sitetrace.power.fitting import fit
from sitetrace.power.modelfile import load_model
from sitetrace.power.states.bigru import fit_bigru, hold_out
from sitetrace.power.states.model import StatesModel
from sitetrace.serving.activity import PAPER_COLUMNS

SEED = 1
LABELS_FROM = {"testbed": "testbed", "measured": "qwen3-8b_a100_from_r4"}
A100 = "qwen3-8b_a100_tp1_"
GROWING = (1, 2, 4, 8, 16, 32)
REPEATS = 3
# seeds of testbed recordings: repeat r fits on those from 100 (r + 1)
BLOCK, HELD_OUT_SEEDS = 100, (11, 12, 13, 14)
CUTS_S = (25.0, 50.0)
ADDED = ("poisson_r4", "poisson_r2p5", "smooth_r2p5", "burstgpt")
SHAREGPT = ("poisson_r4", "poisson_r2p5", "smooth_r2p5", "bursty_r2p5")
STUDY_RECORDINGS = 6
STUDY_HIDDEN = 32
SETS = {
    "A": ("active",),
    "dA": ("delta_active",),
    "F2": PAPER_COLUMNS,
    "F3": (*PAPER_COLUMNS, "log_input_arriving"),
    "F6": (
        "arriving",
        "input_arriving",
        "output_arriving",
        "active",
        "input_starting",
        "decode_tokens",
    ),
}
DRAWS = 1000


def net_model(name: str, checkpoint: Path | None = None) -> StatesModel:
    """Fit the model of a split anew with the paper's net as its transitions."""
    shipped = load_model(shipped_model(name))
    part, told = split(name).fit[0], shipped.provenance
    run = open_run(part.run)
    if told["runs"] != [{"name": run.name, "sha256": run.digest}]:
        raise InputError(f"{name}: its shipped model was fitted on other files: make it anew first")
    options = {"n_states": shipped.mixture.n_states, "emissions": shipped.emissions.kind}
    cut = {"start_s": part.start_s, "stop_s": part.stop_s}
    return fit(
        [run], seed=told["seed"], transitions="bigru", checkpoint=checkpoint, **options, **cut
    )


def learning_points(data: str) -> range:
    """Count the amounts of data of the learning curve."""
    return range(len(GROWING) if data == "testbed" else len(CUTS_S) + len(ADDED))


def _recordings(data: str, index: int, repeat: int) -> tuple[list[Run], list[Run]]:
    """Open recordings to fit, and those that judge.

    Measured, repeats differ in their seed alone; the bursty run judges, whose prompts are not new.
    """
    if data == "testbed":
        first = BLOCK * (repeat + 1)
        fitting = [testbed.run("poisson", first + i) for i in range(GROWING[index])]
        return fitting, [testbed.run("poisson", seed) for seed in HELD_OUT_SEEDS]
    judging = [open_run(A100 + "bursty_r2p5")]
    if index < len(CUTS_S):
        return [cut_run(open_run(A100 + ADDED[0]), None, CUTS_S[index])], judging
    return [open_run(A100 + name) for name in ADDED[: index - len(CUTS_S) + 1]], judging


def learning_curve(data: str, index: int, folder: Path | None = None) -> dict:
    """Train the paper's net on one amount of data and judge it on recordings it never saw."""
    model = load_model(shipped_model(LABELS_FROM[data]))
    rows = []
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
    middle = table.median().to_dict()
    middle |= {name: int(middle[name]) for name in ("recordings", "best_epoch")}
    held_out = table["held_out_nats"]
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
        named = {A100 + name: open_run(A100 + name) for name in dict.fromkeys((*ADDED, *SHAREGPT))}
    else:
        fitting = (BLOCK * (r + 1) + i for r in range(REPEATS) for i in range(max(GROWING)))
        seeds = (*HELD_OUT_SEEDS, *fitting)
        named = {f"testbed/poisson, seed {seed}": testbed.run("poisson", seed) for seed in seeds}
    return [{"name": name, "sha256": run.digest} for name, run in named.items()]


def sufficiency(data: str, epochs: str, folder: Path | None = None) -> pd.DataFrame:
    """Redo the paper's feature study, leaving out one recording after the other."""
    steps = labelled(load_model(shipped_model(LABELS_FROM[data])), study_runs(data))
    n_runs = steps.pieces[-1][0] + 1
    limits = {"hidden": STUDY_HIDDEN} | ({"epochs": 1} if epochs == "1" else {})
    rows = []
    for left_out in range(n_runs):
        fitting = tuple(piece for piece in steps.pieces if piece[0] != left_out)
        judging = [piece for piece in steps.pieces if piece[0] == left_out]
        null_nats = null_entropy(steps, judging)
        for features, columns in SETS.items():
            checkpoint = folder and folder / f"{data}_{features}_{epochs}_{left_out}.pt"
            options = {"seed": SEED, "checkpoint": checkpoint} | limits
            net = fit_bigru(replace(steps, pieces=fitting), columns, **options)
            row = {"features": features, "left_out": left_out, "null_nats": null_nats}
            rows.append(row | {"ce_nats": cross_entropy(net, steps, judging)})
    named = {"data": data, "epochs": epochs, "recordings": n_runs}
    return _summed_up(pd.DataFrame(rows)).assign(**named)


def _summed_up(table: pd.DataFrame) -> pd.DataFrame:
    """Take medians over the recordings left out, with intervals."""
    from scipy.stats import bootstrap

    table["ir"] = 1 - table["ce_nats"] / table["null_nats"]
    gain = table["null_nats"] - table["ce_nats"]
    whole = gain[table["features"] == "F6"].to_numpy()
    table["relative"] = gain / whole[table["left_out"]]
    rows = []
    for features, part in table.groupby("features", sort=False):
        rng, ir = np.random.default_rng(SEED), part["ir"].to_numpy()
        drawn = bootstrap((ir,), np.median, n_resamples=DRAWS, method="percentile", rng=rng)
        low, high = drawn.confidence_interval
        middle = part[["ce_nats", "null_nats", "ir", "relative"]].median()
        rows.append({"features": features, **middle, "ir_low": low, "ir_high": high})
    return pd.DataFrame(rows)
