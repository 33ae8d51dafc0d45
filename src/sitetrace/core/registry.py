"""What there is by name: data sets, shipped models, tables of the paper, devices, nodes."""

import os
from contextlib import suppress
from pathlib import Path

import pandas as pd

from sitetrace.core.files import InputError, named, read_json, require


def data_dir() -> Path:
    """Folder of the data that the project itself holds."""
    places = (Path(__file__).parents[up] / "data" for up in (1, 3))  # installed, or in a checkout
    return next(filter(Path.is_dir, places))


def mirror() -> Path | None:
    """Folder of the local mirror of measured data, named by ``SITETRACE_DATA``."""
    folder = os.environ.get("SITETRACE_DATA")
    there = not folder or Path(folder).is_dir()
    require(there, f"SITETRACE_DATA: {folder}", "no such folder", "name the mirror or unset it")
    return Path(folder) if folder else None


def cache_dir() -> Path:
    """Folder where fetched data lie, laid out like a mirror."""
    import pooch

    return Path(pooch.os_cache("sitetrace"))


def registry() -> dict[str, dict]:
    """All known data sets by name, with origin, licence, folder and digests of their files."""
    return read_json(data_dir() / "registry.json")["datasets"]


def registry_entry(name: str) -> dict:
    """Look up what the registry says of a data set."""
    return named("data set", name, registry())


def dataset_path(name: str) -> Path:
    """Folder of a data set, in the mirror or among what was fetched."""
    entry = registry_entry(name)
    for root in filter(None, (place() for place in (mirror, cache_dir))):
        if all((root / entry["folder"] / file).is_file() for file in entry["files"]):
            return root / entry["folder"]
    raise InputError(f"{name}: not at hand: sitetrace data fetch {name}, or set SITETRACE_DATA")


def describe() -> list[str]:
    """One line a data set: name, where it is, licence, what it is."""
    lines = []
    for name, entry in registry().items():
        where = "not here" if "upstream" in entry else "not here (only with a mirror)"
        with suppress(InputError):
            where = dataset_path(name)
        lines.append(f"{name}: {where}; {entry['licence']}; {entry['what']}")
    return lines


def shipped_model(name: str) -> Path:
    """Path of a fitted model that the project ships, for `sitetrace.load_model`.

    Parameters
    ----------
    name : str
        Such as ``testbed_timeline``, or the name of a split.

    Returns
    -------
    Path
        The model file.
    """
    known = {path.stem: path for path in sorted((data_dir() / "models").glob("*.json"))}
    return named("shipped model", name, known)


def read_paper_table(name: str) -> pd.DataFrame:
    """Read a table of parameters and scores that the paper's repository publishes."""
    known = {path.stem: path for path in sorted((data_dir() / "paper").glob("*.csv"))}
    return pd.read_csv(named("table of the paper", name, known))


def device(hardware: str) -> dict:
    """Datasheet of a GPU type by its short or full name: TDP, memory, bandwidth, peak rate."""
    known = read_json(data_dir() / "devices.json")["devices"]
    known |= {entry["device"]: entry for entry in known.values()}
    return named("GPU in devices.json", hardware, known)


def default_non_gpu(gpus: int, side: str | None = None) -> tuple[float, float]:
    """Constant and slope of the power besides GPUs over their watts; of a band, a `side`."""
    require(gpus >= 1, "gpus", gpus, "a server has at least one")
    fitted = read_json(data_dir() / "nodes.json")
    line = fitted if side is None else fitted[named("side of the band", side, ("low", "high"))]
    return gpus * line["base_w_per_gpu"], line["per_gpu_w"]
