"""The book's figure types: measured, generated and the paper told apart at one glance."""

from sitetrace.plots.runs import meter_rise, recordings, running_requests
from sitetrace.plots.scores import (
    band_over_line,
    distribution_and_acf,
    energy_errors,
    save_comparison,
)
from sitetrace.plots.states import state_count, states_over_histogram
from sitetrace.plots.style import use_style

__all__ = [
    "band_over_line",
    "distribution_and_acf",
    "energy_errors",
    "meter_rise",
    "recordings",
    "running_requests",
    "save_comparison",
    "state_count",
    "states_over_histogram",
    "use_style",
]
