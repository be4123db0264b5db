"""The photos of a run, with their labels.

Between the catalog and whatever compares it with an index.
"""

from __future__ import annotations

from pipeline.catalog import Catalog, load_catalog
from pipeline.catalog.labels_file import apply_labels
from pipeline.config import Config


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
