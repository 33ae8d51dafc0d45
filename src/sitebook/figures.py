"""The kinds of figure that the book has: pages say what is shown, these say how.

Colours go by role: what was recorded is black, what we generate blue, what the paper prints orange.
"""

from collections.abc import Iterable, Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from sitetrace.core.style import GENERATED, MARKERS, MEASURED, OTHER, PAPER

ROLES = {
    "measured": MEASURED, "recorded": MEASURED, "testbed": MEASURED, "generated": GENERATED,
    "ours": GENERATED, "states": GENERATED, "paper": PAPER, "cannot": "#DDDDDD",
}  # fmt: skip
CYCLE = (GENERATED, OTHER, "#CC79A7", "#E69F00", "#56B4E9", "#888888", MEASURED, PAPER)
# inches: of a figure, a panel, a row of points, a line of the legend
WIDTH, HEIGHT, ROW, LINE = 8.0, 2.9, 0.34, 0.24
BAND = 0.25  # opacity of a range
DASHES = ("-", "--", ":", "-.")
Panels = Mapping[str, Mapping[str, pd.Series | pd.DataFrame]]


def colors(labels: Iterable[str]) -> dict[str, str]:
    """Give each label the colour of its role, or the next one that no role has taken."""
    labels = list(dict.fromkeys(map(str, labels)))
    given = {label: ROLES.get(label.split(" ")[0].strip(":,")) for label in labels}
    taken: list[str] = []
    for label, color in given.items():
        if color is None or color in taken:
            free = [c for c in CYCLE if c not in taken and c not in given.values()]
            color = given[label] = (free or CYCLE)[len(taken) * (not free) % len(CYCLE)]
        taken.append(color)
    return given


