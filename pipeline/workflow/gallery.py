"""What several verbs begin with: the device, the index with its store, the describer that made it, the rerankers.

Below the verbs of this room. Everything that can be wrong with an existing index is found here, before any work.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property

from pipeline.config import Config
from pipeline.errors import RelookError
from pipeline.stores import GlobalStore, Index, open_store
from pipeline.types import (
    Description,
    FeatureMaps,
    FloatArray,
    LocalDescriptors,
    VectorStore,
)

logger = logging.getLogger("relook")


@dataclass(frozen=True)
class Gallery:
    """An index and the store that its global descriptors are searched in; a `DescriptorSource` for rerankers."""

    index: Index
    store: VectorStore

    def globals(self, ids: Sequence[str]) -> FloatArray:
        """See `DescriptorSource.globals`: from the index where it has them, since a service would have to send them."""
        own = self._global_store
        return own.read(ids) if own else self.store.fetch(ids)

    def locals(self, ids: Sequence[str]) -> list[LocalDescriptors]:
        """See `DescriptorSource.locals`."""
        return self.index.locals(ids)

    def maps(self, ids: Sequence[str]) -> list[FeatureMaps]:
        """See `DescriptorSource.maps`."""
        return self.index.maps(ids)

    def describe(self, ids: Sequence[str], needs: Collection[str]) -> list[Description]:
        """The index's own pictures as queries: their globals, and of the rest what rerankers need."""
        locals_ = self.locals(ids) if "locals" in needs else [None] * len(ids)
        maps = self.maps(ids) if "maps" in needs else [None] * len(ids)
        return [Description(*parts) for parts in zip(self.globals(ids), locals_, maps, strict=True)]

    @cached_property
    def _global_store(self) -> GlobalStore | None:
        """None: the store is the index's own table, which is quicker, or the index does without its globals."""
        own = GlobalStore(self.index)
        return None if self.store.index_backed or not own.complete else own


def open_gallery(config: Config, *, searched: bool = True) -> Gallery:
    """Open the index and its store.

    Args:
        config: `index` and `store` matter here.
        searched: whether candidates will be asked of the store; False: it may still have to be filled.

    Raises:
        RelookError: there is no index, it or the store is damaged, or one of them is empty.
    """
    index = Index(config.index)
    if not index.manifest.counts.get("images"):
        raise RelookError(f"{config.index}: the index holds no images; run: relook extract --images DIR")
    store = open_store(config.store.kind, index, **config.store.options)
    # Searches of a service say themselves which model is current there.
    if searched and not store.hosted and not store.stats()["count"]:
        kind = config.store.kind
        raise RelookError(f"{config.index}: the store {kind} holds nothing of it; run: relook upload --store {kind}")
    return Gallery(index, store)
