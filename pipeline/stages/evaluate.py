"""`evaluate`: how good the search is, before and after the second look.

Last verb of the flow. Every labelled image queries the others, or the images of a second manifest query the gallery; a
query is never its own answer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.catalog import load_catalog
from pipeline.config import Config
from pipeline.errors import RelookError, unknown_name
from pipeline.evaluate import Scores, by_labels, paired_difference
from pipeline.rerank import Look, look_again
from pipeline.stages.opening import Gallery, open_chain, open_gallery
from pipeline.stages.progress import Reporter, Silent
from pipeline.stages.queries import describe_queries, find_candidates, own_ids
from pipeline.types import Description, ImageRecord, Ranking

# Queries that are looked at together: bounds the memory, and moves the bar.
_BLOCK = 64

PROTOCOLS: dict[str, Callable[..., tuple[Scores, int]]] = {
    "labels": by_labels,
}


@dataclass(frozen=True)
class EvaluateResult:
    """What was measured. `before` and `after` hold the values of each query; `after` is None without a second look.

    Attributes:
        unscored: queries without any positive, left out of the means.
        failed: photos that could not be read, now or when the index was extracted; left out too.
        seconds: of the global search and of the second look, for all queries.
    """

    protocol: str
    queries: int
    gallery: int
    unscored: int
    failed: int
    rerank: list[str]
    before: Scores
    after: Scores | None
    seconds: dict[str, float]
    weights: str

    def to_json(self) -> dict[str, Any]:
        """Plain values, for `--json`; the keys are the CLI's contract, metrics in percent."""
        return {
            "protocol": self.protocol,
            "queries": self.queries,
            "gallery": self.gallery,
            "unscored": self.unscored,
            "failed": self.failed,
            "rerank": self.rerank,
            "global": self.before.summary(),
            "reranked": self.after.summary() if self.after else None,
            "difference": paired_difference(self.before, self.after) if self.after else None,
            "seconds": self.seconds,
            "weights": self.weights,
        }


@dataclass(frozen=True)
class _Asked:
    """The queries of a protocol.

    Attributes:
        records: Q of them.
        describe: descriptions of a slice of them, read when they are needed: maps of all queries may not fit.
        excluded: for each query the gallery ids that are the query itself.
        failed: how many could not be read.
    """

    records: list[ImageRecord]
    describe: Callable[[slice], list[Description]]
    excluded: list[frozenset[str]]
    failed: int = 0


def evaluate(
    config: Config, images: str | None = None, queries: str | None = None, reporter: Reporter | None = None
) -> EvaluateResult:
    """Measure.

    Args:
        config: `index`, `store`, `rerank` and `evaluate` matter here.
        images: the ground truth: a manifest of images that the index holds; None: the index's own labels.
        queries: photos to ask with; None: every labelled image of the ground truth.
        reporter: told about the progress.

    Raises:
        UsageError: no such protocol.
        RelookError: images of the ground truth are not in the index, or nothing can be scored.
    """
    reporter = reporter or Silent()
    if config.evaluate.protocol not in PROTOCOLS:
        raise unknown_name("protocol", config.evaluate.protocol, PROTOCOLS)
    gallery = open_gallery(config)
    chain = open_chain(config, gallery.index.card)
    truth, unreadable = _truth(config, gallery, images)
    asked = _ask(config, gallery, chain, truth, queries, reporter)
    before, after, seconds = _rank(gallery, chain, asked, truth, reporter)
    protocol = PROTOCOLS[config.evaluate.protocol]
    labels = [record.label for record in asked.records]
    known = {record.id: record.label for record in truth.values()}
    scores, unscored = protocol(before, labels, known, asked.excluded)
    return EvaluateResult(
        protocol=config.evaluate.protocol,
        queries=len(asked.records) - unscored,
        gallery=len(truth),
        unscored=unscored,
        failed=asked.failed + unreadable,
        rerank=[look.name for look in chain],
        before=scores,
        after=protocol(after, labels, known, asked.excluded)[0] if chain else None,
        seconds=seconds,
        weights=gallery.index.card.weights,
    )


def _truth(config: Config, gallery: Gallery, images: str | None) -> tuple[dict[str, ImageRecord], int]:
    """The images that are searched, with their labels, by id, and how many more the index could not read."""
    held = gallery.index.records
    if images is None:
        wanted = [record for record in held.values() if config.evaluate.split in (None, record.split)]
        if not wanted:
            raise RelookError(f"no image of the index has split {config.evaluate.split!r}")
    else:
        wanted = list(load_catalog(images, config.catalog.labels, config.catalog.outside).select(config.evaluate.split))
    unreadable = {name for name in gallery.index.failures() if name not in held}
    failed = sum(record.id in unreadable for record in wanted)
    wanted = [record for record in wanted if record.id not in unreadable]
    missing = [record.id for record in wanted if record.id not in held]
    if missing:
        raise RelookError(
            f"{len(missing)} of {len(wanted)} images of the ground truth are not in {config.index}, such as "
            f"{missing[0]!r}; run: relook extract --images {images}"
        )
    if not any(record.label for record in wanted):
        raise RelookError("the ground truth has no labels; give a manifest with a column label")
    return {record.id: record for record in wanted}, failed


def _ask(
    config: Config,
    gallery: Gallery,
    chain: Sequence[Look],
    truth: dict[str, ImageRecord],
    queries: str | None,
    reporter: Reporter,
) -> _Asked:
    if queries is None:
        records = [record for record in truth.values() if record.label]
        ids = [record.id for record in records]
        needs = {need for look in chain for need in look.reranker.needs}
        return _Asked(records, lambda rows: gallery.describe(ids[rows], needs), [frozenset({name}) for name in ids])
    asked = describe_queries([queries], gallery, config, reporter)
    excluded = own_ids(gallery, asked.records)
    return _Asked(asked.records, lambda rows: asked.descriptions[rows], excluded, len(asked.failed))


def _rank(
    gallery: Gallery, chain: Sequence[Look], asked: _Asked, truth: dict[str, ImageRecord], reporter: Reporter
) -> tuple[list[Ranking], list[Ranking], dict[str, float]]:
    """Rankings over all of the ground truth before and after the second look, and the seconds each took."""
    outside = frozenset(gallery.index.records.keys() - truth.keys())
    before: list[Ranking] = []
    after: list[Ranking] = []
    seconds = {"search": 0.0, "rerank": 0.0}
    with reporter.bar("evaluate", len(asked.records), "queries") as bar:
        for start in range(0, len(asked.records), _BLOCK):
            block = slice(start, start + _BLOCK)
            descriptions = asked.describe(block)
            names = [record.id for record in asked.records[block]]
            excluded = [itself | outside for itself in asked.excluded[block]]
            clock = time.monotonic()
            candidates = find_candidates(gallery, names, descriptions, len(truth), excluded)
            seconds["search"] += time.monotonic() - clock
            before += look_again((), descriptions, candidates, gallery)
            clock = time.monotonic()
            after += look_again(chain, descriptions, candidates, gallery) if chain else ()
            seconds["rerank"] += time.monotonic() - clock
            bar.advance(len(names))
    return before, after, {name: round(value, 3) for name, value in seconds.items()}
