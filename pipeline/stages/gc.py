"""`gc`: remove earlier generations of an index and what killed runs left.

Works on the index alone, without a photo or a network; `reindex` does it by itself as far as a nightly run needs it.
"""

from __future__ import annotations

from pipeline.config import Config
from pipeline.workflow.indexing.maintenance import MaintenanceResult, maintain
from pipeline.workflow.stop import Stop


def gc(config: Config, wait: float = 0.0, stop: Stop | None = None) -> MaintenanceResult:
    """Forget generations beyond `reindex.keep` and remove their files. Raises as `compact` does."""
    return maintain(config, "gc", wait, stop)
