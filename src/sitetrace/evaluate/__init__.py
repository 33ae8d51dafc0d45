"""Judging generated traces against measured ones; called, the package is its verb."""

import sys

import lazy_loader

LISTED = {"judge": ["evaluate"], "metrics": ["scores"]}
__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs=LISTED)


class _CallableModule(type(sys.modules[__name__])):
    def __call__(self, *arguments, **named):
        return self.evaluate(*arguments, **named)


sys.modules[__name__].__class__ = _CallableModule
