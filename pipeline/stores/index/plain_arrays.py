"""The arrays of a part file, read from their places in it: its header, or HDF5, says once where each lies.

Below `ragged_hdf5.py`. Every array of a part is in one piece, so that any rows of it are one read; the HDF5 library
takes some thirty times as long for a few rows as the read itself. Files are read and not mapped: of a mapped file that
was cut short, or removed on another host, a reader learns by a signal that ends the process, not by an error.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Sequence
from io import FileIO
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from pipeline.errors import RelookError
from pipeline.stores.index.part_header import HEADER_BYTES, Place, places_in

Array = npt.NDArray[Any]
# The type of an array's values, and its shape without the first axis.
Kind = tuple[np.dtype[Any], tuple[int, ...]]
Result = TypeVar("Result")


class Span(NamedTuple):
    """What one image has: its row in a part, and where its values lie, at first:last."""

    part: PlainArrays
    row: int
    first: int
    last: int

    def read(self, *names: str) -> list[Array]:
        """Its values in some arrays."""
        return read_spans([self], names)


class OpenFiles:
    """Files that are open to read, at most `limit`: the one that was not used for longest is closed first."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._files: OrderedDict[PlainArrays, FileIO] = OrderedDict()

    def of(self, part: PlainArrays) -> FileIO:
        """Open the file of a part, unless it is open. Raises OSError."""
        file = self._files.get(part)
        if file is None:
            while len(self._files) >= self._limit:
                self._files.popitem(last=False)[1].close()
            self._files[part] = file = FileIO(part.name)
        else:
            self._files.move_to_end(part)
        return file

    def close(self) -> None:
        """Close all of them."""
        while self._files:
            self._files.popitem()[1].close()


class PlainArrays:
    """The arrays of one part file by name.

    Args:
        path: the file.
        files: opens it.

    Raises:
        RelookError: it cannot be read, or is no part.
    """

    def __init__(self, path: Path, files: OpenFiles) -> None:
        self.path, self.name, self._files = path, str(path), files
        self._whole: dict[str, Array] = {}
        self._common: dict[tuple[str, ...], tuple[tuple[Kind, ...], int]] = {}
        self._places = self._reading(self._read_places)

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def whole(self, name: str) -> Array:
        """A small array, read once."""
        if name not in self._whole:
            self._whole[name] = read_spans([Span(self, 0, 0, self.place_of(name).shape[0])], [name])[0]
        return self._whole[name]

    def span(self, row: int) -> Span:
        """Where the values of an image lie in the arrays that have more than one row an image."""
        offsets = self.whole("offsets")
        return self._reading(lambda: Span(self, row, *_ends_of(offsets, row)))

    def place_of(self, name: str) -> Place:
        """Where an array lies. Raises RelookError where there is none."""
        if name not in self._places:
            raise RelookError(f"{self.path}: cannot be read (it has no {name})")
        return self._places[name]

    def common(self, names: tuple[str, ...]) -> tuple[tuple[Kind, ...], int]:
        """Of some arrays what two parts must have in common, and the rows that each has at least.

        Raises RelookError where there is none of a name.
        """
        found = self._common.get(names)
        if found is None:
            places = [self.place_of(name) for name in names]
            kinds = tuple((place.dtype, place.shape[1:]) for place in places)
            found = self._common[names] = kinds, min(place.shape[0] for place in places)
        return found

    def read_into(self, buffers: Sequence[tuple[str, memoryview]], rows: Sequence[tuple[int, int, int]]) -> None:
        """Fill the bytes of some arrays: rows first:last of each in this file go to row `start` of its buffer.

        Args:
            buffers: name and bytes of each array.
            rows: (first, last, start) of each piece.

        Raises:
            RelookError: the file cannot be read.
        """
        try:
            file = self._files.of(self)
            for name, buffer in buffers:
                offset, _, _, width = self._places[name]
                for first, last, start in rows:
                    file.seek(offset + first * width)
                    size = (last - first) * width
                    if file.readinto(buffer[start * width : start * width + size]) != size:
                        raise ValueError("it is cut short")
        except (OSError, ValueError) as error:
            raise RelookError(f"{self.path}: cannot be read ({error})") from None

    def _read_places(self) -> dict[str, Place]:
        file = self._files.of(self)
        places = places_in(file.read(HEADER_BYTES) or b"", os.fstat(file.fileno()).st_size)
        if places is None:
            from pipeline.stores.index.hdf5_places import read_places

            return read_places(self.path)
        return places

    def _reading(self, read: Callable[[], Result]) -> Result:
        try:
            return read()
        except (OSError, KeyError, ValueError, TypeError, RuntimeError) as error:  # h5py has no error of its own
            raise RelookError(f"{self.path}: cannot be read ({error})") from None


def read_spans(spans: Sequence[Span], names: Sequence[str]) -> list[Array]:
    """The values of many images in some arrays, each joined along its rows: one read a span and array.

    Each file is opened once, and is read from its beginning to its end.

    Raises:
        RelookError: two parts have arrays of different types or widths, or one cannot be read.
    """
    names, like = tuple(names), spans[0].part
    kinds, _ = like.common(names)
    pieces: dict[PlainArrays, list[tuple[int, int, int]]] = {}
    rows = 0
    for part, _, first, last in spans:
        here, most = part.common(names)
        if here != kinds:
            _refuse_other(part, names, like)
        if last > most:
            raise RelookError(f"{part.path}: cannot be read (rows {first} to {last} of {most})")
        if last > first:
            pieces.setdefault(part, []).append((first, last, rows))
        rows += last - first
    found = [np.empty((rows, *rest), dtype) for dtype, rest in kinds]
    buffers = [(name, array.reshape(-1).view(np.uint8).data) for name, array in zip(names, found, strict=True)]
    for part, some in pieces.items():
        part.read_into(buffers, sorted(some))
    return found


def _refuse_other(part: PlainArrays, names: tuple[str, ...], like: PlainArrays) -> None:
    """Raises RelookError: one of a part's arrays is of another type or width than that of the first part."""
    pairs = zip(names, part.common(names)[0], like.common(names)[0], strict=True)
    name = next(name for name, here, there in pairs if here != there)
    raise RelookError(f"{part.path}: {name} is of another type or width than that of {like.path}")


def _ends_of(offsets: Array, row: int) -> tuple[int, int]:
    first, last = offsets[row : row + 2].tolist()
    if not 0 <= first <= last:
        raise ValueError(f"row {row} would reach from {first} to {last}")
    return first, last
