"""What `evaluate` asks, in which gallery, and what is right: a data set's published queries, or an index's labels.

Before `measuring`, which ranks. Queries of a data set that are not in its gallery are described from their photos, cut
to their box; those that are in it are read from the index, and are never their own answer.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline.catalog import load_catalog, load_ground_truth
from pipeline.config import Config
from pipeline.errors import RelookError, UsageError
from pipeline.evaluate import BenchmarkProtocol, protocol_named
from pipeline.types import IMPORTED, GroundTruth, ImageRecord
from pipeline.workflow.gallery import Gallery
from pipeline.workflow.model_loading import open_describer
from pipeline.workflow.progress import Silent
from pipeline.workflow.queries import Queries, describe_records, own_ids
from pipeline.workflow.query_inputs import catalog_of

Groups = Mapping[str, Collection[str]]


@dataclass(frozen=True)
class Task:
    """Everything that is asked.

    Attributes:
        protocol: what scores it.
        records: Q queries.
        file: of a query's number, where its photo lies.
        describe: of a slice of them, read when they are needed: maps of all queries may not fit.
        groups: of a query's number, ids by relevance.
        labels: of a query's number, what it shows.
        excluded: of a query's number, the gallery's ids that are the query itself.
        outside: ids of the index that are not searched.
        where: a filter of the store that leaves `outside` out; None: there is none.
        size: how many images are searched.
        failed: photos of gallery or queries that could not be read when the index was made.
        ignored: queries that the data set tells to ignore.
        reads: whether queries are read from the index instead of described.
    """

    protocol: BenchmarkProtocol
    records: Sequence[ImageRecord]
    file: Callable[[int], str]
    describe: Callable[[slice], Queries]
    groups: Callable[[int], Groups]
    labels: Callable[[int], Collection[str]]
    excluded: Callable[[int], Collection[str]]
    outside: frozenset[str]
    where: Mapping[str, Sequence[str]] | None
    size: int
    failed: int = 0
    ignored: int = 0
    reads: bool = False


def load_truth(source: str | None) -> GroundTruth | None:
    """The answers that a data set NAME:FOLDER publishes; None for a manifest, whose labels are all there is."""
    if source is None or Path(source).expanduser().exists():
        return None
    return load_ground_truth(source)


def open_task(
    config: Config, gallery: Gallery, needs: Collection[str], source: str | None, queries: str | None
) -> Task:
    """What is asked of an index.

    Args:
        config: `evaluate` matters, and what queries are described with.
        gallery: the index.
        needs: what the rerankers read of a query.
        source: a manifest, a folder, or NAME:FOLDER; None: the index with its own labels.
        queries: photos with labels to ask with, in place of those of the gallery.

    Raises:
        UsageError: no such protocol, or it is not one for this ground truth.
        RelookError: images of the ground truth are not in the index, or there is nothing to ask.
    """
    truth = load_truth(source)
    protocol = protocol_named(config.evaluate.protocol or (truth.protocol if truth else "labels"))
    given = set(truth.groups) if truth and truth.groups else {"positive", "label"}
    if not given >= set(protocol.groups):
        needed = ", ".join(protocol.groups)
        raise UsageError(f"protocol {protocol.name} needs answers by {needed}; {source or config.index} has none")
    if truth and truth.queries and queries is None:
        return _published(config, gallery, protocol, needs, truth, source or "")
    return _labelled(config, gallery, protocol, needs, source, queries)


def _published(
    config: Config,
    gallery: Gallery,
    protocol: BenchmarkProtocol,
    needs: Collection[str],
    truth: GroundTruth,
    source: str,
) -> Task:
    """Queries of the data set's own; everything in the index is searched, also what it holds beside the data set.

    Where another program made the descriptors, those of the queries lie in the index too, and are not searched.
    """
    split = config.evaluate.split
    numbers = [number for number, query in enumerate(truth.queries) if split in (None, query.split)]
    if not numbers:
        splits = ", ".join(sorted({query.split for query in truth.queries if query.split})) or "no splits at all"
        raise RelookError(f"{source}: no query has split {split!r}; there are: {splits}")
    records = [truth.queries[number] for number in numbers]
    known = gallery.index.records.keys() | set(gallery.index.failures())
    ids = {group: lists for group, lists in truth.groups.items() if group != "label"}
    named = {name for lists in ids.values() for number in numbers for name in lists[number]}
    _refuse_missing(sorted(named - known), len(named), config, source)
    files = [str(truth.root / record.path) for record in records]
    photos = _Photos(config, gallery, [replace(one, path=file) for one, file in zip(records, files, strict=True)])
    stored = gallery.index.card.name == IMPORTED
    outside = _queries_held(gallery, truth, records) if stored else frozenset()
    shown = truth.groups.get("label")
    by_label = None if truth.groups else _ByLabel(gallery.index.records)
    return Task(
        protocol,
        records,
        files.__getitem__,
        (lambda rows: _from_index(gallery, records[rows], needs)) if stored else photos.describe,
        (lambda number: {group: lists[numbers[number]] for group, lists in ids.items()})
        if by_label is None
        else lambda number: {"positive": by_label.others(records[number].label, ())},
        lambda number: shown[numbers[number]] if shown else [records[number].label],
        lambda number: (),
        outside=outside,
        where=None,
        size=len(gallery.index.records) - len(outside),
        failed=len(gallery.index.failures()),
        ignored=truth.ignored,
        reads=stored,
    )


def _queries_held(gallery: Gallery, truth: GroundTruth, asked: Sequence[ImageRecord]) -> frozenset[str]:
    """Ids of the data set's queries that the index holds. Raises RelookError when one that is asked is not there."""
    held = gallery.index.records
    missing = [record.id for record in asked if record.id not in held]
    if missing:
        raise RelookError(
            f"{gallery.index.directory}: its descriptors were made elsewhere, and {len(missing)} of {len(asked)} "
            f"queries have none, such as {missing[0]!r}; import those of the queries into it as well"
        )
    return frozenset(query.id for query in truth.queries if query.id in held)


