"""The guard against a large loss: how much of an index one run may remove (`reindex.max_removed`).

Called by the engine before anything is written. `store_sync/vector_removal_guard.py` holds the same rule for a store.
"""

from __future__ import annotations

import logging
from collections.abc import Collection

from pipeline.errors import RelookError
from pipeline.files import Place

logger = logging.getLogger("relook")


def check_removed(gone: Collection[str], count: int, max_removed: float, root: Place) -> None:
    """Say how many images a run is about to remove; a large loss is an error.

    A drive that is not mounted, or half of one, looks like photos that were removed.

    Args:
        gone: their ids.
        count: images in the index.
        max_removed: the share of `count` that may be removed, from 0 to 1.
        root: the photos' folder.

    Raises:
        RelookError: it is more than that; nothing has been changed.
    """
    if not gone:
        return
    if len(gone) > max_removed * count:
        raise RelookError(
            f"{root}: {len(gone)} of {count} images are gone, the first is {min(gone)}; mount or restore what is "
            "missing, or remove them with: --max-removed 1 (relook reindex --rollback returns to the generation before)"
        )
    logger.info("%s: %d of %d images are gone and leave the index, the first is %s", root, len(gone), count, min(gone))
