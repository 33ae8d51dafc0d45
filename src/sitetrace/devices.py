"""Datasheet values of GPU types."""

from __future__ import annotations

from sitetrace.datasets import data_dir
from sitetrace.files import InputError, read_json


def device(hardware: str) -> dict:
    """Look a GPU type up."""
    devices = read_json(data_dir() / "devices.json")["devices"]
    for name, entry in devices.items():
        if hardware in (name, entry["device"]):
            return entry
    raise InputError(f"hardware {hardware!r} is not in devices.json: it holds {', '.join(devices)}")
