"""One folder per class: `CLASS/photo.jpg`, or `SPLIT/CLASS/photo.jpg`; how CUB-200, Cars and many others are passed on.

One of the catalog's sources. Without folders of splits the first half of the classes, by name, is "train" and the other
half "test", as metric learning divides CUB-200 and Cars.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePosixPath

from pipeline.catalog.base import Catalog, labelled
from pipeline.catalog.folder import load_folder
from pipeline.errors import RelookError


def load_class_folders(folder: Path) -> Catalog:
    """Labels are the names of the folders that photos lie in. Raises RelookError for any other depth."""
    catalog = load_folder(folder, labels="folder")
    depths = {len(PurePosixPath(record.path).parts) for record in catalog}
    if depths not in ({2}, {3}):
        raise RelookError(f"{folder}: expected CLASS/photo or SPLIT/CLASS/photo everywhere")
    if depths == {3}:
        records = [replace(record, split=PurePosixPath(record.path).parts[0]) for record in catalog]
    else:
        classes = sorted({record.label for record in catalog})
        train = set(classes[: len(classes) // 2])
        records = [replace(record, split="train" if record.label in train else "test") for record in catalog]
    return replace(catalog, records=tuple(records))


CLASS_FOLDERS = labelled("classes", "classes", load_class_folders)
