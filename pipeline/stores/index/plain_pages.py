"""Vectors of a Parquet file, read from their places in it: its pages hold them as they are.

Below `tables.py`. A list column is stored as plain values without compression, and beside them, value by value, whether
it begins a list. Parquet's library unpacks that for every value, which takes three times as long as the read itself;
here equal runs of it are checked once. Layout: Apache Parquet format, "Data Pages" and "Encodings"; page headers are in
Thrift's compact protocol.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from io import FileIO
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.types import FloatArray

# Bytes in which a page's header and its levels are looked for: they take some 2,000 of a page of 1 MB.
_HEAD = 1 << 13
# Kinds of pages that are told apart by their bytes, for each place of a list that a page begins at.
_KINDS = 8
# Data page of the first version; encodings.
_DATA_PAGE, _PLAIN, _RLE = 0, 0, 3
# Definition levels of a value in a list, where lists and values may be null: both are there.
_THERE = 3
# A page's header holds the data page's header, and that its statistics.
_DEPTH = 2


class OtherLayoutError(ValueError):
    """The values lie in the file in another way than relook writes them; Parquet's library reads them."""


@dataclass(frozen=True)
class Page:
    """`count` values that begin at byte `offset` of the file."""

    offset: int
    count: int


class PlainVectors:
    """The column `values` of a Parquet file, [N, D] float32.

    Args:
        path: the file.
        dimension: D.

    Raises:
        OtherLayoutError: another writer laid it out, or a vector has not `dimension` values.
        OSError, pa.ArrowException: it cannot be read, or is no Parquet file.
    """

    def __init__(self, path: Path, dimension: int) -> None:
        self._path, self._dimension = path, dimension
        with pa.OSFile(str(path)) as raw:
            metadata = pq.ParquetFile(raw).metadata
            self.rows: int = metadata.num_rows
            self._pages = [page for chunk in _chunks(metadata) for page in _pages_of(raw, chunk, dimension)]
        self._first = [0, *accumulate(page.count for page in self._pages)]
        if self._first[-1] != self.rows * dimension:
            raise OtherLayoutError("values are missing")

    def pieces(self, rows: int) -> Iterator[FloatArray]:
        """The vectors, `rows` of them at a time, each piece an array of its own."""
        for first in range(0, self.rows, rows):
            numbers = np.arange(first, min(first + rows, self.rows))
            piece = np.empty((len(numbers), self._dimension), np.float32)
            self.read(numbers, piece)
            yield piece

    def read(self, rows: npt.NDArray[np.intp], out: FloatArray) -> None:
        """Read some rows, ascending, straight into `out` [n, D] float32, whose values lie one after the other."""
        if not len(rows):
            return
        together = rows[-1] - rows[0] + 1 == len(rows)
        ends = [] if together else (np.flatnonzero(np.diff(rows) != 1) + 1).tolist()
        start = 0
        with FileIO(self._path) as raw:
            for end in (*ends, len(rows)):
                self._read_run(raw, int(rows[start]) * self._dimension, out[start:end].reshape(-1))
                start = end

    def _read_run(self, raw: FileIO, first: int, values: FloatArray) -> None:
        """Values number `first` and after, from as many pages as they lie in."""
        filled, number = 0, bisect_right(self._first, first) - 1
        while filled < len(values):
            page, inside = self._pages[number], first + filled - self._first[number]
            count = min(len(values) - filled, page.count - inside)
            _read_into(raw, values[filled : filled + count], page.offset + 4 * inside)
            filled, number = filled + count, number + 1


def _read_into(file: FileIO, values: FloatArray, offset: int) -> None:
    file.seek(offset)
    if file.readinto(values.view(np.uint8).data) != values.nbytes:
        raise OSError("it is cut short")


def _chunks(metadata: pq.FileMetaData) -> Iterator[Any]:
    """The column in each row group, where its pages may be plain."""
    columns = map(metadata.schema.column, range(metadata.num_columns))
    named = ((number, column) for number, column in enumerate(columns) if column.path.split(".")[0] == "values")
    number, column = next(named, (0, None))
    if column is None:
        raise OtherLayoutError("no column")
    levels = (column.max_repetition_level, column.max_definition_level)
    if column.physical_type != "FLOAT" or levels != (1, _THERE):
        raise OtherLayoutError("other values")
    for group in range(metadata.num_row_groups):
        chunk = metadata.row_group(group).column(number)
        if chunk.compression != "UNCOMPRESSED" or chunk.has_dictionary_page:
            raise OtherLayoutError("not plain")
        yield chunk


def _pages_of(file: pa.NativeFile, chunk: Any, dimension: int) -> Iterator[Page]:
    """The pages of one row group, whose first value begins a list."""
    offset, seen = chunk.data_page_offset, 0
    end = offset + chunk.total_compressed_size
    while offset < end:
        head = _head_of(file.read_at(_HEAD, offset), seen % dimension, dimension)
        if head.size + 4 * head.count > end - offset:
            raise OtherLayoutError("other pages")
        yield Page(offset + head.size, head.count)
        offset, seen = offset + head.size + 4 * head.count, seen + head.count
    if seen != chunk.num_values:
        raise OtherLayoutError("values are missing")


@dataclass(frozen=True)
class _Head:
    """What stands before the values of a page: its header, and its levels, which are those of whole lists.

    `size` bytes, then `count` values; `pieces` are its bytes and where they begin, but for the smallest and the largest
    value, by which the pages of equal parts differ.
    """

    size: int
    count: int
    pieces: tuple[tuple[int, bytes], ...]


