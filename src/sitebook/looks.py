"""Looks at the power states of recordings, each for one question of the book."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from sitebook import judging
from sitebook.page import TESTBED
from sitetrace.core.registry import read_paper_table, shipped_model
from sitetrace.core.style import BAND, GENERATED
from sitetrace.core.types import PowerTrace, Run
from sitetrace.evaluate.metrics import acf, acf_lags, scores
from sitetrace.power.modelfile import load_model
from sitetrace.power.states import mixture as mixtures
from sitetrace.power.states.fit import fit_parts
from sitetrace.power.states.labels import TrainingBins, label, prepare, usable
from sitetrace.power.states.mixture import Mixture, bic_curve, fit_emissions, fit_mixture
from sitetrace.power.states.model import StatesModel
from sitetrace.serving.activity import PAPER_COLUMNS, activity_table
from sitetrace.serving.engine import simulate
from sitetrace.testbed import Testbed, true_states

FEATURES = {"A": PAPER_COLUMNS[:1], "dA": PAPER_COLUMNS[1:], "F2": PAPER_COLUMNS}
FEATURE_BINS, SHUFFLES, BLOCKS = 20, 40, 20  # bins as in the paper's study; blocks left out in turn
LEAST, LEVEL, POOL, REPEATS = 20, 0.05, 40_000, 199  # of the tests within states
LEAST_LIKELY = 1e-12
FREQUENCIES, PERSISTENCE = "null: shares of the states", "null: mostly the state before"
SOURCES = ("oracle", "predicted", "forgetful", "marginal")
GRID, TALLEST = 4000, 1.4
Stretches = list[tuple[np.ndarray, np.ndarray]]  # unbroken: states from 0, and watts


def labelled(model: StatesModel, run: Run) -> TrainingBins:
    """Lay a recording beside its simulated activity, and give each sample its state."""
    return label(prepare([run], model.server, model.dt), model.idle, model.mixture)


def recordings(dataset: str) -> dict[str, tuple[StatesModel, pd.DataFrame]]:
    """Prepare all recordings of a kind of data, each beside the shipped model of its split."""
    found = {}
    for name, entry in judging.splits().items():
        for part in (*entry.fit, *entry.judge):
            if part.run.startswith(TESTBED) == (dataset == "testbed") and part.run not in found:
                model, run = load_model(shipped_model(name)), judging.open_run(part.run)
                found[part.run] = model, prepare([run], model.server, model.dt)
    return found


def drawn_w(mixture: Mixture, size: int, rng: np.random.Generator) -> np.ndarray:
    """Draw independent samples from a mixture, watts."""
    state = rng.choice(mixture.n_states, size, p=mixture.weight / mixture.weight.sum())
    return rng.normal(mixture.mean_w[state], mixture.sigma_w[state])


def above(mixture: Mixture, power_w: float) -> Mixture:
    """Keep the states above a power, their weights made to sum to one again."""
    keep = mixture.mean_w > power_w
    weight = mixture.weight[keep]
    return Mixture(mixture.mean_w[keep], mixture.sigma_w[keep], weight / weight.sum())


def distance(power_w: np.ndarray, mixture: Mixture) -> float:
    """Kolmogorov-Smirnov distance of samples to a mixture."""
    from scipy.stats import kstest, norm

    def below(watts: np.ndarray) -> np.ndarray:
        return norm.cdf(watts[:, None], mixture.mean_w, mixture.sigma_w) @ mixture.weight

    return float(kstest(power_w, below, method="asymp").statistic)


def with_states(model: StatesModel, run: Run, n_states: int, seed: int) -> StatesModel:
    """Refit states, logit transitions and power within states; engine and idle stay."""
    frame = prepare([run], model.server, model.dt)
    working_w = frame["power_w"].to_numpy()[usable(frame, model.idle)[1]]
    mixture, everything = fit_mixture(working_w, n_states, seed), np.ones(len(frame), dtype=bool)
    how = ("logit", "gaussian", None, everything)
    transitions, emissions = fit_parts(frame, model.idle, mixture, *how)
    return replace(model, mixture=mixture, transitions=transitions, emissions=emissions)


def known_states(twin: str, run: Run) -> Mixture:
    """Take the paper's mixture of a configuration, or without one the testbed's true states."""
    if twin:
        return mixtures.published_mixture(read_paper_table("mixtures"), twin)
    truth = Testbed()
    ends = run.samples["time_s"].to_numpy()
    states = true_states(activity_table(simulate(run.requests, truth.server), ends, float(run.dt)))
    share = np.bincount(states, minlength=truth.mean_w.size) / ends.size
    return Mixture(truth.mean_w, np.asarray(truth.sigma_w), share)


def lay_over(figure: Figure, fitted: list[Mixture]) -> None:
    """Draw each mixture over the histogram of its panel, cut where a narrow state dwarfs all."""
    from scipy.stats import norm

    for axes, mixture in zip(figure.axes, fitted, strict=True):
        grid, top = np.linspace(*axes.get_xlim(), GRID), axes.get_ylim()[1]
        each = mixture.weight * norm.pdf(grid[:, None], mixture.mean_w, mixture.sigma_w)
        axes.plot(grid, each, color=BAND, lw=1)
        axes.plot(grid, each.sum(axis=1), color=GENERATED, lw=1.6)
        axes.set_ylim(0, TALLEST * top)


def least_bic(power_w: np.ndarray, counts: Iterable[int], seed: int) -> int:
    """Find the number of states that BIC takes."""
    return int(bic_curve(power_w, tuple(counts), seed).set_index("n_states")["bic"].idxmin())


def stays(state: np.ndarray, begins: np.ndarray | None = None) -> pd.DataFrame:
    """Cut states into stays above idle: stretches of one state; none goes on where one begins."""
    new = np.diff(state, prepend=-1) != 0
    stay = pd.Series(state).groupby(np.cumsum(new if begins is None else new | begins))
    found = pd.DataFrame({"state": stay.first(), "bins": stay.size()})
    return found[found["state"] > 0].reset_index(drop=True)


def survival(found: pd.DataFrame, dt_s: float) -> dict[str, pd.Series]:
    """Share of stays that last longer than a time: found, and by two laws without memory."""
    # a chain leaves with a chance of 1/mean in every bin, independent draws with 1 - share
    by_state = found.groupby("state")["bins"]
    share = by_state.transform("sum") / found["bins"].sum()
    leave = {"geometric": 1 / by_state.transform("mean"), "independent draws": 1 - share}
    bins = np.arange(found["bins"].max())
    last = {"recorded": found["bins"].to_numpy() > bins[:, None]}
    last |= {name: (1 - chance.to_numpy()) ** bins[:, None] for name, chance in leave.items()}
    return {name: pd.Series(each.mean(axis=1), bins * dt_s) for name, each in last.items()}


def information(table: pd.DataFrame, state: np.ndarray, seed: int) -> pd.DataFrame:
    """Share I(x; z)/H(z) of the states' entropy that features explain, and what chance gives.

    Chance is labels in random order, and labels shifted in time, which keep the memory of both
    series; `low` and `high` hold the share above chance in 95 %, by a jackknife over time.
    """
    rows, size = {}, len(state)
    for name, cells in _cells(table).items():
        rng, left = np.random.default_rng(seed), []
        shuffled = np.mean([_told(cells, rng.permutation(state)) for _ in range(SHUFFLES)])
        plug_in = _told(cells, state)
        shifts = rng.integers(size // 10, size - size // 10, SHUFFLES)
        shifted = np.mean([_told(cells, np.roll(state, by)) for by in shifts])
        for block in np.array_split(np.arange(size), BLOCKS):
            left.append(_told(np.delete(cells, block), np.delete(state, block)))
        middle, spread = plug_in - shuffled, 1.96 * np.sqrt((BLOCKS - 1) * np.var(left))
        rows[name] = plug_in, shuffled, shifted, middle, middle - spread, middle + spread
    columns = ["plug_in", "shuffled", "shifted", "above_chance", "low", "high"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("features")


def _cells(table: pd.DataFrame) -> dict[str, np.ndarray]:
    """Tell in which cell, of 20 equal bins a feature, each sample falls."""
    found = {}
    for name, columns in FEATURES.items():
        binned = [pd.cut(table[column], FEATURE_BINS, labels=False) for column in columns]
        found[name] = np.ravel_multi_index(binned, (FEATURE_BINS,) * len(columns))
    return found


def _told(cells: np.ndarray, state: np.ndarray) -> float:
    from scipy.stats import entropy

    joint = cells * (state.max() + 1) + state
    apart, own, both = (entropy(np.bincount(each)) for each in (cells, state, joint))
    return (apart + own - both) / own


def levels(steps: TrainingBins) -> dict[str, pd.DataFrame]:
    """Share of bins in which a state followed another, at low, middle and high activity."""
    active = steps.table["active"].to_numpy()
    edges = np.unique(np.quantile(active[steps.use], [0, 1 / 3, 2 / 3, 1]).astype(int))
    found, every = {}, range(steps.n_states)
    for low, high in zip(edges[:-1], edges[1:], strict=True):
        low += low > edges[0]
        rows = steps.use & (active >= low) & (active <= high)
        pair = pd.Series(steps.previous[rows], name="state before"), pd.Series(steps.state[rows])
        share = pd.crosstab(*pair, colnames=["next state"], normalize="index")
        share = share.reindex(columns=every, fill_value=0.0)
        found[f"{low} to {high} active"] = share.reindex(every)
    return found


def log_chances(
    models: Mapping[str, StatesModel], steps: TrainingBins, fitted: TrainingBins
) -> pd.DataFrame:
    """Log-probability that each model, and two nulls, gave to the state that came next."""
    rows = np.flatnonzero(steps.use)
    before, now = steps.previous[rows], steps.state[rows]
    told = {}
    for name, model in models.items():
        told[name] = model.transitions.matrix(steps.table)[rows, before, now]
    share = np.bincount(fitted.state[fitted.use], minlength=fitted.n_states) + 1.0
    share /= share.sum()
    stay = (fitted.state == fitted.previous)[fitted.use].mean()
    told[FREQUENCIES] = share[now]
    told[PERSISTENCE] = np.where(now == before, stay, (1 - stay) * share[now])
    return np.log(np.maximum(pd.DataFrame(told, index=rows), LEAST_LIKELY))


def state_tests(
    power_w: np.ndarray, states: np.ndarray, mixture: Mixture, rng: np.random.Generator
) -> pd.DataFrame:
    """Test each state for normality, beside what labelling alone does to Gaussian samples."""
    from scipy import stats

    pool_w = drawn_w(mixture, POOL, rng)
    labels, rows = mixture.label(pool_w), []
    for k in range(mixture.n_states):
        watts = power_w[states == k]
        if watts.size < LEAST or (labels == k).sum() < LEAST:
            continue
        null_w = rng.choice(pool_w[labels == k], size=(REPEATS, watts.size))
        tested, null = stats.shapiro(watts), stats.shapiro(null_w, axis=1)
        row = {"state": k + 1, "mean_w": mixture.mean_w[k], "samples": watts.size}
        row |= {"shapiro_p": tested.pvalue, "null rejected": np.mean(null.pvalue < LEVEL)}
        row["against null"] = (1 + (null.statistic <= tested.statistic).sum()) / (1 + REPEATS)
        row |= {"skew": stats.skew(watts), "kurtosis": stats.kurtosis(watts)}
        rows.append(row | {"null kurtosis": np.median(stats.kurtosis(null_w, axis=1))})
    return pd.DataFrame(rows)


def memory_by_state(
    stretches: Stretches, mixture: Mixture, rng: np.random.Generator
) -> pd.DataFrame:
    """Lag-one coefficient phi of each state, beside the 95th percentile of shuffled samples."""
    phi = fit_emissions("ar1", stretches, mixture).phi
    mixed = (_shuffled(stretches, rng) for _ in range(REPEATS))
    shuffled = [fit_emissions("ar1", each, mixture).phi for each in mixed]
    size = np.zeros(mixture.n_states, dtype=int)
    for k, residual in _residuals(stretches, mixture):
        size[k] += residual.size
    table = {"state": np.arange(phi.size) + 1, "mean_w": mixture.mean_w, "samples": size}
    return pd.DataFrame(table | {"phi": phi, "chance": np.quantile(shuffled, 0.95, axis=0)})


def _residuals(stretches: Stretches, mixture: Mixture) -> list[tuple[int, np.ndarray]]:
    """State and standardised residual of each unbroken run of at least five samples."""
    found = []
    for labels, power_w in stretches:
        cuts = np.flatnonzero(np.diff(labels)) + 1
        for part, watts in zip(np.split(labels, cuts), np.split(power_w, cuts), strict=True):
            k = int(part[0])
            if part.size >= mixtures.MIN_STRETCH:
                found.append((k, (watts - mixture.mean_w[k]) / mixture.sigma_w[k]))
    return found


def _shuffled(stretches: Stretches, rng: np.random.Generator) -> Stretches:
    """Exchange samples of the same state at random, so that labels stay and order goes."""
    states, power_w = map(np.concatenate, zip(*stretches, strict=True))
    for k in np.unique(states):
        rows = np.flatnonzero(states == k)
        power_w[rows] = power_w[rng.permutation(rows)]
    cuts = np.cumsum([labels.size for labels, _ in stretches])[:-1]
    return list(zip(np.split(states, cuts), np.split(power_w, cuts), strict=True))


def ar1_mean_w(mixture: Mixture, phi: np.ndarray, stay: float) -> float:
    """Mean power of the paper's AR(1) where a bin keeps its state with probability `stay`."""
    # e, share of each state times its mean power, solves with m = sum e
    # e = (1 - phi) w mu + phi (stay e + (1 - stay) w m)
    share = mixture.weight / mixture.weight.sum()
    carried = phi[:, None] * (stay * np.eye(share.size) + (1 - stay) * share[:, None])
    given = share * (1 - phi) * mixture.mean_w
    return float(np.linalg.solve(np.eye(share.size) - carried, given).sum())


