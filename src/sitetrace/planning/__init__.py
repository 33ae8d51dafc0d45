"""What planners ask of a site: series, exports, one report."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={"exports": ["export"], "report": ["write_report"]},
)
