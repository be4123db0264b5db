"""The page of an evaluation: metrics with intervals, plots, the worst queries with their pictures, every query.

Written by `evaluate --html` and the demo, from the documents that `evaluate --report` writes as evaluation.json.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.report.figures.evaluation import chain_of, evaluation_plots
from pipeline.report.pages.page import write_page
from pipeline.report.pages.pictures import Pictures

# Queries that are shown with pictures, and first results of each.
_WORST = 12
_RESULTS = 8
# Queries that the table has; evaluation.csv has all.
_ROWS = 5000


def write_evaluation_page(path: Path, reports: Sequence[Mapping[str, Any]]) -> None:
    """Write the page.

    Args:
        path: the file, replaced if it is there.
        reports: `evaluation.json` documents of the same queries, one per chain of rerankers; the first one's queries
            are shown.

    Raises:
        RelookError: the page cannot be written.
    """
    main = reports[0]
    ranking = "reranked" if main["reranked"] else "global"
    scored = [row for row in main["per_query"] if row[ranking][main["headline"]] is not None]
    rows = sorted(scored, key=lambda row: row[ranking][main["headline"]])
    pictures = Pictures(path, min(_WORST, len(rows)) * (1 + _RESULTS))
    write_page(
        path,
        "evaluation",
        pictures,
        main=main,
        ranking=ranking,
        rankings=_rankings(reports),
        headline=main["headline"],
        of_a_query=_of_a_query(main["headline"]),
        plots=evaluation_plots(reports),
        costs=_costs(reports),
        rows=rows[:_ROWS],
        all_rows=len(rows),
        worst=_WORST,
        shown=_RESULTS,
    )


def _rankings(reports: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows of the table of metrics: "name", "values", "intervals" (empty where a document has none), "difference"."""
    main = reports[0]
    intervals = main.get("global_intervals") or (main["intervals"] if not main["reranked"] else {})
    rows = [{"name": "global search", "values": main["global"], "intervals": intervals, "difference": None}]
    rows += [
        {
            "name": chain_of(report),
            "values": report["reranked"],
            "intervals": report["intervals"],
            "difference": report["difference"],
        }
        for report in reports
        if report["reranked"]
    ]
    return rows


def _costs(reports: Sequence[Mapping[str, Any]]) -> list[tuple[str, Mapping[str, float] | None, float]]:
    """Stage, its milliseconds (None where no query ran alone) and seconds; stages of several chains once each."""
    found: dict[str, tuple[str, Mapping[str, float] | None, float]] = {}
    for report in reports:
        first = [stage for stage in ("read", "describe", "search") if stage in report["seconds"]]
        last = [stage for stage in report["seconds"] if stage not in first and report["reranked"]]
        for stage in (*first, *last):
            name = f"re-ranking: {chain_of(report)}" if stage == "rerank" else stage
            name = name.replace("rerank ", "of it, scores of ")
            found.setdefault(name, (name, report["latency"].get(stage), report["seconds"][stage]))
    return list(found.values())


def _of_a_query(metric: str) -> str:
    """The metric of one query: the mean of AP is mAP."""
    return metric.removeprefix("m") if metric.startswith("mAP") else metric
