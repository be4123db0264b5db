"""The arrays of a part file, read from their places in it: HDF5 says once where each lies.

Below `ragged_hdf5.py`. Every array of a part is in one piece, so that any rows of it are one read; the HDF5 library
takes some thirty times as long for a few rows as the read itself.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any, TypeVar

import h5py
import numpy as np
import numpy.typing as npt

from pipeline.errors import RelookError

Array = npt.NDArray[Any]
Result = TypeVar("Result")

_MOST_DATASETS = 16


def open_hdf5(path: Path) -> h5py.File:
    """Open a file to read. Parts never change, so no lock is needed, and some file systems have none."""
    return h5py.File(path, "r", locking=False)


def own_dataset(file: h5py.File, name: str) -> h5py.Dataset:
    """A dataset whose values lie in the file itself. Raises ValueError where it is anything else."""
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise ValueError(f"refused: {name} is a link to somewhere else")
    data = file[name]
    if not isinstance(data, h5py.Dataset):
        raise ValueError(f"refused: {name} is no dataset")
    if data.is_virtual or data.external:
        raise ValueError(f"refused: the values of {name} lie in another file")
    return data


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
            self._files[part] = file = FileIO(part.path)
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
        RelookError: it cannot be read, or is no part: HDF5 can refer to any other file on the disk, compute what is not
            there, and call filters that it loads.
    """

    def __init__(self, path: Path, files: OpenFiles) -> None:
        self.path, self._files = path, files
        self._whole: dict[str, Array] = {}
        self._places = self._reading(self._read_places)

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def whole(self, name: str) -> Array:
        """A small array, read once."""
        if name not in self._whole:
            self._whole[name] = self.rows(name, 0, self.place_of(name).shape[0])
        return self._whole[name]

    def span(self, row: int) -> tuple[int, int]:
        """Where the values of an image lie in the arrays that have more than one row an image: first and last."""
        offsets = self.whole("offsets")
        return self._reading(lambda: _span_of(offsets, row))

    def rows(self, name: str, first: int, last: int) -> Array:
        """Rows first:last of an array."""
        return read_rows([(self, first, last)], name)

    def place_of(self, name: str) -> Place:
        """Where an array lies. Raises RelookError where there is none."""
        if name not in self._places:
            raise RelookError(f"{self.path}: cannot be read (it has no {name})")
        return self._places[name]

    def read_into(self, buffer: memoryview, place: Place, first: int) -> None:
        """Fill a buffer of bytes with rows of an array, from row `first` on. Raises RelookError."""
        try:
            file = self._files.of(self)
            if first * place.width + len(buffer) > place.bytes:
                raise ValueError(f"rows from {first} on of {place.shape[0]}")
            file.seek(place.offset + first * place.width)
            if file.readinto(buffer) != len(buffer):
                raise ValueError("it is cut short")
        except (OSError, ValueError) as error:
            raise RelookError(f"{self.path}: cannot be read ({error})") from None

    def _read_places(self) -> dict[str, Place]:
        with open_hdf5(self.path) as file:
            _refuse_foreign(file, self.path.stat().st_size)
            return {name: _place_of(file[name]) for name in file if name != "ids"}

    def _reading(self, read: Callable[[], Result]) -> Result:
        try:
            return read()
        except (OSError, KeyError, ValueError, TypeError, RuntimeError) as error:  # h5py has no error of its own
            raise RelookError(f"{self.path}: cannot be read ({error})") from None


def _span_of(offsets: Array, row: int) -> tuple[int, int]:
    first, last = offsets[row : row + 2].tolist()
    if not 0 <= first <= last:
        raise ValueError(f"row {row} would reach from {first} to {last}")
    return first, last


@dataclass(frozen=True)
class Place:
    """Where the values of an array begin in a file, in bytes, what they are, and the bytes of one row and of all."""

    offset: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    width: int
    bytes: int


def read_rows(spans: Sequence[tuple[PlainArrays, int, int]], name: str) -> Array:
    """The rows first:last of one array in each of some parts, joined: one allocation, one read a span.

    Raises:
        RelookError: two parts have arrays of different types or widths, or one cannot be read.
    """
    like = spans[0][0].place_of(name)
    found = np.empty((sum(last - first for _, first, last in spans), *like.shape[1:]), like.dtype)
    buffer = found.reshape(-1).view(np.uint8).data
    start = 0
    for part, first, last in spans:
        place = part.place_of(name)
        if place is not like and (place.dtype, place.shape[1:]) != (like.dtype, like.shape[1:]):
            raise RelookError(f"{part.path}: {name} is of another type or width than that of {spans[0][0].path}")
        end = start + (last - first) * like.width
        if end > start:
            part.read_into(buffer[start:end], place, first)
        start = end
    return found


def _place_of(data: h5py.Dataset) -> Place:
    offset = data.id.get_offset()
    if offset is None and data.size:
        raise ValueError(f"refused: {data.name} is not stored in one piece")
    if not data.shape:
        raise ValueError(f"{data.name} has no rows")
    width = data.dtype.itemsize * math.prod(data.shape[1:])
    return Place(offset or 0, data.dtype, data.shape, width, width * data.shape[0])


def _refuse_foreign(file: h5py.File, size: int) -> None:
    """A part has plain arrays, each of which lies in the file whole. Raises ValueError for anything else."""
    if len(file) > _MOST_DATASETS:
        raise ValueError(f"it holds {len(file):,} datasets")
    for name in file:
        data = own_dataset(file, name)
        if data.chunks is not None:
            raise ValueError(f"refused: {name} is not stored in one piece")
        # Of a dataset that was never written HDF5 makes up the values, as many as it claims.
        if data.size * data.dtype.itemsize > min(size, data.id.get_storage_size()):
            raise ValueError(f"refused: {name} has {data.size:,} values, which the file does not hold")
        if data.dtype.kind not in "iuf" and name != "ids":
            raise ValueError(f"refused: {name} holds no numbers")
