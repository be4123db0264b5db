"""The queries of an evaluation, the gallery that they search, and what is relevant to each.

Before `measurement`, which ranks. Queries are published with a data set, or they are labelled images. Those that are
not in the gallery are described from their files, cropped to their box; those that are in it are read from the index
and are never their own result.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from pipeline.catalog import load_catalog, load_ground_truth
from pipeline.config import Config
from pipeline.errors import RelookError, UsageError
from pipeline.evaluate import BenchmarkProtocol, protocol_named
from pipeline.types import IMPORTED, Describer, GroundTruth, ImageRecord
from pipeline.workflow.opened_index import OpenedIndex
from pipeline.workflow.progress import Silent
from pipeline.workflow.queries import Queries, describe_records, own_ids
from pipeline.workflow.query_inputs import catalog_of

Groups = Mapping[str, Collection[str]]


class EvaluationQueries(ABC):
    """Q queries and what a protocol needs to score them; `number` is a query's place in `records`.

    Attributes:
        protocol: what scores them.
        records: the queries.
        outside: ids of the index that are not searched.
        where: a filter of the store that leaves `outside` out; None: there is none.
        size: how many images are searched.
        failed: images of gallery or queries that could not be read when the index was made.
        ignored: queries that the data set says to ignore.
        stored: whether queries are read from the index instead of described.
    """

    protocol: BenchmarkProtocol
    records: Sequence[ImageRecord]
    outside: frozenset[str] = frozenset()
    where: Mapping[str, Sequence[str]] | None = None
    size: int
    failed: int
    ignored: int = 0
    stored: bool

    def __init__(
        self, config: Config, gallery: OpenedIndex, protocol: BenchmarkProtocol, needs: Collection[str]
    ) -> None:
        self.protocol = protocol
        self._config, self._gallery, self._needs = config, gallery, needs

    @abstractmethod
    def file(self, number: int) -> str:
        """Where the photo of a query lies."""

    @abstractmethod
    def groups(self, number: int) -> Groups:
        """Ids of the gallery by relevance, such as "positive", or "easy", "hard" and "junk"."""

    @abstractmethod
    def labels(self, number: int) -> Collection[str]:
        """Labels any of which is right."""

    def excluded(self, number: int) -> Collection[str]:
        """Ids of the gallery that are the query itself."""
        return ()

    def describe(self, rows: slice) -> Queries:
        """Descriptions of some queries, when they are needed: feature maps of all of them may not fit in memory."""
        if self.stored:
            records = list(self.records[rows])
            descriptions = self._gallery.describe([record.id for record in records], self._needs)
            return Queries(records, descriptions, [], list(range(len(records))))
        located = [replace(self.records[n], path=self.file(n)) for n in range(len(self.records))[rows]]
        return describe_records(located, self._describer, self._config, Silent())

    @cached_property
    def _describer(self) -> Describer:
        return self._gallery.query_describer(self._needs)


class PublishedQueries(EvaluationQueries):
    """The queries and the relevant images that a data set publishes.

    Everything in the index is searched, also images that are not of the data set. Where another program made the
    descriptors, those of the queries are in the index too, and are not searched.

    Raises:
        RelookError: no query has the split, or images of the ground truth are not in the index.
    """

    def __init__(
        self,
        config: Config,
        gallery: OpenedIndex,
        protocol: BenchmarkProtocol,
        needs: Collection[str],
        truth: GroundTruth,
        source: str,
    ) -> None:
        super().__init__(config, gallery, protocol, needs)
        self._truth, self._numbers = truth, _of_split(truth, config.evaluate.split, source)
        self.records = [truth.queries[number] for number in self._numbers]
        index = gallery.index
        known = index.records.keys() | set(index.failures())
        self._ids = {group: lists for group, lists in truth.groups.items() if group != "label"}
        named = {name for lists in self._ids.values() for number in self._numbers for name in lists[number]}
        _refuse_missing(sorted(named - known), len(named), config, source)
        self.stored = index.card.name == IMPORTED
        self.outside = _stored_queries(gallery, truth, self.records) if self.stored else frozenset()
        self._by_label = None if truth.groups else _ids_by_label(index.records)
        self.size = len(index.records) - len(self.outside)
        self.failed = len(index.failures())
        self.ignored = truth.ignored

    def file(self, number: int) -> str:
        """See `EvaluationQueries.file`."""
        return str(self._truth.root / self.records[number].path)

    def groups(self, number: int) -> Groups:
        """See `EvaluationQueries.groups`; without published groups, images with the query's label are positives."""
        if self._by_label is not None:
            return {"positive": self._by_label.get(self.records[number].label, frozenset())}
        return {group: lists[self._numbers[number]] for group, lists in self._ids.items()}

    def labels(self, number: int) -> Collection[str]:
        """See `EvaluationQueries.labels`."""
        published = self._truth.groups.get("label")
        return published[self._numbers[number]] if published else [self.records[number].label]


