"""Judging generated traces against measured ones."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "judge": ["evaluate"],
        "baselines": ["baselines"],
        "metrics": [
            "scores",
            "energy_error_pct",
            "ks_distance",
            "acf",
            "acf_r2",
            "nrmse",
            "noise_floor",
        ],
    },
)
