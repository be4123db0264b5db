"""Catalog and globals tables, as Parquet or as CSV, with the same columns and the same values in both.

Written and read by the index. Globals have the columns that Pinecone's bulk import reads from Parquet: id: string,
values: list<float32>, metadata: string (JSON). In CSV a vector is a bracketed list with the shortest decimals that
give back the same float32.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from pipeline.errors import RelookError
from pipeline.stores.index.arrow_rows import arrow_rows
from pipeline.stores.index.plain_pages import OtherLayoutError, PlainVectors
from pipeline.types import FloatArray, ImageRecord, StoredVectors

GLOBALS_SCHEMA = pa.schema([("id", pa.string()), ("values", pa.list_(pa.float32())), ("metadata", pa.string())])
_RECORD_TYPES = {"width": pa.int64(), "height": pa.int64(), "size": pa.int64(), "mtime_ns": pa.int64()}
RECORDS_SCHEMA = pa.schema([(name, _RECORD_TYPES.get(name, pa.string())) for name in ImageRecord.__dataclass_fields__])
FAILURES_SCHEMA = pa.schema([(name, pa.string()) for name in ("id", "path", "reason")])
_ID_SCHEMA = pa.schema([("id", pa.string())])

# Arrow counts the values of a list column, and the bytes of a text column, in 32 bits.
_MOST_VALUES = 2**31 - 1
_ROWS_AT_ONCE = 8192
# What is streamed at once into an array that exists already: 1,024 vectors of 2,048 values take 8 MB.
_STREAMED_ROWS = 1024
_READ_BYTES = 1 << 20


def write_globals(path: Path, ids: Sequence[str], vectors: FloatArray, metadata: Sequence[Mapping[str, str]]) -> None:
    """Write N vectors [N, D] float32; the format follows the path's ending (temporary endings aside)."""
    if vectors.size > _MOST_VALUES:
        raise RelookError(f"{path}: {vectors.shape} values are too many for one part; write fewer vectors at once")
    flat = pa.array(np.ascontiguousarray(vectors, dtype=np.float32).reshape(-1))
    offsets = np.arange(len(ids) + 1, dtype=np.int32) * vectors.shape[1]
    values = pa.ListArray.from_arrays(pa.array(offsets), flat)
    texts = [json.dumps(dict(entry), ensure_ascii=False, sort_keys=True) for entry in metadata]
    write_table(path, pa.table([pa.array(ids, pa.string()), values, pa.array(texts, pa.string())], GLOBALS_SCHEMA))


def read_globals(path: Path, dimension: int) -> StoredVectors:
    """Read what `write_globals` wrote. Raises RelookError when a vector does not have `dimension` values."""
    table = read_table(path, GLOBALS_SCHEMA)
    with reading(path):
        vectors = _matrix(path, table, dimension)
        metadata = [json.loads(text) for text in table["metadata"].to_pylist()]
        if not all(isinstance(entry, dict) for entry in metadata):
            raise ValueError("its metadata are not JSON objects")
        return StoredVectors(table["id"].to_pylist(), vectors, metadata)


def stream_globals(path: Path, dimension: int) -> Iterator[tuple[pa.Array, FloatArray]]:
    """Ids and vectors [n, D] of what `write_globals` wrote, some hundred rows at a time, without the metadata.

    Raises RelookError when a vector does not have `dimension` values.
    """
    plain = plain_vectors(path, dimension)
    if plain is not None:
        ids, first = read_id_column(path), 0
        with reading(path):
            for vectors in plain.pieces(_STREAMED_ROWS):
                yield ids.slice(first, len(vectors)).combine_chunks(), vectors
                first += len(vectors)
        return
    schema = pa.schema([GLOBALS_SCHEMA.field(name) for name in ("id", "values")])
    with reading(path):
        for table in _stream_csv(path, schema) if _is_csv(path) else _stream_parquet(path, schema):
            _check_full(table)
            yield table["id"].combine_chunks(), _matrix(path, table, dimension)


def plain_vectors(path: Path, dimension: int) -> PlainVectors | None:
    """The vectors as they lie in a globals table; None where it is a CSV or another writer laid them out.

    Raises RelookError when the file is missing or damaged.
    """
    if _is_csv(path):
        return None
    with reading(path):
        try:
            return PlainVectors(path, dimension)
        except OtherLayoutError:
            return None


