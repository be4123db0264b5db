"""A folder of photos, searched to any depth.

One of the catalog's sources; ids are the paths below the folder, with forward slashes, sorted. What is left out or
ignored is counted and logged. A folder in a bucket is the same: see `bucket`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Literal

from pipeline.catalog.base import Catalog, checked
from pipeline.catalog.picture_names import PictureNames
from pipeline.config import EXCLUDE
from pipeline.errors import RelookError
from pipeline.types import ImageRecord

NOT_UTF8 = "its name is not UTF-8; rename the file"


def load_folder(
    folder: Path, labels: Literal["none", "folder"] = "none", exclude: Sequence[str] | None = EXCLUDE
) -> Catalog:
    """Every picture below `folder`; links to folders are not followed.

    A name that is not UTF-8 cannot be in any table: such a picture is among the catalog's `failed`.

    Args:
        folder: where to look.
        labels: "folder" takes the name of the folder that a picture lies in as its label.
        exclude: patterns of files and folders that are left out, in upper or lower case; one with a / is compared with
            the path below `folder`, others with the name. None: nothing is left out.

    Raises:
        RelookError: there is no such folder, it or one below that is not left out cannot be read, or it holds no
            pictures; the message counts what was ignored.
    """
    if not folder.is_dir():
        raise RelookError(f"{folder}: no such folder")
    names = _walk(folder, exclude or ())
    records, failed = [], []
    for path in sorted(names.pictures):
        name = printable(Path(path))
        if name == path:
            records.append(picture_record(name, labels))
        else:
            failed.append((name, name, NOT_UTF8))
    names.report(folder, bool(records or failed))
    if not records and not failed:
        raise RelookError(f"{folder}: holds no images{'; ' + names.ignored_text if names.ignored else ''}")
    count = names.ignored.total()
    return checked(folder, records, str(folder), count, failed, outside="allow")  # these paths were met there


def picture_record(path: str, labels: Literal["none", "folder"]) -> ImageRecord:
    """The record of a picture at a path below the root."""
    return ImageRecord(id=path, path=path, label=PurePosixPath(path).parent.name if labels == "folder" else "")


def printable(path: Path) -> str:
    """The path as text; with "\\xe9" for a byte that is not UTF-8."""
    return os.fsencode(path.as_posix()).decode("utf-8", "backslashreplace")


def _walk(folder: Path, exclude: Sequence[str]) -> PictureNames:
    """What lies below a folder."""
    found = PictureNames(exclude)
    # A folder that cannot be read ends the run: going on would take its pictures for removed.
    for directory, folders, files in os.walk(folder, onerror=_refuse):
        place = Path(directory)
        below = "" if place == folder else f"{place.relative_to(folder).as_posix()}/"
        folders[:] = found.kept(below, folders)
        found.ignored["links to folders"] += sum((place / name).is_symlink() for name in folders)
        for name in found.kept(below, files):
            found.take(below + name)
    found.ignored += type(found.ignored)()  # drops what was not met
    return found


def _refuse(error: OSError) -> None:
    raise RelookError(
        f"{error.filename}: {error.strerror}; its photos would count as removed: make it readable, or leave it out "
        "with catalog.exclude"
    )
