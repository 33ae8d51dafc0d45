"""The sites of several pages: which model, traffic and shape; simulated by seed, and seen into."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sitebook.judging import open_part, split
from sitetrace.core.files import named
from sitetrace.core.registry import dataset_path, device, read_paper_table, shipped_model
from sitetrace.core.types import Run
from sitetrace.evaluate.judge import PHASES, phases
from sitetrace.planning.series import blocks, coincidence_factor, power_at, resample, step_of
from sitetrace.power.modelfile import load_model, save_model
from sitetrace.power.published import paper_model
from sitetrace.serving.activity import activity_table
from sitetrace.serving.engine import Server, simulate
from sitetrace.serving.surrogates import ConstantRate
from sitetrace.site.scenario import check_scenario, resolve_model
from sitetrace.site.simulate import simulate_site
from sitetrace.site.store import read_site
from sitetrace.workload.spec import open_stream

if TYPE_CHECKING:
    import xarray as xr

NON_GPU_W, PUE, GPUS = 1000.0, 1.3, 8  # the paper's: watts besides the GPUs, of servers of eight
STEP_S, SECOND_S, QUARTER_S = 0.25, 1.0, 900.0
CHUNK_S = 21_600.0  # few and large stretches: a day is small
SUBSETS, SIZES = 50, (1, 4, 16, 60, 120, 240)
LEVELS = ("server", "rack", "row", "site")
TRAFFIC = {
    "diurnal": "a made-up day: Poisson arrivals, the rate a cosine with its maximum at 15:00",
    "azure": "a made-up day with Azure's lengths: Poisson arrivals, the rate a cosine with its "
    "maximum at 15:00, token lengths of an hour of conversations of 2023",
    "servegen": "ServeGen's day: rates and lengths by client of a reasoning model in production, "
    "scaled to the servers; its lengths come in windows of six hours, which makes steps",
    "poisson": "Poisson arrivals at a constant rate",
}


@dataclass(frozen=True)
class Setup:
    """A site before it is simulated."""

    name: str
    data: str
    models: dict[str, str]
    traffic: dict
    what: str
    shape: tuple[int, int, int]  # rows, racks a row, servers a rack
    hours: float
    non_gpu_w: float

    @property
    def servers(self) -> int:
        """Servers of the site."""
        return int(np.prod(self.shape))

    @property
    def label(self) -> str:
        """Name and source, for figures."""
        name = self.name.replace("_", " ")
        return name if name == self.data else f"{name} ({self.data})"

    def model(self):  # noqa: ANN201
        """Load the first of the models."""
        return load_model(resolve_model(next(iter(self.models.values())), Path()))

    def scenario(self, method: str, seed: int, keep: list[dict]):  # noqa: ANN201
        """Write the site as a scenario."""
        words = ("rows", "racks_per_row", "servers_per_rack")
        return check_scenario(
            {
                "name": f"{self.name}, {method}",
                "seed": seed,
                "hours": self.hours,
                "step_s": STEP_S,
                "chunk_s": min(CHUNK_S, self.hours * 3600),
                "topology": dict(zip(words, self.shape, strict=True)),
                "fleet": [{"name": "all", "model": self.models[method]}],
                "traffic": self.traffic,
                "non_gpu": {"constant_w": self.non_gpu_w},
                "pue": PUE,
                "keep": keep,
            }
        )


def traffic(kind: str, rate_per_server: float, folder: Path) -> dict:
    """Describe the traffic of a site as a scenario does."""
    named("traffic", kind, TRAFFIC)
    given = {"pattern": "poisson" if kind == "poisson" else "diurnal"}
    given["rate_per_server"] = rate_per_server
    if kind == "azure":
        return given | {"lengths": str(_azure_lengths(folder))}
    if kind == "servegen":
        path = dataset_path("servegen").resolve()
        files = {"file": "deepseek-r1_rates.csv", "lengths": "deepseek-r1_lengths.csv"}
        return given | {"pattern": "clients"} | {k: str(path / name) for k, name in files.items()}
    return given


def _azure_lengths(folder: Path) -> Path:
    """Write Azure's conversations as a request table."""
    path = dataset_path("azure_llm_2023") / "AzureLLMInferenceTrace_conv.csv"
    names = {"ContextTokens": "input_tokens", "GeneratedTokens": "output_tokens"}
    table = pd.read_csv(path, usecols=list(names)).rename(columns=names)
    table = table[(table > 0).all(axis=1)].reset_index(drop=True)
    table.insert(0, "arrival_s", table.index.astype(float))
    table.to_csv(folder / "azure.csv", index=False)
    return (folder / "azure.csv").resolve()


