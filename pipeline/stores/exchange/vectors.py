"""Global descriptors of an index in files that other programs read: .npz, .npy, .parquet and .csv.

Written by `export globals`, part by part, so that memory does not grow with the index. Rows are in the order of the
index. `import` reads the CSV again.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from pipeline.errors import UsageError
from pipeline.files import atomic_path, write_errors
from pipeline.stores.index.directory import Index
from pipeline.types import FloatArray, ImageRecord

_SCHEMA = pa.schema(
    [("id", pa.string()), ("path", pa.string()), ("label", pa.string()), ("vectors", pa.list_(pa.float32()))]
)


def write_vectors(path: Path, index: Index) -> int:
    """Write the global descriptors of every image; returns how many.

    Args:
        path: its ending chooses the format.
            `.npz`: `ids` [N] text and `vectors` [N, D] float32.
            `.npy`: `vectors` alone, and one id a line beside it in `PATH.ids.txt`.
            `.parquet`: columns id, path, label, vectors (list of float32).
            `.csv`: the same columns, a vector as a bracketed list with the shortest decimals that give it back.
        index: one generation.

    Raises:
        UsageError: another ending.
        RelookError: a part is damaged, or the file cannot be written.
    """
    writer = WRITERS.get(path.suffix.lower())
    if writer is None:
        raise UsageError(f"{path}: unknown ending {path.suffix!r} for globals; use {', '.join(WRITERS)}")
    with write_errors(path):
        return writer(path, index)


def _write_npz(path: Path, index: Index) -> int:
    ids = [name for part in index.manifest.parts for name in index.ids_of(part)]
    text = io.BytesIO()
    np.save(text, np.array(ids, dtype=np.str_))
    with (
        atomic_path(path) as temporary,
        temporary.open("wb") as stream,
        zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED, allowZip64=True) as archive,
    ):
        archive.writestr("ids.npy", text.getbuffer())
        with archive.open("vectors.npy", "w", force_zip64=True) as member:
            _write_header(member.write, len(ids), index.card.dimension)
            for vectors in _vectors(index):
                member.write(vectors.data.cast("B"))
    return len(ids)


def _write_npy(path: Path, index: Index) -> int:
    ids = [name for part in index.manifest.parts for name in index.ids_of(part)]
    broken = next((name for name in ids if "\n" in name or "\r" in name), None)
    if broken is not None:
        raise UsageError(f"{path}: the id {broken!r} has a line break, which a list of ids cannot hold; write .npz")
    beside = path.with_name(f"{path.name}.ids.txt")
    with atomic_path(beside) as temporary:
        temporary.write_text("".join(f"{name}\n" for name in ids), encoding="utf-8")
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        _write_header(stream.write, len(ids), index.card.dimension)
        for vectors in _vectors(index):
            stream.write(vectors.data.cast("B"))
    return len(ids)


def _write_parquet(path: Path, index: Index) -> int:
    count = 0
    # Vectors hardly compress, and hardly any value repeats.
    options = {"compression": "zstd", "use_dictionary": ["label"], "compression_level": 1}
    with atomic_path(path) as temporary, pq.ParquetWriter(temporary, _SCHEMA, **options) as writer:
        for records, vectors in _rows(index):
            writer.write_table(_table(records, vectors))
            count += len(records)
    return count


def _write_csv(path: Path, index: Index) -> int:
    count = 0
    schema = pa.schema([_SCHEMA.field(n) if n != "vectors" else pa.field(n, pa.string()) for n in _SCHEMA.names])
    with atomic_path(path) as temporary, pacsv.CSVWriter(temporary, schema) as writer:
        for records, vectors in _rows(index):
            table = _table(records, vectors)
            numbers = pa.array(vectors.reshape(-1)).cast(pa.string()).to_pylist()
            width = vectors.shape[1]
            lists = [f"[{','.join(numbers[row * width : (row + 1) * width])}]" for row in range(len(records))]
            writer.write_table(table.set_column(3, schema.field("vectors"), pa.array(lists, pa.string())))
            count += len(records)
    return count


def _write_header(write: Callable[[bytes], object], rows: int, dimension: int) -> None:
    """The header of a .npy file of [rows, dimension] float32 in C order (NumPy's format 1.0)."""
    header = io.BytesIO()
    description = {"descr": "<f4", "fortran_order": False, "shape": (rows, dimension)}
    np.lib.format.write_array_header_1_0(header, description)
    write(header.getvalue())


def _vectors(index: Index) -> Iterator[FloatArray]:
    for part in index.manifest.parts:
        for _, vectors in index.stream_globals(part):
            yield np.ascontiguousarray(vectors, dtype="<f4")


def _rows(index: Index) -> Iterator[tuple[list[ImageRecord], FloatArray]]:
    for part in index.manifest.parts:
        yield index.records_of(part), np.ascontiguousarray(index.globals_of(part).vectors)


def _table(records: list[ImageRecord], vectors: FloatArray) -> pa.Table:
    offsets = np.arange(len(records) + 1, dtype=np.int32) * vectors.shape[1]
    lists = pa.ListArray.from_arrays(pa.array(offsets), pa.array(vectors.reshape(-1)))
    columns = [[getattr(record, name) for record in records] for name in ("id", "path", "label")]
    return pa.table([*(pa.array(column, pa.string()) for column in columns), lists], schema=_SCHEMA)


# The endings that are written, and how.
WRITERS: dict[str, Callable[[Path, Index], int]] = {
    ".npz": _write_npz,
    ".npy": _write_npy,
    ".parquet": _write_parquet,
    ".csv": _write_csv,
}
