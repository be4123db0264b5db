"""A manifest of images: a table with a column `path`, and optionally id, label, split and bbox.

One of the catalog's sources; labels files and queries in tables are read with it too. Paths are relative to the folder
of the manifest; an empty label is a distractor; bbox is "x0 y0 x1 y1" in pixels of the upright original. A manifest may
come from anybody: what it says is text, of bounded length, that leads to no other place.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.catalog.base import Catalog, Outside, checked
from pipeline.catalog.header_names import IMAGE_COLUMNS
from pipeline.catalog.table_reader import SUFFIXES, is_table, read_table
from pipeline.errors import RelookError
from pipeline.types import Box, ImageRecord

__all__ = ["SUFFIXES", "is_table", "load_manifest"]

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|data:", re.ASCII)
# What PurePosixPath would write otherwise: // and . within a path, and / at its end.
_UNTIDY = re.compile(r"//|(?:^|/)\.(?:/|$)|/$")


def load_manifest(file: Path, outside: Outside = "refuse") -> Catalog:
    """Read a manifest.

    Args:
        file: the table, or a folder of Parquet files as Spark writes it.
        outside: whether paths may lead out of the manifest's folder.

    Raises:
        RelookError: it is no table or not strictly well formed, it has no column for `path`, it has a duplicate id, or
            a cell is not what it should be: an empty path, a URL, a path that leads out of the folder, too long a
            text, a bad bbox.
    """
    return checked(file.parent, _records(file), str(file), outside=outside)


def _records(source: Path) -> Iterator[ImageRecord]:
    shared: dict[str, str] = {}  # one object for the equal labels and splits of many rows
    for file, number, (path, name, label, split, bbox) in read_table(source, IMAGE_COLUMNS):
        if "\\" in path:
            path = path.replace("\\", "/")
        if not path:
            raise RelookError(f"{file}, row {number}: the path is empty")
        if ":" in path and _URL.match(path):
            raise RelookError(
                f"{file}, row {number}: the path {path[:60]!r} is a URL; relook reads files, download it first"
            )
        if _UNTIDY.search(path):
            path = str(PurePosixPath(path))
        box = None if bbox is None or bbox == "" else _box(bbox, f"{file}, row {number}")
        label, split = shared.setdefault(label, label), shared.setdefault(split, split)
        yield ImageRecord(name or path, path, label, split, box)


def _box(value: Any, where: str) -> Box | None:
    """Four numbers, as a text or a list; None for the NaN that pandas writes into an empty cell."""
    if isinstance(value, float) and math.isnan(value):
        return None
    try:
        parts = value.replace(",", " ").split() if isinstance(value, str) else value
        x0, y0, x1, y1 = (float(part) for part in parts)
    except (TypeError, ValueError):
        raise RelookError(f"{where}: bbox {value!r} is not four numbers x0 y0 x1 y1") from None
    if not (math.isfinite(x0 + y0 + x1 + y1) and x1 > x0 and y1 > y0):
        raise RelookError(f"{where}: bbox {value!r} is empty; it is x0 y0 x1 y1 in pixels")
    return (x0, y0, x1, y1)
