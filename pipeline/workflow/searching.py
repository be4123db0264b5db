"""One search, from queries to hits: describe, find candidates, re-rank, read the records of the hits.

Below `gallery.py`, which loads what this needs.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pipeline.config import Config
from pipeline.rerank import RerankStep, apply_chain
from pipeline.rerank.chain import Search
from pipeline.rerank.classics.rocchio import rocchio
from pipeline.stores import Index
from pipeline.types import Box, Candidates, Description, Explanation, ImageRecord, Ranking, explains
from pipeline.workflow.finder import Finder, merged_searches
from pipeline.workflow.hits import Hit, Hits
from pipeline.workflow.opened_index import OpenedIndex
from pipeline.workflow.progress import Reporter
from pipeline.workflow.queries import describe_records
from pipeline.workflow.query_inputs import Query

logger = logging.getLogger("relook")

# Queries that are re-ranked together: enough to fill batches of pairs, few enough to tell where the work stands.
_TOGETHER = 16


@dataclass(frozen=True)
class SearchOptions:
    """What is returned of a search; see `Gallery.search`."""

    top_k: int
    where: Mapping[str, Sequence[str]] | None
    min_score: float | None
    skip_itself: bool
    explain: bool = False


def run_queries(
    gallery: OpenedIndex,
    queries: Sequence[Query],
    chain: Sequence[RerankStep],
    options: SearchOptions,
    reporter: Reporter,
) -> list[Hits]:
    """The hits of every query, in order; those of one that cannot be read say why in `Hits.error`."""
    descriptions, errors = describe_queries(gallery, queries, needs_of(chain), reporter)
    numbers = [number for number in range(len(queries)) if number in descriptions]
    found: dict[int, Hits] = {}
    if numbers:
        readable, described = [queries[number] for number in numbers], [descriptions[number] for number in numbers]
        candidates = find_candidates(gallery, readable, described, chain, options)
        rankings = _rerank(gallery, readable, described, candidates, chain, options, reporter)
        hits = hits_of_rankings(gallery, readable, described, rankings, chain, options)
        found = dict(zip(numbers, hits, strict=True))
    return [
        found[number] if number in found else _hits_of(gallery, query, (), chain, errors[number])
        for number, query in enumerate(queries)
    ]


def needs_of(chain: Sequence[RerankStep]) -> frozenset[str]:
    """What the rerankers of a chain read of a query."""
    return frozenset(need for step in chain for need in step.reranker.needs)


def describe_queries(
    gallery: OpenedIndex,
    queries: Sequence[Query],
    needs: frozenset[str],
    reporter: Reporter,
    limits: Config | None = None,
) -> tuple[dict[int, Description], dict[int, str]]:
    """The description of each query by its number, or the reason why it has none.

    Args:
        gallery: whose describer is used.
        queries: pictures are described in batches; images of the index have their stored descriptors.
        needs: what rerankers read beside the global descriptors; see `needs_of`.
        reporter: told about the progress.
        limits: says how pictures are read in place of the gallery's configuration.

    Raises:
        RelookError: the index does not have the id of a query, or one that it is like.
    """
    errors = {number: query.error for number, query in enumerate(queries) if query.error}
    stored = [number for number, query in enumerate(queries) if query.stored_id]
    pictures = {
        number: query.picture
        for number, query in enumerate(queries)
        if query.picture is not None and number not in errors
    }
    found: dict[int, Description] = {}
    if stored:
        ids = [queries[number].stored_id for number in stored]
        gallery.index.find_records(ids)  # names an id that is not there
        found |= zip(stored, gallery.describe(ids, needs), strict=True)
    if pictures:
        numbers = list(pictures)
        records = [ImageRecord("", queries[number].name, bbox=queries[number].bbox) for number in numbers]
        describer = gallery.query_describer(needs)
        reading = gallery.config if limits is None else limits
        done = describe_records(records, describer, reading, reporter, list(pictures.values()))
        found |= zip((numbers[place] for place in done.numbers), done.descriptions, strict=True)
        errors |= {numbers[place]: reason for place, reason in done.reasons.items()}
    return {number: _with_feedback(gallery, queries[number], one) for number, one in found.items()}, errors


def _with_feedback(gallery: OpenedIndex, query: Query, description: Description) -> Description:
    """The description with a global descriptor that is moved towards and away from images of the index."""
    if not query.like and not query.unlike:
        return description
    gallery.index.find_records([*query.like, *query.unlike])  # names an id that is not there
    nothing = np.zeros((0, len(description.vector)), np.float32)
    liked = gallery.globals(query.like) if query.like else nothing
    unliked = gallery.globals(query.unlike) if query.unlike else nothing
    own = description.vector if query.picture is not None or query.id else None
    settings = gallery.config.search
    return replace(description, vector=rocchio(own, liked, unliked, settings.like_weight, settings.unlike_weight))


def find_candidates(
    gallery: OpenedIndex,
    queries: Sequence[Query],
    descriptions: Sequence[Description],
    chain: Sequence[RerankStep],
    options: SearchOptions,
) -> Candidates:
    """The candidates of each query: as many as are returned, or as many as a reranker reads."""
    depth = max([options.top_k, *(step.top for step in chain)])
    vectors = np.stack([description.vector for description in descriptions])
    return Finder(gallery, options.where, options.skip_itself).find(queries, vectors, depth)


def search_further(gallery: OpenedIndex, queries: Sequence[Query], options: SearchOptions) -> Search:
    """Further searches of these queries for a chain, under the same filter."""
    finder = Finder(gallery, options.where, options.skip_itself)
    return merged_searches(
        lambda numbers, vectors, count: finder.find([queries[number] for number in numbers], vectors, count).ids
    )


def hits_of_rankings(
    gallery: OpenedIndex,
    queries: Sequence[Query],
    descriptions: Sequence[Description],
    rankings: Sequence[Ranking],
    chain: Sequence[RerankStep],
    options: SearchOptions,
) -> list[Hits]:
    """The hits of each query, of its ranking by the chain."""
    return [
        _hits_of(gallery, query, _hits(gallery, ranking, options, chain, description), chain)
        for query, ranking, description in zip(queries, rankings, descriptions, strict=True)
    ]


def _rerank(
    gallery: OpenedIndex,
    queries: Sequence[Query],
    descriptions: Sequence[Description],
    candidates: Candidates,
    chain: Sequence[RerankStep],
    options: SearchOptions,
    reporter: Reporter,
) -> list[Ranking]:
    """The candidates of each query after the chain; with an empty chain in the order of the global search."""
    if not chain:
        return apply_chain((), descriptions, candidates, gallery)
    rankings: list[Ranking] = []
    with reporter.bar("re-rank", len(descriptions), "queries") as bar:
        for start in range(0, len(descriptions), _TOGETHER):
            rows = slice(start, start + _TOGETHER)
            part = Candidates(candidates.query_ids[rows], candidates.ids[rows], candidates.scores[rows])
            further = search_further(gallery, queries[rows], options)
            rankings += apply_chain(chain, descriptions[rows], part, gallery, further)
            bar.advance(len(part.ids))
    return rankings


def _hits_of(
    gallery: OpenedIndex, query: Query, hits: tuple[Hit, ...], chain: Sequence[RerankStep], error: str = ""
) -> Hits:
    """The hits of a query with what is said of it."""
    names, (path, box) = tuple(step.name for step in chain), _photo(gallery, query)
    return Hits(query.name, hits, query.label, names, gallery.index.card.weights, error, path, box)


def _photo(gallery: OpenedIndex, query: Query) -> tuple[str, Box | None]:
    """Where the photo of a query lies ("" where it is no file), and the box in it."""
    if query.picture is not None or not query.id:
        return str(query.file or ""), query.bbox
    record = gallery.index.find_records([query.id])[0]
    return str(gallery.index.image_file(record)), record.bbox


def _hits(
    gallery: OpenedIndex,
    ranking: Ranking,
    options: SearchOptions,
    chain: Sequence[RerankStep],
    query: Description,
) -> tuple[Hit, ...]:
    """The first `top_k` of a ranking; only their records are read."""
    rows = [
        row
        for row in range(min(options.top_k, len(ranking.ids)))
        if options.min_score is None or ranking.scores[row] >= options.min_score
    ]
    records = gallery.index.find_records([ranking.ids[row] for row in rows])
    reasons = _reasons(gallery, ranking, rows, chain, query) if options.explain else {}
    return tuple(
        _hit(gallery.index, ranking, row, record, reasons.get(row, {}))
        for row, record in zip(rows, records, strict=True)
    )


def _reasons(
    gallery: OpenedIndex,
    ranking: Ranking,
    rows: Sequence[int],
    chain: Sequence[RerankStep],
    query: Description,
) -> dict[int, dict[str, Explanation]]:
    """Why the rerankers scored those of `rows` that they scored, by row and by reranker."""
    found: dict[int, dict[str, Explanation]] = {row: {} for row in rows}
    for step in chain:
        if not explains(step.reranker):
            continue
        wanted = [row for row in rows if not np.isnan(ranking.explanation[step.name][row])]
        earlier = [one.name for one in chain[: chain.index(step)]]
        ids = [ranking.ids[row] for row in wanted]
        scored = _scored(ranking, step.name, earlier)
        for row, reason in zip(wanted, step.reranker.explain(query, scored, ids, gallery), strict=True):
            found[row][step.name] = reason
    return found


def _scored(ranking: Ranking, name: str, earlier: Sequence[str]) -> Candidates:
    """What a reranker scored of a query: in the order that it had then, with what the `earlier` ones gave it."""
    rows = np.flatnonzero(~np.isnan(ranking.explanation[name]))
    rows = rows[np.argsort(ranking.places[name][rows], kind="stable")]
    given = {other: [ranking.explanation[other][rows]] for other in earlier}
    ids = [ranking.ids[row] for row in rows.tolist()]
    return Candidates([ranking.query_id], [ids], [ranking.explanation["global_score"][rows]], given)


def _hit(index: Index, ranking: Ranking, row: int, record: ImageRecord, reasons: dict[str, Explanation]) -> Hit:
    values = {key: float(column[row]) for key, column in ranking.explanation.items()}
    return Hit(
        rank=row + 1,
        id=record.id,
        path=str(index.image_file(record)),
        label=record.label,
        split=record.split,
        score=float(ranking.scores[row]),
        global_rank=int(values.pop("global_rank")),
        global_score=values.pop("global_score"),
        explanation=values,
        reasons=reasons,
    )