def _from_index(gallery: Gallery, records: Sequence[ImageRecord], needs: Collection[str]) -> Queries:
    descriptions = gallery.describe([record.id for record in records], needs)
    return Queries(list(records), descriptions, [], list(range(len(records))))


def _labelled(
    config: Config,
    gallery: Gallery,
    protocol: BenchmarkProtocol,
    needs: Collection[str],
    source: str | None,
    queries: str | None,
) -> Task:
    """Positives have the query's label; without photos to ask with, every labelled image asks."""
    searched, failed = _searched(config, gallery, source)
    held, split = gallery.index.records, config.evaluate.split
    outside = frozenset(held.keys() - searched.keys())
    # A store that filters beats asking it for more answers than are outside.
    alone = outside and split and all(held[name].split != split for name in outside)
    records: Sequence[ImageRecord]
    if queries is None:
        records = [record for record in searched.values() if record.label]
        itself: list[frozenset[str]] = [frozenset({record.id}) for record in records]

        def describe(rows: slice) -> Queries:
            return _from_index(gallery, records[rows], needs)
    else:
        asked = catalog_of(queries, config)
        records, failed = list(asked), failed + len(asked.failed)
        itself = own_ids(gallery, records)
        describe = _Photos(config, gallery, records).describe
    labels = _ByLabel(searched)
    return Task(
        protocol,
        records,
        lambda number: records[number].path if queries else str(gallery.index.image_file(records[number])),
        describe,
        lambda number: {"positive": labels.others(records[number].label, itself[number])},
        lambda number: [records[number].label] if records[number].label else [],
        lambda number: itself[number],
        outside=frozenset() if alone else outside,
        where={"split": [str(split)]} if alone else None,
        size=len(searched),
        failed=failed,
        reads=queries is None,
    )


def _searched(config: Config, gallery: Gallery, source: str | None) -> tuple[dict[str, ImageRecord], int]:
    """The images that are searched, with their labels, by id, and how many more the index could not read."""
    held, split = gallery.index.records, config.evaluate.split
    if source is None:
        wanted = [record for record in held.values() if split in (None, record.split)]
        if not wanted:
            raise RelookError(f"no image of the index has split {split!r}")
    else:
        wanted = list(load_catalog(source, config.catalog.labels, config.catalog.outside).select(split))
    unreadable = {name for name in gallery.index.failures() if name not in held}
    failed = sum(record.id in unreadable for record in wanted)
    wanted = [record for record in wanted if record.id not in unreadable]
    _refuse_missing([record.id for record in wanted if record.id not in held], len(wanted), config, source)
    if not any(record.label for record in wanted):
        raise RelookError("the ground truth has no labels; give a manifest with a column label")
    return {record.id: record for record in wanted}, failed


def _refuse_missing(missing: Sequence[str], count: int, config: Config, source: str | None) -> None:
    if missing:
        raise RelookError(
            f"{len(missing)} of {count} images of the ground truth are not in {config.index}, such as "
            f"{missing[0]!r}; run: relook extract --images {source}"
        )


@dataclass(frozen=True)
class _ByLabel:
    """Ids by label, made once: every query of a label shares them."""

    records: Mapping[str, ImageRecord]
    ids: dict[str, frozenset[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        groups: dict[str, list[str]] = {}
        for name, record in self.records.items():
            groups.setdefault(record.label, []).append(name)
        self.ids.update({label: frozenset(names) for label, names in groups.items() if label})

    def others(self, label: str, itself: Collection[str]) -> frozenset[str]:
        return self.ids.get(label, frozenset()).difference(itself)


class _Photos:
    """Queries that are described from their files; the describer is opened when the first one is asked for."""

    def __init__(self, config: Config, gallery: Gallery, records: Sequence[ImageRecord]) -> None:
        self._config, self._gallery, self._records = config, gallery, records

    @cached_property
    def _describer(self) -> Any:
        return open_describer(self._config, self._gallery.index)

    def describe(self, rows: slice) -> Queries:
        """See `Task.describe`."""
        return describe_records(self._records[rows], self._describer, self._config, Silent())
