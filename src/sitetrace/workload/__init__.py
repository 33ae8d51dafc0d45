"""Traffic: request tables, token lengths, streams of requests, and their fit.

What is out of its range is an `InputError`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "table": ["read_requests"],
        "streams": ["poisson", "bursty", "diurnal", "replay"],
        "lengths": ["LogNormalLengths"],
        "fit": ["fit_traffic", "draw_traffic"],
    },
)
