"""A table that lists images: CSV or Parquet with a column `path`, and optionally id, label, split and bbox.

One of the catalog's sources. Paths are relative to the manifest's own folder; an empty label is a distractor; bbox is
"x0 y0 x1 y1" in pixels of the upright original. Other columns are left alone. A manifest may come from anybody: what it
says is text, of bounded length, that leads to no other place.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.catalog.base import Catalog, Outside, checked
from pipeline.errors import RelookError
from pipeline.types import Box, ImageRecord

SUFFIXES = (".csv", ".parquet")

_TEXTS = ("path", "id", "label", "split")
_COLUMNS = (*_TEXTS, "bbox")

# The longest path that Linux opens; no id or label needs as much.
_MOST_CHARACTERS = 4096
# Far beyond what fits a manifest; a Parquet file of some bytes can claim any number.
_MOST_ROWS = 50_000_000
_ROWS_AT_ONCE = 8192

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|data:", re.ASCII)
# What a spreadsheet that opens an index's CSV tables would run: =1+1, @SUM(1), +cmd|'/C calc'!A0.
_FORMULA = re.compile(r"=|[+@-]\w*[(|!]", re.ASCII)


def load_manifest(file: Path, outside: Outside = "refuse") -> Catalog:
    """Read a manifest.

    Args:
        file: the table.
        outside: whether paths may lead out of the manifest's folder.

    Raises:
        RelookError: no such file, not a table, no `path` column, two equal ids, or a cell that is not what it should
            be: an empty path, a URL, a path that leads out of the folder, a formula, too long a text, a bad bbox.
    """
    rows = _read_parquet(file) if file.suffix.lower() == ".parquet" else _read_csv(file)
    records = [_record(row, f"{file}, row {number}") for number, row in enumerate(rows, start=1)]
    return checked(file.parent, records, str(file), outside=outside)


def _read_csv(file: Path) -> list[Mapping[str, Any]]:
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.DictReader(lines, skipinitialspace=True)
            _require_path(file, reader.fieldnames or ())
            return list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RelookError(f"{file}: cannot be read as CSV ({error})") from None


def _read_parquet(file: Path) -> Iterator[Mapping[str, Any]]:
    try:
        schema = pq.read_schema(file)
        names = schema.names
        _require_path(file, names)
        # Kept as dictionaries, a text that stands in a million rows is in memory once.
        texts = [name for name in _TEXTS if name in names and pa.types.is_string(schema.field(name).type)]
        with pq.ParquetFile(file, read_dictionary=texts) as table:
            if table.metadata.num_rows > _MOST_ROWS:
                raise RelookError(f"{file}: {table.metadata.num_rows:,} rows, more than the {_MOST_ROWS:,} allowed")
            for batch in table.iter_batches(_ROWS_AT_ONCE, columns=[name for name in _COLUMNS if name in names]):
                _refuse_long(batch, file)
                yield from batch.to_pylist()
    except (OSError, ValueError, pa.ArrowException) as error:  # ValueError: a text that is not UTF-8
        raise RelookError(f"{file}: cannot be read as Parquet ({' '.join(str(error).split())})") from None


def _refuse_long(batch: pa.RecordBatch, file: Path) -> None:
    """Before its texts are repeated row by row. Columns of numbers pass; others hold no texts."""
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        values = column.dictionary if pa.types.is_dictionary(column.type) else column
        if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
            longest = pc.max(pc.binary_length(values)).as_py() or 0
            if longest > 4 * _MOST_CHARACTERS:
                raise RelookError(f"{file}: a text of {longest:,} bytes in column {name!r} is too long")
        elif name != "bbox" and not _is_number(values.type):
            raise RelookError(f"{file}: column {name!r} holds no texts but {values.type}")


def _is_number(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind) or pa.types.is_null(kind)
    )


def _require_path(file: Path, columns: Iterable[str]) -> None:
    columns = list(columns)
    if "path" not in columns:
        raise RelookError(f"{file}: has no column 'path'; its columns are: {', '.join(columns) or 'none'}")


def _record(row: Mapping[str, Any], where: str) -> ImageRecord:
    texts = {column: _text(row, column) for column in _TEXTS}
    for column, text in texts.items():
        if len(text) > _MOST_CHARACTERS:
            raise RelookError(f"{where}: the {column} has {len(text):,} characters, more than {_MOST_CHARACTERS:,}")
        if _FORMULA.match(text):
            raise RelookError(f"{where}: the {column} {text[:60]!r} is a formula for spreadsheets; write it otherwise")
    path = texts["path"].replace("\\", "/")
    if not path:
        raise RelookError(f"{where}: the path is empty")
    if _URL.match(path):
        raise RelookError(f"{where}: the path {path[:60]!r} is a URL; relook reads files, download it first")
    path = str(PurePosixPath(path))
    return ImageRecord(
        id=texts["id"] or path,
        path=path,
        label=texts["label"],
        split=texts["split"],
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