def kept_states(mixture: Mixture, stay: float, size: int, rng: np.random.Generator) -> np.ndarray:
    """Draw states that are kept with probability `stay` and else drawn by the weights."""
    anew = rng.choice(mixture.n_states, size, p=mixture.weight / mixture.weight.sum())
    keep = rng.random(size) < stay
    keep[:1] = False
    return anew[np.maximum.accumulate(np.where(keep, 0, np.arange(size)))]


def from_states(
    model: StatesModel, source: str, fitting: Run, run: Run, draws: int, rng: np.random.Generator
) -> judging.Drawn:
    """Draw power behind the states of a source: a method to judge, once model and source are given.

    States of the recording (oracle), of the model (predicted), each bin's by the model's own
    probability whatever came before (forgetful), or by their shares when fitted (marginal).
    """
    times, dt_s = run.samples["time_s"].to_numpy(), float(model.dt)
    start_s = times[0] - dt_s
    ends = model.bin_ends(start_s, int((times[-1] - start_s) / dt_s + 0.5))
    # each even bin takes what is known of the nearest sample
    nearest = np.searchsorted(times, ends - dt_s / 2).clip(max=times.size - 1)
    table = prepare([run], model.server, model.dt).iloc[nearest].reset_index(drop=True)
    idle_w = run.idle_before_load_w() or model.idle.mean_w
    if source == "oracle":
        own_w = on_fitted_board(model, table["power_w"].to_numpy(), idle_w)
        known = label(table.assign(power_w=own_w), model.idle, model.mixture).state
    elif source == "forgetful":
        share = bin_probabilities(model, table)
    elif source == "marginal":
        count = np.bincount(labelled(model, fitting).state, minlength=model.mixture.n_states + 1)
        share = np.broadcast_to(count, (ends.size, count.size))
    drawn = []
    for each in rng.spawn(draws):
        uniform = each.random(ends.size)
        if source == "oracle":
            states = known
        elif source == "predicted":
            states = model.draw_states(table, uniform)
        else:
            states = by_chance(share, uniform)
        power_w = model.rebase(model.draw_power(states, table, each), idle_w)
        drawn.append(PowerTrace(start_s, model.dt, power_w))
    mean_w = np.mean([trace.power_w for trace in drawn], axis=0)
    return PowerTrace(start_s, model.dt, mean_w), drawn