def fitted(name: str, kind: str, rate: float, shape: tuple, hours: float, folder: Path) -> Setup:
    """Set up a site of servers like the one that a split's models were fitted on."""
    models = {"timeline": f"{name}_timeline", "states": name}
    data = "testbed" if name.startswith("testbed") else "measured"
    gpus = load_model(shipped_model(models["timeline"])).configuration.tensor_parallel
    given = (traffic(kind, rate, folder), TRAFFIC[kind], tuple(shape), hours)
    return Setup(name, data, models, *given, NON_GPU_W * gpus / GPUS)


def of_paper(
    config: str, kind: str, rate: float, shape: tuple, hours: float, folder: Path,
    non_gpu_w: float = NON_GPU_W,
) -> Setup:  # fmt: skip
    """Set up a site of servers of one of the paper's configurations."""
    path = (folder / f"{config}.json").resolve()
    save_model(paper_model(config), path)
    given = (traffic(kind, rate, folder), TRAFFIC[kind], tuple(shape), hours, non_gpu_w)
    return Setup(config, "paper", {"states": str(path)}, *given)


def simulated(setup: Setup, method: str, seed: int, keep: list[dict], folder: Path) -> "xr.Dataset":
    """Simulate a site into a folder."""
    place = Path(tempfile.mkdtemp(dir=folder)) / "site.zarr"
    return simulate_site(setup.scenario(method, seed, keep), place, workers=2)


def open_sites(
    splits: list[str], rates: list[float], kind: str, shape: tuple, folder: Path,
    paper: str = "", paper_rate: float = 0.0,
) -> list[Setup]:  # fmt: skip
    """Set up days of sites of fitted servers, and one of the paper's with Azure's lengths."""
    pairs = zip(splits, rates, strict=True)
    setups = [fitted(name, kind, rate, shape, 24.0, folder) for name, rate in pairs]
    if paper:
        setups.append(of_paper(paper, "azure", paper_rate, shape, 24.0, folder))
    return setups


@dataclass(frozen=True)
class PhaseLookup:
    """Power of a server by phase, and when a request is active."""

    idle_w: float
    prefill_w: float
    decode_w: float
    rates: ConstantRate


def simple_powers(setup: Setup) -> tuple[float, float, PhaseLookup | None]:
    """Find nameplate, mean of the fitting run and its power by phase, for the GPUs of a server."""
    model = setup.model()
    of = model.configuration
    nameplate_w = device(of.hardware)["tdp_w"] * of.tensor_parallel
    if setup.data == "paper":
        return nameplate_w, float(model.mixture.weight @ model.mixture.mean_w), None
    run = open_part(split(setup.name).fit[0])
    return nameplate_w, float(run.samples["power_w"].mean()), _lookup(run, model.server)


def _lookup(run: Run, server: Server) -> PhaseLookup:
    """Take the three powers from a run, served at the constant token rates of the engine."""
    served = simulate(run.requests, server).requests
    prefill_s = (served["first_token_s"] - served["arrival_s"]).sum()
    decode_s = (served["end_s"] - served["first_token_s"]).sum()
    tokens = served[["input_tokens", "output_tokens"]].sum()
    rates = ConstantRate(float(tokens.iloc[0] / prefill_s), float(tokens.iloc[1] / decode_s))
    times_s, power_w = run.samples["time_s"].to_numpy(), run.samples["power_w"]
    activity = activity_table(simulate(run.requests, rates), times_s, float(run.dt))
    levels = power_w.groupby(phases(activity)).mean().reindex(PHASES).fillna(power_w.mean())
    return PhaseLookup(*map(float, levels), rates)


def simple_facilities(setup: Setup, seed: int, dt_s: float) -> dict[str, np.ndarray]:
    """Power of the facility by the simple methods, on traffic of the same kind."""
    nameplate_w, mean_w, lookup = simple_powers(setup)
    bins, others_w = round(setup.hours * 3600 / STEP_S), setup.servers * setup.non_gpu_w
    found = {
        name: np.full(round(bins * STEP_S / dt_s), PUE * (setup.servers * watts + others_w))
        for name, watts in (("nameplate", nameplate_w), ("mean", mean_w))
    }
    if lookup is None:
        return found
    keep = [{"levels": ["site"], "step_s": 1}]
    scenario = setup.scenario(next(iter(setup.models)), seed, keep)
    stream = open_stream(scenario.traffic, setup.servers, scenario.folder, scenario.start_hour)
    seeds = np.random.SeedSequence(seed).spawn(2)
    requests, _ = stream.chunk(0, 0.0, setup.hours * 3600, seeds[0], None)
    server_of = np.random.default_rng(seeds[1]).integers(0, setup.servers, len(requests.arrival_s))
    gpu_w = lookup_gpu_w(lookup, *requests[:2], server_of, bins)
    return found | {"look-up": PUE * (resample(gpu_w, STEP_S, dt_s) + others_w)}


