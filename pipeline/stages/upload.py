"""`upload`: bring a vector store to the state of the index.

Second verb of the flow. The built-in table reads the index's own files: nothing is sent, and they are verified. Any
other store is synced with the index (`workflow/store_sync`); a service may hold several models, of which one is
current.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from pipeline.config import Config
from pipeline.errors import RelookError, UsageError
from pipeline.types import HostedStore, is_hosted
from pipeline.workflow.gallery import Gallery, open_gallery
from pipeline.workflow.progress import Reporter, Silent
from pipeline.workflow.shares import parse_shard
from pipeline.workflow.store_sync.comparison import own_parts
from pipeline.workflow.store_sync.sync import SyncCounts, plan_sync, send_share, sync_store


@dataclass(frozen=True)
class UploadResult:
    """The result of an upload; counts are of vectors.

    Attributes:
        store: its kind.
        added, changed, removed: vectors that were written or deleted.
        equal: vectors that were there already.
        seconds: the whole time.
        service: of a hosted store: "place", "model" (the index's fingerprint), "current" (that of searches), "pruned";
            of a share "place", "model" and "shard" ("K/N").
    """

    store: str
    added: int
    changed: int
    removed: int
    equal: int
    seconds: float
    service: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain values, for `--json`."""
        values = asdict(self)
        service: dict[str, Any] = values.pop("service")
        return values | service


@dataclass(frozen=True)
class UploadPlan:
    """What an upload would do; counts are of vectors, bytes of requests, write units of the service.

    Attributes:
        pruned: with `prune`, the other models that would be deleted: vectors by fingerprint.
    """

    store: str
    place: str
    added: int
    changed: int
    removed: int
    bytes: int
    write_units: int
    pruned: Mapping[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain values, for `--json`."""
        return asdict(self)


def upload(
    config: Config,
    reporter: Reporter | None = None,
    *,
    promote: bool = False,
    prune: bool = False,
    bulk: str | None = None,
) -> UploadResult:
    """Bring the store to the state of the index.

    Args:
        config: `index`, `store` and `reindex.max_removed` are used.
        reporter: told about the progress.
        promote: searches of a hosted store use this model from now on; the first model is promoted anyway.
        prune: then delete all other models from it, as far as relook made them.
        bulk: let the service import the index's parts from here first, "gs://..." or "s3://...".

    Raises:
        UsageError: one of the last three, with a store that is not in a service.
        RelookError: the index is damaged, more than `reindex.max_removed` of the store would be deleted, or the store
            differs from the index in the end.
    """
    started, reporter = time.monotonic(), reporter or Silent()
    gallery = open_gallery(config, searched=False)
    kind, count = config.store.kind, gallery.index.manifest.counts["images"]
    service: dict[str, Any] = {}
    if is_hosted(gallery.store):
        if bulk is not None:
            _import(gallery.store, bulk, reporter)
        filled = sync_store(kind, gallery.index, gallery.store, reporter, config.reindex.max_removed)
        service = _switch(gallery, gallery.store, promote, prune)
    elif promote or prune or bulk is not None:
        raise UsageError(f"--promote, --prune and --bulk are for hosted stores; {kind} is a local store")
    elif gallery.store.index_backed:
        filled = _verify(gallery)
    else:
        filled = sync_store(kind, gallery.index, gallery.store, reporter, config.reindex.max_removed)
    return UploadResult(
        store=kind,
        added=filled.added,
        changed=filled.changed,
        removed=filled.removed,
        equal=max(0, count - filled.added - filled.changed),
        seconds=round(time.monotonic() - started, 2),
        service=service,
    )


def upload_share(config: Config, shard: str, reporter: Reporter | None = None) -> UploadResult:
    """Send one share of the index's parts to a hosted store, beside other processes; nothing is deleted or promoted.

    `upload` afterwards does the rest: it sends what shares did not, deletes, waits until all can be read, and counts.

    Args:
        config: `index` and `store` are used.
        shard: "K/N": the K-th of N shares of the parts, in their order. It may have none.
        reporter: told about the progress.

    Raises:
        UsageError: the store is not in a service, or `shard` is none.
        RelookError: a part is damaged, or the service refuses something.
    """
    started, (number, count) = time.monotonic(), parse_shard(shard)
    gallery = open_gallery(config, searched=False)
    kind, store = config.store.kind, gallery.store
    if not is_hosted(store):
        raise UsageError(f"--shard is for hosted stores; {kind} is a local store")
    sent, vectors = send_share(kind, gallery.index, store, reporter or Silent(), number, count)
    return UploadResult(
        store=kind,
        added=sent.added,
        changed=sent.changed,
        removed=0,
        equal=vectors - sent.added - sent.changed,
        seconds=round(time.monotonic() - started, 2),
        service={"place": store.place(), "model": gallery.index.card.fingerprint, "shard": f"{number}/{count}"},
    )


def plan_upload(config: Config, prune: bool = False) -> UploadPlan:
    """What `upload` would do now, and its cost; nothing is written. Raises as `upload` does."""
    gallery = open_gallery(config, searched=False)
    store = gallery.store
    planned = SyncCounts() if store.index_backed else plan_sync(config.store.kind, gallery.index, store)
    return UploadPlan(
        store=config.store.kind,
        place=store.place() if is_hosted(store) else str(gallery.index.directory),
        added=planned.added,
        changed=planned.changed,
        removed=planned.removed,
        bytes=planned.cost.bytes,
        write_units=planned.cost.units,
        pruned=_prunable(gallery) if prune else {},
    )


def _prunable(gallery: Gallery) -> dict[str, int]:
    if not is_hosted(gallery.store):
        raise UsageError("--prune is for hosted stores; this one is a local store")
    return dict(gallery.store.prunable())


def _verify(gallery: Gallery) -> SyncCounts:
    """The index's own tables: every file has its checksum, and every image has a vector of the same id."""
    wrong = gallery.index.verify()
    if wrong:
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise RelookError(f"{wrong[0]}{more}; extract into a new --index")
    for _ in own_parts(gallery.index):
        pass
    return SyncCounts()


def _import(store: HostedStore, uri: str, reporter: Reporter) -> None:
    if not uri.startswith(("gs://", "s3://")):
        raise UsageError(f"--bulk {uri}: must begin with gs:// or s3://")
    with reporter.bar("import", 100, "percent") as bar:
        done = 0

        def tick(percent: float) -> None:
            nonlocal done
            bar.advance(int(percent) - done)
            done = int(percent)

        store.import_parts(uri, tick)


def _switch(gallery: Gallery, store: HostedStore, promote: bool, prune: bool) -> dict[str, Any]:
    """Promote and prune, after all of this model can be read."""
    model, current = gallery.index.card.fingerprint, store.current()
    if promote or current is None:
        store.promote()
        current = model
    pruned = dict(store.prune()) if prune else {}
    return {"place": store.place(), "model": model, "current": current, "pruned": pruned}
