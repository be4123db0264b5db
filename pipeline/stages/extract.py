"""`extract`: photos to descriptors in an index directory.

First verb of the flow. The engine is that of `reindex`; what differs is in its policy: the index's model stays, and no
other store is written.
"""

from __future__ import annotations

from pipeline.config import Config
from pipeline.errors import UsageError
from pipeline.workflow.indexing.engine import EXTRACT, SyncSummary, sync_index
from pipeline.workflow.progress import Reporter, Silent
from pipeline.workflow.stop import Stop


def extract(
    config: Config, images: str | None = None, reporter: Reporter | None = None, stop: Stop | None = None
) -> SyncSummary:
    """Describe a collection; run again, only what changed is described.

    Args:
        config: see `sync_index`.
        images: a folder, a manifest, or NAME:FOLDER of a data set; None: `catalog.images`.
        reporter: told about the progress.
        stop: checked between two photos.

    Raises:
        UsageError: no photos are given.
        RelookError: see `sync_index`.
    """
    images = images or config.catalog.images
    if images is None:
        raise UsageError("no photos are given; write: relook extract PHOTOS, or set catalog.images")
    return sync_index(EXTRACT, config, images, reporter or Silent(), stop or Stop())
