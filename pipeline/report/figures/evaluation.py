"""Plots of an evaluation: precision over recall, scores, ranks before and after re-ranking, cost.

Drawn on `evaluate --html`, and written by `evaluate --figure`. Each takes `evaluation.json` documents of the same
queries; one of an earlier version, without curves, has the cost alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from pipeline.report.figures.style import COLOURS, DASHES, INK, panels, save_figure, styled, svg_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Reports = Sequence[Mapping[str, Any]]


def evaluation_plots(reports: Reports) -> list[tuple[Markup, str]]:
    """Each plot as part of a page, and a sentence on how to read it."""
    with styled():
        return [(_alone(draw, reports, what), text) for draw, what, text in _plots(reports)]


def save_evaluation_figure(path: Path, reports: Reports) -> None:
    """Write all plots as one figure.

    Raises:
        UsageError: the file's ending is not .pdf, .svg or .png.
        RelookError: it cannot be written.
    """
    with styled():
        plots = _plots(reports)
        figure, axes = panels(len(plots))
        for (draw, _, _), own in zip(plots, axes, strict=True):
            draw(own, reports)
        save_figure(path, figure)


def _alone(draw: Callable[[Axes, Reports], None], reports: Reports, what: str) -> Markup:
    figure, (axes,) = panels(1)
    draw(axes, reports)
    return svg_of(figure, what)


def _plots(reports: Reports) -> list[tuple[Callable[[Axes, Reports], None], str, str]]:
    """The plots that these documents have data for: how each is drawn, its name, and how to read it."""
    main = reports[0]
    curves = main.get("curves") or {}
    plots: list[tuple[Callable[[Axes, Reports], None], str, str]] = []
    if curves.get("global"):
        plots.append((_precision, "Precision over recall", "Interpolated, mean over queries. Higher is better."))
        plots.append(
            (_scores, "Scores of positives and negatives", "The less they overlap, the better a threshold separates.")
        )
    if curves.get("reranked") and curves["reranked"]["moves"]:
        better = "Each point is a positive of a query. Below the line it moved up."
        plots.append((_moves, "Rank of positives before and after re-ranking", better))
    if main["latency"]:
        count = max(row["queries"] for row in main["latency"].values())
        plots.append((_cost, "Cost of a query", f"Bar: median; line: 95th percentile; {count} queries one at a time."))
    return plots


def chain_of(report: Mapping[str, Any]) -> str:
    """What the re-ranking of a document is called."""
    return ", ".join(report["rerank"]) or "global search"


def _precision(axes: Axes, reports: Reports) -> None:
    lines = [("global search", reports[0]["curves"]["global"])]
    lines += [(chain_of(one), (one.get("curves") or {}).get("reranked")) for one in reports]
    for number, (name, curve) in enumerate((name, curve) for name, curve in lines if curve):
        style: dict[str, Any] = {"color": COLOURS[number % len(COLOURS)], "linestyle": DASHES[number % len(DASHES)]}
        axes.plot(100 * np.array(curve["recall"]), 100 * np.array(curve["precision"]), label=name, **style)
    axes.set(xlabel="recall (%)", ylabel="precision (%)", title="Precision over recall", xlim=(0, 100), ylim=(0, 103))
    axes.legend(loc="lower left")


def _scores(axes: Axes, reports: Reports) -> None:
    curves = reports[0]["curves"]
    scores = (curves.get("reranked") or curves["global"])["scores"]
    for number, name in enumerate(("positive", "negative")):
        style: dict[str, Any] = {
            "color": COLOURS[number],
            "hatch": ("//", "\\\\")[number],
            "alpha": 0.45,
            "edgecolor": COLOURS[number],
        }
        axes.stairs(100 * np.array(scores[name]), scores["edges"], fill=True, label=f"{name}s", **style)
    axes.set(xlabel="score", ylabel="share of images (%)", title=f"Scores ({chain_of(reports[0])})")
    axes.legend()


def _moves(axes: Axes, reports: Reports) -> None:
    moves = np.array(reports[0]["curves"]["reranked"]["moves"])
    limit = 1.3 * moves.max()
    axes.plot([0.8, limit], [0.8, limit], color=INK, linewidth=0.8)
    axes.scatter(moves[:, 0], moves[:, 1], s=14, alpha=0.5, color=COLOURS[0], linewidths=0, rasterized=True)
    up, down = (moves[:, 1] < moves[:, 0]).mean(), (moves[:, 1] > moves[:, 0]).mean()
    axes.text(0.97, 0.05, f"up: {up:.0%}", transform=axes.transAxes, ha="right")
    axes.text(0.03, 0.92, f"down: {down:.0%}", transform=axes.transAxes)
    axes.set(xscale="log", yscale="log", xlim=(0.8, limit), ylim=(0.8, limit))
    axes.set(xlabel="rank in the global search", ylabel="rank after re-ranking", title="Ranks of positives")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:.0f}")


def _cost(axes: Axes, reports: Reports) -> None:
    rows: dict[str, Mapping[str, float]] = {}
    for report in reports:
        for stage, row in report["latency"].items():
            rows.setdefault(stage if stage != "rerank" else f"re-rank: {chain_of(report)}", row)
    names = [name for name in rows if not name.startswith("rerank ")]
    medians = np.array([rows[name]["median_ms"] for name in names])
    spread = np.array([rows[name]["p95_ms"] for name in names]) - medians
    for place, median in enumerate(medians):
        axes.annotate(f"{median:.1f}", (median, place - 0.28), xytext=(4, 0), textcoords="offset points", va="center")
    axes.margins(x=0.12)
    axes.barh(
        names, medians, height=0.8, xerr=[np.zeros(len(names)), np.maximum(spread, 0)], color=COLOURS[0], ecolor=INK
    )
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.set(xlabel="milliseconds a query", title="Cost of a query")