def read_metadata(path: Path) -> pa.ChunkedArray:
    """The column `metadata` of a globals table: JSON texts."""
    return read_table(path, pa.schema([GLOBALS_SCHEMA.field("metadata")]))["metadata"]


def read_ids(path: Path) -> list[str]:
    """The column `id` of a catalog or globals table, without reading the others."""
    column = read_id_column(path)
    with reading(path):
        ids: list[str] = column.to_pylist()
    return ids


def read_id_column(path: Path) -> pa.ChunkedArray:
    """The same as a column of text, which takes a fifth of the memory."""
    return read_table(path, _ID_SCHEMA)["id"]


def write_records(path: Path, records: Sequence[ImageRecord]) -> None:
    """Write catalog rows; `bbox` is the text "x0 y0 x1 y1", empty where there is none."""
    columns = {name: [getattr(record, name) for record in records] for name in RECORDS_SCHEMA.names}
    columns["bbox"] = ["" if box is None else " ".join(repr(float(x)) for x in box) for box in columns["bbox"]]
    write_table(path, pa.table(columns, RECORDS_SCHEMA))


def read_records(path: Path) -> list[ImageRecord]:
    """Read what `write_records` wrote."""
    return records_of_table(read_record_table(path), path)


def read_record_table(path: Path) -> pa.Table:
    """The same as columns."""
    return read_table(path, RECORDS_SCHEMA)


def read_record_rows(path: Path, rows: npt.NDArray[np.intp]) -> pa.Table:
    """Some rows of it, in the order of `rows`; of Parquet some thousand rows are in memory at a time."""
    order = np.argsort(rows, kind="stable")
    wanted, first, pieces = rows[order], 0, []
    with reading(path):
        stream = _stream_csv(path, RECORDS_SCHEMA) if _is_csv(path) else _stream_parquet(path, RECORDS_SCHEMA)
        for table in stream:
            inside = wanted[np.searchsorted(wanted, first) : np.searchsorted(wanted, first + len(table))]
            if len(inside):
                pieces.append(table.take(arrow_rows(inside - first)))
            first += len(table)
            if len(wanted) and first > wanted[-1]:
                break
        # An empty table of Arrow's imports pandas, which a search does without.
        found = pa.concat_tables(pieces) if pieces else RECORDS_SCHEMA.empty_table()
        _check_full(found)
        return found.take(arrow_rows(np.argsort(order)))


def records_of_table(table: pa.Table, path: Path) -> list[ImageRecord]:
    """One record per row. Raises RelookError naming `path` where a box is not four numbers."""
    with reading(path):
        rows = table.to_pylist()
        for row in rows:
            if not row["bbox"]:
                row["bbox"] = None
                continue
            x0, y0, x1, y1 = map(float, row["bbox"].split())
            row["bbox"] = (x0, y0, x1, y1)
        return [ImageRecord(**row) for row in rows]


def write_table(path: Path, table: pa.Table) -> None:
    """Write a table as CSV where `path` has the ending .csv before any temporary one, as Parquet otherwise."""
    if not _is_csv(path):
        # Vectors hardly compress (8 %), and reading them compressed takes 1.7 times as long; a dictionary of values
        # that hardly repeat would cost up to half the size of a part again.
        words = [field.name for field in table.schema if not pa.types.is_list(field.type)]
        pq.write_table(table, path, compression=dict.fromkeys(words, "zstd"), use_dictionary=words)
        return
    columns = [_bracketed(column) if pa.types.is_list(column.type) else column for column in table.columns]
    pacsv.write_csv(pa.table(columns, names=table.column_names), path)


def read_table(path: Path, schema: pa.Schema) -> pa.Table:
    """Read the columns of `schema`. Raises RelookError when the file is missing, damaged, or lacks one of them."""
    with reading(path):
        table = _read_csv(path, schema) if _is_csv(path) else _read_parquet(path, schema)
        _check_full(table)
        return table


def _check_full(table: pa.Table) -> None:
    empty = [name for name in table.column_names if table[name].null_count]
    if empty:
        raise ValueError(f"column {empty[0]!r} has empty cells")


