"""The chapter on transitions: four ways to learn which state comes next, on the same seconds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from sitebook.old.judging.comparison import TESTBED, open_run
from sitebook.old.judging.decomposition import labelled
from sitebook.old.judging.splits import Part, Split
from sitebook.old.ledger.records import record
from sitebook.old.nets.nets import read_net_table
from sitetrace.core.registry import read_paper_table, shipped_model
from sitetrace.evaluate.judge import evaluate
from sitetrace.power.fitting import as_metered
from sitetrace.power.modelfile import load_model
from sitetrace.power.states.fit import fit_parts
from sitetrace.power.states.labels import TrainingBins
from sitetrace.power.states.model import StatesModel
from sitetrace.power.states.transitions import KINDS, Independent

LEAST_LIKELY = 1e-12
BLOCK_S = 5.0
RESAMPLES = 500
FREQUENCIES, PERSISTENCE = "null: shares of the states", "null: mostly the state before"
INDEPENDENT = "independent draws"
# split whose fitting run is of the paper's own kind of configuration, and its name there
SAME_KIND = {"llama-3.1-70b_h100_cut": "llama-3-70b_H100_tp4"}


def candidates(model: StatesModel, parts: Split) -> dict[str, StatesModel]:
    """Models that differ in their transitions alone, fitted on the same seconds."""
    frame, _ = labelled(model, parts.fit[0])
    everything = np.ones(len(frame), dtype=bool)
    fixed = (model.emissions.kind, None, everything)
    models = {
        kind: replace(
            model, transitions=fit_parts(frame, model.idle, model.mixture, kind, *fixed)[0]
        )
        for kind in KINDS
    }
    net = load_model(shipped_model(f"{parts.name}_bigru"))
    return models | {"bigru": replace(model, transitions=net.transitions)}


def told(
    models: dict[str, StatesModel], frame: pd.DataFrame, labels: TrainingBins, fitting: TrainingBins
) -> pd.DataFrame:
    """Log-probability that each candidate gave to the state that came."""
    n = next(iter(models.values())).mixture.n_states + 1
    rows = np.flatnonzero(labels.use)
    before, now = labels.previous[rows], labels.state[rows]
    columns = {
        name: model.transitions.matrix(frame)[rows, before, now] for name, model in models.items()
    }
    counts = np.bincount(fitting.state[fitting.use], minlength=n) + 1.0
    share = counts / counts.sum()
    stay = (fitting.state == fitting.previous)[fitting.use].mean()
    columns[FREQUENCIES] = share[now]
    columns[PERSISTENCE] = np.where(now == before, stay, (1 - stay) * share[now])
    return np.log(np.maximum(pd.DataFrame(columns, index=rows), LEAST_LIKELY))


def likelihoods(nats: pd.DataFrame, dt_s: float, rng: np.random.Generator) -> pd.DataFrame:
    """Mean log-likelihood of each candidate, with its interval."""
    block = np.arange(len(nats)) // max(round(BLOCK_S / dt_s), 1)
    sums, sizes = nats.groupby(block).sum(), np.bincount(block)
    drawn = rng.integers(sizes.size, size=(RESAMPLES, sizes.size))
    means = sums.to_numpy()[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)[:, None]
    low, high = np.quantile(means, [0.025, 0.975], axis=0)
    value = nats.mean().to_numpy()
    ends = {"low": np.minimum(low, value), "high": np.maximum(high, value)}
    return pd.DataFrame({"candidate": nats.columns, "nats": value} | ends)


def calibration(
    models: dict[str, StatesModel], frame: pd.DataFrame, labels: TrainingBins
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Hold the probability that the state stays against how often it did."""
    from sklearn.calibration import calibration_curve

    rows = np.flatnonzero(labels.use)
    before = labels.previous[rows]
    stayed = labels.state[rows] == before
    found = {}
    for name, model in models.items():
        chance = model.transitions.matrix(frame)[rows, before, before]
        observed, predicted = calibration_curve(stayed, chance, n_bins=8, strategy="quantile")
        found[name] = (predicted, observed)
    return found


def levels(
    frame: pd.DataFrame, labels: TrainingBins, n_states: int
) -> list[tuple[str, np.ndarray]]:
    """Transition frequencies at low, middle and high activity."""
    active = frame["active"].to_numpy()
    edges = np.unique(np.quantile(active[labels.use], [0, 1 / 3, 2 / 3, 1]).astype(int))
    found = []
    for low, high in zip(edges[:-1], edges[1:], strict=True):
        rows = labels.use & (active >= low + (low > edges[0])) & (active <= high)
        counts = np.zeros((n_states, n_states))
        np.add.at(counts, (labels.previous[rows], labels.state[rows]), 1.0)
        total = counts.sum(axis=1, keepdims=True)
        share = np.divide(counts, total, out=np.full_like(counts, np.nan), where=total > 0)
        found.append((f"{low + (low > edges[0])} to {high} active", share))
    return found


def free_runs(
    models: dict[str, StatesModel], part: Part, labels: TrainingBins, draws: int, seed: int
) -> pd.DataFrame:
    """Score traces that each candidate draws for the judged requests."""
    run = open_run(part.run)
    first = next(iter(models.values()))
    frame, _ = labelled(first, part)
    rows = [{"candidate": "recording", "stay_bins": stay_bins(labels.state)}]
    everyone = models | {INDEPENDENT: replace(first, transitions=Independent(first.mixture.weight))}
    for name, model in everyone.items():
        traces = as_metered(model, run, draws, np.random.default_rng(seed))
        result = evaluate(run, traces, start_s=part.start_s, stop_s=part.stop_s)["native"]
        whole, busy = result["whole"], result["busy"]
        drawn = model.draw_states(frame, np.random.default_rng(seed).random(len(frame)))
        rows.append(
            {"candidate": name}
            | {key: whole[key] for key in ("energy_error_pct", "ks", "acf_r2")}
            | {f"busy_{key}": busy[key] for key in ("ks", "acf_r2", "correlation")}
            | {"stay_bins": stay_bins(drawn)}
        )
    return pd.DataFrame(rows)


