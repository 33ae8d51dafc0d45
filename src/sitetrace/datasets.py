"""Public data: what there is, and where it lies."""

from __future__ import annotations

import os
from pathlib import Path

from sitetrace.files import InputError, read_json


def data_dir() -> Path:
    """Folder of the data that the project itself holds.

    Returns
    -------
    Path
        ``sitetrace/data`` of an installed package, else ``data`` of the repository.
    """
    installed = Path(__file__).parent / "data"
    return installed if installed.is_dir() else Path(__file__).parents[2] / "data"


def mirror() -> Path | None:
    """Folder of the local mirror of measured data, named by ``SITETRACE_DATA``.

    Returns
    -------
    Path or None
        None when the variable is unset or empty.

    Raises
    ------
    InputError
        If it names no folder.
    """
    named = os.environ.get("SITETRACE_DATA")
    if not named:
        return None
    if not Path(named).is_dir():
        raise InputError(f"SITETRACE_DATA: {named}: no such folder: name the mirror or unset it")
    return Path(named)


def cache_dir() -> Path:
    """Folder where fetched data lie.

    Returns
    -------
    Path
        The user's cache folder as pooch finds it; laid out like a mirror.
    """
    import pooch

    return Path(pooch.os_cache("sitetrace"))


def registry() -> dict[str, dict]:
    """All known data sets by name.

    Returns
    -------
    dict
        For each: what, licence, citation, repository, commit, folder (in a mirror), files (name:
        mirror digest), and, where it can be fetched, upstream (name: path, sha256 or totals).
    """
    return read_json(data_dir() / "registry.json")["datasets"]


def registry_entry(name: str) -> dict:
    """Look a data set up.

    Parameters
    ----------
    name : str
        As in the registry.

    Returns
    -------
    dict
        What `registry` says of it.

    Raises
    ------
    InputError
        If there is none of that name.
    """
    known = registry()
    if name not in known:
        raise InputError(f"{name}: no such data set: sitetrace data list names all")
    return known[name]


def holds(root: Path, entry: dict) -> bool:
    """Whether all files of a data set lie under a root.

    Parameters
    ----------
    root : Path
        A mirror or the cache.
    entry : dict
        As in the registry.

    Returns
    -------
    bool
        True if none is missing.
    """
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
    """One line a data set: name, where it is, licence, what it is.

    Returns
    -------
    list of str
        In the order of the registry.
    """
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
