"""Power of a server: the kinds `timeline` and `states`, their fits and their files."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "idle": ["Idle"],
        "timeline.surface": ["Surface"],
        "timeline.model": ["TimelineModel"],
        "states.mixture": ["Mixture", "Emissions"],
        "states.model": ["StatesModel"],
        "fitting": ["fit"],
        "modelfile": ["load_model", "save_model"],
        "published": ["paper_model"],
    },
)
