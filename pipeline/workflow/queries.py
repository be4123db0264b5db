"""Queries described like the gallery, and the store's candidates for them.

Shared by search, evaluate and training.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from pipeline.config import Config
from pipeline.describe import Failed, describe_few, describe_stream
from pipeline.files import Place, located
from pipeline.imaging import Picture
from pipeline.stores import Index
from pipeline.types import Candidates, Describer, Description, ImageRecord
from pipeline.workflow.model_loading import read_options
from pipeline.workflow.progress import Reporter


class Indexed(Protocol):
    """What has an index, such as a gallery."""

    @property
    def index(self) -> Index:
        """The generation that is open."""


class Searchable(Protocol):
    """What has a store, such as a gallery."""

    @property
    def store(self) -> Any:
        """A `VectorStore`; that of descriptors in memory takes no filter."""


@dataclass(frozen=True)
class Queries:
    """Q queries that could be read, in their order, and those that could not.

    Attributes:
        records: with absolute paths.
        descriptions: one per record.
        failed: (path, reason) each.
        numbers: the place of each record among all queries.
        reasons: why a query failed, by its place among all.
    """

    records: list[ImageRecord]
    descriptions: list[Description]
    failed: list[tuple[str, str]]
    numbers: list[int]
    reasons: Mapping[int, str] = field(default_factory=dict)


def describe_records(
    records: Sequence[ImageRecord],
    describer: Describer,
    config: Config,
    reporter: Reporter,
    pictures: Sequence[Picture] | None = None,
) -> Queries:
    """Describe photos.

    Args:
        records: with paths that are absolute, or start from the current folder.
        describer: of the index.
        config: `extract` and `describe.image` say how photos are read.
        reporter: told about the progress.
        pictures: one per record, read in place of the file at its path.
    """
    # Each has its place in the list as its id: the same photo may occur twice.
    numbered = [replace(record, id=str(number)) for number, record in enumerate(records)]
    found: dict[int, tuple[ImageRecord, Description]] = {}
    failed: list[tuple[str, str]] = []
    reasons: dict[int, str] = {}
    with reporter.bar("queries", len(records), "images") as bar:

        def locate(record: ImageRecord) -> Picture:
            return located(record.path) if pictures is None else pictures[int(record.id)]

        reading = read_options(config)
        # One batch would leave all cores idle but one.
        describe = describe_few if len(records) <= reading.batch_size else describe_stream
        for item in describe(describer, numbered, locate, reading):
            bar.advance()
            number = int(item.record.id)
            if isinstance(item, Failed):
                failed.append((item.record.path, item.reason))
                reasons[number] = item.reason
            else:
                described = replace(item.description, region=item.record.region)
                found[number] = (replace(item.record, id=records[number].id), described)
    ordered = [found[number] for number in sorted(found)]
    return Queries(
        [record for record, _ in ordered],
        [description for _, description in ordered],
        failed,
        sorted(found),
        reasons,
    )


def own_ids(gallery: Indexed, records: Sequence[ImageRecord]) -> list[frozenset[str]]:
    """For each query the ids of the index that are the query's own file."""
    at: dict[Place, set[str]] = {}
    for name, record in gallery.index.records.items():
        at.setdefault(gallery.index.image_file(record).resolve(), set()).add(name)
    return [frozenset(at.get(located(record.path).resolve(), ())) for record in records]


def find_candidates(
    gallery: Searchable,
    names: Sequence[str],
    descriptions: Sequence[Description],
    top_k: int,
    excluded: Sequence[Collection[str]] | None = None,
    where: Mapping[str, Sequence[str]] | None = None,
) -> Candidates:
    """The store's first `top_k` candidates of each query, without the ids that are `excluded` for it.

    `where` is that of `VectorStore.query`; descriptors in memory have none.
    """
    extra = max((len(ids) for ids in excluded or ()), default=0)
    vectors = np.stack([description.vector for description in descriptions])
    ids, scores = [], []
    filters: dict[str, Any] = {} if where is None else {"where": where}
    for number, (found, values) in enumerate(gallery.store.query(vectors, top_k + extra, **filters)):
        out = excluded[number] if excluded else ()
        kept = [row for row, name in enumerate(found) if name not in out][:top_k]
        ids.append([found[row] for row in kept])
        scores.append(values[kept])
    return Candidates(list(names), ids, scores)
