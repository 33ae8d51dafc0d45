"""Public data: what there is, and where it lies."""

from __future__ import annotations

import os
from pathlib import Path

from sitetrace.files import InputError, read_json


def data_dir() -> Path:
    """Folder of the data that the project itself holds."""
    installed = Path(__file__).parent / "data"
    return installed if installed.is_dir() else Path(__file__).parents[2] / "data"


def mirror() -> Path | None:
    """Folder of the local mirror of measured data, named by ``SITETRACE_DATA``."""
    named = os.environ.get("SITETRACE_DATA")
    if not named:
        return None
    if not Path(named).is_dir():
        raise InputError(f"SITETRACE_DATA: {named}: no such folder: name the mirror or unset it")
    return Path(named)


def cache_dir() -> Path:
    """Folder where fetched data lie."""
    import pooch

    return Path(pooch.os_cache("sitetrace"))


def registry() -> dict[str, dict]:
    """All known data sets by name."""
    return read_json(data_dir() / "registry.json")["datasets"]


def registry_entry(name: str) -> dict:
    """Look a data set up."""
    known = registry()
    if name not in known:
        raise InputError(f"{name}: no such data set: sitetrace data list names all")
    return known[name]


def holds(root: Path, entry: dict) -> bool:
    """Whether all files of a data set lie under a root."""
    return all((root / entry["folder"] / file).is_file() for file in entry["files"])


def dataset_path(name: str) -> Path:
    """Folder of a data set, in the mirror or among what was fetched.

    Parameters
    ----------
    name : str
        As in the registry.

    Returns
    -------
    Path
        For a measured run: its run directory.

    Raises
    ------
    InputError
        If it is not at hand.
    """
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
    path = data_dir() / "models" / f"{name}.json"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in path.parent.glob("*.json")))
        raise InputError(f"{name}: no shipped model of that name: there are {known}")
    return path
