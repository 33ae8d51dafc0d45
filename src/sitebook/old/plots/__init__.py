"""The book's figure types: measured, generated and the paper told apart at one glance."""

from sitebook.old.plots.runs import meter_rise, recordings, running_requests
from sitebook.old.plots.scores import band_over_line, distribution_and_acf, energy_errors
from sitebook.old.plots.states import state_count, states_over_histogram
from sitetrace.core.style import use_style

__all__ = [
    "band_over_line",
    "distribution_and_acf",
    "energy_errors",
    "meter_rise",
    "recordings",
    "running_requests",
    "state_count",
    "states_over_histogram",
    "use_style",
]
