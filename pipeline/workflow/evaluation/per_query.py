"""Per-query results of an evaluation: metrics, and the first results with their relevance.

The part of `evaluation.json` that `compare` reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.evaluate import Scores
from pipeline.workflow.evaluation.measurement import Measurement
from pipeline.workflow.evaluation.query_sets import EvaluationQueries
from pipeline.workflow.opened_index import OpenedIndex


def per_query(gallery: OpenedIndex, query_set: EvaluationQueries, measured: Measurement) -> list[dict[str, Any]]:
    """One plain object per query that could be read, in the order of the query set.

    "query" is its id; "path", "bbox" and "label" are those of the query; "global" and "reranked" are metrics as
    fractions, None where the query cannot be scored; "answers" has the first ids of both rankings, each with its path
    and "relevance": the group it belongs to, "" for none. With many queries there are no "answers".
    """
    rows = []
    for place, number in enumerate(measured.numbers):
        record = query_set.records[number]
        row: dict[str, Any] = {
            "query": record.id,
            "path": query_set.file(number),
            "bbox": record.bbox,
            "label": record.label,
            "global": _values(measured.before, place),
            "reranked": _values(measured.after[0], place) if measured.after else None,
        }
        if measured.shown:
            names = ("global", "reranked")
            found = measured.shown[place]
            row["answers"] = {
                name: _answers(gallery, query_set, number, ids) for name, ids in zip(names, found, strict=False)
            }
        rows.append(row)
    return rows


def _answers(
    gallery: OpenedIndex, query_set: EvaluationQueries, number: int, ids: Sequence[str]
) -> list[dict[str, str]]:
    groups, shown = query_set.groups(number), set(query_set.labels(number))
    answers = []
    for name in ids:
        record = gallery.index.records[name]
        relevance = next((group for group, members in groups.items() if name in members), "")
        if query_set.protocol.reads_labels and record.label in shown:
            relevance = "label"
        path = str(gallery.index.image_file(record))
        answers.append({"id": name, "path": path, "label": record.label, "relevance": relevance})
    return answers


def _values(scores: Scores, place: int) -> dict[str, float | None]:
    values = {name: float(column[place]) for name, column in scores.per_query.items()}
    return {name: None if np.isnan(value) else value for name, value in values.items()}
