"""A row of servers under orders, and an assumed rule of what a GPU's clock does."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "row": ["run", "Outcome"],
        "signals": ["View", "Orders", "Telemetry", "Actuator"],
        "clock": ["ClockRule"],
    },
)