class LabelledQueries(EvaluationQueries):
    """Images with labels as queries: positives have the query's label.

    Args:
        source: a manifest or a folder that says which images are searched; None: the index with its labels.
        queries: images with labels; None: every labelled image that is searched.

    Raises:
        RelookError: images of the ground truth are not in the index, none has a label, or none has the split.
    """

    def __init__(
        self,
        config: Config,
        gallery: OpenedIndex,
        protocol: BenchmarkProtocol,
        needs: Collection[str],
        source: str | None,
        queries: str | None,
    ) -> None:
        super().__init__(config, gallery, protocol, needs)
        searched, self.failed = _searched(config, gallery, source)
        self.size, self.stored = len(searched), queries is None
        self._by_label = _ids_by_label(searched)
        self._restrict(searched)
        if queries is None:
            self.records = [record for record in searched.values() if record.label]
            self._itself = [frozenset({record.id}) for record in self.records]
        else:
            given = catalog_of(queries, config)
            self.records, self.failed = list(given), self.failed + len(given.failed)
            self._itself = own_ids(gallery, self.records)

    def file(self, number: int) -> str:
        """See `EvaluationQueries.file`."""
        record = self.records[number]
        return str(self._gallery.index.image_file(record)) if self.stored else record.path

    def groups(self, number: int) -> Groups:
        """See `EvaluationQueries.groups`."""
        positives = self._by_label.get(self.records[number].label, frozenset())
        return {"positive": positives.difference(self._itself[number])}

    def labels(self, number: int) -> Collection[str]:
        """See `EvaluationQueries.labels`."""
        label = self.records[number].label
        return [label] if label else []

    def excluded(self, number: int) -> Collection[str]:
        """See `EvaluationQueries.excluded`."""
        return self._itself[number]

    def _restrict(self, searched: Mapping[str, ImageRecord]) -> None:
        """Leave out the other images: by a filter where their split tells them apart, otherwise by their ids."""
        records, split = self._gallery.index.records, self._config.evaluate.split
        outside = frozenset(records.keys() - searched.keys())
        if outside and split and all(records[name].split != split for name in outside):
            self.where = {"split": [split]}
        else:
            self.outside = outside


def open_queries(
    config: Config, gallery: OpenedIndex, needs: Collection[str], source: str | None, queries: str | None
) -> EvaluationQueries:
    """The queries of an evaluation.

    Args:
        config: `evaluate` matters, and what queries are described with.
        gallery: the index.
        needs: what the rerankers read of a query.
        source: a manifest, a folder, or NAME:FOLDER; None: the index with its own labels.
        queries: images with labels, in place of those of the gallery.

    Raises:
        UsageError: no such protocol, or it is not one for this ground truth.
        RelookError: images of the ground truth are not in the index, or there is no query.
    """
    truth = load_truth(source)
    protocol = protocol_named(config.evaluate.protocol or (truth.protocol if truth else "labels"))
    given = set(truth.groups) if truth and truth.groups else {"positive", "label"}
    if not given >= set(protocol.groups):
        needed = ", ".join(protocol.groups)
        raise UsageError(
            f"protocol {protocol.name} needs relevant images by {needed}; {source or config.index} has none"
        )
    if truth and truth.queries and queries is None:
        return PublishedQueries(config, gallery, protocol, needs, truth, source or "")
    return LabelledQueries(config, gallery, protocol, needs, source, queries)


def load_truth(source: str | None) -> GroundTruth | None:
    """The ground truth that a data set NAME:FOLDER publishes; None for a manifest, which has labels alone."""
    if source is None or Path(source).exists():
        return None
    return load_ground_truth(source)


def _of_split(truth: GroundTruth, split: str | None, source: str) -> list[int]:
    """Places of the queries of a split. Raises RelookError naming the splits that there are."""
    numbers = [number for number, query in enumerate(truth.queries) if split in (None, query.split)]
    if not numbers:
        splits = ", ".join(sorted({query.split for query in truth.queries if query.split})) or "no splits at all"
        raise RelookError(f"{source}: no query has split {split!r}; there are: {splits}")
    return numbers


def _stored_queries(gallery: OpenedIndex, truth: GroundTruth, queries: Sequence[ImageRecord]) -> frozenset[str]:
    """Ids of the data set's queries in the index. Raises RelookError when one of `queries` is not there."""
    records = gallery.index.records
    missing = [record.id for record in queries if record.id not in records]
    if missing:
        raise RelookError(
            f"{gallery.index.directory}: its descriptors are imported, and {len(missing)} of {len(queries)} queries "
            f"have none, such as {missing[0]!r}; import those of the queries as well"
        )
    return frozenset(query.id for query in truth.queries if query.id in records)


def _searched(config: Config, gallery: OpenedIndex, source: str | None) -> tuple[dict[str, ImageRecord], int]:
    """The images that are searched, with their labels, by id, and how many more the index could not read."""
    records, split = gallery.index.records, config.evaluate.split
    if source is None:
        wanted = [record for record in records.values() if split in (None, record.split)]
        if not wanted:
            raise RelookError(f"no image of the index has split {split!r}")
    else:
        wanted = list(load_catalog(source, **config.catalog.options).select(split))
    unreadable = {name for name in gallery.index.failures() if name not in records}
    failed = sum(record.id in unreadable for record in wanted)
    wanted = [record for record in wanted if record.id not in unreadable]
    _refuse_missing([record.id for record in wanted if record.id not in records], len(wanted), config, source)
    if not any(record.label for record in wanted):
        raise RelookError("the ground truth has no labels; give a manifest with a column label")
    return {record.id: record for record in wanted}, failed


def _refuse_missing(missing: Sequence[str], count: int, config: Config, source: str | None) -> None:
    if missing:
        raise RelookError(
            f"{len(missing)} of {count} images of the ground truth are not in {config.index}, such as "
            f"{missing[0]!r}; run: relook extract --images {source}"
        )


def _ids_by_label(records: Mapping[str, ImageRecord]) -> dict[str, frozenset[str]]:
    """Ids of each label but "", made once: all queries of a label share them."""
    groups: dict[str, list[str]] = {}
    for name, record in records.items():
        groups.setdefault(record.label, []).append(name)
    return {label: frozenset(names) for label, names in groups.items() if label}
