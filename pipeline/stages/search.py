"""`search`: which photos of the index show the same thing as this one?

The verb that everything else prepares: describe the query, ask the store for candidates, look again, show.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.config import Config
from pipeline.errors import RelookError
from pipeline.rerank import apply_chain
from pipeline.types import Ranking
from pipeline.workflow.gallery import Gallery, open_gallery
from pipeline.workflow.model_loading import open_chain
from pipeline.workflow.progress import Reporter, Silent
from pipeline.workflow.queries import Queries, describe_queries, find_candidates, own_ids


@dataclass(frozen=True)
class Hit:
    """One result: `rank` and `global_rank` count from 1; `path` is where the photo lies."""

    rank: int
    id: str
    path: str
    label: str
    score: float
    global_rank: int
    global_score: float
    explanation: dict[str, float]


@dataclass(frozen=True)
class Answer:
    """The results of one query, best first."""

    query: str
    label: str
    results: list[Hit]


@dataclass(frozen=True)
class SearchResult:
    """Answers in the order of the queries; `failed` queries as (path, reason)."""

    answers: list[Answer]
    failed: list[tuple[str, str]]
    rerank: list[str]
    weights: str
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Plain values, for `--json`; the keys are the CLI's contract."""
        queries: list[dict[str, Any]] = [
            {
                "query": answer.query,
                "label": answer.label,
                "results": [_hit_json(hit) for hit in answer.results],
            }
            for answer in self.answers
        ]
        queries += [{"query": path, "error": reason, "results": []} for path, reason in self.failed]
        return {"queries": queries, "rerank": self.rerank, "weights": self.weights, "seconds": self.seconds}


def search(config: Config, sources: Sequence[str], reporter: Reporter | None = None) -> SearchResult:
    """Search for photos.

    Args:
        config: `index`, `store`, `rerank` and `search` matter here.
        sources: photo files, manifests or folders of photos.
        reporter: told about the progress.

    Raises:
        RelookError: no query can be read, or the index, the store or a reranker cannot be used.
    """
    started = time.monotonic()
    reporter = reporter or Silent()
    gallery = open_gallery(config)
    chain = open_chain(config, gallery.index.card)
    queries = describe_queries(sources, gallery, config, reporter)
    if not queries.records:
        raise RelookError("; ".join(f"{path}: {reason}" for path, reason in queries.failed[:3]))
    depth = max([config.search.top_k, *(step.top for step in chain)])
    names = [record.path for record in queries.records]
    excluded = own_ids(gallery, queries.records) if config.search.skip_itself else None
    candidates = find_candidates(gallery, names, queries.descriptions, depth, excluded)
    rankings = apply_chain(chain, queries.descriptions, candidates, gallery)
    return SearchResult(
        answers=_answers(queries, rankings, gallery, config.search.top_k),
        failed=queries.failed,
        rerank=[step.name for step in chain],
        weights=gallery.index.card.weights,
        seconds=round(time.monotonic() - started, 2),
    )


def _answers(queries: Queries, rankings: Sequence[Ranking], gallery: Gallery, top_k: int) -> list[Answer]:
    return [
        Answer(
            record.path,
            record.label,
            [_hit(ranking, row, gallery) for row in range(min(top_k, len(ranking.ids)))],
        )
        for record, ranking in zip(queries.records, rankings, strict=True)
    ]


def _hit(ranking: Ranking, row: int, gallery: Gallery) -> Hit:
    name = ranking.ids[row]
    record = gallery.index.records[name]
    values = {key: float(column[row]) for key, column in ranking.explanation.items()}
    return Hit(
        rank=row + 1,
        id=name,
        path=str(gallery.index.image_file(record)),
        label=record.label,
        score=float(ranking.scores[row]),
        global_rank=int(values.pop("global_rank")),
        global_score=values.pop("global_score"),
        explanation=values,
    )


def _hit_json(hit: Hit) -> dict[str, Any]:
    return {
        "rank": hit.rank,
        "id": hit.id,
        "path": hit.path,
        "label": hit.label,
        "score": hit.score,
        "global_rank": hit.global_rank,
        "global_score": hit.global_score,
        **{name: None if math.isnan(value) else value for name, value in hit.explanation.items()},
    }
