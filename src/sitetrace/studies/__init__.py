"""One module a planning question: what a row, a feeder or another GPU would do."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["battery", "capacity", "carry", "feeder", "setpoint", "shedding", "sizing"],
)
# the modules with policies, each of which has a function `policies` that makes them for a row
WITH_POLICIES = ("setpoint",)
