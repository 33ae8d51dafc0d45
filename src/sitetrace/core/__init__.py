"""What all others stand on: types, files, checked settings, and what there is by name."""

import lazy_loader

LISTED = {"files": ["InputError"], "registry": ["shipped_model"]}
LISTED |= {"types": ["Configuration", "PowerTrace", "Run", "Timeline"]}
__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs=LISTED)
