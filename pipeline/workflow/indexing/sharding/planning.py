"""The plan of a divided extraction: made by whichever shard comes first, read by the others.

Under the index's lock it does what a run does before it describes: it lists the photos, compares them with the index,
refuses a large loss, chooses the model and fits its projections. So they are fitted once, and every shard describes
with the same numbers, however many there are and whichever of them is lost.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection
from pathlib import Path

from pipeline.config import Config
from pipeline.errors import LockedError, RelookError, UsageError
from pipeline.stores import Index, IndexWriter
from pipeline.stores.index.shards import ShardPlan, Shards, state_of
from pipeline.workflow.indexing.changes import Changes, find_changes
from pipeline.workflow.indexing.keypoints_choice import KeypointsChoice
from pipeline.workflow.indexing.model_choice import ModelChoice
from pipeline.workflow.indexing.photos import photos_of, refuse_index_among_photos
from pipeline.workflow.indexing.removal_guard import check_removed
from pipeline.workflow.indexing.sharding.shard_settings import common_settings
from pipeline.workflow.model_loading import read_options
from pipeline.workflow.progress import Reporter
from pipeline.workflow.requested_model import with_settings_of
from pipeline.workflow.stop import Stop

logger = logging.getLogger("relook")

# Photos of a shard, where whoever plans chooses their number: the pictures of one pass from process to process at once.
UNIT = 128

# Seconds between two looks at what the shard that plans has done.
_PAUSE = 0.5


def agree(config: Config, images: str, shards: int | None, reporter: Reporter, stop: Stop) -> ShardPlan:
    """The existing plan for these photos and this number of shards, else a new one; None: shards of `UNIT` photos.

    While another process holds the index's lock, which may be a shard that plans, it is waited for.

    Raises:
        UsageError: the plan that is there is of other photos, or of another number of shards; or a new index would be
            written among the photos.
        LockedError: `stop` had a reason before the other process had ended.
        RelookError: the index has changed since the plan was made, or as for `extract`.
    """
    refuse_index_among_photos(config.index, images)
    folder, said, source = Shards(config.index), False, absolute_source(images)
    while True:
        plan = folder.plan()
        if plan is not None:
            _check(plan, config.index, source, shards)
            return plan
        try:
            with IndexWriter(config.index) as writer:
                if folder.plan() is None:
                    _make(folder, writer, config, source, shards, reporter)
        except LockedError as error:
            if stop.reason:
                raise
            if not said:
                logger.info("%s; waiting for it", error)
            said = True
            time.sleep(_PAUSE)


def absolute_source(images: str) -> str:
    """Photos as every shard names them, wherever it runs."""
    return str(Path(images).absolute()) if Path(images).exists() else images


def is_current(plan: ShardPlan, index: Index) -> bool:
    """Whether the index has the images that the plan was made for: some commits, such as a merge, change none."""
    manifest = index.manifest
    if manifest.fingerprint != plan.fingerprint:
        return False
    return manifest.generation == plan.generation or state_of(index.records.values()) == plan.state


def _check(plan: ShardPlan, directory: Path, source: str, shards: int | None) -> None:
    place = Shards(directory).directory
    if shards is None and plan.shards != _units(plan.counts["todo"], plan.block):
        raise UsageError(
            f"{place}: divided into {plan.shards} shards by --shard; go on with that, or remove it to begin again"
        )
    if shards is not None and plan.shards != shards:
        raise UsageError(
            f"{place}: divided into {plan.shards} shards, not {shards}; give --shard K/{plan.shards}, or remove it "
            "to begin again"
        )
    if plan.source != source:
        raise UsageError(f"{place}: of the photos {plan.source}, not {source}; remove it to begin again")
    if not is_current(plan, Index(directory)):
        raise RelookError(
            f"{place}: the index has changed since the shards were begun ({plan.began}); remove it to begin again"
        )


def _make(
    folder: Shards, writer: IndexWriter, config: Config, source: str, shards: int | None, reporter: Reporter
) -> None:
    if writer.index is not None:
        config = with_settings_of(writer.index, config)
    known = writer.index.records.keys() if writer.index else ()
    catalog, unmatched = photos_of(config, source)
    keypoints = KeypointsChoice(writer, config)
    model = ModelChoice(writer, config, reporter, keypoints, change_model=False)
    model.begin(catalog)
    index = _index_of(writer)
    changes = find_changes(catalog, index.records)
    check_removed(changes.removed | changes.replaced, len(known), config.reindex.max_removed, catalog.root)
    _refuse_other_keypoints(keypoints, known, config.index)
    keypoints.begin()
    if changes.fresh.any():
        keypoints.use()
        model.describer()  # the index carries it from here on
    index, block = _index_of(writer), read_options(config).block or 1
    if shards is None:
        shards = _units(int(changes.fresh.sum()), block)
    plan = folder.begin(
        list(changes.todo(model.sample.rows if model.sample and changes.fresh[model.sample.rows].all() else ())),
        changes.revised,
        changes.removed,
        changes.replaced,
        shards=shards,
        block=block,
        source=source,
        settings=common_settings(config),
        fingerprint=index.manifest.fingerprint,
        generation=index.manifest.generation,
        state=state_of(index.records.values()),
        counts=_counts(changes, unmatched),
        failed=catalog.failed,
    )
    logger.info("%d photos, %d to describe, in %d shards", len(catalog), plan.counts["todo"], shards)


def _units(count: int, block: int) -> int:
    """The number of shards of `count` photos: whole blocks, about `UNIT` photos each."""
    return max(1, -(-count // (max(1, UNIT // block) * block)))


def _index_of(writer: IndexWriter) -> Index:
    assert writer.index is not None
    return writer.index


def _refuse_other_keypoints(keypoints: KeypointsChoice, known: Collection[str], directory: Path) -> None:
    if known and (keypoints.changing or keypoints.missing):
        raise RelookError(
            f"{directory}: other keypoints than the index's are requested, or some are missing, which shards do not "
            "mend; run relook extract without --shard first"
        )


def _counts(changes: Changes, unmatched: int) -> dict[str, int]:
    return {
        "images": len(changes.catalog),
        "todo": int(changes.fresh.sum()),
        "moved": changes.moved,
        "relabelled": changes.relabelled,
        "removed": len(changes.removed) + len(changes.replaced),
        "equal": changes.equal + changes.touched,
        "ignored": changes.catalog.ignored,
        "unmatched": unmatched,
    }
