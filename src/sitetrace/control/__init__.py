"""A row of servers under orders, and an assumed rule of what a GPU's clock does."""

import lazy_loader

LISTED = {"row": ["run", "Outcome"], "clock": ["ClockRule"]}
LISTED |= {"signals": ["View", "Orders", "Telemetry", "Actuator"]}
__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs=LISTED)
