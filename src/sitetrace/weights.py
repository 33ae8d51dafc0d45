"""Weights of a net beside its model file: an `.npz`, the same bytes for the same weights."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import numpy as np

from sitetrace.files import InputError

MOST_BYTES = 50_000_000


def weights_path(model: Path | str) -> Path:
    """Where the weights of a model lie."""
    path = Path(model)
    if path.suffix == ".npz":
        raise InputError(f"{path}: is where the weights of a net would lie: name it .json")
    return path.with_suffix(".npz")


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content, whatever its name."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write arrays; numpy gives every entry the same time, so that bytes follow from content."""
    np.savez(path, **{name: np.ascontiguousarray(value) for name, value in arrays.items()})


def read_arrays(path: Path, names: tuple[str, ...], sha256: str) -> dict[str, np.ndarray]:
    """Read the arrays of a file that is known by its digest."""
    mend = "copy it anew beside the model file, or fit the model anew"
    try:
        if path.stat().st_size > MOST_BYTES:
            raise InputError(f"{path}: too large for the weights of a net: {mend}")
        if sha256_of(path) != sha256:
            raise InputError(f"{path}: not the weights that the model file names: {mend}")
        with zipfile.ZipFile(path) as file:
            if sum(entry.file_size for entry in file.infolist()) > MOST_BYTES:
                raise InputError(f"{path}: too large for the weights of a net: {mend}")
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in names}
    except FileNotFoundError:
        raise InputError(f"{path}: the weights of the net are missing: {mend}") from None
    except KeyError as error:
        reason = " ".join(str(error).split())[:80]
        raise InputError(f"{path}: an array is missing ({reason}): {mend}") from None
    except InputError:
        raise
    except (OSError, ValueError, EOFError, MemoryError, zipfile.BadZipFile) as error:
        reason = " ".join(str(error).split())[:80]
        raise InputError(f"{path}: cannot be read ({reason}): {mend}") from None
