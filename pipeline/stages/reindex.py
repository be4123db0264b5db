"""`reindex`: index and store to the state of the photos, by the smallest work; made to be run from cron.

The nightly verb. The engine is that of `extract`; what differs is in its policy: it changes the index's model where the
configuration requests another one, fills the store, and removes what no kept generation needs.
"""

from __future__ import annotations

from dataclasses import replace

from pipeline.config import Config
from pipeline.errors import UsageError
from pipeline.workflow.bucket_index import shown_index, working_copy
from pipeline.workflow.indexing.engine import REINDEX, SyncSummary, sync_index
from pipeline.workflow.progress import Reporter, Silent
from pipeline.workflow.stop import Stop


def reindex(
    config: Config,
    images: str | None = None,
    reporter: Reporter | None = None,
    stop: Stop | None = None,
    *,
    wait: float = 0.0,
    check_content: bool = False,
    promote: bool = False,
) -> SyncSummary:
    """Bring index and store up to date.

    Args:
        config: see `sync_index`.
        images: a folder, a manifest, or NAME:FOLDER of a data set; None: `catalog.images`.
        reporter, stop, wait, check_content, promote: see `sync_index`.

    Raises:
        UsageError: no photos are given.
        LockedError: another run holds the lock for longer than `wait`.
        RelookError: see `sync_index`.
    """
    images = images or config.catalog.images
    if images is None:
        raise UsageError("which photos? give --images, or catalog.images in the configuration")
    with working_copy(config) as copy:
        summary = sync_index(
            REINDEX,
            copy,
            images,
            reporter or Silent(),
            stop or Stop(),
            wait=wait,
            check_content=check_content,
            promote=promote,
        )
    return replace(summary, index=shown_index(config))
