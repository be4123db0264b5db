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

NOT_UTF8 = "its name is not UTF-8; rename the file"

# HEIC, JPEG XL and the raw files of cameras: without the extra that reads them they are failures that name it.
_HEIC_AND_JXL = {".heic", ".heif", ".hif", ".jxl"}
_RAW = {".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".iiq", ".kdc", ".mef", ".mos", ".mrw", ".nef"}
_RAW |= {".nrw", ".orf", ".pef", ".raf", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f"}
_BY_EXTRAS = frozenset(_HEIC_AND_JXL | _RAW)


def load_folder(folder: Path, labels: Literal["none", "folder"] = "none") -> Catalog:
    """Every picture below `folder`; hidden files and folders are left out, links to folders are not followed.

    A name that is not UTF-8 cannot stand in any table: such a picture is among the catalog's `failed`.

    Args:
        folder: where to look.
        labels: "folder" takes the name of the folder that a picture lies in as its label.

    Raises:
        RelookError: there is no such folder, it or one below cannot be read, or it holds no pictures.
    """
    if not folder.is_dir():
        raise RelookError(f"{folder}: no such folder")
    paths, ignored = [], 0
    # A folder below that is closed ends the run: going on would take its pictures for removed.
    for directory, folders, files in os.walk(folder, onerror=_refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        ignored += sum((Path(directory) / name).is_symlink() for name in folders)
        for name in files:
            if name.startswith("."):
                continue
            if Path(name).suffix.lower() in _suffixes():
                paths.append((Path(directory) / name).relative_to(folder))
            else:
                ignored += 1
    records, failed = [], []
    for path in sorted(paths, key=lambda path: path.as_posix()):
        name = printable(path)
        if name == path.as_posix():
            records.append(ImageRecord(id=name, path=name, label=_label(path, labels)))
        else:
            failed.append((name, name, NOT_UTF8))
    return checked(folder, records, str(folder), ignored, failed, outside="allow")  # these paths were met there


def _label(path: Path, labels: str) -> str:
    return path.parent.name if labels == "folder" else ""


def printable(path: Path) -> str:
    """The path as text; with "\\xe9" for a byte that is no UTF-8."""
    return os.fsencode(path.as_posix()).decode("utf-8", "backslashreplace")


@cache
def _suffixes() -> frozenset[str]:
    """File endings of what Pillow can open, of stereo pairs, which it opens as JPEG, and of what needs an extra;
    documents and films that merely hold pictures are left out."""
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
    known = {ext for ext, name in extensions.items() if name in Image.OPEN}
    return frozenset(known | _BY_EXTRAS | {".mpo"}) - no_photos


def _refuse(error: OSError) -> None:
    raise RelookError(f"{error.filename}: {error.strerror}")
