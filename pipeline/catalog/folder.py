"""A folder of photos, searched to any depth.

One of the catalog's sources; ids are the paths below the folder, with forward slashes, sorted.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Literal

from PIL import Image

from pipeline.catalog.base import Catalog, checked
from pipeline.errors import RelookError
from pipeline.types import ImageRecord


def load_folder(folder: Path, labels: Literal["none", "folder"] = "none") -> Catalog:
    """Every picture below `folder`; hidden files and folders are left out, links to folders are not followed.

    Args:
        folder: where to look.
        labels: "folder" takes the name of the folder that a picture lies in as its label.

    Raises:
        RelookError: there is no such folder, it cannot be read, it holds no pictures, or a name is not UTF-8.
    """
    if not folder.is_dir():
        raise RelookError(f"{folder}: no such folder")
    paths, ignored = [], 0
    for directory, folders, files in os.walk(folder, onerror=_refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if name.startswith("."):
                continue
            if Path(name).suffix.lower() in _suffixes():
                paths.append(_storable((Path(directory) / name).relative_to(folder), folder))
            else:
                ignored += 1
    records = [
        ImageRecord(id=path.as_posix(), path=path.as_posix(), label=_label(path, labels))
        for path in sorted(paths, key=lambda path: path.as_posix())
    ]
    return checked(folder, records, str(folder), ignored)


def _label(path: Path, labels: str) -> str:
    return path.parent.name if labels == "folder" else ""


def _storable(path: Path, folder: Path) -> Path:
    try:
        path.as_posix().encode()
    except UnicodeEncodeError:
        raise RelookError(f"{folder}: the file name {str(path)!r} is not valid UTF-8; rename the file") from None
    return path


@cache
def _suffixes() -> frozenset[str]:
    """File endings of the formats that Pillow can open, documents and films that merely hold pictures left out."""
    no_photos = {
        ".pdf",
        ".eps",
        ".ps",
        ".mpg",
        ".mpeg",
        ".psd",
        ".wmf",
        ".emf",
        ".h5",
        ".hdf",
        ".hdf5",
        ".grib",
    }
    extensions = Image.registered_extensions()
    return frozenset(ext for ext, name in extensions.items() if name in Image.OPEN) - no_photos


def _refuse(error: OSError) -> None:
    raise RelookError(f"{error.filename}: {error.strerror}")
