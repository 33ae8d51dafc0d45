"""The sites of the chapters: which model, which traffic, how many servers; simulated by seed."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sitebook.old.judging.comparison import open_run
from sitebook.old.judging.splits import split as split_named
from sitebook.old.sites.simple_sites import PhaseLookup, fit_lookup, lookup_gpu_w, nameplate_w
from sitetrace.core.files import InputError
from sitetrace.core.registry import dataset_path, shipped_model
from sitetrace.core.types import cut_run
from sitetrace.planning.series import resample
from sitetrace.power.modelfile import load_model, save_model
from sitetrace.power.published import paper_model
from sitetrace.site.scenario import Scenario, check_scenario, resolve_model
from sitetrace.workload.spec import open_stream

if TYPE_CHECKING:
    import xarray as xr

NON_GPU_W, PUE = 1000.0, 1.3  # the paper's, for servers of eight GPUs
GPUS = 8
STEP_S = 0.25
CHUNK_S = 21_600.0  # few and large stretches: a day is small
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
    shape: tuple[int, int, int]
    hours: float
    non_gpu_w: float

    @property
    def servers(self) -> int:
        """Servers of the site."""
        return int(np.prod(self.shape))

    @property
    def dataset(self) -> str:
        """Models and traffic, as records name them."""
        return f"{self.name}, {self.what.partition(':')[0]}"


def traffic(kind: str, rate_per_server: float, folder: Path) -> dict:
    """Describe the traffic of a site as a scenario does."""
    given = {"pattern": "diurnal", "rate_per_server": rate_per_server}
    if kind == "diurnal":
        return given
    if kind == "poisson":
        return given | {"pattern": "poisson"}
    if kind == "azure":
        return given | {"lengths": str(_azure_lengths(folder))}
    if kind == "servegen":
        recorded = dataset_path("servegen")
        files = {
            "file": recorded / "deepseek-r1_rates.csv",
            "lengths": recorded / "deepseek-r1_lengths.csv",
        }
        named = {key: str(path.resolve()) for key, path in files.items()}
        return given | {"pattern": "clients"} | named
    raise InputError(f"traffic {kind!r}: there are {', '.join(TRAFFIC)}")


def _azure_lengths(folder: Path) -> Path:
    """Write Azure's conversations as a request table."""
    path = dataset_path("azure_llm_2023") / "AzureLLMInferenceTrace_conv.csv"
    names = {"ContextTokens": "input_tokens", "GeneratedTokens": "output_tokens"}
    table = pd.read_csv(path, usecols=list(names)).rename(columns=names)
    table = table[(table > 0).all(axis=1)].reset_index(drop=True)
    table.insert(0, "arrival_s", table.index.astype(float))
    table.to_csv(folder / "azure.csv", index=False)
    return (folder / "azure.csv").resolve()


def fitted_setup(
    split: str, kind: str, rate: float, shape: tuple[int, int, int], hours: float, folder: Path
) -> Setup:
    """Set up a site of servers like the one that a split's models were fitted on."""
    models = {"timeline": f"{split}_timeline", "states": split}
    data = "testbed" if split.startswith("testbed") else "measured"
    gpus = load_model(shipped_model(models["timeline"])).configuration.tensor_parallel
    others_w = NON_GPU_W * gpus / GPUS
    given = traffic(kind, rate, folder)
    return Setup(split, data, models, given, TRAFFIC[kind], shape, hours, others_w)


def paper_setup(
    config: str, kind: str, rate: float, shape: tuple[int, int, int], hours: float, folder: Path,
    non_gpu_w: float = NON_GPU_W,
) -> Setup:  # fmt: skip
    """Set up a site of servers of one of the paper's configurations."""
    path = (folder / f"{config}.json").resolve()
    save_model(paper_model(config), path)
    models, given = {"states": str(path)}, traffic(kind, rate, folder)
    return Setup(config, "paper", models, given, TRAFFIC[kind], shape, hours, non_gpu_w)


def scenario_of(setup: Setup, method: str, seed: int, keep: list[dict]) -> Scenario:
    """Write a setup as a scenario."""
    words = ("rows", "racks_per_row", "servers_per_rack")
    return check_scenario(
        {
            "name": f"{setup.name}, {method}",
            "seed": seed,
            "hours": setup.hours,
            "step_s": STEP_S,
            "chunk_s": min(CHUNK_S, setup.hours * 3600),
            "topology": dict(zip(words, setup.shape, strict=True)),
            "fleet": [{"name": "all", "model": setup.models[method]}],
            "traffic": setup.traffic,
            "non_gpu": {"constant_w": setup.non_gpu_w},
            "pue": PUE,
            "keep": keep,
        }
    )


def simulated(setup: Setup, method: str, seed: int, keep: list[dict], folder: Path) -> xr.Dataset:
    """Simulate a site into a folder."""
    from sitetrace.site.simulate import simulate_site

    place = Path(tempfile.mkdtemp(dir=folder)) / "site.zarr"
    return simulate_site(scenario_of(setup, method, seed, keep), place, workers=2)


@dataclass(frozen=True)
class SimplePowers:
    """What the simple methods know of a server."""

    nameplate_w: float
    mean_w: float
    lookup: PhaseLookup | None


def simple_powers(setup: Setup) -> SimplePowers:
    """Find what the simple methods need."""
    model = first_model(setup)
    design_w = nameplate_w(model.configuration)
    if setup.data == "paper":
        mixture = model.mixture
        return SimplePowers(design_w, float(mixture.weight @ mixture.mean_w), None)
    part = split_named(setup.name).fit[0]
    run = cut_run(open_run(part.run), part.start_s, part.stop_s)
    mean_w = float(run.samples["power_w"].mean())
    return SimplePowers(design_w, mean_w, fit_lookup(run, model.server))


def simple_facilities(
    setup: Setup, powers: SimplePowers, seed: int, dt_s: float
) -> dict[str, np.ndarray]:
    """Power of the facility by the simple methods, on traffic of the same kind."""
    bins = round(setup.hours * 3600 / STEP_S)
    others_w = setup.servers * setup.non_gpu_w
    found = {
        name: np.full(round(bins * STEP_S / dt_s), PUE * (setup.servers * watts + others_w))
        for name, watts in (("nameplate", powers.nameplate_w), ("mean", powers.mean_w))
    }
    if powers.lookup is None:
        return found
    scenario = scenario_of(
        setup, next(iter(setup.models)), seed, [{"levels": ["site"], "step_s": 1}]
    )
    stream = open_stream(scenario.traffic, setup.servers, scenario.folder, scenario.start_hour)
    seeds = np.random.SeedSequence(seed).spawn(2)
    requests, _ = stream.chunk(0, 0.0, setup.hours * 3600, seeds[0], None)
    server_of = np.random.default_rng(seeds[1]).integers(0, setup.servers, len(requests.arrival_s))
    gpu_w = lookup_gpu_w(powers.lookup, *requests[:2], server_of, STEP_S, bins)
    return found | {"look-up": PUE * (resample(gpu_w, STEP_S, dt_s) + others_w)}


def first_model(setup: Setup):  # noqa: ANN201
    """Load the first of a setup's models."""
    return load_model(resolve_model(next(iter(setup.models.values())), Path()))
