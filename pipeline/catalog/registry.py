"""Which loader reads what the user points at: a folder, a manifest, or NAME:FOLDER for a published data set.

The way into this room. A new data set is one file in this room and one line here.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from pipeline.catalog.base import Catalog
from pipeline.catalog.folder import load_folder
from pipeline.catalog.grocery import load_grocery
from pipeline.catalog.manifest import SUFFIXES, load_manifest
from pipeline.errors import RelookError, unknown_name

DATASETS: dict[str, Callable[[Path], Catalog]] = {
    "grocery": load_grocery,
}


def load_catalog(source: str, labels: Literal["none", "folder"] = "none") -> Catalog:
    """Find out which images exist.

    Args:
        source: a folder, a manifest ending in .csv or .parquet, or NAME:FOLDER with a name of `DATASETS`.
        labels: for a folder, whether the name of the folder a picture lies in is its label.

    Raises:
        RelookError: there is nothing there, or it is not what it should be.
        UsageError: NAME is unknown.
    """
    try:
        return _load(source, labels)
    except (OSError, RuntimeError) as error:  # a folder above it is closed to us, the name is too long, ~NAME is nobody
        raise RelookError(f"{source}: {getattr(error, 'strerror', None) or error}") from None


def _load(source: str, labels: Literal["none", "folder"]) -> Catalog:
    path = Path(source).expanduser()
    if path.is_dir():
        return load_folder(path, labels)
    if path.exists():
        if path.suffix.lower() not in SUFFIXES:
            raise RelookError(f"{source}: expected a folder or a manifest ending in {' or '.join(SUFFIXES)}")
        return load_manifest(path)
    name, colon, folder = source.partition(":")
    if colon and "/" not in name:
        if name not in DATASETS:
            raise unknown_name("data set", name, DATASETS)
        return DATASETS[name](Path(folder).expanduser())
    raise RelookError(f"{source}: no such folder or manifest")
