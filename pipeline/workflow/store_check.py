"""Whether a store has the vectors of an index: an empty or a partly synced one never passes for a whole one.

Called when a gallery opens its store.
"""

from __future__ import annotations

import logging
from typing import Literal

import numpy as np

from pipeline.errors import RelookError
from pipeline.stores import Index
from pipeline.types import VectorStore

logger = logging.getLogger("relook")

# What becomes of a store that lacks vectors: a warning, an error, or nothing, where it is about to be synced.
Partial = Literal["warn", "error", "ignore"]


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
