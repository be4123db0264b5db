"""A table that lists images: CSV or Parquet with a column `path`, and optionally id, label, split and bbox.

One of the catalog's sources. Paths are relative to the manifest's own folder (or absolute); an empty label is a
distractor; bbox is "x0 y0 x1 y1" in pixels of the upright original. Other columns are left alone.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.catalog.base import Catalog, checked
from pipeline.errors import RelookError
from pipeline.types import Box, ImageRecord

SUFFIXES = (".csv", ".parquet")


def load_manifest(file: Path) -> Catalog:
    """Read a manifest.

    Raises:
        RelookError: no such file, not a table, no `path` column, an empty path, a bad bbox, two equal ids.
    """
    rows = _read_parquet(file) if file.suffix.lower() == ".parquet" else _read_csv(file)
    records = [_record(row, f"{file}, row {number}") for number, row in enumerate(rows, start=1)]
    return checked(file.parent, records, str(file))


def _read_csv(file: Path) -> list[Mapping[str, Any]]:
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.DictReader(lines, skipinitialspace=True)
            _require_path(file, reader.fieldnames or ())
            return list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RelookError(f"{file}: cannot be read as CSV ({error})") from None


def _read_parquet(file: Path) -> list[Mapping[str, Any]]:
    try:
        table = pq.read_table(file)
    except (OSError, pa.ArrowException) as error:
        raise RelookError(f"{file}: cannot be read as Parquet ({error})") from None
    _require_path(file, table.column_names)
    rows: list[Mapping[str, Any]] = table.to_pylist()
    return rows


def _require_path(file: Path, columns: Iterable[str]) -> None:
    columns = list(columns)
    if "path" not in columns:
        raise RelookError(f"{file}: has no column 'path'; its columns are: {', '.join(columns) or 'none'}")


def _record(row: Mapping[str, Any], where: str) -> ImageRecord:
    path = _text(row, "path").replace("\\", "/")
    if not path:
        raise RelookError(f"{where}: the path is empty")
    path = str(PurePosixPath(path))
    return ImageRecord(
        id=_text(row, "id") or path,
        path=path,
        label=_text(row, "label"),
        split=_text(row, "split"),
        bbox=_box(row.get("bbox"), where),
    )


def _text(row: Mapping[str, Any], column: str) -> str:
    value = row.get(column)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float) and value.is_integer():  # integers beside empty cells are stored as floats
        value = int(value)
    return str(value).strip()


def _box(value: Any, where: str) -> Box | None:
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return None
    try:
        parts = value.replace(",", " ").split() if isinstance(value, str) else value
        x0, y0, x1, y1 = (float(part) for part in parts)
    except (TypeError, ValueError):
        raise RelookError(f"{where}: bbox {value!r} is not four numbers x0 y0 x1 y1") from None
    if not (math.isfinite(x0 + y0 + x1 + y1) and x1 > x0 and y1 > y0):
        raise RelookError(f"{where}: bbox {value!r} is empty; it is x0 y0 x1 y1 in pixels")
    return (x0, y0, x1, y1)