def _head_of(data: bytes, place: int, dimension: int) -> _Head:
    """The head that some bytes begin with; the page's first value is number `place` of its list.

    Raises OtherLayoutError unless it is followed by plain values of whole lists of D values.
    """
    known = _known_heads(place, dimension)
    for head in tuple(known):
        for at, piece in head.pieces:
            if not data.startswith(piece, at):
                break
        else:
            return head
    header, size = _header_of(data)
    kind, body, (count, *encodings) = header[1], header[3], (header[5][key] for key in (1, 2, 3, 4))
    if kind != _DATA_PAGE or encodings != [_PLAIN, _RLE, _RLE] or not 0 < 4 * count <= body:
        raise OtherLayoutError("other pages")
    taken = _checked_levels(data[size:], place, count, dimension)
    if body != taken + 4 * count:
        raise OtherLayoutError("other pages")
    pieces, at = [], 0
    for text in sorted(_texts_in(header), key=lambda text: text.start):
        pieces.append((at, data[at : text.start]))
        at = text.stop
    head = _Head(size + taken, count, (*pieces, (at, data[at : size + taken])))
    known.insert(0, head)
    del known[_KINDS:]
    return head


@lru_cache(256)
def _known_heads(place: int, dimension: int) -> list[_Head]:
    """Those that were parsed last: reading one takes ten times as long as comparing it, and a part has few kinds."""
    return []


def _texts_in(fields: dict[int, Any]) -> Iterator[slice]:
    """Where the texts of a struct lie."""
    for value in fields.values():
        if isinstance(value, slice):
            yield value
        elif isinstance(value, dict):
            yield from _texts_in(value)


def _checked_levels(body: bytes, place: int, count: int, dimension: int) -> int:
    """Bytes of the levels at the start of a page of `count` values, the first of which is number `place` of its list.

    Raises OtherLayoutError unless they say that lists of D values follow each other, none empty or with a null.
    """
    parts, taken = [], 0
    for _ in range(2):
        size = int.from_bytes(body[taken : taken + 4], "little")
        parts.append(body[taken + 4 : taken + 4 + size])
        taken += 4 + size
    if taken > len(body):
        raise OtherLayoutError("long levels")
    if not _are_whole_lists(parts[0], parts[1], place, count, dimension):
        raise OtherLayoutError("lists of other lengths")
    return taken


# Unpacking takes milliseconds a page; the parts of an index have few kinds of them.
@lru_cache(256)
def _are_whole_lists(begins: bytes, there: bytes, place: int, count: int, dimension: int) -> bool:
    """Whether packed levels of repetition and of definition are those of whole lists of D values."""
    starts = np.flatnonzero(_unpacked(begins, 1, count) == 0)
    expected = np.arange(-place % dimension, count, dimension)
    return np.array_equal(starts, expected) and bool((_unpacked(there, 2, count) == _THERE).all())


def _unpacked(packed: bytes, width: int, count: int) -> npt.NDArray[np.uint8]:
    """`count` levels of `width` bits: runs of one value, or groups of eight packed ones (Parquet's RLE)."""
    found, at, have = [], 0, 0
    while have < count:
        run, at = _varint(packed, at)
        if run & 1:
            size = (run >> 1) * width
            bits = np.unpackbits(np.frombuffer(packed[at : at + size], np.uint8), bitorder="little")
            found.append(sum((bits[bit::width] << bit for bit in range(1, width)), bits[::width]))
        else:
            size = 1
            found.append(np.full(min(run >> 1, count), packed[at] if at < len(packed) else 0, np.uint8))
        at += size
        have += len(found[-1])
        if at > len(packed) or not len(found[-1]):
            raise OtherLayoutError("levels are cut short")
    return np.concatenate([np.zeros(0, np.uint8), *found])[:count]


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """An unsigned number in groups of seven bits, and where the next thing begins."""
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise OtherLayoutError("cut short")
        value |= (data[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not data[at - 1] & 0x80:
            return value, at


def _header_of(data: bytes) -> tuple[dict[int, Any], int]:
    """The fields of a page's header by number (nested ones are dictionaries, texts slices of it), and its length."""
    fields, at = _struct(data, 0)
    try:
        _ = fields[1], fields[3], [fields[5][key] for key in (1, 2, 3, 4)]
    except (KeyError, TypeError):
        raise OtherLayoutError("other pages") from None
    return fields, at


def _struct(data: bytes, at: int, depth: int = 0) -> tuple[dict[int, Any], int]:
    """A struct of Thrift's compact protocol: numbers, flags, text and structs in it, which is all a header has."""
    if depth > _DEPTH:
        raise OtherLayoutError("other pages")
    fields: dict[int, Any] = {}
    number = 0
    while True:
        if at >= len(data):
            raise OtherLayoutError("cut short")
        step, kind = data[at] >> 4, data[at] & 15
        at += 1
        if kind == 0:
            return fields, at
        if step:
            number += step
        else:
            zigzag, at = _varint(data, at)
            number = (zigzag >> 1) ^ -(zigzag & 1)
        if kind in (1, 2):  # true and false
            fields[number] = kind == 1
        elif kind in (4, 5, 6):  # integers
            zigzag, at = _varint(data, at)
            fields[number] = (zigzag >> 1) ^ -(zigzag & 1)
        elif kind == 8:  # bytes, such as a smallest value
            size, at = _varint(data, at)
            fields[number], at = slice(at, at + size), at + size
        elif kind == 12:
            fields[number], at = _struct(data, at, depth + 1)
        else:
            raise OtherLayoutError("other pages")
