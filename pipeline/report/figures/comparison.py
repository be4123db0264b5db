"""Plots of a comparison: the difference in each metric with its interval, each query, precision over recall.

Drawn on `compare --html`, and written by `compare --figure`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from pipeline.report.figures.style import COLOURS, DASHES, INK, panels, save_figure, styled, svg_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Comparison = Mapping[str, Any]


def comparison_plots(comparison: Comparison) -> list[tuple[Markup, str]]:
    """Each plot as part of a page, and a sentence on how to read it."""
    found = []
    with styled():
        for draw, what, text in _plots(comparison):
            figure, (axes,) = panels(1)
            draw(axes, comparison)
            found.append((svg_of(figure, what), text))
    return found


def save_comparison_figure(path: Path, comparison: Comparison) -> None:
    """Write all plots as one figure.

    Raises:
        UsageError: the file's ending is not .pdf, .svg or .png.
        RelookError: it cannot be written.
    """
    with styled():
        plots = _plots(comparison)
        figure, axes = panels(len(plots), columns=2 if len(plots) == 4 else 3)
        for (draw, _, _), own in zip(plots, axes, strict=True):
            draw(own, comparison)
        save_figure(path, figure)


def _intervals(axes: Axes, comparison: Comparison) -> None:
    names = list(comparison["metrics"])
    rows = [comparison["metrics"][name] for name in names]
    middle = np.array([row["difference"] for row in rows])
    low, high = np.array([row["interval"] for row in rows], np.float64).reshape(-1, 2).T
    sides = np.maximum([middle - low, high - middle], 0)
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.errorbar(middle, names, xerr=sides, fmt="o", color=COLOURS[0], capsize=3)
    axes.invert_yaxis()
    axes.margins(y=0.15)
    axes.set(xlabel="difference (points of percent)", title="Difference in each metric")


def _each(axes: Axes, comparison: Comparison) -> None:
    pairs = np.array([[row["before"], row["after"]] for row in comparison["queries"]], np.float64).reshape(-1, 2)
    better, worse = pairs[:, 1] > pairs[:, 0], pairs[:, 1] < pairs[:, 0]
    axes.plot([0, 100], [0, 100], color=INK, linewidth=0.8)
    kinds = ((better, "better", "^", 0), (worse, "worse", "v", 1), (~better & ~worse, "equal", "o", 2))
    for kind, name, marker, colour in kinds:
        style: dict[str, Any] = {"marker": marker, "s": 16, "alpha": 0.6, "color": COLOURS[colour], "linewidths": 0}
        axes.scatter(*pairs[kind].T, label=f"{name}: {kind.sum()}", rasterized=len(pairs) > 300, **style)
    metric = _of_a_query(comparison["metric"])
    axes.set(xlabel=f"{metric} before (%)", ylabel=f"{metric} after (%)", title="Each query", xlim=(-3, 103))
    axes.set(ylim=(-3, 103))
    axes.legend(loc="lower right")


def _sorted(axes: Axes, comparison: Comparison) -> None:
    from matplotlib.ticker import MaxNLocator

    differences = np.array([row["difference"] for row in comparison["queries"]], np.float64)
    places = np.arange(len(differences) + 1)
    for number, part in enumerate((np.maximum(differences, 0), np.minimum(differences, 0))):
        hatch = ("//", "\\\\")[number]
        axes.stairs(part, places, fill=True, color=COLOURS[number], alpha=0.7, hatch=hatch)
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    metric = _of_a_query(comparison["metric"])
    axes.set(xlabel="queries, largest gain first", ylabel=f"difference in {metric} (points)", title="Gains and losses")


def _of_a_query(metric: str) -> str:
    return metric.removeprefix("m") if metric.startswith("mAP") else metric


def _precision(axes: Axes, comparison: Comparison) -> None:
    for number, side in enumerate(("before", "after")):
        curve = comparison["curves"][side]
        style: dict[str, Any] = {"color": COLOURS[number], "linestyle": DASHES[number]}
        axes.plot(100 * np.array(curve["recall"]), 100 * np.array(curve["precision"]), label=side, **style)
    axes.set(xlabel="recall (%)", ylabel="precision (%)", title="Precision over recall", xlim=(0, 100), ylim=(0, 103))
    axes.legend(loc="lower left")


def _plots(comparison: Comparison) -> list[tuple[Callable[[Axes, Comparison], None], str, str]]:
    """The plots that there is data for: how each is drawn, its name, and how to read it."""
    interval = "Point: mean over queries; line: 95 % interval. Right of 0 is better."
    plots: list[tuple[Callable[[Axes, Comparison], None], str, str]] = [
        (_intervals, "Difference in each metric", interval),
        (_each, "Each query before and after", "Above the line the second ranking is better."),
        (_sorted, "Gains and losses of queries", "How many queries gain, and how many lose how much."),
    ]
    if comparison["curves"]:
        plots.append((_precision, "Precision over recall", "Interpolated, mean over queries. Higher is better."))
    return plots
