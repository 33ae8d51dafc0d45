"""What there is by name: data sets, shipped models, tables of the paper, devices, nodes."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd

from sitetrace.core.files import InputError, read_json

SIDES = ("low", "high")


def data_dir() -> Path:
    """Folder of the data that the project itself holds."""
    installed = Path(__file__).parents[1] / "data"
    return installed if installed.is_dir() else Path(__file__).parents[3] / "data"


def mirror() -> Path | None:
    """Folder of the local mirror of measured data, named by ``SITETRACE_DATA``."""
    named = os.environ.get("SITETRACE_DATA")
    if not named:
        return None
    if not Path(named).is_dir():
        raise InputError(f"SITETRACE_DATA: {named}: no such folder: name the mirror or unset it")
    return Path(named)


def cache_dir() -> Path:
    """Folder where fetched data lie, laid out like a mirror."""
    import pooch

    return Path(pooch.os_cache("sitetrace"))


def registry() -> dict[str, dict]:
    """All known data sets by name, with origin, licence, folder and digests of their files."""
    return read_json(data_dir() / "registry.json")["datasets"]


def registry_entry(name: str) -> dict:
    """Look up what the registry says of a data set."""
    known = registry()
    if name not in known:
        raise InputError(f"{name}: no such data set: sitetrace data list names all")
    return known[name]


def holds(root: Path, entry: dict) -> bool:
    """Whether all files of a data set lie under a root."""
    return all((root / entry["folder"] / file).is_file() for file in entry["files"])


def dataset_path(name: str) -> Path:
    """Folder of a data set, in the mirror or among what was fetched."""
    entry = registry_entry(name)
    folder = entry["folder"]
    local = mirror()
    if local is not None and holds(local, entry):
        return local / folder
    if holds(cache_dir(), entry):
        return cache_dir() / folder
    raise InputError(f"{name}: not at hand: sitetrace data fetch {name}, or set SITETRACE_DATA")


def describe() -> list[str]:
    """One line a data set: name, where it is, licence, what it is."""
    lines = []
    for name, entry in registry().items():
        try:
            where = str(dataset_path(name))
        except InputError:
            where = "not here" if "upstream" in entry else "not here (only with a mirror)"
        lines.append(f"{name}: {where}; {entry['licence']}; {entry['what']}")
    return lines


def shipped_model(name: str) -> Path:
    """Path of a fitted model that the project ships.

    Parameters
    ----------
    name : str
        ``testbed`` or the name of a split.

    Returns
    -------
    Path
        For `sitetrace.load_model`.

    Raises
    ------
    InputError
        If none of that name is shipped.
    """
    return _held("models", name, ".json", "no shipped model of that name")


def read_paper_table(name: str) -> pd.DataFrame:
    """Read a table of parameters and scores that the paper's repository publishes."""
    return pd.read_csv(_held("paper", name, ".csv", "no such table of the paper"))


def _held(folder: str, name: str, ending: str, otherwise: str) -> Path:
    """Path of a file among our data; if there is none, the error names those beside it."""
    path = data_dir() / folder / f"{name}{ending}"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in path.parent.glob(f"*{ending}")))
        raise InputError(f"{name}: {otherwise}: there are {known}")
    return path


def device(hardware: str) -> dict:
    """Datasheet of a GPU type by its short or full name: TDP, memory, bandwidth, peak rate."""
    devices = read_json(data_dir() / "devices.json")["devices"]
    for name, entry in devices.items():
        if hardware in (name, entry["device"]):
            return entry
    raise InputError(f"hardware {hardware!r} is not in devices.json: it holds {', '.join(devices)}")


def default_non_gpu(gpus: int, side: str | None = None) -> tuple[float, float]:
    """Power besides the GPUs of a server, a line in their watts: its constant and its slope.

    The watts are of all its GPUs together; a `side` is an end of the band instead of its middle.
    """
    if gpus < 1:
        raise InputError(f"gpus: {gpus}: a server has at least one")
    if side is not None and side not in SIDES:
        raise InputError(f"side={side!r}: say 'low', 'high' or None")
    fitted = read_json(data_dir() / "nodes.json")
    # The fitted nodes have eight GPUs; the constant part is scaled by their number.
    line = fitted if side is None else fitted[side]
    return gpus * line["base_w_per_gpu"], line["per_gpu_w"]