def stay_bins(state: np.ndarray) -> float:
    """Mean length of stays in one state above idle."""
    cuts = np.flatnonzero(np.diff(state)) + 1
    pieces = [piece.size for piece in np.split(state, cuts) if piece[0] > 0]
    return float(np.mean(pieces)) if pieces else 0.0


def net_history(split: str) -> dict:
    """Loss by epoch of the net that is shipped for a split."""
    return load_model(shipped_model(f"{split}_bigru")).provenance["training"]


def learning_curve(dataset: str) -> pd.DataFrame:
    """Give the stored learning curve of the net on one kind of data."""
    table = read_net_table("learning_curve")
    return table[table["data"] == dataset].drop(columns="data").reset_index(drop=True)


def sufficiency(dataset: str) -> pd.DataFrame:
    """Put our feature study beside the paper's."""
    ours = read_net_table("sufficiency").query("data == @dataset").set_index(["epochs", "features"])
    theirs = read_paper_table("feature_sufficiency").set_index("features")
    trained, once = ours.loc["trained"], ours.loc["1"]
    table = pd.DataFrame(
        {
            "paper, 1 epoch": theirs["ir"],
            "ours, 1 epoch": once["ir"],
            "ours, trained": trained["ir"],
            "low": trained["ir_low"],
            "high": trained["ir_high"],
            "relative to F6": trained["relative"],
        }
    )
    return table.loc[theirs.index].rename_axis("features").reset_index()


def found(
    scored: pd.DataFrame, runs: pd.DataFrame, parts: Split, dataset: str, judged: str
) -> list[dict]:
    """Record what the candidates score, and what the nets' studies say."""
    given = {"data": dataset, "dataset": judged.removeprefix(TESTBED)}
    rows = [
        record(f"held-out log-likelihood, {row.candidate}", row.nats, "nats",
               interval=(row.low, row.high), **given)
        for row in scored.itertuples()
    ]  # fmt: skip
    for row in runs.dropna(subset="ks").itertuples():
        rows.append(record(f"energy error, {row.candidate}", row.energy_error_pct, "%", **given))
        rows.append(record(f"KS, {row.candidate}", row.ks, "", **given))
    for row in runs.itertuples():
        rows.append(
            record(f"mean stay in a state, {row.candidate}", row.stay_bins, "bins", **given)
        )
    return rows + _of_nets(parts, dataset)


def _of_nets(parts: Split, dataset: str) -> list[dict]:
    """Record the nets' losses and the feature study, beside the paper's."""
    given, rows = {"data": dataset}, []
    for split in dict.fromkeys([parts.name, *(SAME_KIND if dataset == "measured" else ())]):
        loss, kind = min(net_history(split)["held_out_nats"]), SAME_KIND.get(split)
        claim = f"run_summary:{kind}:best_val_loss" if kind else None
        rows.append(
            record("validation loss of the net, best epoch", loss, "nats", dataset=split,
                   claim=claim, same_kind=kind is not None, **given)
        )  # fmt: skip
    curve = learning_curve(dataset)
    for row in (curve.iloc[0], curve.iloc[-1]):
        name = f"held-out loss of a net fitted on {row['seconds']:.0f} s"
        ends = (row["held_out_low"], row["held_out_high"])
        rows.append(
            record(name, row["held_out_nats"], "nats", interval=ends, dataset="learning curve",
                   **given)
        )  # fmt: skip
    study = read_net_table("sufficiency").query("data == @dataset")
    for row in study.itertuples():
        trained = row.epochs == "trained"
        name = "trained" if trained else "one epoch"
        rows.append(
            record(f"information ratio of {row.features}, {name}", row.ir, "",
                   interval=(row.ir_low, row.ir_high), dataset="feature study",
                   claim=None if trained else f"feature_sufficiency:{row.features}:ir", **given)
        )  # fmt: skip
        if row.features != "F6":
            claim = None if trained else f"feature_sufficiency:{row.features}:relative"
            rows.append(
                record(f"information of {row.features} relative to F6, {name}", row.relative, "",
                       dataset="feature study", claim=claim, **given)
            )  # fmt: skip
    return rows


def conclusion(scored: pd.DataFrame, dataset: str) -> str:
    """Say what the nets learn, and from how much."""
    nats = scored.set_index("candidate")["nats"]
    best = nats.drop([FREQUENCIES, PERSISTENCE]).idxmax()
    beaten = ", ".join(name for name in nats.index[:4] if nats[name] > nats[PERSISTENCE])
    first, last = learning_curve(dataset).iloc[[0, -1]].itertuples()
    study = sufficiency(dataset)
    below = int((study["ours, trained"] < 0).sum()), int((study["ours, 1 epoch"] < 0).sum())
    return (
        f"best held-out log-likelihood: {best}; above the persistent null: {beaten or 'none'}\n"
        f"the net's held-out loss: {first.held_out_nats:.2f} nats from {first.seconds:.0f} s, "
        f"{last.held_out_nats:.2f} from {last.seconds:.0f} s, null {last.null_nats:.2f}\n"
        f"feature sets below the null: {below[1]} of {len(study)} after one epoch, {below[0]} "
        "when trained to the end"
    )
