"""What each query of an evaluation got: its metrics, and the first answers with whether they are right.

The part of `evaluation.json` that `compare` reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.evaluate import Scores
from pipeline.workflow.evaluation.measurement import Measurement
from pipeline.workflow.evaluation.tasks import Task
from pipeline.workflow.gallery import Gallery


def per_query(gallery: Gallery, task: Task, measured: Measurement) -> list[dict[str, Any]]:
    """One plain object per query that could be read, in the order of the task.

    "query" is its id; "path", "bbox" and "label" say what was asked with; "global" and "reranked" are metrics as
    fractions, None where the query cannot be scored; "answers" has the first ids of both, each with its path and
    "relevance": the group it belongs to, "" for none. There are no answers where there are very many queries.
    """
    rows = []
    for place, number in enumerate(measured.numbers):
        record = task.records[number]
        row: dict[str, Any] = {
            "query": record.id,
            "path": task.file(number),
            "bbox": record.bbox,
            "label": record.label,
            "global": _values(measured.before, place),
            "reranked": _values(measured.after[0], place) if measured.after else None,
        }
        if measured.shown:
            names = ("global", "reranked")
            found = measured.shown[place]
            row["answers"] = {
                name: _answers(gallery, task, number, ids) for name, ids in zip(names, found, strict=False)
            }
        rows.append(row)
    return rows


def _answers(gallery: Gallery, task: Task, number: int, ids: Sequence[str]) -> list[dict[str, str]]:
    groups, shown = task.groups(number), set(task.labels(number))
    answers = []
    for name in ids:
        record = gallery.index.records[name]
        relevance = next((group for group, members in groups.items() if name in members), "")
        if task.protocol.reads_labels and record.label in shown:
            relevance = "label"
        path = str(gallery.index.image_file(record))
        answers.append({"id": name, "path": path, "label": record.label, "relevance": relevance})
    return answers


def _values(scores: Scores, place: int) -> dict[str, float | None]:
    values = {name: float(column[place]) for name, column in scores.per_query.items()}
    return {name: None if np.isnan(value) else value for name, value in values.items()}