def _matrix(path: Path, table: pa.Table, dimension: int) -> FloatArray:
    """The column `values` as [N, D]."""
    values = table["values"].combine_chunks()
    flat = values.flatten()
    if not len(values):
        return np.empty((0, dimension), np.float32)
    # The columns' own memory, as `to_numpy` would give it; but that and most of pyarrow's functions import pandas.
    ends = np.frombuffer(values.buffers()[1], np.int32, len(values) + 1, 4 * values.offset)
    if flat.null_count or (np.diff(ends) != dimension).any():
        raise RelookError(f"{path}: its vectors do not have {dimension} values each")
    return np.frombuffer(flat.buffers()[1], np.float32, len(flat), 4 * flat.offset).reshape(len(table), dimension)


def _read_parquet(path: Path, schema: pa.Schema) -> pa.Table:
    # Handing one column to other threads, to read and to decode it, takes as long as doing it here.
    several = len(schema) > 1
    with pq.ParquetFile(path, pre_buffer=several) as file:
        _check_columns(file, schema)
        return file.read(columns=schema.names, use_threads=several).select(schema.names).cast(schema)


def _stream_parquet(path: Path, schema: pa.Schema) -> Iterator[pa.Table]:
    with pq.ParquetFile(path, buffer_size=_READ_BYTES) as file:
        _check_columns(file, schema)
        for batch in file.iter_batches(_STREAMED_ROWS, columns=schema.names):
            yield pa.Table.from_batches([batch]).select(schema.names).cast(schema)


def _check_columns(file: pq.ParquetFile, schema: pa.Schema) -> None:
    missing = sorted(set(schema.names) - set(file.schema_arrow.names))
    if missing:
        raise ValueError(f"it has no column {missing[0]!r}")


def _stream_csv(path: Path, schema: pa.Schema) -> Iterator[pa.Table]:
    yield _read_csv(path, schema)


def _read_csv(path: Path, schema: pa.Schema) -> pa.Table:
    plain = {field.name: pa.string() if pa.types.is_list(field.type) else field.type for field in schema}
    convert = pacsv.ConvertOptions(
        column_types=plain,
        include_columns=list(plain),
        strings_can_be_null=False,
        quoted_strings_can_be_null=False,
    )
    parse = pacsv.ParseOptions(newlines_in_values=True)
    # A block has to hold the longest row: a vector of 4,096 numbers takes some 50 kB.
    read = pacsv.ReadOptions(block_size=16 << 20)
    table = pacsv.read_csv(path, read_options=read, parse_options=parse, convert_options=convert)
    lists = [_parsed(table[f.name]) if pa.types.is_list(f.type) else table[f.name] for f in schema]
    return pa.table(lists, schema=schema)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Whatever a foreign or damaged file makes the libraries say ends in one line that names it."""
    try:
        yield
    except (OSError, pa.ArrowException, KeyError, ValueError) as error:
        raise RelookError(f"{path}: cannot be read ({' '.join(str(error).split())})") from None


def _is_csv(path: Path) -> bool:
    return ".csv." in f"{path.name}."


def _bracketed(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Lists of float32 as "[1.5,-0.25]"; Arrow's cast to text writes the shortest digits that round-trip."""

    def texts(values: Any) -> pa.Array:
        offsets = pc.subtract(values.offsets, values.offsets[0])
        numbers = pa.ListArray.from_arrays(offsets, pc.cast(values.flatten(), pa.string()))
        return pc.binary_join_element_wise("[", pc.binary_join(numbers, ","), "]", "")

    slices = [
        texts(chunk.slice(start, _ROWS_AT_ONCE))
        for chunk in column.chunks
        for start in range(0, len(chunk), _ROWS_AT_ONCE)
    ]
    return pa.chunked_array(slices, pa.string())


def _parsed(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The inverse of `_bracketed`, block by block: the text of a whole part may be more than Arrow joins."""
    with ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="parse") as pool:
        return pa.chunked_array(list(pool.map(_numbers, column.chunks)), pa.list_(pa.float32()))


def _numbers(texts: pa.Array) -> pa.Array:
    words = pc.split_pattern(pc.utf8_trim(texts, characters="[] "), ",")
    try:
        numbers = pc.cast(words.values, pa.float32())
    except pa.ArrowInvalid:  # perhaps for the spaces that other programs write; else this raises it again
        numbers = pc.cast(pc.utf8_trim_whitespace(words.values), pa.float32())
    return pa.ListArray.from_arrays(words.offsets, numbers)
