"""What the service answers, as documents with a schema: results of a search, images, the collection, errors.

Made by `routes` from hits and records. Paths are those of the index, which start from the photos' folder; where that
lies is nobody's business.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, Field

from pipeline.serve.engine import Stage
from pipeline.types import FloatArray
from pipeline.workflow.hits import Hit


class Problem(BaseModel):
    """Why a request was refused or failed."""

    error: str = Field(description="one line: what is wrong, where, and what to do")


class Result(BaseModel):
    """One result."""

    rank: int = Field(description="from 1, after the stage that this list is of")
    id: str
    path: str = Field(description="below the photos' folder")
    label: str
    split: str
    width: int = Field(description="pixels of the upright photo; 0 where it is not known")
    height: int
    score: float = Field(description="what results are sorted by")
    global_rank: int = Field(description="from 1, before re-ranking")
    global_score: float = Field(description="cosine similarity of the global descriptors")
    group: int = Field(description="rank of the first result that shows nearly the same photo; its own where none does")
    scores: dict[str, float | None] = Field(description="each reranker's own score; null where it did not look")
    explanation: dict[str, Any] | None = Field(description="why, by reranker; null unless requested")


class Results(BaseModel):
    """The results of one stage of a search."""

    stage: Literal["global", "reranked", "explained"]
    final: bool = Field(description="whether this is the last stage")
    query: str = Field(description="the id, or the name of the uploaded file")
    label: str = Field(description="of the query, where the index has one")
    rerank: list[str] = Field(description="rerankers that were applied")
    weights: str = Field(description="of the describer; whether they are random")
    generation: int
    images: int = Field(description="of the index")
    seconds: float = Field(description="since the request was read")
    results: list[Result]


class ImageEntry(BaseModel):
    """An image of the collection."""

    id: str
    path: str
    label: str
    split: str
    width: int
    height: int


class ImagePage(BaseModel):
    """Some images of the collection."""

    total: int = Field(description="how many match")
    images: list[ImageEntry]


class Value(BaseModel):
    """A value of a filter."""

    value: str
    images: int


class OfferedReranker(BaseModel):
    """A reranker; `reason` says why it cannot be used, "" where it can."""

    name: str
    reason: str


class CollectionDocument(BaseModel):
    """What is searched, and what a search may request."""

    images: int
    generation: int
    model: str
    weights: str
    labels: list[Value]
    splits: list[Value]
    folders: list[Value]
    rerankers: list[OfferedReranker]
    rerank: list[str] = Field(description="what a search uses that names none")
    top_k: int = Field(description="results of a search that does not say how many")
    most: dict[str, int] = Field(description="limits: top_k, depth, bytes, pixels")


class Health(BaseModel):
    """Whether the service can answer."""

    status: Literal["ok", "not ready"]
    reason: str = ""


def results_of(stage: Stage, label: str, seconds: float, near: float) -> Results:
    """The document of one stage.

    Args:
        stage: of a search.
        label: of the query.
        seconds: since the request was read.
        near: cosine from which two results are one group.
    """
    gallery, hits = stage.pinned.gallery, stage.hits
    records = gallery.index.find_records(hits.ids)
    groups = _groups(gallery.globals(hits.ids), near) if len(hits) else []
    results = [
        _result(hit, record.path, record.width, record.height, group)
        for hit, record, group in zip(hits, records, groups, strict=True)
    ]
    return Results(
        stage=stage.name,
        final=stage.final,
        query=hits.query,
        label=label,
        rerank=list(hits.rerank),
        weights=hits.weights,
        generation=stage.pinned.number,
        images=len(gallery),
        seconds=round(seconds, 4),
        results=results,
    )


def _result(hit: Hit, path: str, width: int, height: int, group: int) -> Result:
    scores = {name: None if math.isnan(value) else value for name, value in hit.explanation.items()}
    reasons = {name: {"kind": type(one).__name__, **one.to_json()} for name, one in hit.reasons.items()}
    return Result(
        **{key: getattr(hit, key) for key in ("rank", "id", "label", "split", "score", "global_rank", "global_score")},
        path=path,
        width=width,
        height=height,
        group=group,
        scores=scores,
        explanation=reasons or None,
    )


def _groups(vectors: FloatArray, near: float) -> list[int]:
    """For each of N results, rows [N, D] of unit length, the rank of the first one that it is near to."""
    close = vectors @ vectors.T >= near
    first: list[int] = []
    for row in range(len(vectors)):
        others = np.flatnonzero(close[row, :row])
        first.append(first[others[0]] if len(others) else row + 1)
    return first
