"""Traffic: request tables, token lengths, streams of requests, and their fit."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "table": ["read_requests", "write_requests", "read_azure"],
        "whole": ["poisson", "bursty", "diurnal", "replay"],
        "lengths": ["LogNormalLengths"],
        "streams": ["Stream", "Poisson", "Bursty", "Replay"],
        "clients": ["Clients"],
        "fit": ["fit_traffic", "draw_traffic"],
    },
)