def _panels(count: int, columns: int, size: tuple | None, share: str) -> tuple[Figure, list[Axes]]:
    rows = -(-count // columns)
    size = size or (WIDTH, (HEIGHT if rows == 1 else 0.75 * HEIGHT) * rows + 0.5)
    how = {"sharex": "x" in share, "sharey": "y" in share, "squeeze": False}
    figure, grid = plt.subplots(rows, columns, figsize=size, **how)
    for axes in grid.ravel()[count:]:
        axes.remove()
    return figure, list(grid.ravel()[:count])


def _legend(figure: Figure, panels: list[Axes]) -> None:
    """Put one legend below all panels."""
    seen: dict[str, object] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            seen.setdefault(label, handle)
    if len(seen) > 1 or (seen and next(iter(seen))):
        widest = max(map(len, seen))
        columns = int(np.clip(100 // (widest + 8), 1, 4))
        figure.set_figheight(figure.get_figheight() + LINE * (-(-len(seen) // columns) - 1))
        figure.legend(seen.values(), seen.keys(), loc="outside lower center", ncols=columns)


def curves(
    panels: Panels, x_label: str, y_label: str, *, columns: int = 1, style: str = "line",
    log: str = "", share: str = "xy", size: tuple[float, float] | None = None,
) -> Figure:  # fmt: skip
    """Draw lines, steps or marks over x: panel, label, then a series, or value, low and high."""
    figure, places = _panels(len(panels), columns, size, share)
    shade = colors(label for lines in panels.values() for label in lines)
    number = {label: k for k, label in enumerate(shade)}
    for axes, (title, lines) in zip(places, panels.items(), strict=True):
        for label, line in lines.items():
            told = {"color": shade[str(label)], "label": label}
            if isinstance(line, pd.DataFrame):
                step = {"step": "pre"} if style == "step" else {}
                band = {"alpha": BAND, "lw": 0, **step, "color": shade[str(label)]}
                alone = {} if "value" in line else {"label": label}
                axes.fill_between(line.index, line["low"], line["high"], **band, **alone)
                if "value" not in line:
                    continue
                line = line["value"]
            how = {"marker": MARKERS[number[str(label)] % len(MARKERS)], "ms": 5}
            how |= {"ls": "none"} if style == "marks" else {}
            how = {} if style in ("line", "step") else how
            how |= {"drawstyle": "steps-pre"} if style == "step" else {}
            axes.plot(line.index, line.to_numpy(), **told, **how)
        axes.set_title(title, loc="left")
        if "x" in log:
            axes.set_xscale("log")
        if "y" in log:
            axes.set_yscale("log")
    _outer_labels(places, columns, x_label, y_label)
    _legend(figure, places)
    return figure


def _outer_labels(places: list[Axes], columns: int, x_label: str, y_label: str) -> None:
    for k, axes in enumerate(places):
        if k + columns >= len(places):
            axes.set_xlabel(x_label)
        if k % columns == 0:
            axes.set_ylabel(y_label)


def times(panels: Panels, y_label: str, x_label: str = "time [s]", **how: object) -> Figure:
    """Draw series over time as steps, one panel below the other."""
    return curves(panels, x_label, y_label, **{"style": "step", **how})


def rows(
    table: pd.DataFrame, label: str, *, log: bool = False, line: float | None = None,
    beside: Mapping[str, Iterable[float]] | None = None, size: tuple[float, float] | None = None,
) -> Figure:  # fmt: skip
    """Draw a row of points with their ranges for each entry of the index, by its second level."""
    names = list(dict.fromkeys(table.index.get_level_values(0)))
    groups = (
        list(dict.fromkeys(table.index.get_level_values(-1))) if table.index.nlevels > 1 else [""]
    )
    beside = beside or {}
    figure, axes = plt.subplots(figsize=size or (WIDTH, ROW * (len(names) + len(beside)) + 1.8))
    shade = colors(groups) if groups != [""] else {"": GENERATED}
    middle = next(column for column in ("median", "value", "mean") if column in table)
    ends = next((pair for pair in (("min", "max"), ("low", "high")) if pair[0] in table), None)
    for k, group in enumerate(groups):
        part = table if groups == [""] else table.xs(group, level=-1)
        offset = 0.5 * ((k + 0.5) / len(groups) - 0.5)
        place = np.array([names.index(name) + offset for name in part.index], dtype=float)
        if ends:
            span = {"color": shade[str(group)], "lw": 3, "alpha": 2 * BAND}
            axes.hlines(place, part[ends[0]], part[ends[1]], **span)
        how = {"color": shade[str(group)], "ms": 6, "label": group}
        axes.plot(part[middle].astype(float), place, MARKERS[k % len(MARKERS)], **how)
    for k, values in enumerate(beside.values(), start=len(names)):
        values = np.asarray(list(values), dtype=float)
        axes.plot(values, np.full(values.size, k), "|", color=PAPER, ms=14, mew=1.5)
    if line is not None:
        axes.axvline(line, color=PAPER, ls=":", lw=1)
    if log:
        axes.set_xscale("log")
        low, high = axes.get_xlim()
        subs = (1, 2, 5) if high < 300 * low else (1,)
        axes.xaxis.set_major_locator(LogLocator(subs=subs))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
    shown = [*(str(name).replace("_", " ") for name in names), *beside]
    axes.set_yticks(range(len(shown)), shown)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.set_xlabel(label)
    _legend(figure, [axes])
    return figure


def densities(
    panels: Mapping[str, Mapping[str, np.ndarray]], label: str, *, kind: str = "hist",
    columns: int = 1, bins: int = 60, share: str = "x", size: tuple[float, float] | None = None,
) -> Figure:  # fmt: skip
    """Draw how values are distributed: as histograms, or as shares of samples below."""
    figure, places = _panels(len(panels), columns, size, share)
    shade = colors(name for samples in panels.values() for name in samples)
    for axes, (title, samples) in zip(places, panels.items(), strict=True):
        edges = np.histogram_bin_edges(np.concatenate([*map(np.asarray, samples.values())]), bins)
        for name, values in samples.items():
            if kind == "ecdf":
                axes.ecdf(np.asarray(values), color=shade[str(name)], label=name)
            else:
                how = {"density": True, "histtype": "stepfilled", "ec": shade[str(name)]}
                face = to_rgba(shade[str(name)], BAND)
                axes.hist(values, edges, fc=face, label=name, **how)
        axes.set_title(title, loc="left")
    _outer_labels(places, columns, label, "share of samples below" if kind == "ecdf" else "density")
    _legend(figure, places)
    return figure


def quantiles(panels: Mapping[str, tuple[np.ndarray, Mapping[str, np.ndarray]]], label: str,
              *, columns: int = 2) -> Figure:  # fmt: skip
    """Draw quantiles of generated values over those of the measured ones, and the diagonal."""
    share = np.linspace(0.005, 0.995, 200)
    lines = {
        title: {
            name: pd.Series(np.quantile(values, share), index=np.quantile(measured, share))
            for name, values in others.items()
        }
        for title, (measured, others) in panels.items()
    }
    figure = curves(lines, f"measured {label}", f"generated {label}", columns=columns, share="")
    for axes in figure.axes:
        axes.axline((axes.get_xlim()[0],) * 2, slope=1, color=MEASURED, lw=0.8, ls=":")
    return figure


def heat(
    tables: Mapping[str, pd.DataFrame], label: str = "", *, digits: int = 2, columns: int = 1,
    annotate: bool = True, size: tuple[float, float] | None = None,
) -> Figure:  # fmt: skip
    """Draw tables of numbers as coloured cells, written into each."""
    import seaborn as sns

    tall = max(len(table) for table in tables.values()) * ROW + 1.4
    figure, places = _panels(
        len(tables), columns, size or (WIDTH, tall * -(-len(tables) // columns)), ""
    )
    for axes, (title, table) in zip(places, tables.items(), strict=True):
        how = {"cmap": "cividis", "annot": annotate, "fmt": f".{digits}f"}
        sns.heatmap(table.astype(float), ax=axes, cbar_kws={"label": label}, **how)
        axes.set_title(title, loc="left")
        axes.grid(visible=False)
    return figure


def bars(table: pd.DataFrame, label: str, *, stacked: bool = False,
         size: tuple[float, float] | None = None) -> Figure:  # fmt: skip
    """Draw horizontal bars: a group for each row, a bar or a part of it for each column."""
    tall = ROW * len(table) * (1 if stacked else max(table.shape[1] * 0.6, 1)) + 1.6
    figure, axes = plt.subplots(figsize=size or (WIDTH, tall))
    shade = list(colors(table.columns).values())
    table.iloc[::-1].plot.barh(ax=axes, stacked=stacked, color=shade, legend=False, width=0.75)
    axes.set(xlabel=label, ylabel="")
    axes.grid(visible=False, axis="y")
    if table.shape[1] > 1:
        _legend(figure, [axes])
    return figure
