"""A second look at the paper's own tables: what follows from its printed numbers, and what not.

Each function computes one finding anew from ``data/paper`` and returns it as records.
"""

from __future__ import annotations

from sitebook.old.rereading import assumptions, models, scores, site

FINDINGS = (
    scores.below_limit,
    scores.ar1_effect,
    scores.generation_modes,
    scores.march_files,
    scores.pruning,
    scores.node_nameplate,
    models.states_by_bic,
    models.mixture_means,
    models.feature_study,
    models.information_criterion,
    models.surrogate_counts,
    models.surrogate_prefill,
    site.power_ratios,
    site.sizing_values,
    site.interconnection_values,
    site.hierarchy_levels,
    site.cov_refit,
    site.cov_theory,
    assumptions.nameplates,
    assumptions.server_means,
    assumptions.server_peaks,
    assumptions.oversubscription,
    assumptions.splitwise_revised,
)


def found() -> list[dict]:
    """Compute every finding."""
    return [row for finding in FINDINGS for row in finding()]
