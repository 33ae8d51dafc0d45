"""Figures of a site's report, drawn without a screen and the same bytes each time."""

from __future__ import annotations

import base64
import io

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator, NullFormatter

from sitetrace.core.style import BAND, GENERATED, MARKERS, MEASURED, OTHER, PAPER, PLAIN
from sitetrace.planning.series import load_duration

COLOURS = (MEASURED, GENERATED, PAPER, OTHER)
POINTS = 600
LOOK = PLAIN | {"font.size": 11, "svg.hashsalt": "sitetrace"}


def _figure(height: float):  # noqa: ANN202
    figure = Figure(figsize=(5.6, height), layout="constrained")
    return figure, figure.subplots()


def profile(clock_h: np.ndarray, mean_w: np.ndarray, low_w: np.ndarray, high_w: np.ndarray) -> str:
    """Power over the time, means over intervals in the band of the samples within."""
    with mpl.rc_context(LOOK):
        figure, axes = _figure(3.4)
        low_kw, high_kw = (np.append(watts, watts[-1]) / 1e3 for watts in (low_w, high_w))
        axes.fill_between(clock_h, low_kw, high_kw, step="post", color=BAND, label="samples")
        axes.stairs(mean_w / 1e3, clock_h, baseline=None, color=GENERATED, label="interval means")
        _clock(axes, clock_h)
        axes.set_ylabel("power [kW]")
        axes.set_ylim(bottom=0)
        axes.legend(loc="lower right", ncols=2)
        return _uri(figure)


def durations(series: dict[str, np.ndarray]) -> str:
    """Load duration curves."""
    with mpl.rc_context(LOOK):
        figure, axes = _figure(3.2)
        for (name, power_w), colour in zip(series.items(), COLOURS, strict=False):
            share, sorted_w = load_duration(power_w)
            chosen = np.unique(np.linspace(0, len(share) - 1, POINTS).astype(int))
            axes.plot(100 * share[chosen], sorted_w[chosen] / 1e3, color=colour, label=name)
        axes.set_xlabel("share of the time [%]")
        axes.set_ylabel("power reached or exceeded [kW]")
        axes.legend()
        return _uri(figure)


def ramp_sizes(ramps_w: dict[str, np.ndarray]) -> str:
    """How often a change of power from one mean to the next is exceeded."""
    with mpl.rc_context(LOOK):
        figure, axes = _figure(3.2)
        looks = zip(ramps_w.items(), COLOURS, MARKERS, strict=False)
        for (name, ramps), colour, marker in looks:
            share, size_w = load_duration(np.abs(ramps))
            chosen = np.unique(np.geomspace(1, len(share), 60).astype(int)) - 1
            kw = size_w[chosen] / 1e3
            axes.loglog(kw, 100 * share[chosen], color=colour, label=name)
            axes.loglog(kw[::8], 100 * share[chosen][::8], marker, color=colour, markersize=4)
        greatest_kw = max(np.abs(ramps).max() for ramps in ramps_w.values()) / 1e3
        axes.set_xlim(max(greatest_kw, 1e-3) / 100, max(greatest_kw, 1e-3) * 1.3)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter("{x:g}")
            axis.set_minor_formatter(NullFormatter())
        axes.set_xlabel("change from one mean to the next, up or down [kW]")
        axes.set_ylabel("exceeded in [%] of steps")
        axes.legend(title="means over")
        return _uri(figure)


def heat_map(clock_h: np.ndarray, rack_w: np.ndarray) -> str:
    """Power of each rack over the time."""
    with mpl.rc_context(LOOK | {"axes.grid": False}):
        figure, axes = _figure(3.6)
        ends = (clock_h[0], clock_h[-1], rack_w.shape[1] - 0.5, -0.5)
        image = axes.imshow(
            rack_w.T / 1e3, aspect="auto", cmap="cividis", interpolation="nearest", extent=ends
        )
        _clock(axes, clock_h)
        axes.set_ylabel("rack, counted through the rows")
        figure.colorbar(image, ax=axes, label="IT power [kW]")
        return _uri(figure)


def _clock(axes, clock_h: np.ndarray) -> None:  # noqa: ANN001
    """Mark every fourth hour of a day."""
    axes.set_xlim(clock_h[0], clock_h[-1])
    if 8 <= clock_h[-1] - clock_h[0] <= 30:
        axes.xaxis.set_major_locator(MultipleLocator(4))
    axes.set_xlabel("hours after midnight, local time")


def _uri(figure: Figure) -> str:
    """Write a figure as SVG without its date, as a data URI."""
    held = io.BytesIO()
    figure.savefig(held, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(held.getvalue()).decode()
