"""`upload`: the index's global descriptors to a vector store.

Second verb of the flow. The built-in table is the index itself: nothing has to be sent, so what is left is to verify
it.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.config import Config
from pipeline.errors import RelookError
from pipeline.stages.opening import open_gallery


@dataclass(frozen=True)
class UploadResult:
    """What an upload did; counts are of vectors."""

    store: str
    added: int
    changed: int
    removed: int
    equal: int
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Plain values, for `--json`."""
        return asdict(self)


def upload(config: Config) -> UploadResult:
    """Bring the store to the state of the index.

    Raises:
        RelookError: the index is damaged, or the store does not hold what the index does.
    """
    started = time.monotonic()
    gallery = open_gallery(config)
    wrong = gallery.index.verify()
    if wrong:
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise RelookError(f"{wrong[0]}{more}; extract into a new --index")
    here, there = set(gallery.index.records), set(gallery.store.ids())
    if here != there:
        raise RelookError(
            f"the store has {len(there - here)} ids that the index lacks and lacks {len(here - there)} that it has"
        )
    seconds = round(time.monotonic() - started, 2)
    return UploadResult(config.store.kind, added=0, changed=0, removed=0, equal=len(there), seconds=seconds)