def lookup_gpu_w(
    lookup: PhaseLookup, arrival_s: np.ndarray, tokens: np.ndarray, server_of: np.ndarray, size: int
) -> np.ndarray:
    """Power of the GPUs of all servers that have requests, by phase look-up."""
    end_s = arrival_s + tokens[:, 0] / lookup.rates.prefill_tok_s
    end_s = end_s + tokens[:, 1] / lookup.rates.decode_tok_s
    # the bin at whose end a change is first counted
    first, last = (
        np.minimum(np.ceil(times_s / STEP_S).astype(np.int64) - 1, size)
        for times_s in (arrival_s, end_s)
    )
    first, total_w = np.maximum(first, 0), np.zeros(size)
    order = np.argsort(server_of, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(server_of[order])) + 1):
        change = np.bincount(first[rows], minlength=size + 1).astype(np.int64)
        change -= np.bincount(last[rows], minlength=size + 1)
        active = np.cumsum(change[:size])
        # prefill by the rule of `sitetrace.evaluate.judge.phases`: at least two rising bins on end
        rising = (np.diff(active, prepend=active[:1]) > 0) & (active > 0)
        beside = np.r_[False, rising[:-1]] | np.r_[rising[1:], False]
        power_w = np.where(active > 0, lookup.decode_w, lookup.idle_w)
        total_w += np.where(rising & beside, lookup.prefill_w, power_w)
    return total_w + (int(server_of.max()) + 1 - len(np.unique(server_of))) * lookup.idle_w


def paper_diversity(total_peak_w: float, part_peaks_w: np.ndarray) -> float:
    """Diversity factor as arXiv:2603.18383 has it: never above the coincidence factor."""
    return float(total_peak_w / (len(part_peaks_w) * np.max(part_peaks_w)))


def peaks_of(site: "xr.Dataset", level: str) -> np.ndarray:
    """Find the peak of each unit of a level."""
    return np.max([block.max(axis=0) for block in blocks(site, level)], axis=0)


