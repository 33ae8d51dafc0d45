"""What all exercises share: their form, and the runs that they are solved on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd

from sitetrace import testbed
from sitetrace.core.registry import shipped_model
from sitetrace.core.types import Run
from sitetrace.power.modelfile import load_model
from sitetrace.power.states.model import StatesModel
from sitetrace.power.timeline.model import TimelineModel


@dataclass(frozen=True)
class Exercise:
    """A question with one number for an answer."""

    solve: Callable[[int], tuple[float, dict[str, float]]]
    tolerance: float
    unit: str

    @property
    def asked(self) -> str:
        """How exactly the answer is wanted, in the words of the notebook."""
        return f"to within {self.tolerance:g} {self.unit}".strip()


@cache
def recording(name: str, seed: int) -> Run:
    """Simulate a run of the testbed once."""
    return testbed.run(name, seed)


@cache
def shipped(name: str) -> StatesModel | TimelineModel:
    """Load a shipped model once."""
    return load_model(shipped_model(name))


def power(name: str, seed: int) -> np.ndarray:
    """Power samples of a whole run."""
    return recording(name, seed).samples["power_w"].to_numpy()


def is_busy(name: str, seed: int) -> np.ndarray:
    """Which samples of a run are busy: first arrival to last token."""
    run = recording(name, seed)
    begin_s, end_s, _ = run.busy_span()
    return run.samples["time_s"].between(begin_s, end_s).to_numpy()


def busy_power(name: str, seed: int) -> np.ndarray:
    """Power samples of a run's busy seconds."""
    return power(name, seed)[is_busy(name, seed)]


def stretches(values: np.ndarray) -> pd.DataFrame:
    """Cut a sequence into maximal stretches of one value."""
    begin = np.r_[0, np.flatnonzero(np.diff(values)) + 1]
    end = np.r_[begin[1:], len(values)]
    columns = {"begin": begin, "end": end, "value": values[begin], "bins": end - begin}
    return pd.DataFrame(columns)
