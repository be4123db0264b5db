"""What a user searches with, as queries: photos, manifests, folders and stdin of the command line; pictures of Python.

Before `queries.py`, which describes them.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from pipeline.catalog import Catalog, load_catalog
from pipeline.catalog.base import refuse_url
from pipeline.catalog.folder import NOT_UTF8, printable
from pipeline.catalog.image_manifest import SUFFIXES
from pipeline.config import Config, expand_argument
from pipeline.errors import UsageError
from pipeline.files import ObjectPath, Place, object_path
from pipeline.imaging import Picture, check_pixels
from pipeline.types import Box, ImageRecord

STDIN = "-"
# What stores keep beside each vector.
_FILTERED = ("label", "path", "split")


@dataclass(frozen=True)
class Query:
    """One query: a picture to describe, the id of an image of the index, or images of the index that it is like.

    Attributes:
        name: what results call it.
        picture: what is described; None for an image of the index.
        id: of the image of the index; "" for a picture.
        label: what it shows; "" if unknown.
        bbox: x0, y0, x1, y1 in pixels of the upright picture: only this part is described. None: all of it.
        like, unlike: ids of images of the index that it moves towards and away from (`rerank.classics.rocchio`).
        error: why it cannot be searched, where that is known before it is read; "" otherwise.
    """

    name: str
    picture: Picture | None = None
    id: str = ""
    label: str = ""
    bbox: Box | None = None
    error: str = ""
    like: tuple[str, ...] = ()
    unlike: tuple[str, ...] = ()

    @property
    def file(self) -> Place | None:
        """The photo's file or object, where it is one."""
        return self.picture if isinstance(self.picture, Path | ObjectPath) else None

    @property
    def stored_id(self) -> str:
        """The image of the index that it is described by: its id, or the first that it is like; "" for a picture."""
        if self.picture is not None:
            return ""
        return self.id or (self.like[0] if self.like else "")


def query_of(image: Any, bbox: Sequence[float] | None = None) -> Query:
    """A query from Python.

    Args:
        image: a path, encoded bytes, a Pillow image, or pixels [H, W, 3] uint8 RGB.
        bbox: see `Query.bbox`.

    Raises:
        UsageError: it is something else, or the box is none.
        ImageError: an array of another shape or type.
    """
    box = None if bbox is None else checked_box(bbox)
    if isinstance(image, str):
        place = object_path(image)
        if place is not None:
            return Query(str(place), place, bbox=box)
        refuse_url(image)
        return Query(image, Path(expand_argument(image)), bbox=box)
    if isinstance(image, Path):
        return Query(str(image), Path(expand_argument(str(image))), bbox=box)
    if isinstance(image, bytes | bytearray | memoryview):
        return Query("<bytes>", bytes(image), bbox=box)
    if isinstance(image, Image.Image):
        return Query("<image>", image, bbox=box)
    if isinstance(image, np.ndarray):
        check_pixels(image, "<array>")
        return Query("<array>", image, bbox=box)
    raise UsageError(
        f"image: {type(image).__name__}; expected a path, bytes, a Pillow image, an array [H, W, 3] of uint8, "
        "or a list of these"
    )


def queries_of_sources(sources: Sequence[str], config: Config, bbox: Sequence[float] | None = None) -> list[Query]:
    """The queries of the command line.

    Args:
        sources: photos, folders, manifests, or "-" for an encoded picture on stdin.
        config: `catalog` matters here.
        bbox: of every query that does not bring one.

    Raises:
        RelookError: a URL; a manifest or a folder that cannot be read.
    """
    box = None if bbox is None else checked_box(bbox)
    queries: list[Query] = []
    for source in sources:
        if source == STDIN:
            queries.append(Query(STDIN, sys.stdin.buffer.read(config.describe.image.max_bytes + 1)))
            continue
        place = object_path(source)
        if place is not None:
            queries += _queries_of_bucket(place, config)
            continue
        catalog = catalog_of(source, config)
        queries += [Query(path, error=reason) for _, path, reason in catalog.failed]
        queries += [Query(one.path, Path(one.path), label=one.label, bbox=one.bbox) for one in catalog]
    return [query if query.bbox or query.error else replace(query, bbox=box) for query in queries]


def _queries_of_bucket(place: ObjectPath, config: Config) -> list[Query]:
    """An object alone, whose name has the ending of a file, or every picture of a folder."""
    if PurePosixPath(place.key).suffix:
        return [Query(str(place), place)]
    catalog = load_catalog(place.url, **config.catalog.options)
    return [Query(str(catalog.file(one)), catalog.file(one), label=one.label) for one in catalog]


def with_feedback(queries: Sequence[Query], like: Sequence[str], unlike: Sequence[str]) -> list[Query]:
    """The queries, each moved towards and away from images of the index; without any, one that is like them.

    Raises:
        UsageError: there is nothing but images that the results should be unlike; or a text in place of a list.
    """
    for key, value in (("like", like), ("unlike", unlike)):
        if isinstance(value, str):
            raise UsageError(f"{key} = {value!r}: expected a list of ids, such as [{value!r}]")
    if not like and not unlike:
        return list(queries)
    if not queries and not like:
        raise UsageError("unlike: give a query or an image that it should be like as well")
    given = queries or [Query(f"like {', '.join(like)}")]
    return [replace(query, like=tuple(like), unlike=tuple(unlike)) for query in given]


def catalog_of(source: str, config: Config) -> Catalog:
    """A photo alone, or a folder or a manifest of them; paths are absolute, or start from the current folder.

    Raises:
        RelookError: it is a URL, or cannot be read.
    """
    refuse_url(source)
    path = Path(source)
    if not path.is_dir() and path.suffix.lower() not in SUFFIXES:
        name = printable(path)
        if name != path.as_posix():
            return Catalog(path.parent, (), failed=((name, name, NOT_UTF8),))
        return Catalog(path.parent, (ImageRecord(id=source, path=str(path)),))
    catalog = load_catalog(source, outside=config.catalog.outside, exclude=config.catalog.exclude)
    records = [
        ImageRecord(id=record.id, path=str(catalog.file(record)), label=record.label, bbox=record.bbox)
        for record in catalog
    ]
    return replace(catalog, records=records)


def checked_box(box: Sequence[float]) -> Box:
    """The box as four numbers. Raises UsageError where it is none, or has no area."""
    try:
        x0, y0, x1, y1 = (float(value) for value in box)
    except (TypeError, ValueError):
        raise UsageError(f"bbox = {box!r}: expected four numbers, x0, y0, x1, y1 in pixels") from None
    if not all(map(math.isfinite, (x0, y0, x1, y1))) or x0 >= x1 or y0 >= y1:
        raise UsageError(f"bbox = {(x0, y0, x1, y1)}: x0 must be below x1, and y0 below y1")
    return (x0, y0, x1, y1)


def checked_filter(where: Mapping[str, str | Sequence[str]] | None) -> dict[str, list[str]] | None:
    """The filter with lists of texts as values. Raises UsageError for a key that stores do not keep, or no text."""
    if where is None:
        return None
    checked: dict[str, list[str]] = {}
    for key, values in where.items():
        if key not in _FILTERED:
            raise UsageError(f"where: unknown key {key!r}; known: {', '.join(_FILTERED)}")
        checked[key] = [values] if isinstance(values, str) else list(values)
        wrong = [value for value in checked[key] if not isinstance(value, str)]
        if wrong:
            raise UsageError(f"where: {key} = {wrong[0]!r}; values are texts, such as {str(wrong[0])!r}")
    return checked
