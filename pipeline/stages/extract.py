"""`extract`: photos to descriptors in an index directory.

First verb of the flow. The engine is that of `reindex`; what differs is in its policy: the index's model stays, and no
other store is written. A large collection is divided into shards, which describe apart and are joined in the end.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from pipeline.config import Config
from pipeline.errors import UsageError
from pipeline.workflow.bucket_index import shown_index, working_copy
from pipeline.workflow.indexing.engine import EXTRACT, SyncSummary, sync_index
from pipeline.workflow.indexing.sharding.joining import join_shards
from pipeline.workflow.indexing.sharding.shard_run import ShardSummary, run_shard
from pipeline.workflow.progress import Reporter, Silent
from pipeline.workflow.shares import parse_shard
from pipeline.workflow.stop import Stop

Engine = Literal["here", "ray"]


def extract(
    config: Config,
    images: str | None = None,
    reporter: Reporter | None = None,
    stop: Stop | None = None,
    *,
    engine: Engine = "here",
) -> SyncSummary:
    """Describe a collection; run again, only what changed is described.

    Args:
        config: see `sync_index`.
        images: a folder, a manifest, or NAME:FOLDER of a data set; None: `catalog.images`.
        reporter: told about the progress.
        stop: checked between two photos.
        engine: "here" is this process; "ray" is a Ray cluster, see `extract_with_ray`.

    Raises:
        UsageError: no photos are given.
        LockedError: of an index in a bucket, another run has published meanwhile; see `working_copy`.
        RelookError: see `sync_index`.
    """
    if engine == "ray":
        from pipeline.workflow.indexing.sharding.ray_engine import extract_with_ray

        return extract_with_ray(config, _given(config, images), reporter or Silent(), stop or Stop())
    images = _given(config, images)
    with working_copy(config) as copy:
        summary = sync_index(EXTRACT, copy, images, reporter or Silent(), stop or Stop())
    return replace(summary, index=shown_index(config))


def extract_shard(
    config: Config,
    shard: str,
    images: str | None = None,
    reporter: Reporter | None = None,
    stop: Stop | None = None,
) -> ShardSummary:
    """Describe one shard of a collection, beside other processes that describe the others.

    Args:
        config, images, reporter, stop: see `extract`.
        shard: "K/N".

    Raises:
        UsageError: no photos are given, or see `run_shard`.
        RelookError: see `run_shard`.
    """
    number, count = parse_shard(shard)
    return run_shard(config, _given(config, images), number, count, reporter or Silent(), stop or Stop())


def join(config: Config) -> SyncSummary:
    """Commit what all shards described. Raises RelookError: see `join_shards`."""
    return join_shards(config)


def _given(config: Config, images: str | None) -> str:
    images = images or config.catalog.images
    if images is None:
        raise UsageError("no photos are given; write: relook extract PHOTOS, or set catalog.images")
    return images
