"""The photos of a run, with their labels.

Between the catalog and whatever compares it with an index.
"""

from __future__ import annotations

from pathlib import Path

from pipeline.catalog import Catalog, load_catalog
from pipeline.catalog.labels_file import apply_labels
from pipeline.config import Config
from pipeline.errors import UsageError
from pipeline.stores.index.manifest import NAME


def photos_of(config: Config, images: str) -> tuple[Catalog, int]:
    """The catalog, and how many rows of the labels file name none of its photos.

    Args:
        config: `catalog` matters here.
        images: a folder, a manifest, or NAME:FOLDER of a data set.

    Raises:
        RelookError: there are no images, or the labels cannot be read.
    """
    settings = config.catalog
    catalog = load_catalog(images, **settings.options)
    return (catalog, 0) if settings.labels_file is None else apply_labels(catalog, settings.labels_file)


def refuse_index_among_photos(index: Path, images: str) -> None:
    """Raises UsageError where a new index would be written among the photos: it has files, and removes some again."""
    photos = Path(images)
    if photos.is_dir() and index.is_dir() and index.samefile(photos) and not (index / NAME).exists():
        raise UsageError(f"--index {index}: this is the folder of the photos; name another one, such as {index}-index")
