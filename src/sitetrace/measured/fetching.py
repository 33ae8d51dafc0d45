"""Fetching public data at pinned commits, and checking what is at hand."""

import filecmp
import hashlib
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from sitetrace.core.files import InputError, read_json, read_text_table, replacing, require
from sitetrace.core.registry import cache_dir, dataset_path, mirror, registry_entry
from sitetrace.measured.ingestion import ingest, read_meter, read_vllm_metrics

UPSTREAM = "https://raw.githubusercontent.com"
RAW_RUN_FILES = ("power.csv", "requests.json", "engine.csv")


def fetch(name: str, base_url: str | None = None) -> list[str]:
    """Fetch a data set at its pinned commit, check it, and bring a run into our form."""
    entry, here = registry_entry(name), mirror()
    if base_url is None and here is not None:
        with suppress(InputError):
            if (folder := dataset_path(name)).is_relative_to(here):
                return [f"{name}: in the mirror at {folder}, nothing to fetch"]
    require("upstream" in entry, name, entry.get("fetch"), "set SITETRACE_DATA to a mirror of it")
    folder, run_folder, notes = _raw_folder(name, entry), cache_dir() / entry["folder"], []
    root = f"{(base_url or UPSTREAM).rstrip('/')}/{entry['repository']}/{entry['commit']}"
    for file, expected in entry["upstream"].items():
        good = _is_good(folder / file, expected)
        if not good:
            _load(f"{root}/{expected['path']}", folder / file, expected)
        notes.append(f"{name}: {file} {'here already' if good else 'fetched'}, {_basis(expected)}")
    if "run" in entry:
        with replacing(run_folder, parents=True) as made:
            notes += _make_run(entry, folder, made)
    return [*notes, f"{name}: at {run_folder}"]


def verify(name: str) -> list[str]:
    """Check the data set at hand against the registry; say by what it was checked."""
    # a mirror's copy has its digests; what was fetched is as upstream has it, and gives the run
    entry, folder, root = registry_entry(name), dataset_path(name), mirror()
    raw, anew, files = _raw_folder(name, entry), f"fetch {name} again", entry.get("upstream")
    copied = root is not None and folder.is_relative_to(root) or not files or not raw.is_dir()
    if copied:
        raw, anew = folder, "copy it anew"
        files = {file: {"sha256": digest} for file, digest in entry["files"].items()}
    for file, expected in files.items():
        require(_is_good(raw / file, expected), raw / file, "missing or not as registered", anew)
    if copied:
        return [f"{name}: {len(files)} files agree with their mirror digests"]
    if "run" in entry:
        with TemporaryDirectory() as temporary:
            made = Path(temporary) / folder.name
            _make_run(entry, raw, made)
            same, *_ = filecmp.cmpfiles(made, folder, entry["files"], shallow=False)
        odd = ", ".join(entry["files"].keys() - set(same))
        require(not odd, folder / odd, f"not what {raw} gives", anew)
    return [f"{name}: {file}: {_basis(expected)}" for file, expected in files.items()]


def _make_run(entry: dict, raw: Path, out: Path) -> list[str]:
    files = (raw / file for file in RAW_RUN_FILES)
    return ingest(*files, info=entry["run"], utc_offset_s=entry["utc_offset_s"], out=out)


def _raw_folder(name: str, entry: dict) -> Path:
    # runs lie apart as they were fetched, for they are brought into our form
    return cache_dir() / (f"raw/{name}" if "run" in entry else entry["folder"])


def _load(url: str, path: Path, expected: dict) -> None:
    import pooch

    pooch.get_logger().setLevel("WARNING")
    path.unlink(missing_ok=True)
    try:
        pooch.retrieve(url, known_hash=None, fname=path.name, path=path.parent)
    except OSError as error:  # of the disk, the network or the server
        mend = "try later, or set SITETRACE_DATA to a mirror"
        raise InputError(f"{url}: cannot be loaded to {path} ({error}): {mend}") from None
    if not _is_good(path, expected):
        path.unlink(missing_ok=True)
        raise InputError(f"{url}: not the file that the registry names: refused")


def _basis(expected: dict) -> str:
    return "SHA-256 as upstream" if "sha256" in expected else "content totals agree"


def _is_good(path: Path, expected: dict) -> bool:
    if not path.is_file():
        return False
    if "sha256" in expected:
        return hashlib.sha256(path.read_bytes()).hexdigest() == expected["sha256"]
    with suppress(InputError):  # which a damaged file gives
        return content_totals(path) == expected["totals"]
    return False


def content_totals(path: Path) -> dict[str, float]:
    """Rows and column sums (to 0.01) of a table, where no digest of the original is known."""
    if path.suffix == ".json":
        content, names = read_json(path), ("input_lens", "output_lens")
        table = pd.DataFrame({name: content.get(name, []) for name in names})
    elif path.name == "power.csv":
        table = read_meter(path)[0][["power_w"]]
    elif path.name == "engine.csv":
        table = read_vllm_metrics(path)[["running", "prompt_tokens", "generation_tokens"]]
    else:
        table = read_text_table(path).apply(pd.to_numeric, errors="coerce").dropna(axis=1)
    return {"rows": len(table)} | {key: round(float(each.sum()), 2) for key, each in table.items()}
