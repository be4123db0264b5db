"""An opened index: one generation with its store, its describer and its rerankers, loaded when they are first needed.

The lower half of `Gallery`; searches, evaluations and rerankers read from it. Imports no torch: moving vectors needs
none.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self

import numpy as np

from pipeline.config import Config
from pipeline.config.loading import with_values
from pipeline.errors import RelookError
from pipeline.stores import GlobalStore, Index, TableStore, open_store
from pipeline.stores.once import once_property
from pipeline.types import (
    Box,
    Describer,
    Description,
    FeatureMaps,
    FloatArray,
    Keypoints,
    KeypointsCard,
    LocalDescriptors,
    ModelCard,
    VectorStore,
)
from pipeline.workflow.bucket_index import local_copy, shown_index
from pipeline.workflow.rerank_chain import Rerank, chosen_rerankers

if TYPE_CHECKING:
    from pipeline.rerank import RerankStep
    from pipeline.workflow.joined_locals import JoinedLocals
    from pipeline.workflow.keypoint_source import KeypointSource

logger = logging.getLogger("relook")

# What becomes of a store that lacks vectors: a warning, an error, or nothing, where it is about to be synced.
Partial = Literal["warn", "error", "ignore"]


class OpenedIndex:
    """One generation of an index and what was loaded for it; a `DescriptorSource` for rerankers.

    Safe to use from several threads.

    Args:
        config: of a run; `index`, `store`, `rerank`, `describe` and `device` matter here.
        partial: what becomes of a store that lacks vectors of the index, see `check_store`.
        like: an opened index whose models are used here as well where they are the same.

    Attributes:
        config: the configuration; `index` is the copy on this disk where it is in a bucket.
        index: the generation.

    Raises:
        RelookError: there is no index, it is damaged, or it has no images.
    """

    def __init__(self, config: Config, *, partial: Partial = "warn", like: OpenedIndex | None = None) -> None:
        self._given, self.config = config, local_copy(config)
        self.index = Index(self.config.index)
        if not self.index.manifest.counts.get("images"):
            raise RelookError(f"{shown_index(config)}: the index has no images; run: relook extract --images DIR")
        self._partial, self._closed = partial, False
        self._lock = threading.RLock()
        self._steps: dict[str, RerankStep] = {}
        self._chains: dict[tuple[str, ...], list[RerankStep]] = {}
        if like is not None and like.index.card.fingerprint == self.index.card.fingerprint:
            self._steps = dict(like._steps)
            if "describer" in like.__dict__:
                self.__dict__["describer"] = like.describer

    @once_property
    def store(self) -> VectorStore:
        """The store that candidates come from, opened and compared with the index when it is first needed.

        Raises:
            RelookError: it cannot be opened, is empty, or lacks vectors where that is an error.
        """
        settings = self.config.store
        store = open_store(settings.kind, self.index, **settings.options)
        check_store(settings.kind, self.index, store, self._partial)
        return store

    def load_vectors(self) -> None:
        """Read the vectors of the index's own table into memory now, as its second search would; other stores have
        theirs. Raises as `store` does, or where a file is damaged."""
        if isinstance(self.store, TableStore):
            self.store.load()

    @once_property
    def describer(self) -> Describer:
        """The describer that made the index. Raises RelookError where it cannot be had."""
        from pipeline.workflow.model_loading import open_describer

        return open_describer(self.config, self.index)

    def chain(self, rerank: Rerank = "default") -> list[RerankStep]:
        """The rerankers, ready to score descriptors of this index; see `search` for `rerank`.

        Raises:
            UsageError: a name is unknown.
            RelookError: a checkpoint is missing, or made for other descriptors.
        """
        from pipeline.workflow.fusion.application import calibrated_chain
        from pipeline.workflow.model_loading import open_reranker

        names = chosen_rerankers(self.config, rerank, self.index.keypoints_card)
        with self._lock:
            if names not in self._chains:
                cards = self.index.card, self.index.keypoints_card, self.locals_card
                for name in names:
                    if name not in self._steps:
                        self._steps[name] = open_reranker(self.config, name, *cards)
                chain = [self._steps[name] for name in names]
                self._chains[names] = calibrated_chain(self.config, self.index, chain)
            return list(self._chains[names])

    def globals(self, ids: Sequence[str]) -> FloatArray:
        """See `DescriptorSource.globals`: from the index where it has them, since a service would have to send them."""
        own = self._global_store
        return own.read(ids) if own else self.store.fetch(ids)

    def locals(self, ids: Sequence[str]) -> list[LocalDescriptors]:
        """See `DescriptorSource.locals`; those of `rerank.locals_from` where that is set."""
        joined = self._joined_locals
        return self.index.locals(ids) if joined is None else joined.read(ids)

    def maps(self, ids: Sequence[str]) -> list[FeatureMaps]:
        """See `DescriptorSource.maps`."""
        return self.index.maps(ids)

    def keypoints(self, ids: Sequence[str]) -> list[Keypoints]:
        """See `DescriptorSource.keypoints`; those that were extracted for a search are kept in `INDEX/cache/`."""
        return self._keypoint_source.read(ids)

    def regions(self, ids: Sequence[str]) -> list[Box]:
        """See `DescriptorSource.regions`."""
        return [record.region for record in self.index.find_records(ids)]

    @property
    def keypoints_card(self) -> KeypointsCard:
        """What made the keypoints that `keypoints` returns. Raises RelookError when their weights cannot be had."""
        return self._keypoint_source.extractor.card

    def describe(self, ids: Sequence[str], needs: Collection[str]) -> list[Description]:
        """The index's own images as queries: their global descriptors, and of the rest what rerankers need."""
        nothing = [None] * len(ids)
        parts = (
            self.globals(ids),
            self.locals(ids) if "locals" in needs else nothing,
            self.maps(ids) if "maps" in needs else nothing,
            self.keypoints(ids) if "keypoints" in needs else nothing,
            self.regions(ids) if "maps" in needs else nothing,
        )
        return [Description(*one) for one in zip(*parts, strict=True)]

    def query_describer(self, needs: Collection[str]) -> Describer:
        """The describer of queries, with keypoints or another index's local descriptors where rerankers need them."""
        describer, joined = self.describer, self._joined_locals if "locals" in needs else None
        if joined is not None:
            from pipeline.describe.joined import with_locals

            describer = with_locals(describer, joined.describer)
        if "keypoints" not in needs:
            return describer
        from pipeline.describe.keypoints import with_keypoints

        return with_keypoints(describer, self._keypoint_source.extractor)

    def with_store(self, kind: str) -> Self:
        """The same generation, searched in another store, with the same models."""
        config = with_values(self.config, {"store.kind": kind}, "store")
        other = type(self)(config, partial=self._partial, like=self)
        other.index = self.index
        return other

    def close(self) -> None:
        """Close files and let go of models; a search raises RelookError from now on."""
        with self._lock:
            self._closed = True
            self._steps.clear()
            self._chains.clear()
            if joined := self.__dict__.get("_joined_locals"):
                joined.close()
            for name in ("describer", "store", "_global_store", "_keypoint_source", "_joined_locals"):
                self.__dict__.pop(name, None)
            self.index.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check_open(self) -> None:
        if self._closed:
            raise RelookError(f"{self.config.index}: this gallery is closed; open another one")

    @property
    def locals_card(self) -> ModelCard | None:
        """What made the local descriptors, where they are those of `rerank.locals_from`; else None."""
        return None if self._joined_locals is None else self._joined_locals.card

    @once_property
    def _joined_locals(self) -> JoinedLocals | None:
        """Local descriptors of another index; None: those of this one are read."""
        path = self.config.rerank.locals_from
        if path is None:
            return None
        from pipeline.workflow.joined_locals import JoinedLocals

        return JoinedLocals(self.config, path)

    @once_property
    def _keypoint_source(self) -> KeypointSource:
        from pipeline.workflow.keypoint_source import KeypointSource

        return KeypointSource(self.config, self.index)

    @once_property
    def _global_store(self) -> GlobalStore | None:
        """None: the store is the index's own table, which is quicker, or the index does without its globals."""
        own = GlobalStore(self.index)
        return None if self.store.index_backed or not own.complete else own


def check_store(kind: str, index: Index, store: VectorStore, partial: Partial) -> None:
    """Compare the number of vectors with that of the index's images.

    Args:
        kind: the store's registry name.
        index: the generation that is searched.
        store: the opened store; one that is index-backed has what the index has.
        partial: see `Partial`.

    Raises:
        RelookError: the store has no vectors of this index, or, with "error", lacks some.
    """
    if partial == "ignore" or store.index_backed:
        return
    count, expected = store.stats()["count"], index.manifest.counts["images"]
    advice = f"run: relook upload --store {kind}"
    if not count:
        if store.hosted:  # where another model is searched there, the store itself says so
            store.query(np.eye(1, index.card.dimension, dtype=np.float32), 1)
        raise RelookError(f"{index.directory}: the store {kind} is empty, the index has {expected} images; {advice}")
    if count < expected:
        message = f"{index.directory}: the store {kind} has {count} of {expected} vectors; {advice}"
        if partial == "error":
            raise RelookError(message)
        logger.warning("%s; until then the others are never found", message)
