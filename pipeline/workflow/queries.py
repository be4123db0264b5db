"""Queries: what the user asks with, described like the gallery.

Shared by search and evaluate: photo files, or manifests of them, become records and descriptions.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.catalog import Catalog, load_catalog
from pipeline.catalog.folder import NOT_UTF8, printable
from pipeline.catalog.image_manifest import SUFFIXES
from pipeline.config import Config
from pipeline.describe import Failed, describe_stream
from pipeline.types import Candidates, Describer, Description, ImageRecord
from pipeline.workflow.gallery import Gallery
from pipeline.workflow.in_memory_gallery import InMemoryGallery
from pipeline.workflow.model_loading import open_describer, read_options
from pipeline.workflow.progress import Reporter


@dataclass(frozen=True)
class Queries:
    """Q queries that could be read, in the order they were asked, and those that could not.

    Attributes:
        records: with absolute paths.
        descriptions: one per record.
        failed: (path, reason) each.
        numbers: the place of each record among all that were asked.
    """

    records: list[ImageRecord]
    descriptions: list[Description]
    failed: list[tuple[str, str]]
    numbers: list[int]


def describe_queries(sources: Sequence[str], gallery: Gallery, config: Config, reporter: Reporter) -> Queries:
    """Describe photos, and the photos of manifests and folders, with the index's own describer."""
    catalogs = [asked_with(source, config) for source in sources]
    failed = [(path, reason) for catalog in catalogs for _, path, reason in catalog.failed]
    records = [record for catalog in catalogs for record in catalog]
    found = describe_records(records, open_describer(config, gallery.index), config, reporter)
    return replace(found, failed=[*failed, *found.failed])


def describe_records(
    records: Sequence[ImageRecord], describer: Describer, config: Config, reporter: Reporter
) -> Queries:
    """Describe photos whose paths are absolute, or start from where we are."""
    # The place in the list stands in for the id: the same photo may be asked for twice.
    numbered = [replace(record, id=str(number)) for number, record in enumerate(records)]
    found: dict[int, tuple[ImageRecord, Description]] = {}
    failed: list[tuple[str, str]] = []
    with reporter.bar("queries", len(records), "images") as bar:
        for item in describe_stream(describer, numbered, lambda record: Path(record.path), read_options(config)):
            bar.advance()
            number = int(item.record.id)
            if isinstance(item, Failed):
                failed.append((item.record.path, item.reason))
            else:
                found[number] = (replace(item.record, id=records[number].id), item.description)
    ordered = [found[number] for number in sorted(found)]
    return Queries(
        [record for record, _ in ordered], [description for _, description in ordered], failed, sorted(found)
    )


def own_ids(gallery: Gallery, records: Sequence[ImageRecord]) -> list[frozenset[str]]:
    """For each query the ids of the index that are the query's own file."""
    at: dict[Path, set[str]] = {}
    for name, record in gallery.index.records.items():
        at.setdefault(gallery.index.image_file(record).resolve(), set()).add(name)
    return [frozenset(at.get(Path(record.path).resolve(), ())) for record in records]


def find_candidates(
    gallery: Gallery | InMemoryGallery,
    names: Sequence[str],
    descriptions: Sequence[Description],
    top_k: int,
    excluded: Sequence[Collection[str]] | None = None,
    where: Mapping[str, Sequence[str]] | None = None,
) -> Candidates:
    """The store's first `top_k` answers to each query, without those that are `excluded` for it.

    `where` is that of `VectorStore.query`; only an index has it.
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


def asked_with(source: str, config: Config) -> Catalog:
    """A photo alone, or a folder or a manifest of them; paths are absolute."""
    path = Path(source).expanduser()
    if not path.is_dir() and path.suffix.lower() not in SUFFIXES:
        name = printable(path)
        if name != path.as_posix():
            return Catalog(path.parent, (), failed=((name, name, NOT_UTF8),))
        return Catalog(path.parent, (ImageRecord(id=source, path=str(path)),))
    catalog = load_catalog(source, outside=config.catalog.outside)
    records = [
        ImageRecord(id=record.id, path=str(catalog.file(record)), label=record.label, bbox=record.bbox)
        for record in catalog
    ]
    return replace(catalog, records=records)
