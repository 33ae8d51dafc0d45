"""The engine: its steps, its calibration, the surrogates, activity by bin, routing."""

import lazy_loader

LISTED = {"engine": ["Server", "Engine", "simulate"]}
LISTED |= {"surrogates": ["ConstantRate", "LogNormalTTFT"]}
__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs=LISTED)