def moments(site: "xr.Dataset", non_gpu_w: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of the servers' power, all that their sums need, read piece by piece."""
    total, products, count, origin = 0.0, 0.0, 0, None
    for block in blocks(site, "server"):
        # about the first block's mean: squares of whole watts would lose digits
        origin = block.mean(axis=0, dtype=np.float64) if origin is None else origin
        away = block - origin
        total, count = total + away.sum(axis=0), count + len(away)
        products = products + away.T @ away
    away_mean = total / count
    covariance_w2 = products / count - np.outer(away_mean, away_mean)
    return origin + away_mean - non_gpu_w, covariance_w2


def separate(mean_w: np.ndarray, covariance_w2: np.ndarray) -> tuple[float, float]:
    """Relative variance of a server's own power, and of what servers alike share."""
    # the mean covariance of two servers is what they share; the rest of a variance is its own
    n, own = len(mean_w), float(np.trace(covariance_w2))
    shared = (float(covariance_w2.sum()) - own) / (n * (n - 1))
    return (own / n - shared) / mean_w.mean() ** 2, shared / mean_w.mean() ** 2


def cov_of_sums(
    mean_w: np.ndarray, covariance_w2: np.ndarray, sizes: list[int], rng: np.random.Generator
) -> pd.DataFrame:
    """Coefficient of variation of sums of servers chosen at random: mean, and P5 to P95."""
    rows = {}
    for size in (size for size in sizes if size <= len(mean_w)):
        chosen = [rng.choice(len(mean_w), size, replace=False) for _ in range(SUBSETS)]
        cov = [np.sqrt(covariance_w2[np.ix_(c, c)].sum()) / mean_w[c].sum() for c in chosen]
        low, high = np.percentile(cov, [5, 95])
        rows[size] = {"value": np.mean(cov), "low": min(low, np.mean(cov))}
        rows[size]["high"] = max(high, np.mean(cov))
    return pd.DataFrame(rows).T.rename_axis("servers")


def by_unit(site: "xr.Dataset", non_gpu_w: float = 0.0) -> pd.DataFrame:
    """Mean, spread and peak-to-average ratio of every unit; servers as their GPUs alone."""
    kept = [level for level in LEVELS if (site["level"] == level).any()]
    tables = [_of_level(site, level, non_gpu_w if level == "server" else 0.0) for level in kept]
    return pd.concat(tables, keys=kept, names=["level", "unit"])


def _of_level(site: "xr.Dataset", level: str, without_w: float) -> pd.DataFrame:
    """Pass once over the units of a level."""
    dt_s, count, total, squares, origin, peaks, quarters = step_of(site), 0, 0.0, 0.0, None, [], []
    for block in blocks(site, level, QUARTER_S):
        fine_w = resample(block, dt_s, SECOND_S) - without_w
        origin = fine_w.mean(axis=0) if origin is None else origin
        away = fine_w - origin
        count, total = count + len(away), total + away.sum(axis=0)
        squares = squares + np.einsum("tu,tu->u", away, away)
        peaks.append(fine_w.max(axis=0))
        quarters.append(resample(fine_w, SECOND_S, QUARTER_S))
    mean_w = origin + total / count
    sd_w = np.sqrt(np.maximum(squares / count - (total / count) ** 2, 0.0))
    table = pd.DataFrame({"mean_kw": mean_w / 1e3, "sd_kw": sd_w / 1e3, "cov": sd_w / mean_w})
    table["par_1s"] = np.max(peaks, axis=0) / mean_w
    return table.assign(par_15min=np.concatenate(quarters).max(axis=0) / mean_w)


@dataclass(frozen=True)
class Day:
    """A simulated day: the site at 1 s on all levels, and its facility at 0.25 s."""

    setup: Setup
    site: "xr.Dataset"
    facility_w: np.ndarray

    def facility_kw(self, step_s: float) -> pd.Series:
        """Means of the facility's power by the hour at which they end."""
        power_w = resample(self.facility_w, STEP_S, step_s)
        return pd.Series(power_w / 1e3, index=step_s / 3600 * np.arange(1, power_w.size + 1))

    def by_method(self, seed: int) -> dict[str, pd.Series]:
        """Power of the facility at 15 minutes by the composed model and by simple methods, kW."""
        found = {"ours, composed": self.facility_kw(QUARTER_S)}
        for name, power_w in simple_facilities(self.setup, seed, QUARTER_S).items():
            found[name] = pd.Series(power_w / 1e3, index=found["ours, composed"].index)
        return found

    def units(self) -> pd.DataFrame:
        """Mean, spread and peak-to-average ratio of every unit; servers as their GPUs alone."""
        return by_unit(self.site, self.setup.non_gpu_w)

    def par(self, steps_s: list[float]) -> pd.Series:
        """Peak over mean of the facility, by the length of the means."""
        means_kw = [self.facility_kw(step_s) for step_s in steps_s]
        return pd.Series([each.max() / each.mean() for each in means_kw], index=steps_s)

    def peak_together(self) -> dict[str, float]:
        """How much the servers peak together at 1 s, by the textbooks and by the paper."""
        total_w, peaks_w = power_at(self.site, "site").max(), peaks_of(self.site, "server")
        return {
            "coincidence factor": coincidence_factor(total_w, peaks_w),
            "diversity factor, textbooks": 1 / coincidence_factor(total_w, peaks_w),
            "diversity factor, the paper's": paper_diversity(total_w, peaks_w),
        }

    def flattening(self, few: int, seed: int) -> tuple[pd.DataFrame, tuple[float, float]]:
        """CoV by the number of servers, and the law of two parts by a few of them."""
        mean_w, covariance_w2 = moments(self.site, self.setup.non_gpu_w)
        sizes, rng = sorted({*SIZES, self.setup.servers}), np.random.default_rng(seed)
        fall = cov_of_sums(mean_w, covariance_w2, sizes, rng)
        return fall, separate(mean_w[:few], covariance_w2[:few, :few])


def paper_flattening() -> tuple[pd.DataFrame, tuple[float, float]]:
    """CoV of sums that the paper prints, and the law of two parts through both of its ends."""
    fall = read_paper_table("cov_by_servers").set_index("servers")
    fall = fall.rename(columns={"cov": "value", "cov_p5": "low", "cov_p95": "high"})
    (few, first), (many, last) = (fall["value"] ** 2).iloc[[0, -1]].items()
    own = (first - last) / (1 / few - 1 / many)
    return fall, (own, last - own / many)


def simulated_day(setup: Setup, seed: int, folder: Path) -> Day:
    """Simulate a site by the first of its models."""
    keep = [{"levels": [*LEVELS[::-1]], "step_s": 1}, {"levels": ["site"], "step_s": STEP_S}]
    site = simulated(setup, next(iter(setup.models)), seed, keep, folder)
    fine = read_site(site.encoding["source"], group=f"{STEP_S:g}s")
    return Day(setup, site, power_at(fine, "facility"))
