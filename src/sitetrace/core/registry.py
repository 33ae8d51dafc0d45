"""What there is by name: data sets, shipped models, tables of the paper, devices, nodes."""

import os
from pathlib import Path

import pandas as pd

from sitetrace.core.files import InputError, named, read_json, require


def data_dir() -> Path:
    """Folder of the data that the project itself holds."""
    installed = Path(__file__).parents[1] / "data"
    return installed if installed.is_dir() else Path(__file__).parents[3] / "data"


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


def holds(root: Path, entry: dict) -> bool:
    """Whether all files of a data set lie under a root."""
    return all((root / entry["folder"] / file).is_file() for file in entry["files"])


def dataset_path(name: str) -> Path:
    """Folder of a data set, in the mirror or among what was fetched."""
    entry = registry_entry(name)
    for place in (mirror, cache_dir):
        root = place()
        if root is not None and holds(root, entry):
            return root / entry["folder"]
    raise InputError(f"{name}: not at hand: sitetrace data fetch {name}, or set SITETRACE_DATA")


def describe() -> list[str]:
    """One line a data set: name, where it is, licence, what it is."""
    lines = []
    for name, entry in registry().items():
        try:
            where = dataset_path(name)
        except InputError:
            where = "not here" if "upstream" in entry else "not here (only with a mirror)"
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
    return named("shipped model", name, _files("models", ".json"))


def read_paper_table(name: str) -> pd.DataFrame:
    """Read a table of parameters and scores that the paper's repository publishes."""
    return pd.read_csv(named("table of the paper", name, _files("paper", ".csv")))


def _files(folder: str, ending: str) -> dict[str, Path]:
    return {path.stem: path for path in sorted((data_dir() / folder).glob(f"*{ending}"))}


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
