"""A folder of photos in a bucket: what lies below a prefix.

One of the catalog's sources. Ids, labels, order and what is left out are those of the same folder on a disk, so an
index of the one is an index of the other. One listing says all sizes and times: no object is looked up alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from pipeline.catalog.base import Catalog, checked
from pipeline.catalog.folder import picture_record
from pipeline.catalog.image_manifest import SUFFIXES
from pipeline.catalog.picture_names import PictureNames
from pipeline.config import EXCLUDE
from pipeline.errors import RelookError
from pipeline.files import ObjectPath


def load_bucket(
    place: ObjectPath, labels: Literal["none", "folder"] = "none", exclude: Sequence[str] | None = EXCLUDE
) -> Catalog:
    """Every picture below a prefix; arguments as in `load_folder`.

    Raises:
        RelookError: there is no such bucket or folder, it cannot be listed, or it holds no pictures.
    """
    if place.key.lower().endswith(SUFFIXES):
        raise RelookError(f"{place}: a table in a bucket is not read; give the folder of photos, or download the table")
    try:
        listed = dict(place.below())
    except FileNotFoundError:
        raise RelookError(f"{place}: no such folder; there is no object whose name begins with it") from None
    names = _sorted_out(listed, exclude or ())
    names.report(place, bool(names.pictures))
    if not names.pictures:
        raise RelookError(f"{place}: holds no images{'; ' + names.ignored_text if names.ignored else ''}")
    paths = sorted(names.pictures)
    return checked(
        place,
        (picture_record(path, labels) for path in paths),
        str(place),
        names.ignored.total(),
        outside="allow",  # these paths were met there
        listed={path: listed[path] for path in paths},
    )


def _sorted_out(paths: Iterable[str], exclude: Sequence[str]) -> PictureNames:
    """As a walk through folders does: what lies in one that is left out is not looked at."""
    found = PictureNames(exclude)
    folders = {"": True}  # whether each is looked into, by its path with a slash at the end

    def is_open(folder: str) -> bool:
        if folder not in folders:
            above, _, name = folder.removesuffix("/").rpartition("/")
            above = f"{above}/" if above else ""
            folders[folder] = is_open(above) and bool(found.kept(above, [name]))
        return folders[folder]

    for path in paths:
        above, slash, name = path.rpartition("/")
        if is_open(above + slash) and found.kept(above + slash, [name]):
            found.take(path)
    return found
