"""Figures: every kind draws what it is given, colours go by role."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from sitebook import figures
from sitetrace.core.style import GENERATED, MEASURED, PAPER

X = np.arange(5.0)
LINE = pd.Series(X**2, X)
BAND = pd.DataFrame({"value": X, "low": X - 1, "high": X + 1}, X)
ROWS = pd.DataFrame(
    {"median": [1.0, 2.0], "min": [0.5, 1.0], "max": [2.0, 300.0]},
    index=pd.MultiIndex.from_product([["a_b"], ["ours", "mean"]]),
)


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_roles_have_their_colours_and_no_two_labels_the_same():
    shade = figures.colors(
        ["measured", "generated: all", "paper, 25", "mean", "timeline", "testbed"]
    )
    assert [*shade.values()][:3] == [MEASURED, GENERATED, PAPER]
    assert len(set(shade.values())) == 6


@pytest.mark.parametrize("style", ["line", "step", "marks", "both"])
def test_curves_draw_a_panel_for_each_title_and_one_legend(style):
    lines = {"measured": LINE, "generated": BAND, "white": BAND[["low", "high"]]}
    figure = figures.curves({"one": lines, "two": lines}, "x", "y", columns=2, style=style)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["one", "two"]
    assert len(figure.legends) == 1
    assert figure.axes[0].lines[0].get_color() == MEASURED


def test_rows_have_a_row_for_each_name_and_what_stands_beside_them():
    figure = figures.rows(ROWS, "error [%]", log=True, line=5, beside={"paper": [1.0, 3.0]})
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a b", "paper"]
    assert axes.get_xscale() == "log"


def test_other_kinds_draw():
    values = {"measured": X, "generated": X + 1}
    assert len(figures.densities({"": values}, "power [W]").axes[0].patches) == 2
    assert len(figures.densities({"": values}, "power [W]", kind="ecdf").axes[0].lines) == 2
    assert len(figures.quantiles({"": (X, {"generated": X + 1})}, "power [W]").axes) == 1
    assert len(figures.heat({"": pd.DataFrame([[1.0, 2.0]])}).axes[0].texts) == 2
    bars = figures.bars(pd.DataFrame({"a": [1.0, 2.0], "b": [2.0, 1.0]}), "share", stacked=True)
    assert len(bars.axes[0].patches) == 4
    figure = figures.times({"": {"measured": LINE}}, "power [W]")
    assert figure.axes[0].lines[0].get_drawstyle() == "steps-pre"
    figure.canvas.draw()
