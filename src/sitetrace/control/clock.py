"""An assumed rule: how the steps of an engine and their power follow a GPU's clock.

No run at hand changes the clock: what rests on this is a finding only if it holds for all `RULES`.
"""

from dataclasses import dataclass, replace

import numpy as np

from sitetrace.core.files import require
from sitetrace.power.running import Running
from sitetrace.power.timeline.surface import Surface
from sitetrace.serving.engine import Server


@dataclass(frozen=True)
class ClockRule:
    """Exponents of power in the clock, and the share of decoding that waits for the clock."""

    # gamma_decode, gamma_prefill: exponents of the clock to which power above idle is proportional
    gamma_decode: float
    gamma_prefill: float
    # 0 to 1: share of weight and cache reading that slows with the clock; the rest waits for memory
    clock_bound: float = 0.0

    @property
    def name(self) -> str:
        """The rule in short."""
        return f"γ {self.gamma_decode:g}/{self.gamma_prefill:g}, k {self.clock_bound:g}"


CAP_CLOCKS = np.linspace(0.2, 1.0, 41)  # that a cap may set, as shares of the full clock
GAMMAS = ((1.2, 1.6), (1.2, 3.3), (1.6, 1.6), (1.6, 3.3))
RULES = tuple(ClockRule(*pair, bound) for bound in (0.0, 0.3) for pair in GAMMAS)


def clocked(
    server: Server, surface: Surface, phi: float, rule: ClockRule
) -> tuple[Server, Surface]:
    """Run a server at a share phi of its clock, by the assumed rule; at 1 as given, to the bit."""
    # A step lasts (c0 + c3 context) (1 - k + k/phi) + c1 batch (1/2 + 1/(2 phi)) + (c2 prefill +
    # c4 pairs)/phi, k = clock_bound; its power is idle + (step - idle) phi**gamma, each gamma for
    # its kind of work: at low clocks prefill may fall below decoding.
    require(0.2 <= phi <= 1.0, f"phi = {phi:g}", "no clock", "give 0.2 to 1 of the full one")
    slower = 1.0 / phi - 1.0
    memory, half, all_ = 1.0 + rule.clock_bound * slower, 1.0 + 0.5 * slower, 1.0 + slower
    factors = {"c0_s": memory, "c1_s": half, "c2_s": all_, "c3_s": memory, "c4_s": all_}
    times_s = {name: getattr(server, name) * factor for name, factor in factors.items()}
    decode, prefill = 1.0 - phi**rule.gamma_decode, 1.0 - phi**rule.gamma_prefill
    cooler = replace(
        surface,
        decode_w=surface.decode_w - (surface.decode_w - surface.idle_w) * decode,
        per_sequence_w=surface.per_sequence_w * (1.0 - decode),
        warm_w=surface.warm_w * (1.0 - decode),
        prefill_w=surface.prefill_w - (surface.prefill_w - surface.idle_w) * prefill,
    )
    return replace(server, **times_s), cooler


def clock_under(
    cap_w: float | np.ndarray, second_w: np.ndarray, servers: Running, rule: ClockRule
) -> np.ndarray:
    """Greatest clocks at which servers would have drawn at most their caps in the last second."""
    idle_w = np.array([model.idle.mean_w for model in servers.models])
    gamma = min(rule.gamma_decode, rule.gamma_prefill)
    at_full_w = np.maximum(second_w - idle_w, 1e-9) / servers.clocks**gamma
    clock = (np.maximum(cap_w - idle_w, 0.0) / at_full_w) ** (1.0 / gamma)
    place = np.searchsorted(CAP_CLOCKS, np.minimum(clock, 1.0), side="right") - 1
    return CAP_CLOCKS[np.maximum(place, 0)]
