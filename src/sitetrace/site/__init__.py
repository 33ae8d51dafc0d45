"""Servers to racks, rows and a site."""

import lazy_loader

LISTED = {"scenario": ["read_scenario"], "simulate": ["simulate_site"], "store": ["read_site"]}
__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs=LISTED)