def pooled_scores(parts: list[tuple[np.ndarray, np.ndarray]], dt: float) -> pd.DataFrame:
    """Score recordings laid end to end, as the paper's pooled form, one row a draw of all.

    `parts` are measured watts and those of all draws. Autocorrelations are averaged over parts.
    """
    lags = min(acf_lags(float(dt)), *(measured_w.size - 1 for measured_w, _ in parts))
    wanted, rows = np.mean([acf(measured_w, lags) for measured_w, _ in parts], axis=0), []
    for draw in range(len(parts[0][1])):
        both = [(measured_w, drawn_w[draw]) for measured_w, drawn_w in parts]
        got = np.mean([acf(generated_w, lags) for _, generated_w in both], axis=0)
        row = scores(*map(np.concatenate, zip(*both, strict=True)), float(dt))
        fit = 1 - ((got - wanted) ** 2).sum() / ((wanted - wanted.mean()) ** 2).sum()
        told = {"delta_energy_pct": row["energy_error_pct"], "acf_r2": fit}
        rows.append({"ks": row["ks"], "nrmse": row["nrmse"]} | told)
    return pd.DataFrame(rows)


def on_fitted_board(model: StatesModel, power_w: np.ndarray, idle_w: float) -> np.ndarray:
    """Carry power of another board to the one that the model was fitted on."""
    grid_w = np.linspace(0.0, 1.5 * max(model.power_range_w[1], power_w.max()), GRID)
    return np.interp(power_w, model.rebase(grid_w, idle_w), grid_w)


def bin_probabilities(model: StatesModel, table: pd.DataFrame) -> np.ndarray:
    """Probability of each state in each bin, when all that went before is unknown."""
    matrix = model.transitions.matrix(table)
    quiet = table["quiet_for_s"].to_numpy() >= model.idle.hold_s
    last = idle = np.eye(matrix.shape[2])[0]
    share = np.empty((len(table), idle.size))
    for i, still in enumerate(quiet):
        last = share[i] = idle if still else last @ matrix[i]
    return share


def by_chance(share: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """Draw each bin's state by itself."""
    reached = np.cumsum(share, axis=1) / share.sum(axis=1, keepdims=True)
    return (uniform[:, None] >= reached[:, :-1]).sum(axis=1)
