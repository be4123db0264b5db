"""`export`: local descriptors of an index in the HDF5 format that AMES's code reads.

Beside import, which reads the same format. What the format cannot say is refused: descriptors that are projected
or have no places.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.config import Config
from pipeline.errors import RelookError
from pipeline.stores import Index
from pipeline.stores.exchange.ames import write_ames

_AT_ONCE = 64


@dataclass(frozen=True)
class ExportResult:
    """Where it went, and the shape [images, count, 5 + dimension] of what was written."""

    file: str
    images: int
    count: int
    dimension: int
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def export_descriptors(config: Config, target: Path, count: int | None = None) -> ExportResult:
    """Write the local descriptors of `config.index` to `target`.

    Args:
        config: `index` matters here.
        target: an HDF5 file; it is replaced.
        count: k, the strongest ones kept of each image; None: as many as the image with most has.

    Raises:
        RelookError: the index has no local descriptors, or such as the format cannot hold.
    """
    started = time.monotonic()
    index = Index(config.index)
    settings = index.card.settings.get("locals") or {}
    if not index.card.local_dimension or not index.records:
        raise RelookError(f"{config.index}: has no local descriptors; extract with --set describe.locals.count=50")
    if settings.get("projection"):
        raise RelookError(f"{config.index}: its local descriptors are projected; AMES's files hold them as they were")
    if not settings.get("geometry", True):
        raise RelookError(f"{config.index}: has no places; extract with --set describe.locals.geometry=true")
    ids = list(index.records)
    blocks = [ids[start : start + _AT_ONCE] for start in range(0, len(ids), _AT_ONCE)]
    with index.local_store:
        if count is None:
            count = max(len(image) for block in blocks for image in index.locals(block))
        images = (image for block in blocks for image in index.locals(block))
        write_ames(target, ids, images, max(1, count), settings.get("scales") or [1.0])
    seconds = round(time.monotonic() - started, 2)
    return ExportResult(str(target), len(ids), max(1, count), index.card.local_dimension, seconds)
