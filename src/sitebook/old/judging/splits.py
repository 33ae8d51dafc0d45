"""Which seconds a fit may see, and which judge it."""

from __future__ import annotations

from dataclasses import dataclass

from sitetrace.core.files import InputError, read_json
from sitetrace.core.registry import data_dir


@dataclass(frozen=True)
class Part:
    """Seconds of one run, on one side of a split."""

    run: str
    start_s: float | None
    stop_s: float | None
    new: tuple[str, ...]


@dataclass(frozen=True)
class Split:
    """What a model is fitted on and what it is judged on."""

    name: str
    fit: tuple[Part, ...]
    judge: tuple[Part, ...]
    note: str


def splits() -> dict[str, Split]:
    """All splits by name."""

    def parts(rows: list[dict]) -> tuple[Part, ...]:
        return tuple(
            Part(row["run"], row["start_s"], row["stop_s"], tuple(row.get("new", ())))
            for row in rows
        )

    found = read_json(data_dir() / "splits.json")["splits"]
    return {
        name: Split(name, parts(entry["fit"]), parts(entry["judge"]), entry["note"])
        for name, entry in found.items()
    }


def split(name: str) -> Split:
    """Look a split up."""
    known = splits()
    if name not in known:
        raise InputError(f"{name}: no such split: there are {', '.join(known)}")
    return known[name]
