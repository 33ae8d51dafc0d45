"""Figures of a site on its feeder."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from sitebook.old.chapters.grid import MEAN, MINUTE, NAMEPLATE, QUARTER, Connection
from sitetrace.core.style import BAND, GENERATED, OTHER, PAPER
from sitetrace.studies.feeder import LOWEST_PU

LOOKS = {
    MINUTE: {"color": BAND, "linewidth": 1.0},
    QUARTER: {"color": GENERATED, "linewidth": 1.6},
    MEAN: {"color": OTHER, "linestyle": "--", "linewidth": 1.6},
    NAMEPLATE: {"color": PAPER, "linestyle": "-.", "linewidth": 1.6},
}


def _hours(table: pd.DataFrame) -> np.ndarray:
    """Hours after the first interval began, with the last one's end."""
    start = (table.index - table.index[0]).total_seconds().to_numpy() / 3600
    return np.append(start, 2 * start[-1] - start[-2])


def day(connection: Connection) -> Figure:
    """Voltage at the site and loading of its transformer over the day."""
    figure, panels = plt.subplots(2, 1, figsize=(8, 6.4), sharex=True)
    for name, table in connection.solved.items():
        hours = _hours(table)
        loading = 100 * table["transformer_kva"] / connection.feeder.transformer_kva
        for axes, values in zip(panels, (table["voltage_pu"], loading), strict=True):
            axes.stairs(values, hours, baseline=None, label=name, **LOOKS[name])
    panels[0].set_ylabel("voltage at the site [pu]")
    panels[1].set_ylabel("transformer loading [%]")
    panels[1].set_ylim(bottom=0)
    panels[1].set_xlabel("hour of the day")
    panels[1].set_xlim(hours[0], hours[-1])
    panels[1].xaxis.set_major_locator(plt.MultipleLocator(4))
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure


def conclusions(connection: Connection, hosted: pd.DataFrame) -> Figure:
    """Lowest voltage, losses and number of sites by description."""
    figure, panels = plt.subplots(1, 3, figsize=(8, 2.8), sharey=True)
    table = connection.table.merge(hosted, on="described_by")
    names, colours = table["described_by"], [LOOKS[n]["color"] for n in table["described_by"]]
    panels[0].scatter(table["lowest_pu"], names, c=colours, s=60, zorder=3)
    panels[0].axvline(LOWEST_PU, color="black", linestyle=":")
    panels[0].set_xlabel("lowest voltage [pu]\n(dotted: range A)")
    for axes, column, label in (
        (panels[1], "losses_kwh", "losses of the day [kWh]"),
        (panels[2], "sites", "such sites that the\nfeeder takes"),
    ):
        axes.barh(names, table[column], color=colours)
        axes.set_xlabel(label)
        axes.xaxis.set_major_locator(plt.MaxNLocator(4, integer=True))
    panels[0].xaxis.set_major_locator(plt.MaxNLocator(3))
    panels[0].invert_yaxis()
    return figure
