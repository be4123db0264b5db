"""Curves of a training: the loss of every step, and the validation of every epoch.

Drawn on `train-rerank --html` and `train-global --html`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from pipeline.report.figures.style import COLOURS, DASHES, INK, panels, styled, svg_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Points of the curve of losses that are drawn.
_POINTS = 400
_BASELINE = "global "


def training_plots(result: Mapping[str, Any], losses: Sequence[float]) -> list[tuple[Markup, str]]:
    """Each plot as part of a page, and a sentence on how to read it."""
    with styled():
        figure, (axes,) = panels(1)
        _losses(axes, result, losses)
        plots = [(svg_of(figure, "Training loss"), "Thin: every step (means of neighbours); points: means of epochs.")]
        if any(name.split()[-1].startswith(("mAP", "R@")) for name in result["history"][0]):
            figure, (axes,) = panels(1)
            _validation(axes, result)
            text = "On held-out queries. Vertical line: the epoch that is kept; dashed: the global search alone."
            plots.append((svg_of(figure, "Validation"), text))
    return plots


def _losses(axes: Axes, result: Mapping[str, Any], losses: Sequence[float]) -> None:
    epochs = [row["epoch"] for row in result["history"]]
    if len(losses):
        parts = np.array_split(np.asarray(losses, np.float64), min(_POINTS, len(losses)))
        ends = np.cumsum([len(part) for part in parts]) / len(losses) * len(epochs)
        axes.plot(ends, [part.mean() for part in parts], color=COLOURS[5], linewidth=0.8)
    axes.plot(epochs, [row["loss"] for row in result["history"]], "o-", color=COLOURS[0])
    axes.set(xlabel="epoch", ylabel="loss", title="Training loss")
    axes.locator_params(axis="x", integer=True)


def _validation(axes: Axes, result: Mapping[str, Any]) -> None:
    history = result["history"]
    epochs = [row["epoch"] for row in history]
    names = [name for name in history[0] if name.startswith(("mAP", "R@"))]
    for number, name in enumerate(names):
        colour = COLOURS[number % len(COLOURS)]
        marker = "os^Dv"[number % 5]
        axes.plot(epochs, [row[name] for row in history], color=colour, marker=marker, label=name)
        if _BASELINE + name in history[0]:
            values = [row[_BASELINE + name] for row in history]
            axes.plot(epochs, values, color=colour, linestyle=DASHES[1], label=f"{name}, global search")
    axes.axvline(result["best"]["epoch"], color=INK, linewidth=0.8)
    axes.set(xlabel="epoch", ylabel="percent", title="Validation")
    axes.locator_params(axis="x", integer=True)
    axes.legend()
