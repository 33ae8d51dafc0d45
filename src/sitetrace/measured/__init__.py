"""Measured runs: run directories, recordings of other tools, fetched data, trace files."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs={"rundir": ["read_run"]})
