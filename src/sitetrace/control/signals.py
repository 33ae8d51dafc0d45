"""What a policy sees and says, and how late: `View` and `Orders`, `Telemetry` and `Actuator`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np


class View(NamedTuple):
    """What a policy sees at the begin of a tick.

    Parameters
    ----------
    time_s : float
        Now, seconds.
    power_w : numpy.ndarray
        Mean power of each server over the telemetry's window, which ended its delay ago; NaN until
        there is one, shape (servers,).
    running, queued : numpy.ndarray
        Requests at work and waiting at each server, the delay ago, shape (servers,).
    kv_share : numpy.ndarray
        Share of each server's KV cache in use, the delay ago, shape (servers,).
    held : int
        Requests that wait at the router now.
    signals : dict
        Outside signals now, such as a budget of power, by name.
    """

    time_s: float
    power_w: np.ndarray
    running: np.ndarray
    queued: np.ndarray
    kv_share: np.ndarray
    held: int
    signals: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class Orders:
    """What all servers are to do from now on: a value for all, or one a server; else as at rest.

    Parameters
    ----------
    clock : float or numpy.ndarray
        Share of the full clock.
    cap_w : float or numpy.ndarray
        Limit of a server's mean power over a second, kept by its clock, watts.
    batch : int or numpy.ndarray, optional
        Most sequences at once.
    weight : float or numpy.ndarray
        Share of new requests relative to the other servers; 0: none.
    admit : float
        Most requests in service in the row; the others wait at the router.
    model : sequence of TimelineModel, optional
        Configuration of each server.
    down_s : float
        Seconds without service of a server that changes its configuration.
    """

    clock: float | np.ndarray = 1.0
    cap_w: float | np.ndarray = np.inf
    batch: int | np.ndarray | None = None
    weight: float | np.ndarray = 1.0
    admit: float = np.inf
    model: Sequence[Any] | None = None
    down_s: float = 0.0


@dataclass(frozen=True)
class Telemetry:
    """How late a policy sees.

    Parameters
    ----------
    window_s, delay_s : float
        Power is a mean over so long, and all is so old, seconds.
    """

    window_s: float = 2.0
    delay_s: float = 1.0


@dataclass
class Actuator:
    """How late orders act.

    Parameters
    ----------
    latency_s : float
        From the order to its effect, seconds.
    replaces : bool
        Whether a newer order takes the place of one that does not act yet, as a setting that is
        overwritten; else each acts in its time. The same order again is no newer one.
    cut : bool
        Orders get lost on their way.
    """

    latency_s: float = 0.0
    replaces: bool = True
    cut: bool = False
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
