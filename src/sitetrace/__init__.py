"""sitetrace: power of LLM inference serving, composed from requests to a site."""

import lazy_loader

__version__ = "0.1.0"

# A verb or a package is loaded when it is first used.
__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=(
        "core workload measured serving meter evaluate power testbed site planning control studies"
    ).split(),
    submod_attrs={
        "core.files": ["InputError"],
        "core.registry": ["shipped_model"],
        "workload.table": ["read_requests"],
        "measured.rundir": ["read_run"],
        "power.fitting": ["fit"],
        "power.modelfile": ["load_model", "save_model"],
        "site.scenario": ["read_scenario"],
        "site.simulate": ["simulate_site"],
        "site.store": ["read_site"],
    },
)
