"""Bringing a store that is not the index itself to the state of a generation, and choosing the model of its searches.

The last step of `reindex`; after a change of model it comes before the manifest is switched.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection
from typing import Any

from pipeline.config import Config
from pipeline.stores import Index, open_store
from pipeline.types import HostedStore, is_hosted
from pipeline.workflow.progress import Reporter
from pipeline.workflow.store_sync.sync import sync_store

logger = logging.getLogger("relook")


def fill_store(
    config: Config, index: Index, reporter: Reporter, *, models: Collection[str], promote: bool
) -> dict[str, Any]:
    """Make the store equal to a generation, and wait until it counts as many vectors.

    Args:
        config: `store` and `reindex.max_removed` are used.
        index: the generation; it need not be committed as the index's own yet.
        reporter: told about the progress.
        models: fingerprints of this index before the run. Where one of them is current in a shared service, or none
            is, this generation's becomes current there; that of another index is left alone.
        promote: make it current in any case.

    Returns:
        The counts of `relook upload`; empty where the store is the index itself, or the index has no images.

    Raises:
        RelookError: the store refuses something, or counts another number in the end.
    """
    started, kind, count = time.monotonic(), config.store.kind, index.manifest.counts["images"]
    if not count:
        return {}
    store = open_store(kind, index, **config.store.options)
    if store.index_backed:
        return {}
    written = sync_store(kind, index, store, reporter, config.reindex.max_removed)
    service = _choose_current(store, index, models, promote) if is_hosted(store) else {}
    return {
        "store": kind,
        "added": written.added,
        "changed": written.changed,
        "removed": written.removed,
        "equal": max(0, count - written.added - written.changed),
        "seconds": round(time.monotonic() - started, 2),
        **service,
    }


def _choose_current(store: HostedStore, index: Index, models: Collection[str], promote: bool) -> dict[str, Any]:
    model, current = index.card.fingerprint, store.current()
    if current != model and (promote or current is None or current in models):
        store.promote()
        current = model
    elif current != model:
        logger.warning(
            "%s: searches use another model (%s), which is not of this index; to switch run: relook reindex --promote",
            store.place(),
            current,
        )
    return {"place": store.place(), "model": model, "current": current, "pruned": {}}
