"""`search`: which photos of the index show the same thing as these?

The verb that everything else prepares; a call on the gallery.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.config import Config
from pipeline.errors import RelookError, UsageError
from pipeline.workflow.gallery import open_gallery
from pipeline.workflow.hits import Hits
from pipeline.workflow.progress import Reporter, Silent
from pipeline.workflow.query_inputs import Query, queries_of_sources, with_feedback
from pipeline.workflow.shares import parse_shard, share_of


@dataclass(frozen=True)
class SearchResult:
    """The hits of the queries that could be read, in their order; `failed` queries as (path, reason).

    `shard` is "K/N" where only this share of the queries was searched with, or None.
    """

    hits: list[Hits]
    failed: list[tuple[str, str]]
    rerank: list[str]
    weights: str
    seconds: float
    shard: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values, for `--json`; the keys are the CLI's contract."""
        queries = [one.to_json() for one in self.hits]
        queries += [{"query": path, "error": reason, "results": []} for path, reason in self.failed]
        found = {"queries": queries, "rerank": self.rerank, "weights": self.weights, "seconds": self.seconds}
        return found if self.shard is None else found | {"shard": self.shard}


def search(
    config: Config,
    sources: Sequence[str],
    reporter: Reporter | None = None,
    *,
    ids: Sequence[str] = (),
    like: Sequence[str] = (),
    unlike: Sequence[str] = (),
    bbox: Sequence[float] | None = None,
    where: Mapping[str, Sequence[str]] | None = None,
    min_score: float | None = None,
    explain: bool = False,
    shard: str | None = None,
) -> SearchResult:
    """Search for photos.

    Args:
        config: `index`, `store`, `rerank` and `search` matter here.
        sources: photo files, manifests or folders of photos, "-" for a picture on stdin.
        reporter: told about the progress.
        ids: images of the index, whose stored descriptors are queries after those of `sources`.
        like, unlike: see `Gallery.search`; of every query. Without queries, `like` is one.
        bbox, where, min_score, explain: see `Gallery.search`; `bbox` is that of every source that brings none.
        shard: "K/N": only the K-th of N shares of the queries, in their order. It may have none.

    Raises:
        UsageError: there are no queries, or an argument is not what it should be.
        RelookError: no query can be read, or the index, the store or a reranker cannot be used.
    """
    started, share = time.monotonic(), None if shard is None else parse_shard(shard)
    if not sources and not ids and not like and not unlike:
        raise UsageError("search: which photos? give a QUERY, or an image of the index with --id")
    with open_gallery(config) as gallery:
        names = [step.name for step in gallery.chain()]
        given = [*queries_of_sources(sources, config, bbox), *(Query(name, id=name) for name in ids)]
        queries: Sequence[Query] = with_feedback(given, like, unlike)
        if share is not None:
            queries = share_of(queries, *share)
        found: list[Hits] = []
        if queries:
            found = gallery.search_queries(
                queries,
                where=where,
                rerank=names,
                min_score=min_score,
                explain=explain,
                reporter=reporter or Silent(),
            )
        weights = gallery.index.card.weights
    failed = [(one.query, one.error) for one in found if one.error]
    if failed and len(failed) == len(found):
        raise RelookError("; ".join(f"{path}: {reason}" for path, reason in failed[:3]))
    return SearchResult(
        hits=[one for one in found if not one.error],
        failed=failed,
        rerank=names,
        weights=weights,
        seconds=round(time.monotonic() - started, 2),
        shard=None if share is None else f"{share[0]}/{share[1]}",
    )
