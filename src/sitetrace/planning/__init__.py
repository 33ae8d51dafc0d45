"""What planners ask of a site: series, exports, one report."""

import lazy_loader

LISTED = {"exports": ["export"], "report": ["write_report"]}
__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs=LISTED)
