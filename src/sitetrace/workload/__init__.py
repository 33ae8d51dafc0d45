"""Traffic: request tables, streams of requests with their token lengths, and their fit."""

import lazy_loader

LISTED = {"table": ["read_requests"], "streams": ["poisson", "bursty"]}
__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs=LISTED)
