"""`export`: global descriptors of an index as .npz, .npy, .parquet or .csv, local ones as AMES's code reads them.

Beside import, which reads the CSV and AMES's HDF5. What a format cannot hold is refused: AMES's files have no place for
descriptors that are projected or have no positions.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.config import Config
from pipeline.errors import RelookError, UsageError
from pipeline.stores import Index
from pipeline.stores.exchange.ames import OfficialPlaces, write_ames
from pipeline.stores.exchange.vectors import write_vectors

_BLOCK = 64
_LOCALS_ENDINGS = (".hdf5", ".h5")


@dataclass(frozen=True)
class ExportResult:
    """Where it went, and its shape.

    Attributes:
        file: what was written.
        images: N.
        count: k, local descriptors per image; 0 for global descriptors.
        dimension: D of the descriptors.
        seconds: of the run.
    """

    file: str
    images: int
    count: int
    dimension: int
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def export_globals(config: Config, target: Path) -> ExportResult:
    """Write the global descriptors of `config.index` to `target`; its ending chooses the format (`write_vectors`).

    Raises:
        UsageError: an unknown ending.
        RelookError: there is no index, it is damaged, or the file cannot be written.
    """
    started = time.monotonic()
    index = Index(config.index)
    count = write_vectors(target, index)
    return ExportResult(str(target), count, 0, index.card.dimension, round(time.monotonic() - started, 2))


def export_locals(
    config: Config, target: Path, count: int | None = None, official_places: bool = False
) -> ExportResult:
    """Write the local descriptors of `config.index` to `target`.

    Args:
        config: `index` matters here.
        target: an HDF5 file (.hdf5 or .h5); it is replaced.
        count: k, the strongest ones kept of each image; None: as many as the image with most has.
        official_places: positions are row before column, as AMES's code extracts them: in pixels from the corner of
            what was described where `describe.locals.places` is corner (CVNet), else in fractions of it (DINOv2).

    Raises:
        UsageError: another ending.
        RelookError: the index has no local descriptors, or such as the format cannot hold.
    """
    started = time.monotonic()
    if target.suffix.lower() not in _LOCALS_ENDINGS:
        raise UsageError(
            f"{target}: local descriptors are written as HDF5 ({' or '.join(_LOCALS_ENDINGS)}); for global ones run: "
            f"relook export globals {target}"
        )
    index = Index(config.index)
    card = index.card.locals
    if not index.card.local_dimension or not index.records:
        raise RelookError(f"{config.index}: has no local descriptors; extract with --set describe.locals.count=50")
    if card.projection:
        raise RelookError(f"{config.index}: its local descriptors are projected; AMES's files hold unprojected ones")
    if not card.geometry:
        raise RelookError(
            f"{config.index}: has no positions of local descriptors; extract with --set describe.locals.geometry=true"
        )
    ids = list(index.records)
    blocks = [ids[start : start + _BLOCK] for start in range(0, len(ids), _BLOCK)]
    with index.local_store:
        if count is None:
            count = max(len(image) for block in blocks for image in index.locals(block))
        images = (image for block in blocks for image in index.locals(block))
        places = _official_places(index) if official_places else None
        write_ames(target, ids, images, max(1, count), list(card.scales) or [1.0], places)
    seconds = round(time.monotonic() - started, 2)
    return ExportResult(str(target), len(ids), max(1, count), index.card.local_dimension, seconds)


def _official_places(index: Index) -> Iterator[OfficialPlaces]:
    """How AMES's code writes the positions of each image, in the order of the index."""
    fractions = index.card.locals.places == "centre"
    return (OfficialPlaces(record.width, record.height, record.bbox, fractions) for record in index.records.values())
