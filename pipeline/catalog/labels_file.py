"""Labels that lie over a folder: a table of path and label beside photos that are found by walking.

So a nightly run finds new photos and keeps the labels of the others. Read like a manifest; no photo is described again
for another label.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path, PurePosixPath

from pipeline.catalog.base import Catalog
from pipeline.catalog.image_manifest import load_manifest
from pipeline.errors import RelookError
from pipeline.files import ObjectPath, Place
from pipeline.types import ImageRecord

logger = logging.getLogger("relook")


def apply_labels(catalog: Catalog, file: Path) -> tuple[Catalog, int]:
    """Give photos the labels of a table.

    Args:
        catalog: the photos.
        file: CSV or Parquet with columns `path` and `label`; paths are relative to the photos' folder, or to the file's
            own, or absolute.

    Returns:
        The catalog with these labels, where photos without a row keep the label that they had; and how many rows name
        no photo, which is also said.

    Raises:
        RelookError: the table cannot be read, it has no label, or none of its rows names a photo.
    """
    rows = load_manifest(file, outside="allow")
    if not any(row.label for row in rows):
        raise RelookError(f"{file}: has no labels; expected the columns path and label")
    known = {record.path for record in catalog}
    labels, unknown = {}, []
    for row in rows:
        path = next((path for path in _candidates(catalog.root, file, row) if path in known), None)
        if path is None:
            unknown.append(row.path)
        else:
            labels[path] = row.label
    if not labels:
        raise RelookError(
            f"{file}: none of its {len(unknown)} rows names a photo of {catalog.root}, the first is {unknown[0]!r}; "
            "paths are relative to that folder"
        )
    if unknown:
        logger.warning("%s: %d rows name no photo of %s, the first is %s", file, len(unknown), catalog.root, unknown[0])
    records = tuple(replace(record, label=labels.get(record.path, record.label)) for record in catalog)
    return replace(catalog, records=records), len(unknown)


def _candidates(root: Place, file: Path, row: ImageRecord) -> list[str]:
    """The paths in the photos' folder that a row may mean."""
    found = [] if PurePosixPath(row.path).is_absolute() else [row.path]
    if isinstance(root, ObjectPath):
        return found
    absolute = file.absolute().parent / row.path
    below = [base for base in (absolute, absolute.resolve()) if base.is_relative_to(root)]
    return [*found, *(base.relative_to(root).as_posix() for base in below)]
