"""`compact`: fold small parts of an index and drop its deleted rows.

Works on the index alone, without a photo or a network; `reindex` does it by itself as far as a nightly run needs it.
"""

from __future__ import annotations

from pipeline.config import Config
from pipeline.workflow.indexing.maintenance import MaintenanceResult, maintain
from pipeline.workflow.stop import Stop


def compact(config: Config, wait: float = 0.0, stop: Stop | None = None) -> MaintenanceResult:
    """Fold small parts and drop deleted rows. Raises LockedError, or RelookError when there is no index."""
    return maintain(config, "compact", wait, stop)
