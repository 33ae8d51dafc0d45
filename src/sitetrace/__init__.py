"""sitetrace: power of LLM inference serving, composed from requests to a site."""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

# Each verb lives in a module that is loaded when the verb is first used.
_VERBS = {
    "read_run": "rundir",
    "fit": "fitting",
    "load_model": "modelfile",
    "save_model": "modelfile",
    "evaluate": "evaluation",
    "shipped_model": "datasets",
    "read_requests": "requests",
    "read_scenario": "scenario",
    "simulate_site": "site",
    "read_site": "sitefile",
}
_MODULES = (
    "baselines",
    "datasets",
    "metrics",
    "plots",
    "records",
    "tables",
    "testbed",
    "workload",
)

__all__ = ["__version__", *_VERBS, *_MODULES]


def __getattr__(name: str) -> Any:  # noqa: ANN401
    if name in _VERBS:
        return getattr(importlib.import_module(f"sitetrace.{_VERBS[name]}"), name)
    if name in _MODULES:
        return importlib.import_module(f"sitetrace.{name}")
    raise AttributeError(f"module 'sitetrace' has no attribute {name!r}")
