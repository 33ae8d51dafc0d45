"""What a policy sees and says, and how late: `View` and `Orders`, `Telemetry` and `Actuator`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np


class View(NamedTuple):
    """What a policy sees at the begin of a tick."""

    time_s: float  # now, seconds
    # mean power over the telemetry's window, which ended its delay ago, else NaN, shape (servers,)
    power_w: np.ndarray
    # running, queued: requests at work and waiting at each server, the delay ago, shape (servers,)
    running: np.ndarray
    queued: np.ndarray
    kv_share: np.ndarray  # share of each server's KV cache in use, the delay ago, shape (servers,)
    held: int  # requests that wait at the router now
    signals: Mapping[str, float]  # outside signals now, such as a budget of power, by name


@dataclass(frozen=True, eq=False)
class Orders:
    """What all servers are to do from now on: a value for all, or one a server; else as at rest."""

    clock: float | np.ndarray = 1.0  # share of the full clock
    cap_w: float | np.ndarray = np.inf  # most mean power over a second, kept by its clock, watts
    batch: int | np.ndarray | None = None  # most sequences at once
    weight: float | np.ndarray = 1.0  # share of new requests relative to the other servers; 0: none
    admit: float = np.inf  # most requests in service in the row; the others wait at the router
    model: Sequence[Any] | None = None  # configuration of each server
    down_s: float = 0.0  # seconds without service of a server that changes its configuration


@dataclass(frozen=True)
class Telemetry:
    """How late a policy sees."""

    # window_s, delay_s: power is a mean over so long, and all is so old, seconds
    window_s: float = 2.0
    delay_s: float = 1.0


@dataclass
class Actuator:
    """How late orders act."""

    latency_s: float = 0.0  # from the order to its effect, seconds
    # a newer order takes the place of one that does not act yet; else each acts in its time
    replaces: bool = True
    cut: bool = False  # orders get lost on their way
    _sent: list[tuple[float, Orders]] = field(default_factory=list, init=False, repr=False)

    def send(self, time_s: float, orders: Orders) -> None:
        """Take orders given at some time."""
        if self.cut or (self._sent and self._sent[-1][1] is orders):
            return
        if self.replaces:
            self._sent = [sent for sent in self._sent if sent[0] <= time_s]
        self._sent.append((time_s + self.latency_s, orders))

    def acting(self, time_s: float) -> Orders | None:
        """Tell the orders that act at some time; None before the first does."""
        while len(self._sent) > 1 and self._sent[1][0] <= time_s:
            self._sent.pop(0)
        return self._sent[0][1] if self._sent and self._sent[0][0] <= time_s else None
